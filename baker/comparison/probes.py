"""Probes: named lists of questions or conversations, kept in a repo, that versions are compared on.

Functions over the catalog; they block (see `storage/one_thread.py`).
"""

from collections.abc import Sequence

import msgspec

from baker.errors import ConfigError, NotFoundError
from baker.history.operation_table import Change
from baker.history.probe_table import Conversation, Probe
from baker.model_names import shortened
from baker.names import check_name
from baker.repos.catalog import Catalog, Put
from baker.suggestions import did_you_mean
from baker.types import Message

MOST_ROWS, MOST_CHARACTERS, MOST_OF_A_REPO = 256, 200_000, 100
"""Limits: conversations of a probe, characters of all its messages, probes of a repo."""
ROLES = ("system", "developer", "user", "assistant", "tool")


def put(catalog: Catalog, user: str, repo: str, name: str, conversations: Sequence[Conversation]) -> Put:
    """Add the probe, or replace its conversations. Raises: ConfigError; NotFoundError if there is no such repo."""
    check_name(name, "probe")
    check(conversations)
    probe = Probe(name, list(conversations))
    with catalog.store.transaction():
        catalog.repo(user, repo)
        before = catalog.history.probes.find(user, repo, name)
        if before == probe:
            return Put(probe, False)
        if before is None and len(catalog.history.probes.of_repo(user, repo)) >= MOST_OF_A_REPO:
            raise ConfigError(f"repo {repo!r} has {MOST_OF_A_REPO} probes, the most it may have: delete one first")
        catalog.history.probes.put(user, repo, probe)
        _record(catalog, user, repo, "put-probe", name, before, probe)
        return Put(probe, before is None)


def get(catalog: Catalog, user: str, repo: str, name: str) -> Probe:
    """Raises: NotFoundError."""
    catalog.repo(user, repo)
    probe = catalog.history.probes.find(user, repo, name)
    if probe is None:
        known = (other.name for other in catalog.history.probes.of_repo(user, repo))
        raise NotFoundError(f"Probe {shortened(name)!r} not found in repo {repo!r}{did_you_mean(name, known)}")
    return probe


def listing(catalog: Catalog, user: str, repo: str) -> list[Probe]:
    """In order of creation. Raises: NotFoundError."""
    catalog.repo(user, repo)
    return catalog.history.probes.of_repo(user, repo)


def delete(catalog: Catalog, user: str, repo: str, name: str) -> None:
    """Raises: NotFoundError."""
    with catalog.store.transaction():
        probe = get(catalog, user, repo, name)
        catalog.history.probes.remove(user, repo, name)
        _record(catalog, user, repo, "delete-probe", name, probe, None)


def as_conversations(questions: Sequence[str]) -> list[Conversation]:
    """Each question as a conversation of one message."""
    return [[{"role": "user", "content": question}] for question in questions]


def check(conversations: Sequence[Conversation]) -> None:
    """Raises: ConfigError naming the conversation that versions can't answer, or the limit that is exceeded."""
    if not 1 <= len(conversations) <= MOST_ROWS:
        raise ConfigError(f"a probe has 1 to {MOST_ROWS} questions or conversations, got {len(conversations)}")
    for index, conversation in enumerate(conversations):
        if complaint := _complaint(conversation):
            raise ConfigError(f"conversation {index} {complaint}")
    size = sum(_size(message) for conversation in conversations for message in conversation)
    if size > MOST_CHARACTERS:
        raise ConfigError(
            f"the messages have {size} characters, at most {MOST_CHARACTERS} are allowed: split the probe"
        )


def _complaint(conversation: Conversation) -> str | None:
    if not conversation:
        return "has no message"
    for message in conversation:
        if message.get("role") not in ROLES:
            return f"has a message with the role {message.get('role')!r:.40}; allowed are {', '.join(ROLES)}"
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            return f"has a message whose content must be a string, a list of parts or null, got {content!r:.80}"
    if conversation[-1]["role"] == "assistant":
        return "ends with the assistant's message, so there is nothing to answer: remove it"
    if not _text(conversation[-1]).strip():
        return "ends with an empty message: write a question"
    return None


def _text(message: Message) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else "" if content is None else str(content)


def _size(message: Message) -> int:
    """Characters of the content, and of the JSON of other fields."""
    others = {name: value for name, value in message.items() if name not in ("role", "content")}
    return len(_text(message)) + (len(msgspec.json.encode(others)) if others else 0)


def _record(
    catalog: Catalog, user: str, repo: str, verb: str, name: str, before: Probe | None, after: Probe | None
) -> None:
    change = Change("probe", name, _json(before), _json(after))
    catalog.history.log.record(user, repo, verb, [change])


def _json(probe: Probe | None) -> list[Conversation] | None:
    return None if probe is None else probe.conversations
