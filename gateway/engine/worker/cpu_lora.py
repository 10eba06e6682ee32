"""LoRA kernels for CPUs, installed in vLLM's worker before the model is built (`install`).

They correct three faults of vLLM 0.32 on CPUs:

- Rows of the base model, which carry slot -1, get the adapter of the last slot if they share a batch with an adapter:
  `weights[-1]` is a valid index. Here every row gets its own adapter or none, bit for bit, and an adapter full of NaN
  affects only its own rows. `docs/vllm-cpu-lora.patch` corrects this in vLLM.
- For each token vLLM copies a full A and B out of the stack: prefill with an adapter is six times slower than without.
  Here rows are grouped by adapter and multiplied with weights that are packed once when an adapter enters its slot.
- A request with a seed whose prompt is split into chunks kills the engine, since CPU generators have no offset.

Remove `RowwisePunica` when vLLM's own kernels are correct and as fast; once they are correct, the test
`test_vllm_still_gives_base_rows_the_last_adapter` fails. Remove `RewindingGenerator` when vLLM no longer asks CPU
generators for an offset.

Over 300 lines: one kernel, whose parts are used nowhere else.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from vllm import _custom_ops
from vllm.lora.model_manager import LoRAModelManager
from vllm.lora.punica_wrapper import punica_cpu
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from gateway.engine.worker.cpu_features import multiplies_bfloat16

PRIMITIVES = 16
"""Number of compiled forms that oneDNN keeps of one product, one for each number of rows, about 20 KiB each. Adapters
have hundreds of products: with 128 forms the engine of a model of two layers grew by 300 MiB more under mixed traffic,
and was no faster."""
MASKED_PRODUCTS = 256
"""Most rows x slots of a batch in which each row is multiplied with every slot's weights; beyond this, sorting the rows
is cheaper."""
STEPS_BEFORE_PACKING, LAYERS_PER_STEP = 8, 4
"""Number of steps for which a set of slots must stay before its weights are packed side by side, and number of layers
packed in one step: all 120 of SmolLM2's at once, for four slots, would stop the batch for 100 ms."""


class Rows:
    """Which rows of a batch belong to which adapter slot."""

    def __init__(self, slot_of_row: Tensor) -> None:
        """Args: slot_of_row: int64, -1 for rows of the base model."""
        self.slot_of_row = slot_of_row.clone()
        slots, counts = torch.unique(slot_of_row, return_counts=True)
        sizes = dict(zip(slots.tolist(), counts.tolist(), strict=True))
        base = sizes.pop(-1, 0)
        self.total = slot_of_row.shape[0]
        self.groups: list[tuple[int, int, int]] = []
        """(slot, start, stop) in the order of `order`."""
        start = 0
        for slot, size in sizes.items():
            self.groups.append((slot, start, start + size))
            start += size
        self.slots = tuple(slot for slot, _, _ in self.groups)
        self.is_uniform = len(self.groups) == 1 and base == 0
        self.is_small = self.total * len(self.slots) <= MASKED_PRODUCTS
        self._masks: dict[tuple[tuple[int, int], ...], Tensor] = {}
        sorted_rows = torch.argsort(slot_of_row, stable=True)
        self.order = sorted_rows[base:]
        """The rows with an adapter, slot by slot."""
        self.place = torch.full((self.total,), start, dtype=torch.long)
        """Index of each row in `order`; for base rows one past its end."""
        self.place[self.order] = torch.arange(start)

    def mask(self, columns: tuple[tuple[int, int], ...]) -> Tensor:
        """Shape (total, number of all columns): true where a column belongs to another slot than the row.

        Args:
            columns: (slot, number of columns), from left to right.
        """
        if columns not in self._masks:
            slots, numbers = zip(*columns, strict=True)
            slot_of_column = torch.tensor(slots).repeat_interleave(torch.tensor(numbers))
            self._masks[columns] = self.slot_of_row.unsqueeze(1) != slot_of_column
        return self._masks[columns]


class Product:
    """x @ weight by oneDNN, as in vLLM's own layers: a third of torch.mm's time, once the weight has its layout."""

    def __init__(self, weight: Tensor) -> None:
        """Args: weight: (in, out)."""
        self.width = weight.shape[1]
        self._handler = _custom_ops.create_onednn_mm(weight.contiguous(), PRIMITIVES)  # freed with the object
        self._address = self._handler.handler_tensor
        self._multiply = torch.ops._C.onednn_mm.default

    def into(self, out: Tensor, x: Tensor) -> None:
        """out = x @ weight; both (rows, ...), contiguous and of the weight's type."""
        self._multiply(out, x, None, self._address)


