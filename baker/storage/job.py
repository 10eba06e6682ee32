"""One run of a stage as a value: what was asked, what it works on, how far it got."""

from typing import Any

import msgspec

from baker.status import Collation, JobState, Loss, MemoryPlan, Stage


class Job(msgspec.Struct, frozen=True):
    """One run of a stage: what was asked, what it works on, how far it got."""

    id: int
    stage: Stage
    user: str
    repo: str
    name: str
    """The target's (stim, rollout) or the bake's."""
    state: JobState
    config: dict[str, Any]
    """Effective settings, as shown to clients."""
    inputs: dict[str, Any]
    """What the job works on, copied when it was asked for: prompts, models, other jobs."""
    depends_on: list[int] = []
    """Jobs that must be complete first."""
    lines: int = 0
    """Items finished and on disk."""
    total_expected: int | None = None
    progress_percent: float = 0.0
    error: str | None = None
    warnings: list[str] = []
    loss: Loss | None = None
    collation: Collation | None = None
    """Of a bake, once its targets are mixed."""
    memory: MemoryPlan | None = None
    """Of a bake, once it is to train."""
    held_back: str | None = None
    """Why a bake's name did not move to its result."""
    attempts: int = 0
    idempotency_key: str | None = None
    created: int = 0
    finished: int | None = None
