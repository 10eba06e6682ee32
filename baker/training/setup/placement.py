"""Chooses the memory layout of a training before anything is loaded: where the base model is, and what is kept there.

`deepspeed.zero_optimization.stage` says how several devices share the base (0: a copy on each, 3: a part on each); a
base that does not fit one device is sharded in any case. The fastest layout that fits the free memory is chosen. If
none fits, the training asks for the engine to sleep, or is refused with the numbers.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from baker.config.bake import IN_PARTS
from baker.errors import NeedsRoomError, StageError
from baker.free_memory import free_bytes
from baker.status import MemoryPlan, MemoryWay
from baker.training import events
from baker.training.data.batches import length_of, teacher_view
from baker.training.devices.ranks import Ranks
from baker.training.events import Emit
from baker.training.model.base import dtype_of
from baker.training.setup import memory
from baker.training.setup.memory import MIB, Need
from baker.training.spec import TrainSpec
from baker.types import Trajectory


class Layout(NamedTuple):
    is_sharded: bool
    """Whether each device holds a part of the base's weights, not a copy."""
    recomputes: bool
    """Whether activations are computed again in the backward pass instead of kept."""
    most_rows: int
    """Largest number of trajectories in a forward pass."""
    is_lent: bool = False
    """Whether the base's weights are the engine's own."""


class FreeMemory(NamedTuple):
    """Bytes that each process can still allocate."""

    now: int
    while_engine_sleeps: int


