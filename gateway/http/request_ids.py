"""`X-Request-Id`, from the client or new: the same id is in the answer's headers, the log and the engine."""

import re
import secrets
from typing import Any

HEADER = "x-request-id"
VALID = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}")
"""Ids that are safe in headers and log lines. Others are replaced, not refused, since an id only helps to search."""


def request_id(scope: Any) -> str:
    """The id of the request with this ASGI scope: the client's if it is valid, else a new one."""
    known: str | None = scope["state"].get(HEADER)
    if known is None:
        sent = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        known = sent.decode() if VALID.fullmatch(sent) else secrets.token_hex(16)
        scope["state"][HEADER] = known
    return known


async def add_to_answer(message: Any, scope: Any) -> None:
    """Litestar's `before_send` hook: adds the id to every answer, including errors and unknown routes."""
    if message["type"] == "http.response.start":
        value = request_id(scope).encode()
        # Anthropic's clients read `request-id`.
        message["headers"] = [*message.get("headers", []), (b"x-request-id", value), (b"request-id", value)]
