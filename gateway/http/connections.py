"""HTTP/1.1 as uvicorn speaks it, with bounds for what comes before a request's body.

uvicorn waits for the end of a request's head for ever and keeps all of it that comes: whoever reaches the port, with or
without a key, could fill the memory with one endless header, or hold as many connections as there are files.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 65.0
"""From a connection's opening, or a later request's first byte, to the end of the request's head."""
MAX_HEAD_BYTES = 1 << 18
"""Much more than browsers and proxies send; one read of the socket may bring so much more."""


class Connection(HttpToolsProtocol):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._is_in_head = True
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._end(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = 0
        if self._timer is None:
            self._set_timer()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def _set_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._on_time_over)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time_over(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._set_timer()  # nothing more is read until the answer before has been sent
        elif self._head_bytes:
            self._end(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.close()

    def _end(self, status: HTTPStatus) -> None:
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode())
        self.transport.close()
