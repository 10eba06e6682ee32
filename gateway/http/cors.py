"""CORS: which web pages may call the service from a browser (--allowed-origins).

Litestar's own support answers preflights and adds the headers, to errors too. `complete` adds what it lacks.
"""

from typing import Any
from urllib.parse import urlsplit

from litestar.config.cors import CORSConfig

from baker.errors import ConfigError

ANY = "*"
DEFAULT_PORTS = {"http": 80, "https": 443}
EXPOSED = [
    "accept-ranges",
    "content-disposition",
    "content-range",
    "etag",
    "openai-processing-ms",
    "request-id",
    "retry-after",
    "www-authenticate",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-request-id",
    "x-should-retry",
]
"""Response headers that a page's script may read. Without this a browser hides nearly all of them."""


def config(allowed_origins: str) -> CORSConfig | None:
    """Litestar's configuration; None if no origin is allowed.

    Args:
        allowed_origins: from the settings: origins separated by commas, or `*`.
    Raises: ConfigError if one is not an origin as browsers send it.
    """
    origins = [text.strip() for text in allowed_origins.split(",") if text.strip()]
    mistakes = [origin for origin in origins if not _is_origin(origin)]
    if mistakes:
        raise ConfigError(
            f"BREAD_ALLOWED_ORIGINS (--allowed-origins): {', '.join(map(repr, mistakes))} is not an origin: write "
            "scheme://host or scheme://host:port in lower case, without a path, wildcards or the scheme's default "
            "port; or * alone for every page"
        )
    return CORSConfig(allow_origins=origins, expose_headers=EXPOSED) if origins else None


def _is_origin(text: str) -> bool:
    if text == ANY:
        return True
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    is_plain = text == f"{parts.scheme}://{parts.netloc}".lower() and bool(parts.scheme and parts.hostname)
    has_extras = ANY in text or "@" in text or parts.netloc.endswith(":") or any(char.isspace() for char in text)
    return is_plain and not has_extras and (port is None or port != DEFAULT_PORTS.get(parts.scheme))


async def complete(message: Any, scope: Any) -> None:
    """Litestar's `before_send` hook, which runs after its CORS support has added its own headers.

    `Vary: Origin` must be in every answer, not only in those to an allowed origin: a cache could otherwise give a page
    an answer without the CORS headers. A preflight that asks for access to a private network needs a header for that.
    """
    if message["type"] != "http.response.start" or (config := scope["litestar_app"].cors_config) is None:
        return
    headers = list(message.get("headers", []))
    names = {name.lower() for name, _ in headers}
    if not config.is_allow_all_origins and b"vary" not in names:
        headers.append((b"vary", b"Origin"))
    asks = any(name == b"access-control-request-private-network" for name, _ in scope["headers"])
    if asks and scope["method"] == "OPTIONS" and b"access-control-allow-origin" in names:
        headers.append((b"access-control-allow-private-network", b"true"))
    message["headers"] = headers
