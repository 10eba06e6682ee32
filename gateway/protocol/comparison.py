"""Bodies of the routes that compare versions: diff, blame, bisect and probes.

Texts of answers, questions and prompts are as they are: they may hold control characters, which clients must make
harmless before they show them.
"""

from typing import Annotated, Literal, get_args

import msgspec

from baker.types import Message

MOST_HUNKS, MOST_ROWS, MOST_SAMPLES = 50, 256, 16
Part = Literal["stat", "patch", "tokens", "weights", "recipe"]
PARTS: tuple[Part, ...] = get_args(Part)
RowKind = Literal["target", "probe", "question", "neutral"]


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Version(Answer, frozen=True, kw_only=True):
    id: str
    """Id of the commit; `base` for the base model."""
    short_id: str
    message: str
    kind: str
    """`bake`, `import`, ...; `base` for the base model."""
    created: int | None
    """Unix seconds; null for the base model, like `model`."""
    model: str | None
    """`user/repo/bake/step`"""


# Probes


class ProbePut(Request, frozen=True, kw_only=True):
    """Either `questions`, each a conversation of one message, or `conversations`."""

    questions: list[str] | None = None
    conversations: list[list[Message]] | None = None
    """The last message of each is not the assistant's."""


class Probe(Answer, frozen=True, kw_only=True):
    name: str
    rows: int
    """Number of its conversations."""
    sha256: str
    """Hash of the conversations as canonical JSON (sorted keys, no spaces)."""


class WholeProbe(Probe, frozen=True, kw_only=True):
    conversations: list[list[Message]]


class ProbeList(Answer, frozen=True, kw_only=True):
    probes: list[Probe]


# Diff


class DiffRequest(Request, frozen=True, kw_only=True):
    a: str
    """A revision, or `base`."""
    b: str
    probe: str | None = None
    """Name of a probe. Without it and without questions, rows that the versions' bakes held out are used."""
    questions: list[str] | None = None
    conversations: list[list[Message]] | None = None
    include: list[Part] = msgspec.field(default_factory=lambda: [*PARTS])
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_HUNKS)] = 5
    """Most questions in `patch`."""
    max_rows: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROWS)] = 32
    """Most rows to compare on, besides the 24 neutral questions."""
    stream: bool = False
    """Whether to answer with server-sent events: `progress` with {done, total}, then `result` or `error`."""


class GroupStat(Answer, frozen=True, kw_only=True):
    """One target, probe or set of questions."""

    kind: RowKind
    name: str
    rows: int
    questions: int
    """Number of different questions."""
    tokens: int
    """Positions at which the versions are compared."""
    kl: float
    """Mean KL(a || b) in nats per token: a lower bound, from the likeliest tokens of both."""
    kl_low: float | None
    """Interval of 95 %, by a bootstrap over questions; null for a single question."""
    kl_high: float | None
    agreement: float
    """Share of the positions at which both find the same token likeliest."""


class Parting(Answer, frozen=True, kw_only=True):
    token: int
    """Number of tokens that both answers begin with."""
    kl: float
    """KL(a || b) at the next token, in nats."""
    shared: str
    """Text that both begin with."""
    a: str
    """The next token of each."""
    b: str


class Hunk(Answer, frozen=True, kw_only=True):
    kind: RowKind
    group: str
    """Name of the target or probe."""
    question: str
    kl: float
    """Mean KL(a || b), nats per token."""
    answer_a: str
    """Greedy answer, at most 64 tokens."""
    answer_b: str
    parting: Parting | None
    """null: both answer alike."""


class TokenChange(Answer, frozen=True, kw_only=True):
    id: int
    text: str
    change: float
    """How much more often `b` expects it, summed over all positions."""


class TokenChanges(Answer, frozen=True, kw_only=True):
    positions: int
    likelier: list[TokenChange]
    less_likely: list[TokenChange]


