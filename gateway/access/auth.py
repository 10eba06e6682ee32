"""Identifies the caller of a request by its key, and the user that it acts for."""

import hmac
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from baker.errors import InvalidInputError, NotFoundError
from baker.names import MASTER_USER
from baker.storage.credentials import Key, split_key
from baker.types import User
from gateway.errors import ForbiddenError, UnauthorizedError


class Caller(msgspec.Struct, frozen=True):
    user: str
    """User whose repos and models the request works on."""
    is_master: bool
    """Whether the request has the master key, whichever user it acts for."""
    key: str = "master"
    """Id of its key. Not secret."""


class _Index(NamedTuple):
    users: frozenset[str]
    keys: dict[str, Key]
    """Id -> key."""


class Keys:
    """The valid keys, in memory, so that no request waits for the database."""

    def __init__(self, master: str) -> None:
        self._master = master.encode()
        self._index = _Index(frozenset(), {})

    def replace(self, listing: Iterable[tuple[User, Sequence[Key]]]) -> None:
        """Replace all users and keys. This is one assignment, so any thread may call it while others read."""
        known = list(listing)
        keys = {key.id: key for _, held in known for key in held}
        self._index = _Index(frozenset(user.id for user, _ in known), keys)

    def knows_user(self, user: str) -> bool:
        return user == MASTER_USER or user in self._index.users

    def identify(self, authorization: str | None, api_key: str | None = None) -> Caller:
        """The caller by the header `Authorization: Bearer <key>`; if it is missing, by `x-api-key: <key>`.

        Raises: UnauthorizedError.
        """
        if authorization is None and api_key is None:
            raise UnauthorizedError("The request has no API key: send the header Authorization: Bearer <key>")
        scheme, _, text = f"Bearer {api_key}".partition(" ") if authorization is None else authorization.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise UnauthorizedError("The Authorization header is malformed: send Authorization: Bearer <key>")
        # Compared as bytes: compare_digest raises for text beyond ASCII.
        if hmac.compare_digest(text.encode(), self._master):
            return Caller(MASTER_USER, is_master=True)
        key = self._find(text)
        if key is None:
            raise UnauthorizedError(
                "The API key is unknown: the master key is in the service's .env file or master.key, and its holder "
                "can create keys for users (python -m gateway users new-key)"
            )
        return Caller(key.user, is_master=False, key=key.id)

    def _find(self, text: str) -> Key | None:
        parts = split_key(text)
        key = None if parts is None else self._index.keys.get(parts[0])
        return key if parts is not None and key is not None and key.fits(parts[1]) else None


def user_named(names: Iterable[str]) -> str | None:
    """The user that all `user_id` and X-User-Id of a request name; None if there are none.

    Raises: InvalidInputError if they name different users.
    """
    different = list(dict.fromkeys(names))
    if len(different) > 1:
        raise InvalidInputError(
            f"user_id and X-User-Id name different users, {', '.join(map(repr, different))}: send one"
        )
    return different[0] if different else None


def act_as(caller: Caller, user: str, keys: Keys) -> Caller:
    """The caller, acting for `user`.

    Raises: ForbiddenError if only the master key may act for that user, whether or not it exists; NotFoundError.
    """
    if user == caller.user:
        return caller
    if not caller.is_master:
        raise ForbiddenError(
            f"Your key belongs to {caller.user!r} and can't act for {user!r}: leave user_id and X-User-Id out"
        )
    if not keys.knows_user(user):
        raise NotFoundError(f"User {user!r} not found")
    return Caller(user, is_master=True)
