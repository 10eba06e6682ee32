"""Repos, prompts, targets and bakes: what may be made, changed and removed.

The rules only; rows are the store's. Like the store it blocks: see `threads.OneThread`. Every method that changes
something does so in one transaction, or raises and changes nothing.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from baker.config.bake import BakeConfig, bake_config
from baker.config.generator import detach_templates
from baker.config.question_templates import template_name
from baker.config.target import TargetConfig, target_config
from baker.errors import ConfigError, ConflictError, InvalidInputError, NotFoundError
from baker.model_names import (
    MAX_MODEL_NAME,
    BaseModelNames,
    held_back_message,
    nearest,
    parse_model_name,
    shortened,
    split_strength,
)
from baker.names import MASTER_USER, check_name
from baker.status import JobState, Stage
from baker.storage.job import AnyJob, BakeJob, RolloutJob, StimJob
from baker.storage.rows import Row
from baker.storage.store import NamedTable, Store
from baker.types import Checkpoint, Message, Prompt, Repo

DEFAULT_TEMPLATE = "default"
TARGET_STAGES = (Stage.STIM, Stage.ROLLOUT)


class Put(NamedTuple):
    """What stands there now, and whether this call made it."""

    value: Any
    is_new: bool


class ResolvedModel(NamedTuple):
    checkpoint: Checkpoint | None
    """None: the base model."""
    warning: str | None
    """Says so when another model stands in for the one that was named."""


class LiveFirst(NamedTuple):
    """A bake's finished checkpoints."""

    live: Checkpoint | None
    """What the bake's name means."""
    checkpoints: list[Checkpoint]
    """That one, then all others, newest first."""


