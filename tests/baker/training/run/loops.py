"""A training loop over a tiny model."""

from pathlib import Path
from typing import Any

import torch

from baker.config.bake import bake_config
from baker.training import events
from baker.training.devices.ranks import ALONE, Ranks
from baker.training.model import lora
from baker.training.model.student import Student
from baker.training.run.loop import Loop
from baker.training.run.metrics import Metrics
from baker.training.run.run_context import RunContext
from baker.types import Trajectory
from tests.baker.tiny import make_model, make_trajectories


def make_context(
    folder: Path, has_parent: bool = False, ranks: Ranks = ALONE, **settings: Any
) -> tuple[RunContext, list[events.TrainEvent]]:
    """A context with the config's `settings`, and the list that its events go to."""
    emitted: list[events.TrainEvent] = []
    config = bake_config({"epochs": 2, "optimizer": {"learning_rate": 0.02}} | settings)
    metrics = Metrics(folder / "metrics.jsonl")
    return RunContext(config, metrics, emitted.append, ranks, has_parent=has_parent), emitted


def make_loop(
    folder: Path,
    rows: list[Trajectory] | None = None,
    held_out: dict[str, list[Trajectory]] | None = None,
    dtype: torch.dtype = torch.float32,
    neutral: list[Trajectory] | None = None,
    dropout: float = 0.0,
    **settings: Any,
) -> tuple[Loop, list[events.TrainEvent]]:
    base = make_model().to(dtype)
    student = Student(base.requires_grad_(False))
    torch.manual_seed(0)
    lora.attach(base, rank=4, alpha=4.0, dropout=dropout)
    context, emitted = make_context(folder, **settings)
    rows = make_trajectories(6) if rows is None else rows
    return Loop(student, rows, context, held_out, neutral or []), emitted
