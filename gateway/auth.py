"""Who is calling, and for whom they may act."""

import hmac

import msgspec

from baker.errors import BakeryError, InvalidInputError, NotFoundError

MASTER_USER = "admin"
"""Whose repos the master key works on when it names no user."""


class UnauthorizedError(BakeryError):
    code = "UNAUTHORIZED"


class Caller(msgspec.Struct, frozen=True):
    user: str
    is_master: bool


class Keys:
    def __init__(self, master: str) -> None:
        self._master = master.encode()

    def identify(self, authorization: str | None) -> Caller:
        """The caller behind an `Authorization: Bearer <key>` header. Raises: UnauthorizedError."""
        if authorization is None:
            raise UnauthorizedError("There is no API key: send the header Authorization: Bearer <key>")
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise UnauthorizedError("The Authorization header is malformed: send Authorization: Bearer <key>")
        # Compared as bytes, since compare_digest refuses text beyond ASCII.
        if not hmac.compare_digest(key.strip().encode(), self._master):
            raise UnauthorizedError("The API key is not known here: the service's .env file or master.key has it")
        return Caller(MASTER_USER, is_master=True)


def act_as(caller: Caller, query: str | None, header: str | None) -> Caller:
    """The caller in the role of the user that the request names by `user_id` or X-User-Id.

    Raises: InvalidInputError if both are given and differ; NotFoundError if there is no such user.
    """
    if query is not None and header is not None and query != header:
        raise InvalidInputError(f"user_id is {query!r}, but the header X-User-Id is {header!r}: send one of them")
    named = header if query is None else query
    if named is None or named == caller.user:
        return caller
    raise NotFoundError(f"User {named!r} not found")
