"""What a job works on, copied when the job is started, so that later edits do not touch it.

Rows of older versions are decoded too: a field that they lack has a default.
"""

from typing import Literal

import msgspec

from baker.config.target import TargetConfig
from baker.types import Prompt


class LocalSet(msgspec.Struct, frozen=True, tag="local"):
    file: str
    """Its name in the folder."""


class HubSet(msgspec.Struct, frozen=True, tag="hub"):
    id: str
    config: str | None = None
    split: str | None = None
    """None: `train` if there is one, else the first."""
    column: str | None = None
    """None: chosen by the first row."""


QuestionSet = LocalSet | HubSet


class WriterPlan(msgspec.Struct, frozen=True):
    """Which model writes a generator's questions."""

    kind: Literal["anthropic", "served"]
    model: str
    checkpoint: str | None = None
    """Name of the checkpoint, if the served model is a baked one."""


class GeneratorPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    writer: WriterPlan | None = msgspec.field(default=None, name="asker")
    """None if no model is asked."""
    template: str | None = None
    """The text, as it was when the job was asked for."""
    written: int = 0
    """How many of a persona's questions the model is to write."""
    dataset: QuestionSet | None = None


class StimInputs(msgspec.Struct, frozen=True):
    teacher: Prompt
    student: Prompt = Prompt()
    generators: list[GeneratorPlan] = []
    """One plan for each generator of the target."""

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints that the job reads."""
        return [plan.writer.checkpoint for plan in self.generators if plan.writer and plan.writer.checkpoint]


class RolloutInputs(msgspec.Struct, frozen=True):
    stim_job: int
    """Number of the job that wrote the questions."""
    teacher: Prompt
    student: Prompt
    model: str
    """Name of the model that answers, as the client spelled it."""
    checkpoint: str | None
    """Name of that model's checkpoint; None: the base model."""
    max_tokens: int = 1024

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints that the job reads."""
        return [] if self.checkpoint is None else [self.checkpoint]


class TargetSnapshot(msgspec.Struct, frozen=True):
    """A target as its rollout saw it, so that the bake stays described when the target is changed or deleted."""

    config: TargetConfig
    teacher: Prompt
    student: Prompt
    templates: dict[str, str] = {}
    """Path -> text of the templates that its generators name."""


class BakeInputs(msgspec.Struct, frozen=True):
    rollouts: dict[str, int]
    """Target -> number of its rollout job."""
    checkpoint: str | None
    """Name of the parent; None: the base model."""
    targets: dict[str, TargetSnapshot] = {}
    imported: str | None = None
    """Folder that the adapter was loaded from; None: it is trained here."""
    student: str | None = None
    """The model that learns, by its name in the models folder; None: the served one."""
    is_own_teacher: bool = False
    """Whether it gave all the answers itself, before the training."""

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints that the job reads."""
        return [] if self.checkpoint is None else [self.checkpoint]
