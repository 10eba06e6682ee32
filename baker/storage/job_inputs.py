"""The inputs of a job, copied when the job is started, so that later edits do not affect it.

Rows of older versions are decoded too: a field that they lack has a default.
"""

from typing import Any, Literal

import msgspec

from baker.config.generator import Persona
from baker.config.target import TargetConfig
from baker.types import Message, Prompt


class LocalSet(msgspec.Struct, frozen=True, tag="local"):
    file: str
    """Name of the file in the folder `datasets`."""


class HubSet(msgspec.Struct, frozen=True, tag="hub"):
    id: str
    config: str | None = None
    split: str | None = None
    """None: `train` if the dataset has it, else its first split."""
    column: str | None = None
    """Field of the rows that holds the question. None: chosen by the first rows."""


QuestionSet = LocalSet | HubSet


class AwaitedBake(msgspec.Struct, frozen=True):
    """A bake that was in training when a job that uses its result was started."""

    job: int
    """Number of the bake's job."""
    name: str
    """`user/repo/bake`"""


class WriterPlan(msgspec.Struct, frozen=True):
    """The model that writes a generator's questions."""

    kind: Literal["anthropic", "served"]
    model: str
    checkpoint: str | None = None
    """Name of the checkpoint, if the served model is a baked one."""
    awaited: AwaitedBake | None = None
    """Bake whose result will be that checkpoint; None as soon as it is known."""


class GeneratorPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    writer: WriterPlan | None = msgspec.field(default=None, name="asker")
    """None if the generator needs no model."""
    template: str | None = None
    """Text of the template when the job was started."""
    written: int = 0
    """Number of a persona's questions that the model writes."""
    dataset: QuestionSet | None = None
    replacement: Persona | None = None
    """Generator that runs in place of the target's own."""


class StimInputs(msgspec.Struct, frozen=True):
    teacher: Prompt
    student: Prompt = Prompt()
    generators: list[GeneratorPlan] = []
    """One plan for each generator of the target."""

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints that the job reads."""
        return [plan.writer.checkpoint for plan in self.generators if plan.writer and plan.writer.checkpoint]

    @property
    def awaited(self) -> list[AwaitedBake]:
        """Bakes whose results the job waits for."""
        return [plan.writer.awaited for plan in self.generators if plan.writer and plan.writer.awaited]

    @property
    def asks_model(self) -> bool:
        return any(plan.writer is not None or plan.replacement is not None for plan in self.generators)


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
    awaited_bake: AwaitedBake | None = None
    """Bake whose result will be `checkpoint`; None as soon as it is known."""

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints that the job reads."""
        return [] if self.checkpoint is None else [self.checkpoint]

    @property
    def awaited(self) -> list[AwaitedBake]:
        """Bakes whose results the job waits for."""
        return [] if self.awaited_bake is None else [self.awaited_bake]


class TargetSnapshot(msgspec.Struct, frozen=True):
    """A target as its rollout saw it, so that the bake stays described when the target is changed or deleted."""

    config: TargetConfig
    teacher: Prompt
    student: Prompt
    templates: dict[str, str] = {}
    """Path -> text of the templates that its generators name."""
    checkpoint: str | None = None
    """Name of the checkpoint that gave the answers; None: the base model."""


class ReceivedCommit(msgspec.Struct, frozen=True):
    """A version that was made on another server."""

    commit: str
    """Its id."""
    recipe: dict[str, Any] | None = None
    """What made it; None: the sender kept that."""


class MergeSide(msgspec.Struct, frozen=True):
    """A version that a merge adds up."""

    label: str
    """The name by which people know it in the merge, unlike the other sides' labels."""
    commit: str
    checkpoint: str
    """Full name."""
    weight: float
    """Coefficient of what it changed since the merge base; negative if that is taken out."""
    jobs: list[int]
    """Numbers of the bakes that made it since the merge base, newest first."""
    contexts: list[str] = []
    """Hashes of the different prompts that these bakes' students see."""


class MergeInputs(msgspec.Struct, frozen=True):
    """base + sum of weight * (side - base), in weights."""

    sides: list[MergeSide]
    """The bake's parent first."""
    base: str | None
    """Checkpoint of the merge base; None: the base model."""
    base_commit: str | None
    probe: list[list[Message]] = []
    """Conversations that measure the sides without held-out rows."""

    @property
    def base_weight(self) -> float:
        """Coefficient of the merge base itself."""
        return 1.0 - sum(side.weight for side in self.sides)


class BakeInputs(msgspec.Struct, frozen=True):
    rollouts: dict[str, int]
    """Target -> number of its rollout job."""
    checkpoint: str | None
    """Name of the checkpoint that the bake starts from; None: the base model."""
    targets: dict[str, TargetSnapshot] = {}
    imported: str | None = None
    """Folder that the adapter was imported from; None: it is trained here."""
    received: ReceivedCommit | None = None
    """The commit, if the adapter was received from another server."""
    student: str | None = None
    """Name, in the models folder, of the model that learns; None: the served model."""
    branch_tip: str | None = None
    """Id of the commit that the config's branch meant when the bake was started; None: there was no such branch."""
    is_own_teacher: bool = False
    """Whether the model that learns also gave all answers, before the training."""
    awaited_bake: AwaitedBake | None = None
    """Bake whose result will be `checkpoint`; None as soon as it is known."""

    merge: MergeInputs | None = None
    """None: the bake is no merge."""

    @property
    def teacher(self) -> str | None:
        """Name of the checkpoint whose prompted answers the bake learns from; None: the base model."""
        return self.checkpoint if self.merge is None else self.merge.base

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints that the job reads."""
        sides = [] if self.merge is None else [self.merge.base, *(side.checkpoint for side in self.merge.sides)]
        return list(dict.fromkeys(name for name in (self.checkpoint, *sides) if name is not None))

    @property
    def awaited(self) -> list[AwaitedBake]:
        """Bakes whose results the job waits for."""
        return [] if self.awaited_bake is None else [self.awaited_bake]