class Catalog:
    def __init__(self, home: Path, base: BaseModelNames) -> None:
        self.store = Store(home)
        self.base = base

    def close(self) -> None:
        self.store.close()

    def check_user(self, user: str) -> None:
        """Raises: NotFoundError."""
        if user != MASTER_USER and self.store.users.find(user) is None:
            raise NotFoundError(f"User {user!r} not found")

    # Repos

    def put_repo(self, user: str, name: str, base_model: str | None) -> Put:
        """The repo of that name; made if there is none. Its base model never changes; None or "" asks for none."""
        check_name(name, "repo")
        with self.store.transaction():
            # Or else a request under way, when its user is removed, would leave a repo to the next of that name.
            self.check_user(user)
            existing = self.store.repo(user, name)
            if existing is not None:
                if base_model and base_model != existing.base_model:
                    raise ConflictError(
                        f"Repo {name!r} has base model {existing.base_model!r}, which can't be changed to "
                        f"{base_model!r}: make another repo"
                    )
                return Put(existing, False)
            repo = Repo(name=name, base_model=base_model or self.base.served, created=int(time.time()))
            self.resolve_model(user, repo.base_model)
            self.store.add_repo(user, repo)
            return Put(repo, True)

    def repo(self, user: str, name: str) -> Repo:
        repo = self.store.repo(user, name)
        if repo is None:
            raise NotFoundError(f"Repo {name!r} not found")
        return repo

    def repos(self, user: str) -> list[Repo]:
        return self.store.repos(user)

    def whose_repo(self, name: str) -> str:
        """The user that the master key means when it names a repo and no user: its own, unless exactly one other has
        such a repo and it has none. Clients that wait for a job ask so, after they named the user when they began it.
        """
        owners = self.store.owners(name, first=MASTER_USER)
        return owners[0] if len(owners) == 1 else MASTER_USER

    def delete_repo(self, user: str, name: str) -> list[int]:
        """Remove the repo and all in it. Returns: the numbers of the removed jobs, whose folders may go."""
        with self.store.transaction():
            self.repo(user, name)
            self.check_unused(user, name)
            return self.store.remove_repo(user, name)

    def check_unused(self, user: str, repo: str | None = None) -> None:
        """Raises: ConflictError while a job of the repo (None: of all the user's) is active, or one elsewhere needs a
        bake of it."""
        prefix = f"{user}/" if repo is None else f"{user}/{repo}/"
        for job in self.store.jobs.in_state(JobState.PENDING, JobState.RUNNING):
            if f"{job.user}/{job.repo}/".startswith(prefix):
                raise ConflictError(
                    f"The {job.stage} of {job.name!r} in repo {job.repo!r} is {job.state}: "
                    "wait until it ends, or cancel it"
                )
        self._check_unread(user, prefix, f"a bake of user {user!r}" if repo is None else f"a bake of repo {repo!r}")

    # Prompts

    def put_prompt(self, user: str, repo: str, name: str, prompt: Prompt, *, may_change: bool) -> Put:
        """Make the prompt, or change it if that is allowed. Jobs that were started keep the text they began with."""
        check_name(name, "prompt")
        _check_messages(prompt.messages)
        with self.store.transaction():
            self.repo(user, repo)
            existing = self.store.prompt(user, repo, name)
            if existing is not None and _same_text(existing, prompt):
                return Put(existing, False)
            if existing is not None and not may_change:
                raise ConflictError(
                    f"Prompt {name!r} exists in repo {repo!r} with other content: use PUT to change it, or another name"
                )
            self.store.put_prompt(user, repo, name, prompt)
            return Put(prompt, existing is None)

    def prompt(self, user: str, repo: str, name: str) -> Prompt:
        self.repo(user, repo)
        prompt = self.store.prompt(user, repo, name)
        if prompt is None:
            raise NotFoundError(f"Prompt {name!r} not found in repo {repo!r}")
        return prompt

    def delete_prompt(self, user: str, repo: str, name: str) -> None:
        with self.store.transaction():
            self.prompt(user, repo, name)
            for job in self._active_jobs(user, repo):
                if isinstance(job, BakeJob):
                    continue
                if name in (job.config.teacher_prompt, job.config.student_prompt):
                    raise ConflictError(
                        f"Prompt {name!r} is used by the {job.stage} of target {job.name!r}, which runs"
                    )
            self.store.remove("prompts", user, repo, name)

    # Targets

    def put_target(self, user: str, repo: str, name: str, template: str, overrides: Row, *, may_change: bool) -> Put:
        check_name(name, "target")
        with self.store.transaction():
            self.repo(user, repo)
            below = None if template == DEFAULT_TEMPLATE else self.target(user, repo, template)
            config = target_config(overrides, below)
            generators, templates = detach_templates(config.generators)
            config = msgspec.structs.replace(config, generators=generators)
            existing = self._target(user, repo, name)
            if config != existing:
                if existing is not None:
                    busy = any(self._has_output(user, repo, name, stage) for stage in TARGET_STAGES)
                    _check_may_change("Target", name, repo, may_change=may_change, has_output=busy)
                self.store.put_config("targets", user, repo, name, msgspec.to_builtins(config))
            for template, content in templates.items():
                self.store.put_template(user, repo, template, content)
            return Put(config, existing is None)

    def target(self, user: str, repo: str, name: str) -> TargetConfig:
        self.repo(user, repo)
        config = self._target(user, repo, name)
        if config is None:
            raise NotFoundError(f"Target {name!r} not found in repo {repo!r}")
        return config

    def _target(self, user: str, repo: str, name: str) -> TargetConfig | None:
        # Typed, so that a row of an older version, which lacks newer fields, equals a new config with their defaults.
        row = self.store.config("targets", user, repo, name)
        return None if row is None else msgspec.convert(row, TargetConfig)

    def templates_of(self, user: str, repo: str, name: str) -> dict[str, str]:
        """The texts of the templates that the target's generators name and the repo has, by path."""
        paths = {generator.template_path for generator in self.target(user, repo, name).generators} - {None}
        found = {path: self.store.template(user, repo, template_name(path)) for path in sorted(map(str, paths))}
        return {path: text for path, text in found.items() if text is not None}

    def delete_target(self, user: str, repo: str, name: str) -> list[int]:
        """Remove the target and its jobs. Bakes that used it keep a copy of their data.

        Returns: the numbers of the removed jobs, whose folders may go.
        """
        with self.store.transaction():
            self.target(user, repo, name)
            for job in self._active_jobs(user, repo):
                if not isinstance(job, BakeJob) and job.name == name:
                    raise ConflictError(
                        f"The {job.stage} of target {name!r} is {job.state}: wait until it ends, or cancel it"
                    )
                if isinstance(job, BakeJob) and name in job.inputs.rollouts:
                    raise ConflictError(
                        f"Bake {job.name!r} is {job.state} and needs target {name!r}: wait until it ends, or cancel it"
                    )
            self.store.remove("targets", user, repo, name)
            return self.store.jobs.remove(user, repo, name, TARGET_STAGES)

    # Bakes

    def put_bake(self, user: str, repo: str, name: str, template: str, overrides: Row, *, may_change: bool) -> Put:
        check_name(name, "bake")
        with self.store.transaction():
            self.repo(user, repo)
            below = None if template == DEFAULT_TEMPLATE else self.bake(user, repo, template)
            config = bake_config(overrides, below)
            for dataset in config.datasets:
                self.target(user, repo, dataset.target)
            existing = self._bake(user, repo, name)
            if config != existing:
                if existing is not None:
                    busy = self._has_output(user, repo, name, Stage.BAKE)
                    _check_may_change("Bake", name, repo, may_change=may_change, has_output=busy)
                self.store.put_config("bakes", user, repo, name, msgspec.to_builtins(config))
            return Put(config, existing is None)

    def bake(self, user: str, repo: str, name: str) -> BakeConfig:
        self.repo(user, repo)
        config = self._bake(user, repo, name)
        if config is None:
            raise NotFoundError(f"Bake {name!r} not found in repo {repo!r}")
        return config

    def _bake(self, user: str, repo: str, name: str) -> BakeConfig | None:
        row = self.store.config("bakes", user, repo, name)
        return None if row is None else msgspec.convert(row, BakeConfig)

    def delete_bake(self, user: str, repo: str, name: str) -> list[int]:
        """Remove the bake, its jobs and its checkpoints. Returns: the numbers of the removed jobs.

        Raises: NotFoundError; ConflictError while a job makes it, or needs it.
        """
        with self.store.transaction():
            self.bake(user, repo, name)
            for job in self._active_jobs(user, repo):
                if job.stage is Stage.BAKE and job.name == name:
                    raise ConflictError(f"Bake {name!r} is {job.state}: wait until it ends, or cancel it")
            self._check_unread(user, f"{user}/{repo}/{name}/", f"bake {name!r}")
            self.store.checkpoints.remove_of_bake(user, repo, name)
            self.store.remove("bakes", user, repo, name)
            return self.store.jobs.remove(user, repo, name, (Stage.BAKE,))

    # Lists, jobs and models

    def names(self, table: NamedTable, user: str, repo: str) -> list[str]:
        self.repo(user, repo)
        return self.store.names(table, user, repo)

    def latest_job(self, stage: Stage, user: str, repo: str, name: str) -> AnyJob | None:
        """The stage's latest job for that target or bake. Raises: NotFoundError if there is no such target or bake."""
        match stage:
            case Stage.STIM:
                return self.latest_stim(user, repo, name)
            case Stage.ROLLOUT:
                return self.latest_rollout(user, repo, name)
            case Stage.BAKE:
                return self.latest_bake(user, repo, name)

    def latest_stim(self, user: str, repo: str, target: str) -> StimJob | None:
        """Raises: NotFoundError if there is no such target."""
        self.target(user, repo, target)
        return self.store.jobs.latest_stim(user, repo, target)

    def latest_rollout(self, user: str, repo: str, target: str) -> RolloutJob | None:
        """Raises: NotFoundError if there is no such target."""
        self.target(user, repo, target)
        return self.store.jobs.latest_rollout(user, repo, target)

    def latest_bake(self, user: str, repo: str, bake: str) -> BakeJob | None:
        """Raises: NotFoundError if there is no such bake."""
        self.bake(user, repo, bake)
        return self.store.jobs.latest_bake(user, repo, bake)

    def bake_before(self, job: BakeJob) -> BakeJob | None:
        """The run of the same bake before `job`."""
        return self.store.jobs.bake_before(job)

    def update_job(self, job_id: int, /, **changes: Any) -> None:
        """Set columns of the job's row."""
        self.store.jobs.update(job_id, **changes)

    def checkpoints(self, user: str, repo: str, bake: str) -> list[Checkpoint]:
        """Newest first."""
        return self.store.checkpoints.of_bake(user, repo, bake)

    def live_first(self, user: str, repo: str, bake: str) -> LiveFirst:
        live = self.find_checkpoint(user, repo, bake, None)
        newest_first = self.store.checkpoints.of_bake(user, repo, bake)
        return LiveFirst(live, sorted(newest_first, key=lambda checkpoint: checkpoint != live))

    def is_held_back(self, job: BakeJob) -> bool:
        """Whether a bake is complete, and its name does not mean what it made: another config may be tried."""
        live = self.find_checkpoint(job.user, job.repo, job.name, None)
        return job.held_back is not None and (live is None or live.job_id != job.id)

    def find_checkpoint(self, user: str, repo: str, bake: str, step: int | None) -> Checkpoint | None:
        """That of training step `step`; None: the one that the bake's name means."""
        if step is None:
            return next((move.checkpoint for move in self.store.checkpoints.moves(user, repo, bake)), None)
        return next((known for known in self.store.checkpoints.of_bake(user, repo, bake) if known.step == step), None)

    def checkpoints_in_use(self) -> set[str]:
        """Names of those that an active job works on."""
        active = self.store.jobs.in_state(JobState.PENDING, JobState.RUNNING)
        return {name for job in active for name in job.inputs.checkpoints}

    def checkpoint_named(self, name: str) -> Checkpoint | None:
        """That with this full name, `user/repo/bake/step`, whoever asks."""
        ref = parse_model_name(name)
        if ref is None or ref.user is None or ref.step is None:
            return None
        return self.find_checkpoint(ref.user, ref.repo, ref.bake, ref.step)

    def resolve_model(self, user: str, name: str) -> ResolvedModel:
        """The checkpoint that `name` means to `user`, or the base model.

        Raises: InvalidInputError, listing what there is, if it means nothing here; ConfigError if it can be no name.
        """
        if len(name) > MAX_MODEL_NAME:
            raise ConfigError(
                f"Model {shortened(name)!r} has {len(name)} characters, at most {MAX_MODEL_NAME} are allowed"
            )
        if self.base.is_served(name):
            return ResolvedModel(None, None)
        whole, _ = split_strength(name)
        ref = parse_model_name(whole)
        if ref is not None and (owner := ref.owner(user)) is not None:
            checkpoint = self.find_checkpoint(owner, ref.repo, ref.bake, ref.step)
            if checkpoint is not None:
                if not checkpoint.is_served:
                    raise InvalidInputError(
                        f"Model {name!r} is an adapter of another model than the one that is served "
                        "(model.student_model_path): it can be downloaded, but neither asked nor baked on"
                    )
                if name != whole:
                    raise InvalidInputError(
                        f"Model {name!r} names a strength, which only a request to a model may: write {whole!r} here"
                    )
                return ResolvedModel(checkpoint, None)
            if ref.step is None and (known := self.store.checkpoints.of_bake(owner, ref.repo, ref.bake)):
                raise InvalidInputError(held_back_message(name, [each.name for each in known]))
        if self.base.stands_in and (ref is None or (ref.step is None and self.store.repo(user, ref.repo) is None)):
            return ResolvedModel(None, f"{name!r} is not on this machine: {self.base.served!r} stands in for it")
        known = self.store.checkpoints.of_user(user)
        served = [self.base.served, *(checkpoint.name for checkpoint in known if checkpoint.is_served)]
        raise InvalidInputError(f"Model {name!r} is not served here; there is: {', '.join(nearest(name, served, 5))}")

    def _active_jobs(self, user: str, repo: str) -> list[AnyJob]:
        jobs = self.store.jobs.in_state(JobState.PENDING, JobState.RUNNING)
        return [job for job in jobs if (job.user, job.repo) == (user, repo)]

    def _check_unread(self, user: str, prefix: str, what: str) -> None:
        """Raises: ConflictError while a job needs a checkpoint whose name begins so."""
        for job in self.store.jobs.in_state(JobState.PENDING, JobState.RUNNING):
            if any(name.startswith(prefix) for name in job.inputs.checkpoints):
                # Who else works with it, and on what, is none of the user's business.
                whose = f"The {job.stage} of {job.name!r}" if job.user == user else "A job of another user"
                raise ConflictError(f"{whose} is {job.state} and needs {what}: wait until it ends, or cancel it")

    def _has_output(self, user: str, repo: str, name: str, stage: Stage) -> bool:
        job = self.store.jobs.latest(stage, user, repo, name)
        if job is None or (isinstance(job, BakeJob) and self.is_held_back(job)):
            return False
        return job.state is not JobState.FAILED or job.lines > 0


def _check_may_change(what: str, name: str, repo: str, *, may_change: bool, has_output: bool) -> None:
    if has_output:
        raise ConflictError(
            f"{what} {name!r} in repo {repo!r} has been run with another config, which its output depends on: "
            "choose another name, or delete it first"
        )
    if not may_change:
        raise ConflictError(
            f"{what} {name!r} exists in repo {repo!r} with another config: use PUT to change it, or another name"
        )


def _same_text(one: Prompt, other: Prompt) -> bool:
    """As JSON: to Python, true is 1."""
    encode = msgspec.json.Encoder(order="sorted").encode
    return encode(one) == encode(other)


def _check_messages(messages: list[Message]) -> None:
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or not role:
            raise _message_error(
                index, "role", f"{where}.role must be a string such as 'system' or 'user', got {role!r}"
            )
        if content is not None and not isinstance(content, str | list):
            raise _message_error(
                index, "content", f"{where}.content must be a string, a list of parts or null, got {content!r}"
            )


def _message_error(index: int, field: str, text: str) -> ConfigError:
    return ConfigError(text, detail=[{"loc": ["body", "messages", index, field], "msg": text, "type": "value_error"}])
