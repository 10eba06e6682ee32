"""What a merge measured: the proof that comes with it."""

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    PASSED = "passed"
    HELD_BACK = "held_back"
    UNVERIFIED = "unverified"
    """There are no held-out rows to measure it on."""


class Retention(msgspec.Struct, frozen=True):
    """How much of what one version had learned is left, on the rows that it held out itself."""

    retention: float | None
    """(KL_O - KL_M) / (KL_O - KL_V), with KL from the version's own teacher, the merge base O, the merge M and the
    version V; 1: as good as the version. None if it had learned next to nothing."""
    low: float | None
    """Limits of its 95 % interval, by a paired bootstrap over the questions; None for fewer than two."""
    high: float | None
    kl_base: float
    """KL_O in nats per token."""
    kl_own: float
    """KL_V"""
    kl_merged: float
    """KL_M"""
    agreement_own: float
    """Share of the tokens at which the version and its teacher have the same likeliest one."""
    agreement: float
    """The same of the merge."""
    rows: int
    questions: int
    is_removed: bool = False
    """Whether the merge is to forget it: the lower, the better."""
    yields: bool = False
    """Whether the other version's answers count where the two contradict each other, so that this one may lose."""


class ConflictQuestion(msgspec.Struct, frozen=True):
    question: str
    side: str
    """Label of the version whose held-out row it is."""
    conflicts: int
    """Number of tokens that two versions moved from the merge base in different ways."""
    moved: int
    """Number of tokens that any version moved."""
    answers: dict[str, str]
    """Label -> how that version's likeliest answer begins."""


class Conflict(msgspec.Struct, frozen=True):
    share: float
    """Conflicts / tokens that any version moved."""
    conflicts: int
    moved: int
    has_equal_contexts: bool
    """Whether the versions answer the same bare conversation: their students have equal prompts."""
    questions: list[ConflictQuestion]
    """Those with the most conflicts."""


class MergeReport(msgspec.Struct, frozen=True, omit_defaults=True):
    kind: str
    """`merge`, `cherry-pick` or `revert`."""
    phase: str | None = None
    """What is being done now: `comparing`, `adding up`, `training` or `measuring`; absent when it is done."""
    strategy: str | None = None
    """How the result was made: `algebra`, `distill` or `compose`; absent until then."""
    rank: int | None = None
    """Rank of the combined adapter."""
    full_rank: int | None = None
    """Its rank before the cut."""
    energy_lost: float | None = None
    """Share of its squared singular values that the cut took."""
    conflict: Conflict | None = None
    retention: dict[str, Retention] = {}
    """Label -> of that version. Absent for versions without held-out rows."""
    algebra: dict[str, float] = {}
    """Label -> retention of the algebraic merge that a distilled one began from."""
    drift: float | None = None
    """KL(base || merge) on neutral questions, in nats per token."""
    drift_limit: float | None = None
    verdict: Verdict | None = None
    failures: list[str] = []
    """Why it is held back, or why the algebra was not enough."""
