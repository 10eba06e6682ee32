"""A job is one run of a stage: its settings, its inputs, its progress. Each stage has its own class."""

from typing import Any, ClassVar

import msgspec

from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.merge_report import MergeReport
from baker.status import Collation, JobState, Loss, MemoryPlan, Stage
from baker.storage.job_inputs import BakeInputs, RolloutInputs, StimInputs


class Job(msgspec.Struct, frozen=True, kw_only=True, tag_field="stage"):
    """Fields that the jobs of all stages have."""

    stage: ClassVar[Stage]

    id: int = 0
    """Number of the job, which also names its folder; 0 until it has a row."""
    user: str
    repo: str
    name: str
    """Name of the target (stim, rollout) or of the bake."""
    state: JobState = JobState.PENDING
    depends_on: list[int] = []
    """Numbers of the jobs that must be complete first."""
    lines: int = 0
    """Number of items that are finished and on disk."""
    total_expected: int | None = None
    progress_percent: float = 0.0
    error: str | None = None
    """Why the job failed."""
    error_code: str | None = None
    """Code of that error: `BakeryError.code`, or one of `jobs/queue.py`; None for jobs of older versions."""
    warnings: list[str] = []
    attempts: int = 0
    idempotency_key: str | None = None
    created: int = 0
    """Unix seconds, like `finished`."""
    finished: int | None = None
    started: float | None = None
    """Unix seconds since when it runs; None unless it runs."""
    worked_seconds: float | None = None
    """Time for which it ran before that; None for jobs of older versions."""
    deleted: int | None = None
    """Unix seconds of the bake's deletion, if the row is kept as a record: see `repos/records.py`."""

    @property
    def asks_model(self) -> bool:
        """Whether the stage needs a model."""
        return True


class StimJob(Job, frozen=True, kw_only=True, tag="stim"):
    stage: ClassVar[Stage] = Stage.STIM

    config: TargetConfig
    """Effective settings of the target, as clients see them."""
    inputs: StimInputs

    @property
    def asks_model(self) -> bool:
        return self.inputs.asks_model


class RolloutJob(Job, frozen=True, kw_only=True, tag="rollout"):
    stage: ClassVar[Stage] = Stage.ROLLOUT

    config: TargetConfig
    """Effective settings of the target, as clients see them."""
    inputs: RolloutInputs


class BakeJob(Job, frozen=True, kw_only=True, tag="bake"):
    stage: ClassVar[Stage] = Stage.BAKE

    config: BakeConfig
    """Effective settings of the bake, as clients see them."""
    inputs: BakeInputs
    loss: Loss | None = None
    collation: Collation | None = None
    """How the targets were mixed; None until they are."""
    memory: MemoryPlan | None = None
    """What the training needs; None until it is about to start."""
    merge: MergeReport | None = None
    """What a merge measured so far; None for other bakes."""
    held_back: str | None = None
    """Why the bake's name did not move to its result."""
    recipe: dict[str, Any] | None = None
    """What made the bake, as its commits name it by hash (`versions/commits.py`); None before the first one. It is kept
    because `config` and `inputs` get the fields of later versions when they are read."""


AnyJob = StimJob | RolloutJob | BakeJob
TargetJob = StimJob | RolloutJob
