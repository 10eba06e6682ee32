"""What a job works on, copied when the job is started, so that later edits do not touch it."""

from typing import Any, Literal

import msgspec

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
    student: Prompt
    generators: list[GeneratorPlan]


class RolloutInputs(msgspec.Struct, frozen=True):
    stim_job: int
    teacher: Prompt
    student: Prompt
    model: str
    checkpoint: str | None
    max_tokens: int


class TargetSnapshot(msgspec.Struct, frozen=True):
    """A target as its rollout saw it: what the bake is made of, whatever becomes of the target."""

    config: dict[str, Any]
    teacher: Prompt
    student: Prompt
    templates: dict[str, str] = {}
    """Path -> text, of those that its generators name."""


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
