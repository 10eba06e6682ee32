"""Opens the store, and has the checks that repos, prompts, targets and bakes share.

What may be added, changed and removed of each noun is in its own module (`repos.py`, `prompts.py`, `targets.py`,
`bakes.py`, `users.py`), as functions over the catalog. Each one that writes does so in one transaction, or raises and
changes nothing. Everything blocks, like the store: async code goes through `one_thread.OneThread`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from baker.config.mistakes import Mistake, mistakes_error, mistakes_of
from baker.errors import ConfigError, ConflictError, NotFoundError
from baker.history.history import History
from baker.model_names import BaseModelNames, shortened
from baker.names import MASTER_USER, check_name
from baker.status import JobState
from baker.storage.job import AnyJob
from baker.storage.store import NamedTable, Store
from baker.suggestions import did_you_mean
from baker.types import Repo

DEFAULT_TEMPLATE = "default"
"""The built-in template: default settings."""


Config = TypeVar("Config")


class Put(NamedTuple):
    """The stored value, and whether this call added it."""

    value: Any
    is_new: bool


class Deletion(NamedTuple):
    """What a deletion did."""

    operation: int | None
    """Number of the operation."""
    is_undoable: bool
    """Whether `undo` brings it back; until then its files stay."""
    removed: list[int]
    """Numbers of the jobs whose files may be removed."""


def plain(value: msgspec.Struct | None) -> Any:
    """The value as JSON, for an operation."""
    return None if value is None else msgspec.to_builtins(value)


def read_config(
    what: str, name: str, find_template: Callable[[], Config | None], read: Callable[[Config | None], Config]
) -> Config:
    """The config of a target or bake (`what`) that a client sent.

    Args: find_template: raises NotFoundError; read: returns the config over a template, or raises ConfigError.
    Raises: ConfigError with the mistakes of name, template and settings, all at once; NotFoundError if only the
        template is missing.
    """
    mistakes: list[Mistake] = []
    template, config, lacks_template = None, None, None
    try:
        check_name(name, what)
    except ConfigError as error:
        mistakes += mistakes_of(error, f"{what}_name")
    try:
        template = find_template()
    except NotFoundError as error:
        lacks_template = Mistake(("template",), error.message)
    try:
        config = read(template)
    except ConfigError as error:
        mistakes += mistakes_of(error, "overrides")
    if lacks_template is not None and not mistakes:
        raise NotFoundError(lacks_template.line, detail=mistakes_error([lacks_template]).detail)
    if mistakes or config is None:
        raise mistakes_error(mistakes if lacks_template is None else [lacks_template, *mistakes])
    return config


class Catalog:
    def __init__(self, home: Path, base: BaseModelNames, fingerprint: str = "") -> None:
        """Args: fingerprint: of the served base model; commits of its adapters name it."""
        self.store = Store(home)
        self.history = History(self.store.rows)
        self.base = base
        self.fingerprint = fingerprint

    def close(self) -> None:
        self.store.close()

    def check_user(self, user: str) -> None:
        """Raises: NotFoundError."""
        if user != MASTER_USER and self.store.users.find(user) is None:
            raise NotFoundError(f"User {user!r} not found")

    def repo(self, user: str, name: str) -> Repo:
        """Raises: NotFoundError."""
        repo = self.store.repo(user, name)
        if repo is None:
            known = (repo.name for repo in self.store.repos(user))
            raise NotFoundError(f"Repo {shortened(name)!r} not found{did_you_mean(name, known)}")
        return repo

    def names(self, table: NamedTable, user: str, repo: str) -> list[str]:
        """Names in order of creation. Raises: NotFoundError if there is no such repo."""
        self.repo(user, repo)
        return self.store.names(table, user, repo)

    def not_found(self, table: NamedTable, user: str, repo: str, name: str) -> NotFoundError:
        """The error about a name that the repo's table lacks."""
        what = table.removesuffix("s").capitalize()
        hint = did_you_mean(name, self.store.names(table, user, repo))
        return NotFoundError(f"{what} {shortened(name)!r} not found in repo {repo!r}{hint}")

    def active_jobs(self) -> list[AnyJob]:
        """Jobs of all users that are pending or running."""
        return self.store.jobs.in_state(JobState.PENDING, JobState.RUNNING)

    def active_jobs_in(self, user: str, repo: str) -> list[AnyJob]:
        return [job for job in self.active_jobs() if (job.user, job.repo) == (user, repo)]

    def update_job(self, job_id: int, /, **changes: Any) -> None:
        """Set columns of the job's row."""
        self.store.jobs.update(job_id, **changes)

    def check_unused(self, user: str, repo: str | None = None) -> None:
        """Raises: ConflictError while a job of the repo (None: of any of the user's) is active, or a job elsewhere
        needs one of its bakes."""
        prefix = f"{user}/" if repo is None else f"{user}/{repo}/"
        for job in self.active_jobs():
            if f"{job.user}/{job.repo}/".startswith(prefix):
                raise ConflictError(
                    f"The {job.stage} of {job.name!r} in repo {job.repo!r} is {job.state}: "
                    "wait until it ends, or cancel it"
                )
        self.check_unread(user, prefix, f"a bake of user {user!r}" if repo is None else f"a bake of repo {repo!r}")

    def check_unnamed(self, user: str, repo: str, bake: str | None = None) -> None:
        """Raises: ConflictError while a branch or tag of another repo, which has no copy of its own, means a checkpoint
        of this repo or bake."""
        for place, name in self.history.refs.served_by(user, repo, bake):
            ref = self.history.refs.find(user, place, name)
            if place != repo and (ref is None or self.store.checkpoints.of_commit(user, place, ref.target) is None):
                what = f"repo {repo!r}" if bake is None else f"bake {bake!r}"
                raise ConflictError(
                    f"'{place}/{name}' means a version of {what}: delete that branch or tag first, or move it"
                )

    def check_unread(self, user: str, prefix: str, what: str) -> None:
        """Raises: ConflictError while a job needs a checkpoint with a name that begins with `prefix`, or waits for the
        result of such a bake."""
        for job in self.active_jobs():
            needed = [*job.inputs.checkpoints, *(f"{awaited.name}/" for awaited in job.inputs.awaited)]
            if any(name.startswith(prefix) for name in needed):
                # The jobs of other users are none of this user's business.
                whose = f"The {job.stage} of {job.name!r}" if job.user == user else "A job of another user"
                raise ConflictError(f"{whose} is {job.state} and needs {what}: wait until it ends, or cancel it")


def check_may_change(what: str, name: str, repo: str, *, may_change: bool, has_output: bool) -> None:
    """Raises: ConflictError if the config of a target or bake (`what`) can't be replaced by another one."""
    if has_output:
        raise ConflictError(
            f"{what} {name!r} in repo {repo!r} has been run with another config, which its output depends on: "
            "choose another name, or delete it first"
        )
    if not may_change:
        raise ConflictError(
            f"{what} {name!r} exists in repo {repo!r} with another config: use PUT to change it, or another name"
        )


def has_output(job: AnyJob | None) -> bool:
    """Whether the job has written something, or still may."""
    return job is not None and (job.state is not JobState.FAILED or job.lines > 0)
