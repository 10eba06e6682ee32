"""Corrections of vLLM 0.32 for CPUs, made in its worker process before the model is built (`install`).

- Rows of the base model, which carry slot -1, got the adapter of the last slot when they shared a batch with an
  adapter: `weights[-1]` is a valid index. Here every row gets its own adapter or none, bit for bit, and an adapter
  full of NaN harms nobody else.
- For each token vLLM copies a full A and B out of the stack: prefill with an adapter was six times slower than
  without. Here rows are grouped by adapter and multiplied with weights packed once when an adapter enters its slot.
  They are kept in float32: without bfloat16 instructions torch's product of such thin matrices takes 5 to 10 times
  as long (110 against 12 microseconds for one row of o_proj).
- A request with a seed whose prompt was split into chunks killed the engine, since CPU generators have no offset.
"""

from typing import Any

import torch
from torch import Tensor
from vllm.lora.model_manager import LoRAModelManager
from vllm.lora.punica_wrapper import punica_cpu
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU


class Rows:
    """Which rows of a batch belong to which adapter slot."""

    def __init__(self, slot_of_row: Tensor) -> None:
        """`slot_of_row`: int64, -1 where the base model answers."""
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
        self.is_uniform = len(self.groups) == 1 and base == 0
        sorted_rows = torch.argsort(slot_of_row, stable=True)
        self.order = sorted_rows[base:]
        """The rows with an adapter, slot by slot."""
        self.place = torch.full((self.total,), start, dtype=torch.long)
        """Where each row stands in `order`; base rows: one past its end."""
        self.place[self.order] = torch.arange(start)


class PackedAdapter:
    """One adapter's weights for one layer: y += (x @ a) @ b."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a = a
        """(in, r) float32; the slices of a fused layer (q, k, v) side by side."""
        self.b = b
        """(r, out) float32; block diagonal over the slices, so that one product serves them all."""


def pack(a_stacked: tuple[Tensor, ...], b_stacked: tuple[Tensor, ...], slot: int, scale: float) -> PackedAdapter | None:
    """The weights in `slot`, without the zero rows up to max_lora_rank; None if the adapter leaves the layer alone."""
    downs, ups = [], []
    for a_stack, b_stack in zip(a_stacked, b_stacked, strict=True):
        a, b = a_stack[slot, 0], b_stack[slot, 0]  # (r, in), (out, r)
        used = torch.nonzero((a != 0).any(dim=1) | (b != 0).any(dim=0))
        rank = int(used[-1]) + 1 if len(used) else 0
        downs.append(a[:rank].t().float() * scale)
        ups.append(b[:, :rank].t().float())
    if not any(down.shape[1] for down in downs):
        return None
    return PackedAdapter(torch.cat(downs, dim=1).contiguous(), torch.block_diag(*ups))


class RowwisePunica(PunicaWrapperCPU):  # type: ignore[misc]  # vLLM's classes are Any to us
    """vLLM's LoRA kernels, a row at a time in effect and a group of rows at a time in fact."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._packed: dict[int, dict[int, PackedAdapter | None]] = {}
        """Slot -> address of the layer's stack -> weights."""
        nothing = torch.empty(0, dtype=torch.long)
        self._token_rows = self._sampler_rows = Rows(nothing)

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        super().update_metadata(*args, **kwargs)
        self._token_rows = Rows(self.token_lora_indices)
        self._sampler_rows = Rows(self.sampler_indices)

    def forget(self, slot: int) -> None:
        """Another adapter has moved into `slot`."""
        self._packed.pop(slot, None)

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
        """`x` is already A's part: a lookup."""
        rows = self._token_rows
        for slot, start, stop in rows.groups:
            mine = rows.order[start:stop]
            delta = x.index_select(0, mine).float() @ lora_b_stacked[slot, 0].t().float()
            y.index_add_(0, mine, delta.to(y.dtype))

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
        packed = [self._weights(a_stacked, b_stacked, slot, scale) for slot, _, _ in rows.groups]
        if rows.is_uniform:
            if (only := packed[0]) is not None:
                y[:, : only.b.shape[1]].add_(torch.mm(torch.mm(x.float(), only.a), only.b))
            return
        width = sum(b.shape[2] for b in b_stacked)
        x_sorted = x.index_select(0, rows.order).float()
        deltas = torch.zeros(len(rows.order) + 1, width)  # the last row is what base rows get
        for weights, (_, start, stop) in zip(packed, rows.groups, strict=True):
            if weights is not None:
                torch.mm(torch.mm(x_sorted[start:stop], weights.a), weights.b, out=deltas[start:stop])
        y[: rows.total, :width].add_(deltas.index_select(0, rows.place))

    def _weights(
        self, a_stacked: tuple[Tensor, ...], b_stacked: tuple[Tensor, ...], slot: int, scale: float
    ) -> PackedAdapter | None:
        layers = self._packed.setdefault(slot, {})
        layer = a_stacked[0].data_ptr()
        if layer not in layers:
            layers[layer] = pack(a_stacked, b_stacked, slot, scale)
        return layers[layer]


class RewindingGenerator(torch.Generator):  # type: ignore[misc]  # torch's classes are Any to us
    """A generator that can undo the draw that vLLM makes and discards after each chunk of a prompt but the last.

    It starts over, which is the same thing: chunks come before the first token that counts. A request that was
    preempted and computed anew starts over too, and so repeats random numbers: harmless, and still reproducible.
    """

    def get_offset(self) -> int:
        return 0

    def set_offset(self, offset: int) -> None:
        self.manual_seed(self.initial_seed())


def install() -> None:
    """Put the corrections in place; once, before vLLM builds the model."""
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
