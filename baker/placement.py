"""Where a bake's model lies: on the one device, on each of several, or in parts on several; and what it keeps there.

`deepspeed.zero_optimization.stage` says how several devices share (0: a copy each, 3: parts); a base model that does
not fit one of them is parted whatever it says.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import torch

from baker import events, lora, memory
from baker.bake_config import IN_PARTS, BakeConfig
from baker.batches import length_of
from baker.errors import StageError
from baker.loop import Emit
from baker.memory import MIB, Need
from baker.ranks import Ranks
from baker.spread import WHOLE, replicated, sharded
from baker.student import Student, dtype_of, load_base, pick_device
from baker.train_spec import TrainSpec
from baker.types import Trajectory


def load(spec: TrainSpec, rows: Sequence[Trajectory], ranks: Ranks, emit: Emit) -> tuple[Student, lora.Attached]:
    """The base with its new adapter, which starts as the parent's if there is one, ready to train on `rows`.

    Raises: StageError for a base that can't be loaded; AdapterError for the parent's or the wanted adapter.
    """
    config, device = spec.config, pick_device()
    wanted = config.model.baked_adapter_config
    in_parts, warnings = _choose(spec, rows, device, ranks)
    base = load_base(
        Path(spec.base_model), device, config.model.torch_dtype, config.model.attn_implementation, is_moved=not in_parts
    )
    attached = lora.attach(
        base.model,
        rank=wanted.r,
        alpha=wanted.lora_alpha,
        dropout=wanted.lora_dropout,
        target_modules=wanted.target_modules,
        parent=None if spec.parent_adapter is None else Path(spec.parent_adapter),
        remembers_parent=config.data.has_full_teacher,
    )
    if in_parts:
        spread = sharded(base.model, device, ranks)
        lora.bring_parent(attached.model, device)
    else:
        spread = WHOLE if ranks.size == 1 else replicated(base.model, ranks)
    for message in [*warnings, *base.warnings, *attached.warnings]:
        emit(events.Warned(message))
    student = Student(base.model, spread)
    student.as_teacher = partial(lora.as_parent, attached.model)
    need = _need(spec, rows, device, ranks, in_parts=in_parts)
    if need is not None and (warning := _spare(student, need, config, _free(device, ranks))):
        emit(events.Warned(warning))
    return student, attached


def _choose(spec: TrainSpec, rows: Sequence[Trajectory], device: torch.device, ranks: Ranks) -> tuple[bool, list[str]]:
    """Whether the model is parted, and what is to be said of that."""
    config, stage = spec.config, spec.config.deepspeed.zero_optimization.stage
    said = f"deepspeed.zero_optimization.stage {stage}"
    if ranks.size == 1:
        return False, [f"{said} has no effect: this bake trains on one device"] if stage else []
    warnings = []
    if (together := config.micro_batch_size * config.gradient_accumulation_steps) < ranks.size:
        warnings.append(
            f"{ranks.size} devices share steps of {together} trajectories, so {ranks.size - together} of them wait: "
            "a higher micro_batch_size gives them work"
        )
    if stage == IN_PARTS:
        return True, warnings
    need, free = _need(spec, rows, device, ranks, in_parts=False), _free(device, ranks)
    if need is not None and free is not None and need.weights + need.adapter + need.logits > free:
        warnings.append(
            f"training needs {need} on each device, and {free / MIB:,.0f} MiB are free: the base model is parted "
            f"among the {ranks.size}, as deepspeed.zero_optimization.stage {IN_PARTS} does"
        )
        return True, warnings
    if stage:
        warnings.append(
            f"{said} is done as 0, a whole copy on each device: beside a frozen base, the gradients and the optimizer "
            "of an adapter are too small for their parting to save anything"
        )
    return False, warnings


def _need(
    spec: TrainSpec, rows: Sequence[Trajectory], device: torch.device, ranks: Ranks, *, in_parts: bool
) -> Need | None:
    """Of one process; None where the base model's config does not tell its shape."""
    try:
        shape = memory.read_shape(Path(spec.base_model))
    except StageError:
        return None
    config = spec.config
    together = config.micro_batch_size * config.gradient_accumulation_steps
    at_once = min(config.micro_batch_size, -(-together // ranks.size))
    need = memory.estimate(
        shape,
        msgspec.structs.replace(config, micro_batch_size=at_once),
        [length_of(row) for row in rows],
        dtype=str(dtype_of(device, config.model.torch_dtype)).removeprefix("torch."),
        device=device.type,
    )
    parts = ranks.size if in_parts else 1
    return need._replace(weights=need.weights // parts, adapter=need.adapter // parts)


def _free(device: torch.device, ranks: Ranks) -> int | None:
    """Bytes that each process may still take, of the device that has the least; None where nobody knows."""
    if device.type == "cuda":
        return int(ranks.least(torch.cuda.mem_get_info(device)[0]))
    free = memory.free_bytes()
    return None if free is None else int(ranks.least(free)) // ranks.size


def _spare(student: Student, need: Need, config: BakeConfig, free: int | None) -> str | None:
    """Compute activations again if training would not fit beside the model, and say so."""
    if free is None or need.to_come <= free or config.model.disable_activation_checkpoint:
        return None
    student.recompute_activations()
    return (
        f"training needs {need}, and {free / MIB:,.0f} MiB are free once the model is loaded: activations are computed "
        "again, which takes a third longer; a lower micro_batch_size would do too"
    )
