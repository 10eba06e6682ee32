"""Prompts: added, changed, removed. Jobs that were started keep the text that they began with."""

import msgspec

from baker.config.mistakes import mistakes_error, refusal
from baker.config.prompt import prompt_mistakes
from baker.errors import ConflictError
from baker.history.operation_table import Change
from baker.names import check_name
from baker.repos import recycle_bin
from baker.repos.catalog import Catalog, Deletion, Put, plain
from baker.storage.job import BakeJob
from baker.types import Prompt


def put(catalog: Catalog, user: str, repo: str, name: str, prompt: Prompt, *, may_change: bool) -> Put:
    """Add the prompt, or change it if `may_change`.

    Raises: ConfigError; NotFoundError if there is no such repo; ConflictError if it has another text.
    """
    check(name, prompt)
    with catalog.store.transaction():
        catalog.repo(user, repo)
        existing = catalog.store.prompt(user, repo, name)
        if existing is not None and _same_text(existing, prompt):
            return Put(existing, False)
        if existing is not None and not may_change:
            raise ConflictError(
                f"Prompt {name!r} exists in repo {repo!r} with other content: use PUT to change it, or another name"
            )
        catalog.store.put_prompt(user, repo, name, prompt)
        catalog.history.log.record(user, repo, "put-prompt", [Change("prompt", name, plain(existing), plain(prompt))])
        return Put(prompt, existing is None)


def check(name: str, prompt: Prompt) -> None:
    """Raises: ConfigError with every mistake of the name, the messages and the tools."""
    wrong_name = refusal("prompt_name", lambda: check_name(name, "prompt"))
    mistakes = [*([] if wrong_name is None else [wrong_name]), *prompt_mistakes(prompt.messages, prompt.tools)]
    if mistakes:
        raise mistakes_error(mistakes)


def get(catalog: Catalog, user: str, repo: str, name: str) -> Prompt:
    """Raises: NotFoundError."""
    catalog.repo(user, repo)
    prompt = catalog.store.prompt(user, repo, name)
    if prompt is None:
        raise catalog.not_found("prompts", user, repo, name)
    return prompt


def delete(catalog: Catalog, user: str, repo: str, name: str, *, prune: bool = False) -> Deletion:
    """Remove the prompt. Its text stays in the operation, so that `undo` brings it back.

    Args: prune: remove the text for good, also from earlier operations.
    Raises: NotFoundError; see `check_may_go`.
    """
    with catalog.store.transaction():
        prompt = get(catalog, user, repo, name)
        check_may_go(catalog, user, repo, name)
        catalog.store.remove("prompts", user, repo, name)
        changes = [Change("prompt", name, plain(prompt), None)]
        operation = catalog.history.log.record(user, repo, "delete-prompt", changes, is_undoable=not prune)
        return Deletion(operation, not prune, recycle_bin.purge(catalog, user, repo, "prompt", name) if prune else [])


def check_may_go(catalog: Catalog, user: str, repo: str, name: str) -> None:
    """Raises: ConflictError while a stim or rollout of a target with this prompt is active."""
    for job in catalog.active_jobs_in(user, repo):
        if isinstance(job, BakeJob):
            continue
        if name in (job.config.teacher_prompt, job.config.student_prompt):
            raise ConflictError(f"Prompt {name!r} is used by the {job.stage} of target {job.name!r}, which runs")


def _same_text(one: Prompt, other: Prompt) -> bool:
    """As JSON: to Python, true is 1."""
    encode = msgspec.json.Encoder(order="sorted").encode
    return encode(one) == encode(other)
