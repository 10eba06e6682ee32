"""HEAD on every route that has GET: the same status and headers, without a body. Load balancers send it, and so do
clients that look whether something exists."""

from typing import Any

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Receive, Scope, Send
from litestar.utils import normalize_path


class Heads:
    """ASGI application around Litestar's own, which serves HEAD only where a route declares it."""

    def __init__(self, app: Litestar) -> None:
        self._router = app.asgi_router
        self._inner: ASGIApp = app.asgi_handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope.get("method")  # websockets have none
        if method == "HEAD" and not self._has_head(scope["path"]):
            as_get: Any = {**scope, "method": "GET"}
            await self._inner(as_get, receive, _without_body(send))
        elif method == "OPTIONS":
            await self._inner(scope, receive, _with_head_allowed(send))
        else:
            await self._inner(scope, receive, send)

    def _has_head(self, path: str) -> bool:
        try:
            self._router.handle_routing(path=normalize_path(path), method="HEAD")
        except HTTPException:
            return False
        return True


def with_head(allowed: str) -> str:
    """The value of an `Allow` header, with HEAD if GET is allowed."""
    methods = {method.strip() for method in allowed.split(",")}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def _without_body(send: Send) -> Send:
    async def forward(message: Any) -> None:
        if message["type"] == "http.response.body":
            message["body"] = b""
        await send(message)

    return forward


def _with_head_allowed(send: Send) -> Send:
    async def forward(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, with_head(value.decode()).encode() if name == b"allow" else value)
                for name, value in message.get("headers", [])
            ]
        await send(message)

    return forward
