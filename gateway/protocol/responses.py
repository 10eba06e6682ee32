"""Response bodies of the Bread routes.

Fields marked [old] repeat another field, for older clients. One file, so that the wire contract is read in one place.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from baker.merge_report import MergeReport
from baker.status import AgreementChange, Collation, JobState, KLChange, MemoryPlan, Progress, WaitingFor
from baker.types import Message


class Body(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Repo(Body, frozen=True, kw_only=True):
    repo_name: str
    base_model: str


class RepoList(Body, frozen=True, kw_only=True):
    repos: list[str]
    items: list[Repo]
    """[old]"""


class RepoPage(Body, frozen=True, kw_only=True):
    """The list with metadata."""

    repos: list[Repo]
    offset: int
    limit: int
    has_more: bool
    total: int
    items: list[Repo]
    """[old]"""


class Prompt(Body, frozen=True, kw_only=True):
    prompt_name: str
    messages: list[Message]
    tools: list[dict[str, Any]] | None
    warnings: list[str] | UnsetType = UNSET
    """What the served model's chat template does not show or know. Only in the answer to a save."""


class PromptItem(Body, frozen=True, kw_only=True):
    prompt_name: str


class PromptList(Body, frozen=True, kw_only=True):
    prompts: list[str]
    items: list[PromptItem]
    """[old]"""


class Target(Body, frozen=True, kw_only=True):
    target_name: str
    config: dict[str, Any]
    warnings: list[str]
    """What a run would refuse as things are now, such as a prompt that is not there yet, and what has no effect."""


class TargetItem(Body, frozen=True, kw_only=True):
    target_name: str


class TargetList(Body, frozen=True, kw_only=True):
    targets: list[str]
    items: list[TargetItem]
    """[old]"""


class Deleted(Body, frozen=True, kw_only=True):
    message: str
    operation: int | UnsetType | None = UNSET
    """Number of the deletion in the repo's log of operations."""
    undoable: bool | UnsetType = UNSET
    """Whether `POST /undo` brings it back."""
    kept_until: int | UnsetType | None = UNSET
    """Unix seconds until when its files stay for that. Null if they are removed now."""


class Batch(Body, frozen=True, kw_only=True):
    created: list[str]
    """Names of the items that are now as requested: added, changed, or unchanged."""
    failed: dict[str, str]
    """Name -> reason."""
    warnings: dict[str, list[str]] | UnsetType = UNSET
    """Name -> warnings, as in the answer to saving it alone, for the items with any."""


class Stands(Body, frozen=True, kw_only=True):
    """How a job stands; see docs/api.md, "While a job waits or runs"."""

    waiting_for: list[WaitingFor]
    """What a pending job waits for. Empty otherwise, and just before it runs."""
    queue_position: int | None
    """Place in the queue of its kind: 1 is the next to run. Null unless it waits only for its turn."""
    queued_seconds: float | None
    """Time since it was started during which it did not run. Null if it never was, or by an older version."""
    running_seconds: float | None
    """Time during which it ran; null as above."""
    eta_seconds: float | None
    """Seconds until the last item or step, estimated from the speed so far. Null if unknown, or if it does not run."""


class JobStatus(Stands, frozen=True, kw_only=True):
    """A stim or a rollout."""

    status: JobState
    lines: int
    """Rows finished so far. In a running stim, the last of them may not be in its output yet."""
    job_id: int | None
    id: int | None
    """[old] job_id."""
    progress_percent: float | None
    total_expected: int | None
    error: str | None
    error_code: str | None
    """Kind of failure, such as CANCELLED, DISK_ERROR or TRAINING_FAILED."""
    warnings: list[str]
    """What was done differently from the request, or is worth knowing about the result, with the reason."""
    config: dict[str, Any] | None
    parameters: dict[str, Any] | None
    """[old] config."""


class OutputPage(JobStatus, frozen=True, kw_only=True):
    offset: int
    limit: int
    has_more: bool
    output: list[dict[str, Any]]


