"""A whole answer: status, JSON body, and headers."""

import msgspec


class Reply(msgspec.Struct, frozen=True):
    """A finished answer: JSON."""

    status: int
    body: bytes
    headers: dict[str, str] = {}
