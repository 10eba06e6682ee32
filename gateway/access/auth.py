"""Who is calling, and for whom they may act."""

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
    """Whose things the request works on."""
    is_master: bool
    """It came with the master key, whoever it acts for."""
    key: str = "master"
    """The id of its key, which is no secret."""


class _Index(NamedTuple):
    users: frozenset[str]
    keys: dict[str, Key]
    """By their ids."""


class Keys:
    """The keys that are valid now, in memory: no request waits for the database to be let in."""

    def __init__(self, master: str) -> None:
        self._master = master.encode()
        self._index = _Index(frozenset(), {})

    def replace(self, listing: Iterable[tuple[User, Sequence[Key]]]) -> None:
        """Know these users and keys and no others. One assignment: any thread may call it while others read."""
        known = list(listing)
        keys = {key.id: key for _, held in known for key in held}
        self._index = _Index(frozenset(user.id for user, _ in known), keys)

    def knows_user(self, user: str) -> bool:
        return user == MASTER_USER or user in self._index.users

    def identify(self, authorization: str | None, api_key: str | None = None) -> Caller:
        """The caller behind an `Authorization: Bearer <key>` header, or without one behind `x-api-key: <key>`.

        Raises: UnauthorizedError.
        """
        if authorization is None and api_key is None:
            raise UnauthorizedError("There is no API key: send the header Authorization: Bearer <key>")
        scheme, _, text = f"Bearer {api_key}".partition(" ") if authorization is None else authorization.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise UnauthorizedError("The Authorization header is malformed: send Authorization: Bearer <key>")
        # Compared as bytes, since compare_digest refuses text beyond ASCII.
        if hmac.compare_digest(text.encode(), self._master):
            return Caller(MASTER_USER, is_master=True)
        key = self._find(text)
        if key is None:
            raise UnauthorizedError(
                "The API key is not known here: the service's .env file or master.key has the master key, and its "
                "holder makes keys for users (python -m gateway users new-key)"
            )
        return Caller(key.user, is_master=False, key=key.id)

    def _find(self, text: str) -> Key | None:
        parts = split_key(text)
        key = None if parts is None else self._index.keys.get(parts[0])
        return key if parts is not None and key is not None and key.fits(parts[1]) else None


def user_named(names: Iterable[str]) -> str | None:
    """The user that a request means by all its `user_id` and X-User-Id together.

    Raises: InvalidInputError if they are not the same.
    """
    different = list(dict.fromkeys(names))
    if len(different) > 1:
        raise InvalidInputError(
            f"user_id and X-User-Id name several users, {', '.join(map(repr, different))}: send one"
        )
    return different[0] if different else None


def act_as(caller: Caller, user: str, keys: Keys) -> Caller:
    """The caller in the role of `user`.

    Raises: ForbiddenError for the user of another key, whether there is one or not; NotFoundError.
    """
    if user == caller.user:
        return caller
    if not caller.is_master:
        raise ForbiddenError(
            f"Your key is {caller.user!r}'s and can't act for {user!r}: leave user_id and X-User-Id out"
        )
    if not keys.knows_user(user):
        raise NotFoundError(f"User {user!r} not found")
    return Caller(user, is_master=True)