class Loss(Body, frozen=True, kw_only=True, omit_defaults=True):
    """Losses in nats per response token, as far as they are known. Published clients read it as a map of numbers."""

    latest_loss: float | None = None
    final_loss: float | None = None
    min_loss: float | None = None
    max_loss: float | None = None
    eval_kl_before: float | None = None
    eval_kl: float | None = None
    """Latest forward KL on held-out stimuli; absent until one was measured after training began."""
    recovered: float | None = None
    """1 - eval_kl / eval_kl_before."""
    agreement_before: float | None = None
    agreement: float | None = None
    """Share of held-out response tokens at which student and teacher have the same likeliest token."""
    drift_before: float | None = None
    drift: float | None = None
    """KL(base || baked) on neutral questions. Known when the training is done."""


class Bake(Stands, frozen=True, kw_only=True):
    bake_name: str
    status: JobState
    message: str
    """[old] status."""
    job_id: int | None
    id: int | None
    """[old] job_id."""
    job: None = None
    """[old]"""
    lines: None = None
    progress_percent: float | None
    error: str | None
    error_code: str | None
    """Kind of failure, such as CANCELLED, DISK_ERROR or TRAINING_FAILED."""
    warnings: list[str]
    config: dict[str, Any]
    model_name: list[str] | None
    """Names of the finished checkpoints: the one that `repo/bake` means, then the others, newest first. Null until the
    bake is complete. Empty if the student is not the served model: its checkpoints can only be downloaded."""
    live_checkpoint: int | None
    """Checkpoint that `repo/bake` means; null while it means none."""
    held_back: str | None
    """Why `publish_if`, or a merge's own gate, did not move `repo/bake` to the bake's result."""
    merge: MergeReport | None
    """What a merge measured so far; null for other bakes."""
    checkpoint: int | None
    """First of `checkpoints`."""
    checkpoints: list[int]
    """Training steps of all served checkpoints, in the order of `model_name`; while the bake runs, those so far."""
    loss: Loss | None
    eval_kl_by_target: dict[str, KLChange]
    """Target -> KL on its own held-out stimuli; empty until the first one after training began."""
    agreement_by_target: dict[str, AgreementChange]
    """Target -> agreement on its own held-out stimuli."""
    training: Progress | None
    """Progress of the training; null unless it runs now."""
    collation: Collation | None
    """How the targets were mixed; null until then."""
    memory: MemoryPlan | None
    """Memory that the training needs and how it gets it; null until known."""


class BakeItem(Body, frozen=True, kw_only=True):
    bake_name: str


class BakeList(Body, frozen=True, kw_only=True):
    bakes: list[str]
    items: list[BakeItem]
    """[old]"""


class Download(Body, frozen=True, kw_only=True):
    """Link to the archive of a checkpoint. It needs no key."""

    url: str
    expires_in: int
    """Seconds until the link expires."""
    checkpoint: int
    bake_name: str


class UserCreated(Body, frozen=True, kw_only=True):
    user_id: str
    user_alias: str
    user_email: str
    api_key: str | UnsetType = UNSET
    """Text of the first key. Shown once: only in the answer that created the user."""


class KeyCreated(Body, frozen=True, kw_only=True):
    user_id: str
    key_id: str
    api_key: str
    """Text of the key. Shown once."""


class Key(Body, frozen=True, kw_only=True):
    key_id: str
    created: int


class User(Body, frozen=True, kw_only=True):
    user_id: str
    user_alias: str
    user_email: str
    created: int
    keys: list[Key]


class UserList(Body, frozen=True, kw_only=True):
    users: list[User]


class Ok(Body, frozen=True, kw_only=True):
    """The answer to a coordinator's callback."""

    message: Literal["ok"] = "ok"


class Health(Body, frozen=True, kw_only=True):
    status: Literal["healthy", "degraded"]
    api: str
    version: str
    detail: str | UnsetType = UNSET
    """What is wrong. More detailed with the master key."""


class Version(Body, frozen=True, kw_only=True):
    version: str
    """vLLM's, as in vLLM's own answer."""
    gateway: str
    """This service's."""


