"""Refuses requests whose `Host` header is malformed: Litestar can't build their URL, which its middleware needs."""

from urllib.parse import urlsplit

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from baker.model_names import shortened
from gateway.http.asgi import send_reply
from gateway.protocol.replies import Reply


class Hosts:
    """ASGI application around another one, which gets only requests with a well-formed `Host`, or none."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        wrong = next((value for name, value in scope["headers"] if name == b"host" and not _is_host(value)), None)
        if wrong is None or scope["type"] != ScopeType.HTTP:
            await self._inner(scope, receive, send)
            return
        host = shortened(wrong.decode("latin-1"))
        message = f"The Host header is {host!r}: it must be a name or an address, then ':' and a port if there is one"
        body = {"message": message, "code": "INVALID_INPUT", "error": message}
        await send_reply(Reply(400, msgspec.json.encode(body)), {}, send)


def _is_host(value: bytes) -> bool:
    try:
        urlsplit(f"//{value.decode('latin-1')}").port  # noqa: B018 - reading it checks it
    except ValueError:
        return False
    return True
