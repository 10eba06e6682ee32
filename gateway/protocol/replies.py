"""A complete answer: status, JSON body and headers."""

import msgspec


class Reply(msgspec.Struct, frozen=True):
    """A complete answer with a JSON body."""

    status: int
    body: bytes
    headers: dict[str, str] = {}
