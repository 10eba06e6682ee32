"""Reads commits that another server described. They are not trusted: an id proves only that nothing was changed."""

import math
import re
from typing import Any

import msgspec

from baker.errors import InvalidInputError
from baker.history.commit import Commit, Kind
from baker.transfer.blobs import check_sha256

MAX_MESSAGE = 10_000
MAX_AUTHOR = 256
"""Characters."""
MAX_PARENTS = 16
MAX_WEIGHT = 100.0
MAX_SECONDS = 253_402_300_800
"""The end of the year 9999."""
MAX_NOTES_BYTES = 4 << 20
_NOTE = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def read_description(description: Any, commit_id: str) -> Commit:
    """The commit that `description` describes.

    Args: description: JSON; commit_id: the id that the sender named.
    Raises: InvalidInputError, naming the field, unless it has the form of a commit and this id.
    """
    check_sha256(commit_id, "The commit's id")
    kinds = [kind.value for kind in Kind]
    if isinstance(description, dict) and (kind := description.get("kind")) not in kinds:
        raise InvalidInputError(
            f"The commit's kind is {kind!r:.80}, known here are {', '.join(kinds)}: a newer server may have made it"
        )
    try:
        commit = msgspec.convert(description, Commit)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"The description is not a commit's: {error}") from error
    if complaint := _complaint(commit):
        raise InvalidInputError(f"The commit's {complaint}")
    for name, value in _hashes(commit):
        check_sha256(value, name)
    if commit.id != commit_id:
        raise InvalidInputError(
            f"The description's id is {commit.id}, but the request names {commit_id}: one of them was changed"
        )
    return commit


def _complaint(commit: Commit) -> str | None:
    weights = [parent.weight for parent in commit.parents]
    checks = [
        (len(commit.message) <= MAX_MESSAGE, f"message has {len(commit.message)} characters, at most {MAX_MESSAGE}"),
        (len(commit.author) <= MAX_AUTHOR, f"author has {len(commit.author)} characters, at most {MAX_AUTHOR}"),
        (len(weights) <= MAX_PARENTS, f"parents are {len(weights)}, at most {MAX_PARENTS}"),
        (len({*commit.parent_ids}) == len(weights), "parents name a commit twice, each once"),
        (0 <= commit.created < MAX_SECONDS, f"created is {commit.created}, only times in Unix seconds"),
        (all(map(math.isfinite, weights)), "parents have weights that are no numbers, only finite ones"),
        (all(abs(weight) <= MAX_WEIGHT for weight in weights), f"parents' weights are beyond {MAX_WEIGHT:g}, smaller"),
    ]
    return next((f"{text} are allowed" for is_valid, text in checks if not is_valid), None)


def _hashes(commit: Commit) -> list[tuple[str, str]]:
    recipe = [] if commit.recipe is None else [("The commit's recipe", commit.recipe)]
    parents = [("A parent's id", parent) for parent in commit.parent_ids]
    return [("The commit's adapter", commit.adapter), ("The commit's base", commit.base), *recipe, *parents]


def check_notes(notes: dict[str, Any]) -> None:
    """Raises: InvalidInputError if a key or the size is not allowed."""
    for key in notes:
        if _NOTE.fullmatch(key) is None:
            raise InvalidInputError(f"The note's name is {key!r:.80}: write lower-case letters, digits, '_' and '-'")
    size = len(msgspec.json.encode(notes))
    if size > MAX_NOTES_BYTES:
        raise InvalidInputError(f"The notes have {size} bytes, at most {MAX_NOTES_BYTES} are allowed")
