"""Where a bake's model lies, decided before it is loaded: on the one device, on each of several, or in parts on all of
them; and what is kept there.

`deepspeed.zero_optimization.stage` says how several devices share (0: a copy each, 3: parts); a base model that does
not fit one of them is parted whatever it says. Of the ways that fit into the memory there is, the fastest is taken; if
none does, the engine may be put to sleep, or else the training is refused with the numbers.
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
from baker.training.data.batches import as_taught, length_of
from baker.training.devices.ranks import Ranks
from baker.training.events import Emit
from baker.training.model.base import dtype_of
from baker.training.run import memory
from baker.training.run.memory import MIB, Need
from baker.training.spec import TrainSpec
from baker.types import Trajectory


class Layout(NamedTuple):
    in_parts: bool
    recomputes: bool
    """Whether activations are computed again."""
    at_once: int
    """Trajectories of a forward pass, at most."""
    is_lent: bool = False
    """Whether the weights are the engine's."""


class Room(NamedTuple):
    """Bytes that each process may still take."""

    free: int
    asleep: int
    """If the engine slept."""


def _choose(
    spec: TrainSpec,
    rows: Sequence[Trajectory],
    device: torch.device,
    ranks: Ranks,
    emit: Emit,
    at_once: int | None = None,
    *,
    is_lent: bool = False,
) -> Layout:
    """The fastest layout that fits; says so. Args: is_lent: whether the weights are the engine's.

    Raises: NeedsRoomError; StageError.
    """
    for warning in _warnings(spec, ranks):
        emit(events.Warned(warning))
    layouts = [layout._replace(is_lent=is_lent) for layout in _layouts(spec, ranks, at_once)]
    room = _room(spec, device, ranks)
    try:
        needs = [_need(spec, rows, device, ranks, layout) for layout in layouts]
    except StageError:  # its config does not tell its shape: it is tried as it is
        return layouts[0]
    if room is None:
        _plan(spec, ranks, layouts[0], needs[0], None, MemoryWay.BESIDE, emit)
        return layouts[0]
    here = MemoryWay.ASLEEP if spec.is_engine_asleep else MemoryWay.BESIDE
    for way, bytes_free in ((here, room.free), (MemoryWay.ASLEEP, room.asleep)):
        for layout, need in zip(layouts, needs, strict=True):
            if not ranks.all(need.to_take <= bytes_free):  # machines may compute in other types
                continue
            _plan(spec, ranks, layout, need, room.free, way, emit)
            if way is not here:
                raise NeedsRoomError(f"{_numbers(need, room)}: it fits while the engine sleeps")
            if layout != layouts[0]:
                emit(events.Warned(f"{_numbers(needs[0], room)}: {_done_instead(layouts[0], layout, ranks)}"))
            return layout
    least = min(needs, key=lambda need: need.to_take)
    _plan(spec, ranks, layouts[needs.index(least)], least, room.free, MemoryWay.REFUSED, emit)
    raise StageError(f"{_numbers(least, room)}: {_advice(spec, ranks)}")


