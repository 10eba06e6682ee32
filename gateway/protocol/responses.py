"""Bodies that the Bread routes answer.

Fields marked [old] are read by older clients only; they repeat another field.
"""

from typing import Any, Literal

import msgspec

from baker.types import JobState, Loss, Message


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


class PromptItem(Body, frozen=True, kw_only=True):
    prompt_name: str


class PromptList(Body, frozen=True, kw_only=True):
    prompts: list[str]
    items: list[PromptItem]
    """[old]"""


class Target(Body, frozen=True, kw_only=True):
    target_name: str
    config: dict[str, Any]


class TargetItem(Body, frozen=True, kw_only=True):
    target_name: str


class TargetList(Body, frozen=True, kw_only=True):
    targets: list[str]
    items: list[TargetItem]
    """[old]"""


class Deleted(Body, frozen=True, kw_only=True):
    message: str


class JobStatus(Body, frozen=True, kw_only=True):
    """A stim or a rollout."""

    status: JobState
    lines: int
    """Rows finished so far."""
    job_id: int | None
    id: int | None
    """[old] job_id."""
    progress_percent: float | None
    total_expected: int | None
    error: str | None
    warnings: list[str]
    """What was done otherwise than asked, and why."""
    config: dict[str, Any] | None
    parameters: dict[str, Any] | None
    """[old] config."""


class OutputPage(JobStatus, frozen=True, kw_only=True):
    offset: int
    limit: int
    has_more: bool
    output: list[dict[str, Any]]


class Bake(Body, frozen=True, kw_only=True):
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
    warnings: list[str]
    config: dict[str, Any]
    model_name: list[str] | None
    """Names of the finished checkpoints, newest first; null until the bake is complete."""
    checkpoint: int | None
    """The newest one's training step."""
    checkpoints: list[int]
    loss: Loss | None


class BakeItem(Body, frozen=True, kw_only=True):
    bake_name: str


class BakeList(Body, frozen=True, kw_only=True):
    bakes: list[str]
    items: list[BakeItem]
    """[old]"""


class Health(Body, frozen=True, kw_only=True):
    status: Literal["healthy", "degraded"]
    api: str
    version: str


class Model(Body, frozen=True, kw_only=True):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    root: str
    """The base model."""
    parent: str | None
    """The base model, for an adapter."""
    max_model_len: int | None


class ModelList(Body, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Model]