class Placement:
    """The layouts of one training, and what each of them needs."""

    def __init__(self, spec: TrainSpec, rows: Sequence[Trajectory], device: torch.device, ranks: Ranks) -> None:
        self._spec, self._rows, self._device, self._ranks = spec, rows, device, ranks

    def choose(self, emit: Emit, most_rows: int | None = None, *, is_lent: bool = False) -> Layout:
        """The fastest layout that fits. Emits the plan and warnings.

        Args:
            most_rows: largest number of trajectories in a forward pass; None: as the config says.
            is_lent: whether the base's weights are the engine's own.
        Raises: NeedsRoomError if it only fits while the engine sleeps; StageError if it does not fit.
        """
        for warning in self._config_warnings():
            emit(events.Warned(warning))
        layouts = [layout._replace(is_lent=is_lent) for layout in self._allowed_layouts(most_rows)]
        free = self.free_memory()
        try:
            needs = [self._need(layout) for layout in layouts]
        except StageError:  # the model's config lacks its shape: nothing can be estimated, so the fastest is tried
            return layouts[0]
        if free is None:
            self._emit_plan(emit, layouts[0], needs[0], None, MemoryWay.BESIDE)
            return layouts[0]
        way_now = MemoryWay.ASLEEP if self._spec.is_engine_asleep else MemoryWay.BESIDE
        for way, bytes_free in ((way_now, free.now), (MemoryWay.ASLEEP, free.while_engine_sleeps)):
            for layout, need in zip(layouts, needs, strict=True):
                if not self._ranks.all(need.to_allocate <= bytes_free):  # machines may compute in different types
                    continue
                self._emit_plan(emit, layout, need, free.now, way)
                if way is not way_now:
                    raise NeedsRoomError(f"{_need_and_free(need, free)}: it fits while the engine sleeps")
                if layout != layouts[0]:
                    emit(events.Warned(f"{_need_and_free(needs[0], free)}: {self._consequences(layouts[0], layout)}"))
                return layout
        least = min(needs, key=lambda need: need.to_allocate)
        self._emit_plan(emit, layouts[needs.index(least)], least, free.now, MemoryWay.REFUSED)
        raise StageError(f"{_need_and_free(least, free)}: {self._advice()}")

    def free_memory(self) -> FreeMemory | None:
        """The smallest free memory of all devices; None where the system does not report it."""
        if self._device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self._device)
            while_engine_sleeps = min(total, free + int(self._spec.engine_share * total))
            return FreeMemory(int(self._ranks.least(free)), int(self._ranks.least(while_engine_sleeps)))
        free = free_bytes()
        if free is None:
            return None
        per_process = int(self._ranks.least(free // self._ranks.here))
        return FreeMemory(per_process, per_process)  # an engine on a CPU frees nothing when it sleeps

    def _allowed_layouts(self, most_rows: int | None) -> Iterator[Layout]:
        """The layouts that the config allows, the fastest first. Those that compute fewer trajectories at a time come
        last, because they round differently."""
        config, size = self._spec.config, self._ranks.size
        must_shard = config.deepspeed.zero_optimization.stage == IN_PARTS
        rows_per_device = -(-self._rows_per_step // size)
        most_rows = min(most_rows or config.micro_batch_size, config.micro_batch_size, rows_per_device)
        recomputing = [False] if config.model.disable_activation_checkpoint else [False, True]
        sharding = [False] if size == 1 else [True] if must_shard else [False, True]
        for layout in (
            Layout(is_sharded, recomputes, most_rows) for is_sharded in sharding for recomputes in recomputing
        ):
            yield layout
        while layout.most_rows > 1:
            layout = layout._replace(most_rows=layout.most_rows // 2)
            yield layout

    def _need(self, layout: Layout) -> Need:
        """The need of one process. Raises: StageError if the base model's config lacks its shape."""
        config = self._spec.config
        need = memory.estimate(
            memory.read_shape(Path(self._spec.base_model)),
            msgspec.structs.replace(config, micro_batch_size=layout.most_rows),
            [length_of(row) for row in self._rows],
            dtype=str(dtype_of(self._device, config.model.torch_dtype)).removeprefix("torch."),
            device=self._device.type,
            recomputes=layout.recomputes,
            keeps_teacher=not layout.is_sharded,
            teacher_lengths=[length_of(teacher_view(row)) for row in self._rows],
        )
        parts = self._ranks.size if layout.is_sharded else 1
        return need._replace(weights=0 if layout.is_lent else need.weights // parts, adapter=need.adapter // parts)

    @property
    def _rows_per_step(self) -> int:
        """Number of trajectories of an optimizer step."""
        return self._spec.config.micro_batch_size * self._spec.config.gradient_accumulation_steps

    def _config_warnings(self) -> Iterator[str]:
        stage, size = self._spec.config.deepspeed.zero_optimization.stage, self._ranks.size
        if stage and size == 1:
            yield f"deepspeed.zero_optimization.stage {stage} has no effect: this bake trains on one device"
        elif stage in (1, 2):
            yield (
                f"deepspeed.zero_optimization.stage {stage} has the effect of 0, a full copy on each device: beside a "
                "frozen base, an adapter's gradients and optimizer are too small for sharding them to save memory"
            )
        if (rows := self._rows_per_step) < size:
            yield (
                f"{size} devices share steps of {rows} trajectories, so {size - rows} of them wait: "
                "raise micro_batch_size to use them"
            )

    def _emit_plan(self, emit: Emit, layout: Layout, need: Need, free: int | None, way: MemoryWay) -> None:
        plan = MemoryPlan(
            way=way,
            needed=need._asdict(),
            total=need.total,
            free=free,
            devices=self._ranks.size,
            in_parts=layout.is_sharded,
            recomputes=layout.recomputes,
            is_lent=layout.is_lent,
        )
        emit(events.Planned(plan))

    def _consequences(self, fastest: Layout, chosen: Layout) -> str:
        """What differs from the fastest layout, as a sentence for the user."""
        differences = []
        if chosen.is_sharded and not fastest.is_sharded:
            differences.append(
                f"the base model is sharded over the {self._ranks.size} devices, as with "
                f"deepspeed.zero_optimization.stage {IN_PARTS}"
            )
        if chosen.recomputes:
            differences.append("activations are computed again, which takes a third longer")
        if chosen.most_rows < fastest.most_rows:
            differences.append(f"only {chosen.most_rows} of a step's trajectories are computed at a time")
        return "; ".join(differences)

    def _advice(self) -> str:
        config = self._spec.config
        ways = ["lower data.max_length"]
        if config.data.has_full_teacher:
            ways.append("shorten the teacher's prompt")
        if config.model.disable_activation_checkpoint:
            ways.append("set model.disable_activation_checkpoint to false")
        if self._ranks.size == 1 and torch.cuda.device_count() > 1:
            ways.append(f"set deepspeed.zero_optimization.stage {IN_PARTS} to shard the weights over the GPUs")
        return ", ".join([*ways, "or give it more memory"])


def _need_and_free(need: Need, free: FreeMemory) -> str:
    return f"training needs {need}, and {free.now / MIB:,.0f} MiB are free"
