"""HTTP requests to a Bread gateway. Every failed request raises a CliError that says what to do."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from gateway.cli.failures import CliError, Exit, exit_code_of
from gateway.cli.servers import Server
from gateway.cli.text import one_line

if TYPE_CHECKING:
    import httpx

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 5.0
MOST_BYTES = 256 << 20
"""Longest answer that is read: another server may send one without an end."""
LONG_SECONDS = 3600.0
"""For requests that compute: a comparison waits for free places in the engine."""
ENCODED = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that are about a body on its way."""


def quoted(name: str) -> str:
    """A name or revision as one part of a path."""
    return quote(name, safe="")


class Unreachable(CliError):  # noqa: N818 - says what the server is
    """No answer came."""


class Client:
    """One server and key. It opens its connection with the first request."""

    def __init__(
        self, server: Server, *, user: str | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        """Args: user: whom the master key acts for; transport: replaces the network in tests."""
        self.url = server.url
        self._key = server.key
        self._user = user
        self._transport = transport
        self._http: httpx.Client | None = None

    def close(self) -> None:
        if self._http is not None:
            self._http.close()

    def get(self, path: str, *, timeout: float | None = None, **query: Any) -> Any:
        """The answer's JSON. Args: query: parameters; those that are None or False are left out."""
        return self._request("GET", path, query=query, timeout=timeout)

    def post(self, path: str, body: Any = None, *, timeout: float | None = None) -> Any:
        return self._request("POST", path, body, timeout=timeout)

    def put(self, path: str, body: Any) -> Any:
        return self._request("PUT", path, body)

    def delete(self, path: str, **query: Any) -> Any:
        return self._request("DELETE", path, query=query)

    def find(self, path: str) -> Any | None:
        """As `get`; None if it is not there."""
        try:
            return self.get(path)
        except CliError as error:
            if error.status == 404:
                return None
            raise

    def events(self, path: str, body: Any) -> Iterator[tuple[str, Any]]:
        """POST, and the name and JSON of each server-sent event of the answer."""
        import httpx

        http, timeout = self._client(), httpx.Timeout(LONG_SECONDS, connect=CONNECT_SECONDS)
        try:
            with http.stream("POST", path, json=body, timeout=timeout) as answer:
                if not answer.is_success:
                    raise self._refusal(self._read(answer))
                if "text/event-stream" not in answer.headers.get("content-type", ""):
                    yield "result", self._json(self._read(answer))
                    return
                name = "message"
                for line in answer.iter_lines():
                    field, _, value = line.partition(":")
                    if field == "event":
                        name = value.strip()
                    elif field == "data":
                        yield name, json.loads(value)
                        name = "message"
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def _request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        import httpx

        http = self._client()
        parameters = {
            name: str(value).lower() if value is True else value
            for name, value in (query or {}).items()
            if value is not None and value is not False
        }
        limit = httpx.Timeout(timeout or TIMEOUT_SECONDS, connect=min(timeout or CONNECT_SECONDS, CONNECT_SECONDS))
        try:
            with http.stream(method, path, json=body, params=parameters, timeout=limit) as opened:
                answer = self._read(opened)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if not answer.is_success:
            raise self._refusal(answer)
        return self._json(answer)

    def _client(self) -> httpx.Client:
        if self._http is None:
            import httpx

            if not self.url.startswith(("http://", "https://")):
                raise CliError(f"{self.url!r} is not a URL: it must begin with http:// or https://", Exit.USAGE)
            for what, value in (("key", self._key), ("user", self._user)):
                if value and not (value.isascii() and value.isprintable()):
                    # Not shown: it may be a key with a line end.
                    message = f"the {what} for {self.url} holds a character that can't be sent, such as a line end"
                    raise CliError(f"{message}: check BREAD_API_KEY and --user, or run `bread login`", Exit.USAGE)
            headers = {"User-Agent": "bread"}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            if self._user:
                headers["X-User-Id"] = self._user
            try:
                # The environment's proxy settings are for remote hosts only.
                is_remote = httpx.URL(self.url).host not in LOOPBACK
                self._http = httpx.Client(
                    base_url=self.url, headers=headers, trust_env=is_remote, transport=self._transport
                )
            except (httpx.InvalidURL, ValueError) as error:
                message = f"{self.url!r} with this key can't be a server ({error}): run `bread login`"
                raise CliError(message, Exit.USAGE) from None
        return self._http

    def _read(self, answer: httpx.Response) -> httpx.Response:
        """The answer with its body. Raises: CliError if that is longer than MOST_BYTES."""
        import httpx

        content = bytearray()
        for chunk in answer.iter_bytes():
            content += chunk
            if len(content) > MOST_BYTES:
                raise CliError(f"{self.url} sends an answer of more than {MOST_BYTES >> 20} MiB: it was not read")
        headers = [(name, value) for name, value in answer.headers.items() if name not in ENCODED]
        return httpx.Response(answer.status_code, headers=headers, content=bytes(content), request=answer.request)

    def _json(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except (ValueError, RecursionError):
            raise CliError(
                f"{self.url} answers, but is not a Bread gateway: check the URL with `bread status`"
            ) from None

    def _unreachable(self, error: httpx.HTTPError) -> CliError:
        import httpx

        if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
            return Unreachable(f"{self.url} did not answer in time: it may be overloaded, try again")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Unreachable(
                f"cannot reach {self.url} ({system_error(error)}): is `make serve` running there? "
                "BREAD_BASE_URL or `bread login` chooses another server"
            )
        return Unreachable(
            f"the connection to {self.url} broke ({one_line(str(error)) or 'no reason given'}): try again"
        )

    def _refusal(self, answer: httpx.Response) -> CliError:
        status = answer.status_code
        try:
            message = reason(answer.json())
        except (ValueError, RecursionError):
            message = ""
        code = exit_code_of(status)
        if status == 401:
            whose = "the server wants a key" if not self._key else "the server does not know this key"
            return CliError(
                f"{whose}: run `bread login`, or set BREAD_API_KEY (make serve writes it to .env)", code, status
            )
        if not message:
            message = f"{self.url} answered HTTP {status}" + (
                ": this server has no such operation, or is no Bread gateway" if status in {404, 405} else ""
            )
        if (wait := answer.headers.get("retry-after", "")).isdigit():
            message = f"{message.rstrip('.')}: try again in {wait} s"
        return CliError(message, code, status)


def reason(body: Any) -> str:
    """The sentence in an error's body, in Bread's, OpenAI's or FastAPI's shape; on one line."""
    if isinstance(body, str):
        return one_line(body)
    if not isinstance(body, dict):
        return ""
    for key in ("message", "error", "detail"):
        value = body.get(key)
        if text := reason(value):
            return text
        if isinstance(value, list):
            messages = (item.get("msg", item) if isinstance(item, dict) else item for item in value)
            return "; ".join(one_line(str(message)) for message in messages)
    return ""


def system_error(error: BaseException) -> str:
    """Why no connection could be made, as the operating system says it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)  # below 0: unknown host
        cause = cause.__cause__ or cause.__context__
    return one_line(str(error)) or "no answer"
