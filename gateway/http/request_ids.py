"""`X-Request-Id`: the client's or ours, the same in the answer's headers, the log and the engine."""

import re
import secrets
from typing import Any

HEADER = "x-request-id"
VALID = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}")
"""What may stand in a header and a log line as it is. Another one is replaced, not refused: it only helps to search."""


def request_id(scope: Any) -> str:
    """The id of the request with this ASGI scope: what the client sent, if it is well formed, else a new one."""
    known: str | None = scope["state"].get(HEADER)
    if known is None:
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        known = sent.decode() if VALID.fullmatch(sent) else secrets.token_hex(16)
        scope["state"][HEADER] = known
    return known


async def add_to_answer(message: Any, scope: Any) -> None:
    """A `before_send` hook of Litestar's: every answer says its id, errors and unknown routes included."""
    if message["type"] == "http.response.start":
        value = request_id(scope).encode()
        # Anthropic's clients read the second name.
        message["headers"] = [*message.get("headers", []), (b"x-request-id", value), (b"request-id", value)]