def _layouts(spec: TrainSpec, ranks: Ranks, most: int | None) -> Iterator[Layout]:
    """Those that the config allows, the fastest first; those that compute a step as a whole before those that take its
    trajectories fewer at a time, which rounds otherwise."""
    must_part = spec.config.deepspeed.zero_optimization.stage == IN_PARTS
    at_once = min(most or spec.config.micro_batch_size, spec.config.micro_batch_size, -(-_together(spec) // ranks.size))
    recomputing = [False] if spec.config.model.disable_activation_checkpoint else [False, True]
    parting = [False] if ranks.size == 1 else [True] if must_part else [False, True]
    for layout in (Layout(in_parts, recomputes, at_once) for in_parts in parting for recomputes in recomputing):
        yield layout
    while layout.at_once > 1:
        layout = layout._replace(at_once=layout.at_once // 2)
        yield layout


def _warnings(spec: TrainSpec, ranks: Ranks) -> Iterator[str]:
    stage = spec.config.deepspeed.zero_optimization.stage
    if stage and ranks.size == 1:
        yield f"deepspeed.zero_optimization.stage {stage} has no effect: this bake trains on one device"
    elif stage in (1, 2):
        yield (
            f"deepspeed.zero_optimization.stage {stage} is done as 0, a whole copy on each device: beside a frozen "
            "base, the gradients and the optimizer of an adapter are too small for their parting to save anything"
        )
    if (together := _together(spec)) < ranks.size:
        yield (
            f"{ranks.size} devices share steps of {together} trajectories, so {ranks.size - together} of them wait: "
            "a higher micro_batch_size gives them work"
        )


def _together(spec: TrainSpec) -> int:
    """Trajectories of a step."""
    return spec.config.micro_batch_size * spec.config.gradient_accumulation_steps


def _need(spec: TrainSpec, rows: Sequence[Trajectory], device: torch.device, ranks: Ranks, layout: Layout) -> Need:
    """Of one process. Raises: StageError if the base model's config does not tell its shape."""
    config = spec.config
    need = memory.estimate(
        memory.read_shape(Path(spec.base_model)),
        msgspec.structs.replace(config, micro_batch_size=layout.at_once),
        [length_of(row) for row in rows],
        dtype=str(dtype_of(device, config.model.torch_dtype)).removeprefix("torch."),
        device=device.type,
        recomputes=layout.recomputes,
        keeps_teacher=not layout.in_parts,
        taught=[length_of(as_taught(row)) for row in rows],
    )
    parts = ranks.size if layout.in_parts else 1
    return need._replace(weights=0 if layout.is_lent else need.weights // parts, adapter=need.adapter // parts)


def _room(spec: TrainSpec, device: torch.device, ranks: Ranks) -> Room | None:
    """On the device that has the least; None where nobody knows."""
    if device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(device)
        asleep = min(whole, free + int(spec.engine_share * whole))
        return Room(int(ranks.least(free)), int(ranks.least(asleep)))
    free = free_bytes()
    if free is None:
        return None
    each = int(ranks.least(free // ranks.here))
    return Room(each, each)  # an engine on a CPU frees nothing in its sleep


def _plan(
    spec: TrainSpec, ranks: Ranks, layout: Layout, need: Need, free: int | None, way: MemoryWay, emit: Emit
) -> None:
    emit(
        events.Planned(
            MemoryPlan(
                way=way,
                needed=need._asdict(),
                total=need.total,
                free=free,
                devices=ranks.size,
                in_parts=layout.in_parts,
                recomputes=layout.recomputes,
                is_lent=layout.is_lent,
            )
        )
    )


def _numbers(need: Need, room: Room) -> str:
    return f"training needs {need}, and {room.free / MIB:,.0f} MiB are free"


def _done_instead(first: Layout, taken: Layout, ranks: Ranks) -> str:
    said = []
    if taken.in_parts and not first.in_parts:
        said.append(
            f"the base model is parted among the {ranks.size} devices, as deepspeed.zero_optimization.stage "
            f"{IN_PARTS} does"
        )
    if taken.recomputes:
        said.append("activations are computed again, which takes a third longer")
    if taken.at_once < first.at_once:
        said.append(f"of a step's trajectories, {taken.at_once} are computed at a time")
    return "; ".join(said)


def _advice(spec: TrainSpec, ranks: Ranks) -> str:
    ways = ["lower data.max_length"]
    if spec.config.data.has_full_teacher:
        ways.append("shorten the teacher's prompt")
    if spec.config.model.disable_activation_checkpoint:
        ways.append("allow model.disable_activation_checkpoint: false")
    if ranks.size == 1 and torch.cuda.device_count() > 1:
        ways.append(f"set deepspeed.zero_optimization.stage {IN_PARTS} to part the weights among the GPUs")
    return ", ".join([*ways, "or give it more memory"])
