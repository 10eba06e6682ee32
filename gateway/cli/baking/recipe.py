"""What `bread bake` saves before it runs anything: repo, prompt, target and bake, all under one name.

Running the same command again finds them unchanged and continues. Another prompt under the name is a conflict.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.cli.client import Client
from gateway.cli.failures import CliError, Exit
from gateway.cli.session import path_of
from gateway.cli.text import one_line

QUESTIONS = 64
ANSWER_TOKENS = 64
"""Enough for a voice to show; longer answers take more time to make and to learn."""
MOST_SHOWN = 60
"""Characters of a prompt in an error."""


class Recipe(NamedTuple):
    name: str
    """Of the prompt, the target and the bake."""
    messages: list[dict[str, str]]
    """The prompt to bake in."""
    questions: int | None = None
    """How many of the service's general questions to answer; None: not said."""
    own_questions: tuple[str, ...] = ()
    """Asked instead of the general ones."""
    answer_tokens: int | None = None
    epochs: int | None = None
    parent: str | None = None
    """Model to start from, which then also answers under the prompt; None: the repo's base model."""
    message: str | None = None
    branch: str | None = None

    def target(self) -> dict[str, Any]:
        if self.own_questions:
            generator: dict[str, Any] = {"type": "hardcoded", "questions": list(self.own_questions)}
            if self.questions is not None:
                generator["numq"] = self.questions
        else:
            generator = {"type": "persona", "numq": self.questions or QUESTIONS}
        overrides = {
            "teacher_prompt": self.name,
            "student_prompt": "",
            "generators": [generator],
            "max_tokens": self.answer_tokens or ANSWER_TOKENS,
            "max_concurrency": 64,
        }
        return overrides if self.parent is None else {**overrides, "model_name": self.parent}

    def bake(self) -> dict[str, Any]:
        overrides: dict[str, Any] = {"datasets": [{"target": self.name, "weight": 1.0}]}
        if self.epochs is not None:
            overrides["epochs"] = self.epochs
        if self.parent is not None:
            overrides["model"] = {"parent_model_name": self.parent}
        # No message of the prompt's own words: messages travel to other servers, and prompts only on request.
        for field in ("message", "branch"):
            if (value := getattr(self, field)) is not None:
                overrides[field] = value
        return overrides

    @property
    def has_target_settings(self) -> bool:
        """Whether the command names settings of the target, so that an existing one must have them."""
        return bool(self.questions or self.own_questions or self.answer_tokens or self.parent)

    @property
    def has_bake_settings(self) -> bool:
        return any(each is not None for each in (self.epochs, self.parent, self.message, self.branch))


def prompt_messages(text: str, examples: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    """The prompt: a system message, then each example's question and answer."""
    messages = [{"role": "system", "content": text}]
    for question, answer in examples:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages


def save(client: Client, repo: str, recipe: Recipe) -> None:
    """Save prompt, target and bake, where they are not there yet. Raises: CliError if one is there and differs."""
    _save_prompt(client, repo, recipe)
    targets = path_of(repo, "targets")
    if recipe.has_target_settings or client.find(path_of(repo, "targets", recipe.name)) is None:
        body = {"target_name": recipe.name, "template": "default", "overrides": recipe.target()}
        _create(client, targets, body, recipe.name, "other questions or another parent")
    bakes = path_of(repo, "bakes")
    if recipe.has_bake_settings or client.find(path_of(repo, "bakes", recipe.name)) is None:
        body = {"bake_name": recipe.name, "template": "default", "overrides": recipe.bake()}
        _create(client, bakes, body, recipe.name, "other settings")


def _save_prompt(client: Client, repo: str, recipe: Recipe) -> None:
    existing = client.find(path_of(repo, "prompts", recipe.name))
    if existing is None:
        body = {"prompt_name": recipe.name, "messages": recipe.messages}
        client.post(path_of(repo, "prompts"), body)
        return
    if existing["messages"] != recipe.messages:
        first = next((str(message.get("content")) for message in existing["messages"]), "")
        raise CliError(
            f"{repo}/{recipe.name} is made from another prompt, {one_line(first, MOST_SHOWN)!r}: choose another "
            f"--name, or continue from it with --from {repo}/{recipe.name}",
            Exit.CONFLICT,
        )


def _create(client: Client, path: str, body: dict[str, Any], name: str, what: str) -> None:
    try:
        client.post(path, body)
    except CliError as error:
        if error.status == 409:
            raise CliError(
                f"{name!r} exists with {what} ({error.format_message().rstrip('.')}): leave these options out to "
                "continue it, or choose another --name",
                Exit.CONFLICT,
                409,
            ) from error
        raise
