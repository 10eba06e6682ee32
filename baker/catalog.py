"""Repos, prompts, targets and bakes: what may be made, changed and removed.

The rules only; rows are the store's. Like the store it blocks: see `threads.OneThread`. Every method that changes
something does so in one transaction, or raises and changes nothing.
"""

import difflib
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from baker.config import BakeConfig, TargetConfig, bake_config, target_config
from baker.errors import ConfigError, ConflictError, InvalidInputError, NotFoundError
from baker.models import BaseModelNames
from baker.names import check_name, parse_model_name
from baker.store import Row, Store
from baker.types import Checkpoint, Job, JobState, Message, Prompt, Repo, Stage

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


class Catalog:
    def __init__(self, home: Path, base: BaseModelNames) -> None:
        self.store = Store(home)
        self.base = base

    def close(self) -> None:
        self.store.close()

    # Repos

    def put_repo(self, user: str, name: str, base_model: str | None) -> Put:
        """The repo of that name; made if there is none. Its base model never changes."""
        check_name(name, "repo")
        with self.store.transaction():
            existing = self.store.repo(user, name)
            if existing is not None:
                if base_model is not None and base_model != existing.base_model:
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

    # Prompts

    def put_prompt(self, user: str, repo: str, name: str, prompt: Prompt, *, may_change: bool) -> Put:
        """Make the prompt, or change it if that is allowed. Jobs that were started keep the text they began with."""
        check_name(name, "prompt")
        _check_messages(prompt.messages)
        with self.store.transaction():
            self.repo(user, repo)
            existing = self.store.prompt(user, repo, name)
            if existing == prompt:
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
                if name in (job.config.get("teacher_prompt"), job.config.get("student_prompt")):
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
            existing = self.store.config("targets", user, repo, name)
            if existing is not None:
                if msgspec.to_builtins(config) == existing:
                    return Put(config, False)
                busy = any(self._has_output(user, repo, name, stage) for stage in TARGET_STAGES)
                _check_may_change("Target", name, repo, may_change=may_change, has_output=busy)
            self.store.put_config("targets", user, repo, name, msgspec.to_builtins(config))
            return Put(config, existing is None)

    def target(self, user: str, repo: str, name: str) -> TargetConfig:
        self.repo(user, repo)
        config = self.store.config("targets", user, repo, name)
        if config is None:
            raise NotFoundError(f"Target {name!r} not found in repo {repo!r}")
        return msgspec.convert(config, TargetConfig)

    def delete_target(self, user: str, repo: str, name: str) -> list[int]:
        """Remove the target and its jobs. Bakes that used it keep a copy of their data.

        Returns: the numbers of the removed jobs, whose folders may go.
        """
        with self.store.transaction():
            self.target(user, repo, name)
            for job in self._active_jobs(user, repo):
                if job.stage is not Stage.BAKE and job.name == name:
                    raise ConflictError(f"The {job.stage} of target {name!r} is {job.state}: wait until it ends")
                if job.stage is Stage.BAKE and name in job.inputs["rollouts"]:
                    raise ConflictError(
                        f"Bake {job.name!r} is {job.state} and needs target {name!r}: wait until it ends"
                    )
            self.store.remove("targets", user, repo, name)
            return self.store.remove_jobs(user, repo, name, TARGET_STAGES)

    # Bakes

    def put_bake(self, user: str, repo: str, name: str, template: str, overrides: Row, *, may_change: bool) -> Put:
        check_name(name, "bake")
        with self.store.transaction():
            self.repo(user, repo)
            below = None if template == DEFAULT_TEMPLATE else self.bake(user, repo, template)
            config = bake_config(overrides, below)
            for dataset in config.datasets:
                self.target(user, repo, dataset.target)
            existing = self.store.config("bakes", user, repo, name)
            if existing is not None:
                if msgspec.to_builtins(config) == existing:
                    return Put(config, False)
                busy = self._has_output(user, repo, name, Stage.BAKE)
                _check_may_change("Bake", name, repo, may_change=may_change, has_output=busy)
            self.store.put_config("bakes", user, repo, name, msgspec.to_builtins(config))
            return Put(config, existing is None)

    def bake(self, user: str, repo: str, name: str) -> BakeConfig:
        self.repo(user, repo)
        config = self.store.config("bakes", user, repo, name)
        if config is None:
            raise NotFoundError(f"Bake {name!r} not found in repo {repo!r}")
        return msgspec.convert(config, BakeConfig)

    def check_may_delete_bake(self, user: str, repo: str, name: str) -> None:
        """Raises: NotFoundError; ConflictError while a job makes it, or needs it."""
        self.bake(user, repo, name)
        for job in self.store.jobs_in(JobState.PENDING, JobState.RUNNING):
            if job.stage is Stage.BAKE and (job.user, job.repo, job.name) == (user, repo, name):
                raise ConflictError(f"Bake {name!r} is {job.state}: wait until it ends")
            if str(job.inputs.get("checkpoint") or "").startswith(f"{user}/{repo}/{name}/"):
                raise ConflictError(f"The {job.stage} of {job.name!r} is {job.state} and needs bake {name!r}")

    def delete_bake(self, user: str, repo: str, name: str) -> list[int]:
        """Remove the bake, its jobs and its checkpoints. Returns: the numbers of the removed jobs."""
        with self.store.transaction():
            self.check_may_delete_bake(user, repo, name)
            self.store.remove_checkpoints(user, repo, name)
            self.store.remove("bakes", user, repo, name)
            return self.store.remove_jobs(user, repo, name, (Stage.BAKE,))

    # Lists, jobs and models

    def names(self, table: Literal["prompts", "targets", "bakes"], user: str, repo: str) -> list[str]:
        self.repo(user, repo)
        return self.store.names(table, user, repo)

    def latest_job(self, stage: Stage, user: str, repo: str, name: str) -> Job | None:
        """The job of that target or bake. Raises: NotFoundError if there is no such target or bake."""
        if stage is Stage.BAKE:
            self.bake(user, repo, name)
        else:
            self.target(user, repo, name)
        return self.store.latest_job(stage, user, repo, name)

    def update_job(self, job_id: int, /, **changes: Any) -> None:
        """Set columns of the job's row."""
        self.store.update_job(job_id, **changes)

    def checkpoints(self, user: str, repo: str, bake: str) -> list[Checkpoint]:
        """Newest first."""
        return self.store.checkpoints(user, repo, bake)

    def resolve_model(self, user: str, name: str) -> ResolvedModel:
        """The checkpoint that `name` means to `user`, or the base model.

        Raises: InvalidInputError, listing what there is, if it means nothing here.
        """
        if self.base.is_served(name):
            return ResolvedModel(None, None)
        ref = parse_model_name(name)
        if ref is not None:
            checkpoints = (
                self.store.checkpoints(ref.user or user, ref.repo, ref.bake) if ref.user in (None, user) else []
            )
            for checkpoint in checkpoints:
                if ref.step in (None, checkpoint.step):
                    return ResolvedModel(checkpoint, None)
        if self.base.stands_in and (ref is None or (ref.step is None and self.store.repo(user, ref.repo) is None)):
            return ResolvedModel(None, f"{name!r} is not on this machine: {self.base.served!r} stands in for it")
        served = [self.base.served, *(checkpoint.name for checkpoint in self.store.checkpoints_of(user))]
        nearest = difflib.get_close_matches(name, served, n=5, cutoff=0.0)
        raise InvalidInputError(f"Model {name!r} is not served here; there is: {', '.join(nearest)}")

    def _active_jobs(self, user: str, repo: str) -> list[Job]:
        jobs = self.store.jobs_in(JobState.PENDING, JobState.RUNNING)
        return [job for job in jobs if (job.user, job.repo) == (user, repo)]

    def _has_output(self, user: str, repo: str, name: str, stage: Stage) -> bool:
        job = self.store.latest_job(stage, user, repo, name)
        return job is not None and (job.state is not JobState.FAILED or job.lines > 0)


def _check_may_change(what: str, name: str, repo: str, *, may_change: bool, has_output: bool) -> None:
    if has_output:
        raise ConflictError(
            f"{what} {name!r} in repo {repo!r} has been run with another config, which its output depends on: "
            "choose another name"
        )
    if not may_change:
        raise ConflictError(
            f"{what} {name!r} exists in repo {repo!r} with another config: use PUT to change it, or another name"
        )


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