class Packed:
    """The weights of one layer for some slots side by side: y += (x @ a) @ b, each row with its own slot's columns."""

    def __init__(self, a: Tensor, b: Tensor, columns: tuple[tuple[int, int], ...]) -> None:
        """
        Args:
            a: (in, r); r counts all slots, and in each the slices of a fused layer (q, k, v).
            b: (r, out); block diagonal over the slices, so that one product serves them all.
            columns: (slot, its part of r) from left to right.
        """
        self._a, self._b, self._columns = Product(a), Product(b), columns
        self.width = self._b.width
        self.is_finite = bool(torch.isfinite(a.sum()) and torch.isfinite(b.sum()))
        """If false, masking does not keep other slots' weights out of a row: zero times infinity is not zero."""

    def into(self, out: Tensor, x: Tensor, rows: Rows | None = None) -> None:
        """Write the adapters' part of the layer's output for x to `out`. Without `rows`, all belong to one slot."""
        hidden = x.new_empty(x.shape[0], self._a.width)
        self._a.into(hidden, x)
        if rows is not None:
            hidden.masked_fill_(rows.mask(self._columns), 0.0)
        self._b.into(out, hidden)


class Loose:
    """One slot's weights as vLLM's stacks hold them: slower, but usable at once."""

    is_finite = False  # not checked, so they are never masked

    def __init__(self, a_stacked: tuple[Tensor, ...], b_stacked: tuple[Tensor, ...], slot: int, scale: float) -> None:
        self._slices = [(a[slot, 0].t(), b[slot, 0].t()) for a, b in zip(a_stacked, b_stacked, strict=True)]
        self._scale = scale
        self.width = sum(b.shape[1] for _, b in self._slices)

    def into(self, out: Tensor, x: Tensor) -> None:
        start = 0
        for a, b in self._slices:
            stop = start + b.shape[1]
            torch.mm(torch.mm(x, a).mul_(self._scale), b, out=out[:, start:stop])
            start = stop


def pack(
    a_stacked: tuple[Tensor, ...],
    b_stacked: tuple[Tensor, ...],
    slots: tuple[int, ...],
    scale: float,
    dtype: torch.dtype,
) -> Packed | None:
    """The weights in `slots`, without the zero rows up to max_lora_rank; None if none of them changes the layer."""
    downs, ups, columns = [], [], []
    for slot in slots:
        slices = [_without_zeros(a[slot, 0], b[slot, 0]) for a, b in zip(a_stacked, b_stacked, strict=True)]
        down = torch.cat([a.t() for a, _ in slices], dim=1)
        if down.shape[1]:
            downs.append(down.float() * scale)
            ups.append(torch.block_diag(*(b.t() for _, b in slices)))
            columns.append((slot, down.shape[1]))
    if not columns:
        return None
    return Packed(torch.cat(downs, dim=1).to(dtype), torch.cat(ups).to(dtype), tuple(columns))


