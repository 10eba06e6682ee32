"""Builds the student: base model, adapter, and devices."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from baker.config.bake import epochs_for
from baker.errors import NotLentError
from baker.training import events
from baker.training.data.batches import length_of, make_batch
from baker.training.devices.parallel import ONE_DEVICE, replicated, sharded
from baker.training.devices.ranks import Ranks
from baker.training.events import Emit
from baker.training.model import lora
from baker.training.model.base import Base, load_base, pick_device
from baker.training.model.engine_weights import from_engine, open_lent
from baker.training.model.student import Student
from baker.training.setup.placement import Placement
from baker.training.spec import TrainSpec
from baker.types import Trajectory

WORTH_COMPILING = 3e16
"""Operations from which compiling saves time. An H100 does them in 80 s, in 60 with compiled layers, and compiles for
16 s; the next training finds the result in torch's cache."""


def build_student(
    spec: TrainSpec, rows: Sequence[Trajectory], ranks: Ranks, emit: Emit, most_rows: int | None = None
) -> tuple[Student, lora.Attached]:
    """The base model with its new adapter, which starts as the parent's if there is one, ready to train on `rows`.

    Args: most_rows: largest number of trajectories in a forward pass; None: as the config says. Memory may allow fewer.
    Raises: before anything is loaded, NeedsRoomError if it only fits while the engine sleeps, StageError if it does
    not fit; then StageError for a base that can't be loaded, AdapterError for the parent's adapter or the settings of
    the new one.
    """
    config, device = spec.config, pick_device()
    adapter = config.model.baked_adapter_config
    lent = None if spec.engine_weights is None else _load_lent(spec, device, Path(spec.engine_weights), emit)
    layout = Placement(spec, rows, device, ranks).choose(emit, most_rows, is_lent=lent is not None)
    base = lent or _load_base(spec, device, is_moved=not layout.is_sharded)
    attached = lora.attach(
        base.model,
        rank=adapter.r,
        alpha=adapter.lora_alpha,
        dropout=adapter.lora_dropout,
        target_modules=adapter.target_modules,
        parent=None if spec.parent_adapter is None else Path(spec.parent_adapter),
        remembers_parent=config.data.has_full_teacher,
    )
    if layout.is_sharded:
        parallel = sharded(base.model, device, ranks)
        lora.move_parent_copy(attached.model, device)
    else:
        parallel = ONE_DEVICE if ranks.size == 1 else replicated(base.model, ranks)
    for message in [*base.warnings, *attached.warnings]:
        emit(events.Warned(message))
    student = Student(base.model, parallel, most_rows=layout.most_rows)
    student.as_teacher = partial(lora.as_parent, attached.model)
    if layout.recomputes:
        student.recompute_activations()
    return student, attached


def _load_base(spec: TrainSpec, device: torch.device, **options: Any) -> Base:
    """Args: options: further arguments of `load_base`."""
    model = spec.config.model
    return load_base(Path(spec.base_model), device, model.torch_dtype, model.attn_implementation, **options)


def _load_lent(spec: TrainSpec, device: torch.device, handles: Path, emit: Emit) -> Base | None:
    """The base on the engine's weights, which takes almost no memory; None, with a warning, if they can't be used."""
    try:
        return _load_base(spec, device, weights=partial(from_engine, open_lent(handles)))
    except NotLentError as error:
        emit(events.Warned(f"the engine's weights can't be shared, so training loads its own copy: {error}"))
        return None


def compile_if_worthwhile(spec: TrainSpec, student: Student, rows: Sequence[Trajectory], emit: Emit) -> None:
    """Compiles the layers if the training is long and on one GPU. Several would have to succeed together: not tried."""
    config = spec.config
    passes = config.data.on_policy.epochs if spec.round.number else config.epochs or epochs_for(len(rows))
    operations = 4 * student.model.num_parameters() * sum(map(length_of, rows)) * passes
    if student.device.type != "cuda" or student.parallel is not ONE_DEVICE or operations < WORTH_COMPILING:
        return
    if reason := student.compile_layers(make_batch(rows[: student.most_rows or config.micro_batch_size])):
        emit(events.Warned(f"the model's layers can't be compiled for this GPU, so training takes longer: {reason}"))