class Front(Body, frozen=True, kw_only=True):
    """What the service says of itself at `/`."""

    name: str
    version: str
    status: Literal["ready", "not_ready"]
    detail: str | UnsetType = UNSET
    """Why it is not ready."""
    models: int | UnsetType = UNSET
    """Number of names in the caller's `/v1/models`; only with a key."""
    api: str = "/v1"
    openapi: str = "/schema/openapi.json"
    docs: str = "/schema"
    health: str = "/v1/health"


class Model(Body, frozen=True, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    root: str
    """The base model."""
    parent: str | None
    """The model that an adapter was trained on: the full name of another bake's checkpoint, or the base model."""
    max_model_len: int | None
    served: str
    """The version that answers under this name now: its full name, with a strength that isn't 1."""
    kind: Literal["base", "bake", "checkpoint", "branch", "tag", "revision"]
    """What the name is; `revision`: another way to write a version, such as `repo/bake~1`."""
    commit: str | None
    """Id of the commit of that version; null for the base model."""


class ModelList(Body, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Model]


class TokenizerInfo(Body, frozen=True, kw_only=True):
    """Names as in vLLM's /tokenizer_info."""

    tokenizer_class: str
    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    unk_token: str | None
    chat_template: str | None
    """Jinja template that makes a prompt from messages."""


class AnthropicModel(Body, frozen=True, kw_only=True):
    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: datetime
    lifecycle: Literal["active"] = "active"
    max_input_tokens: int | None
    """The context window."""
    max_tokens: int | None
    """The longest answer: also the context window, which it shares with the input."""
    served: str
    """As in `Model`."""


class AnthropicModelList(Body, frozen=True, kw_only=True):
    """One page of models."""

    data: list[AnthropicModel]
    has_more: bool
    """Whether there are more: after the page, or before it if it was asked for with `before_id`."""
    first_id: str | None
    last_id: str | None


EdgeRow = list[str]
"""Type and name of a resource, then type and name of a resource that it depends on."""


class DependencyGraph(Body, frozen=True, kw_only=True):
    base_model: str
    bakes: dict[str, dict[str, Any]]
    targets: dict[str, dict[str, Any]]
    prompts: dict[str, str | None]
    """Name -> its path in a checked-out repo; null if the prompt was deleted."""
    edges: list[EdgeRow]
    deleted: dict[str, str]
    """Those of `bakes` that were deleted: name here -> name that the bake had."""


class PlanStep(Body, frozen=True, kw_only=True):
    step: int
    """Number of the step, from 1."""
    action: str
    resource_type: str
    resource_name: str
    dependencies: list[str]
    config: dict[str, Any]
    type: str
    """[old] resource_type."""
    name: str
    """[old] resource_name."""
    deleted: bool
    """Whether the resource is a bake that was deleted."""


class PlanBake(Body, frozen=True, kw_only=True):
    bake_name: str
    model_names: list[str]
    """Names of its checkpoints: the one that `repo/bake` means, then the others, newest first."""
    name: str
    """[old] bake_name."""
    model_name: str | None
    """[old] The first of model_names."""
    deleted: bool


class PlanResources(Body, frozen=True, kw_only=True):
    prompts: list[str]
    targets: list[str]
    bakes: list[PlanBake]


class RecreationPlan(Body, frozen=True, kw_only=True):
    base_model: str
    total_steps: int
    steps: list[PlanStep]
    resources: PlanResources


class TreeBake(Body, frozen=True, kw_only=True):
    bake_name: str
    status: str
    model_name: list[str]
    """Names of its checkpoints: the one that `repo/bake` means, then the others, newest first."""
    checkpoints: list[int]
    config: dict[str, Any]
    parent: str | None
    """Full name of the checkpoint that it began from; null: the base model, or it was not run yet."""
    parents: list[str]
    """All checkpoints that it continues, `parent` first: several for a merge."""
    deleted: bool
    """Whether the bake was deleted: its record stays as long as another one came from it."""


class Tree(Body, frozen=True, kw_only=True):
    base_model: str
    bakes: dict[str, TreeBake]
    """Name -> bake. A deleted bake has another name here if its own was given again: `<name>.deleted-<job>`."""
    edges: list[EdgeRow]
