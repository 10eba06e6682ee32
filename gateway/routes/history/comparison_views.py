"""Converts comparisons to response bodies, and the questions of request bodies to conversations."""

from typing import Any

import msgspec

from baker.comparison.bisection import Bisection, Step
from baker.comparison.blame import Blame, Share
from baker.comparison.diff import Diff
from baker.comparison.probes import as_conversations
from baker.comparison.versions import BASE, Version
from baker.errors import ConfigError
from baker.history.probe_table import Conversation, Probe
from baker.types import Message
from gateway.protocol import comparison


def conversation_of(question: str | None, messages: list[Message] | None) -> Conversation:
    """The one of both that the client gave. Raises: ConfigError."""
    if (question is None) == (messages is None):
        raise ConfigError("give either 'question' or 'messages'")
    return as_conversations([question])[0] if question is not None else messages or []


def conversations_of(
    questions: list[str] | None, conversations: list[Conversation] | None
) -> list[Conversation] | None:
    """None if the client gave neither. Raises: ConfigError if it gave both."""
    if questions is not None and conversations is not None:
        raise ConfigError("give either 'questions' or 'conversations'")
    return as_conversations(questions) if questions is not None else conversations


def probe(value: Probe) -> comparison.Probe:
    return comparison.Probe(name=value.name, rows=len(value.conversations), sha256=value.sha256)


def whole_probe(value: Probe) -> comparison.WholeProbe:
    return comparison.WholeProbe(
        name=value.name,
        rows=len(value.conversations),
        sha256=value.sha256,
        conversations=value.conversations,
    )


def version(value: Version) -> comparison.Version:
    return comparison.Version(**_version(value))


def diff(value: Diff) -> comparison.DiffResult:
    parts = {
        name: getattr(value, name) for name in ("probe", "warnings", "stat", "patch", "tokens", "weights", "recipe")
    }
    fields = {**parts, "a": version(value.a), "b": version(value.b)}
    return msgspec.convert(fields, comparison.DiffResult, from_attributes=True)


def blame(value: Blame) -> comparison.BlameResult:
    return comparison.BlameResult(
        answer=value.answer,
        tokens=msgspec.convert(value.tokens, list[comparison.BlamedToken], from_attributes=True),
        ancestors=[_ancestor(share) for share in value.ancestors],
        warnings=value.warnings,
    )


def bisection(value: Bisection) -> comparison.BisectResult:
    return comparison.BisectResult(
        steps=[_step(step) for step in value.steps],
        flips=[each.id for each in value.flips],
        first_bad=None if value.first_bad is None else value.first_bad.id,
        warnings=value.warnings,
    )


def _ancestor(share: Share) -> comparison.Ancestor:
    return comparison.Ancestor(**_version(share.version), tokens=share.tokens, gain=share.gain)


def _step(step: Step) -> comparison.BisectStep:
    return comparison.BisectStep(
        **_version(step.version),
        commit=step.version.id,
        score=step.score,
        state=None if step.state is None else step.state.value,
        answers=step.answers,
    )


def _version(value: Version) -> dict[str, Any]:
    commit = value.commit
    return {
        "id": value.id,
        "short_id": value.short_id,
        "message": "the base model" if commit is None else commit.message,
        "kind": BASE if commit is None else str(commit.kind),
        "created": None if commit is None else commit.created,
        "model": None if value.checkpoint is None else value.checkpoint.name,
    }