def _without_zeros(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """A (r, in) and B (out, r), cut to the slice's true rank."""
    used = torch.nonzero(a.abs().amax(dim=1))
    rank = int(used[-1]) + 1 if len(used) else 0
    return a[:rank], b[:, :rank]


class Layer:
    """The weights of one layer: each slot's own, and those of several slots side by side.

    Side by side, two products serve a batch with several adapters. Slot by slot, each adapter needs two, and rows are
    sorted before and after. With four adapters and 16 rows that is 5 ms against 14 ms a step for SmolLM2. But packing
    takes as long as some steps, so it is done only for a set of slots that stays, and for a few layers a step.
    """

    def __init__(self, number: int, a_stacked: tuple[Tensor, ...], b_stacked: tuple[Tensor, ...], scale: float) -> None:
        """Args: number: index of the layer."""
        self._patience = number // LAYERS_PER_STEP
        self._weights = (a_stacked, b_stacked)
        self._scale = scale
        self._alone: dict[int, Packed | None] = {}
        self._times_alone: dict[int, int] = {}
        self._together: Packed | None = None
        self._slots = frozenset[int]()
        """The slots in `_together`, also those that do not change this layer."""
        self._wanted, self._times_wanted = frozenset[int](), 0
        self.width = sum(b.shape[2] for b in b_stacked)

    def forget(self, slot: int) -> None:
        self._alone.pop(slot, None)
        self._times_alone.pop(slot, None)
        self._wanted -= {slot}
        if slot in self._slots:
            self._together, self._slots = None, frozenset()

    def alone(self, slot: int, dtype: torch.dtype) -> Packed | Loose | None:
        """The slot's own weights; None if they do not change the layer. Call once a step."""
        if slot not in self._alone:
            times = self._times_alone[slot] = self._times_alone.get(slot, 0) + 1
            if times <= self._patience and self._weights[0][0].dtype == dtype:
                return Loose(*self._weights, slot, self._scale)
            self._alone[slot] = pack(*self._weights, (slot,), self._scale, dtype)
        return self._alone[slot]

    def together(self, slots: tuple[int, ...], dtype: torch.dtype) -> Packed | None:
        """These slots, and perhaps others, side by side; None until they are packed. Call once a step."""
        if not self._slots.issuperset(slots):
            if not self._wanted.issuperset(slots):
                self._wanted, self._times_wanted = self._wanted | frozenset(slots), 0
            self._times_wanted += 1
            if self._times_wanted <= STEPS_BEFORE_PACKING + self._patience:
                return None
            self._slots = self._wanted
            self._together = pack(*self._weights, tuple(sorted(self._slots)), self._scale, dtype)
        return self._together


@functools.cache
def product_type(dtype: torch.dtype) -> torch.dtype:
    """The type in which activations of `dtype` are multiplied. On a CPU without instructions for it, bfloat16 takes
    several times as long as float32."""
    return dtype if dtype == torch.bfloat16 and multiplies_bfloat16() else torch.float32


class RowwisePunica(PunicaWrapperCPU):  # type: ignore[misc]  # vLLM's classes are Any to us
    """vLLM's LoRA kernels: the result of each row depends on its own adapter only; rows are computed in groups."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._layers: dict[int, Layer] = {}
        """Layers by the address of their stack."""
        self._token_rows = self._sampler_rows = Rows(torch.empty(0, dtype=torch.long))

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        super().update_metadata(*args, **kwargs)
        self._token_rows = Rows(self.token_lora_indices)
        self._sampler_rows = Rows(self.sampler_indices)

    def forget(self, slot: int) -> None:
        """Drop the packed weights of `slot`, which another adapter has taken."""
        for layer in self._layers.values():
            layer.forget(slot)

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        self._add(self._token_rows, y, x, lora_a_stacked, lora_b_stacked, scale)

    def add_lora_logits(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: Tensor,
        lora_b_stacked: Tensor,
        scale: float,
        *,
        buffer: Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        self._add(self._sampler_rows, y, x, (lora_a_stacked,), (lora_b_stacked,), scale)

    def add_lora_embedding(
        self, y: Tensor, x: Tensor, lora_b_stacked: Tensor, add_inputs: bool = True, **kwargs: Any
    ) -> None:
        """Args: x: A's part, which vLLM has looked up."""
        rows = self._token_rows
        for slot, start, stop in rows.groups:
            indices = rows.order[start:stop]
            delta = x.index_select(0, indices).float() @ lora_b_stacked[slot, 0].t().float()
            y.index_add_(0, indices, delta.to(y.dtype))

    def _add(
        self,
        rows: Rows,
        y: Tensor,
        x: Tensor,
        a_stacked: tuple[Tensor, ...],
        b_stacked: tuple[Tensor, ...],
        scale: float,
    ) -> None:
        """y += each row's adapter applied to x, in place; rows of the base model stay as they are."""
        if not rows.groups:
            return
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        dtype = product_type(x.dtype)
        layer = self._layers.get(a_stacked[0].data_ptr())
        if layer is None:
            layer = self._layers[a_stacked[0].data_ptr()] = Layer(len(self._layers), a_stacked, b_stacked, scale)
        parts = [layer.alone(slot, dtype) for slot in rows.slots]
        if any(parts):
            x = x[: rows.total].to(dtype)
            y[: rows.total, : layer.width].add_(_deltas(rows, x, layer, parts))


def _deltas(rows: Rows, x: Tensor, layer: Layer, parts: list[Packed | Loose | None]) -> Tensor:
    """The adapters' part of the layer's output for the rows of x. Args: parts: each slot's own weights."""
    first = parts[0]
    deltas = x.new_empty(rows.total, layer.width)
    if rows.is_uniform and first is not None:
        first.into(deltas, x)
        return deltas
    if rows.is_small:
        masked = layer.together(rows.slots, x.dtype) if len(parts) > 1 else first
        if isinstance(masked, Packed) and masked.is_finite:
            masked.into(deltas, x, rows)
            return deltas
    return _slot_by_slot(rows, x, parts, layer.width)


def _slot_by_slot(rows: Rows, x: Tensor, parts: list[Packed | Loose | None], width: int) -> Tensor:
    x_sorted = x.index_select(0, rows.order)
    deltas = x_sorted.new_zeros(len(rows.order) + 1, width)  # the last row, zero, is for base rows
    for part, (_, start, stop) in zip(parts, rows.groups, strict=True):
        if part is not None:
            part.into(deltas[start:stop], x_sorted[start:stop])
    return deltas.index_select(0, rows.place)


class RewindingGenerator(torch.Generator):  # type: ignore[misc]  # torch's classes are Any to us
    """A generator that can undo the draw that vLLM makes and discards after each chunk of a prompt but the last.

    It starts over, which has the same effect, since chunks come before the first token that counts. A request that is
    preempted and computed again starts over too, and so repeats random numbers: harmless, and still reproducible.
    """

    def get_offset(self) -> int:
        return 0

    def set_offset(self, offset: int) -> None:
        self.manual_seed(self.initial_seed())


def install() -> None:
    """Install the corrections. Call once, before vLLM builds the model."""
    punica_cpu.PunicaWrapperCPU = RowwisePunica
    torch.Generator = RewindingGenerator
    activate = LoRAModelManager.activate_adapter

    def activate_and_forget(self: Any, lora_id: int) -> bool:
        is_new = bool(activate(self, lora_id))
        if is_new:
            slot = self.lora_index_to_id.index(lora_id)
            for wrapper in self.punica_wrapper_mapping.values():
                wrapper.forget(slot)
        return is_new

    LoRAModelManager.activate_adapter = activate_and_forget