class ModuleChange(Answer, frozen=True, kw_only=True):
    module: str
    norm: float
    relative_norm: float | None


class WeightsDiff(Answer, frozen=True, kw_only=True):
    """The versions' updates of the base model, dW_a and dW_b, over all modules that either adapts."""

    modules: int
    """Number of modules that differ."""
    norm: float
    """|dW_b - dW_a| (Frobenius)."""
    relative_norm: float | None
    """|dW_b - dW_a| / |W|, with the base model's weights of the same modules; null if its files don't show them."""
    rank_a: int
    """Largest rank of a module's update."""
    rank_b: int
    cosine: float | None
    """Between the two updates; null if one is zero."""
    largest: list[ModuleChange]


class ProbeSummary(Answer, frozen=True, kw_only=True):
    name: str | None
    """Of the probe; null for held-out rows and ad-hoc questions."""
    rows: int
    """The neutral ones included."""
    sha256: str


class DiffResult(Answer, frozen=True, kw_only=True):
    """Parts that were not asked for are null. The same for every call with the same rows and versions."""

    a: Version
    b: Version
    probe: ProbeSummary | None
    warnings: list[str]
    stat: list[GroupStat] | None
    patch: list[Hunk] | None
    tokens: TokenChanges | None
    weights: WeightsDiff | None
    recipe: str | None
    """Unified diff of settings, targets and prompts."""


# Blame


class BlameRequest(Request, frozen=True, kw_only=True):
    model: str
    """A revision."""
    question: str | None = None
    messages: list[Message] | None = None
    """Instead of `question`: a conversation."""
    answer: str | None = None
    """Absent: the model's own greedy answer, at most 64 tokens."""
    stream: bool = False
    """Whether to answer with server-sent events: `progress` with {done, total}, then `result` or `error`."""


class BlamedToken(Answer, frozen=True, kw_only=True):
    text: str
    commit: str
    """Id of the version that raised its log-probability most; `base` if none raised it by 0.1 nats."""
    logprob: float
    """Under the model that was asked about, in nats."""
    gain: float
    """Nats by which that version raised it over the version that it continues."""


class Ancestor(Version, frozen=True, kw_only=True):
    tokens: int
    """Number of tokens that belong to it."""
    gain: float
    """Sum of their gains, in nats."""


class BlameResult(Answer, frozen=True, kw_only=True):
    answer: str
    tokens: list[BlamedToken]
    ancestors: list[Ancestor]
    """The version and what it came from, newest first; last the base model."""
    warnings: list[str]


# Bisect


class BisectRequest(Request, frozen=True, kw_only=True):
    """Without `expect` and `pattern`, the answers are returned for the client to judge."""

    bad: str
    """A revision."""
    good: str
    """An ancestor of `bad`, or `base`."""
    question: str | None = None
    messages: list[Message] | None = None
    expect: str | None = None
    """A version's score is how likely it begins its answer with this text: mean log-probability, nats per token."""
    pattern: str | None = None
    """Regular expression. A version's score is the share of its answers in which it is found."""
    samples: Annotated[int, msgspec.Meta(ge=1, le=MOST_SAMPLES)] = 1
    """Answers of each version: 1 is the greedy one, more are drawn at temperature 1 with fixed seeds."""
    stream: bool = False
    """Whether to answer with server-sent events: `progress` with {done, total}, then `result` or `error`."""


class BisectStep(Version, frozen=True, kw_only=True):
    commit: str
    """The same as `id`."""
    score: float | None
    state: Literal["good", "bad"] | None
    """Whether the score is nearer to that of the good or of the bad end; null if the client judges."""
    answers: list[str]


class BisectResult(Answer, frozen=True, kw_only=True):
    steps: list[BisectStep]
    """From the good end to the bad one."""
    flips: list[str]
    """Ids of the versions whose state differs from that of what they continue."""
    first_bad: str | None
    """Id of the last flip to bad, after which all versions are bad."""
    warnings: list[str]
