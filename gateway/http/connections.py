"""uvicorn's HTTP/1.1 protocol with limits on the size and the time of a request's head (request line and headers).

uvicorn waits forever for the end of a head and keeps all of it in memory. So anyone who reaches the port, with or
without a key, could fill the memory with one endless header, or use up all file descriptors with open connections.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 65.0
"""Longest time from the opening of a connection, or the first byte of a later request, to the end of the head."""
MAX_HEAD_BYTES = 1 << 18
"""Far more than browsers and proxies send. One read of the socket may exceed it by that read's size."""


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
            self._set_timer()  # uvicorn reads no further until it has sent the previous answer
        elif self._head_bytes:
            self._end(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.close()

    def _end(self, status: HTTPStatus) -> None:
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode())
        self.transport.close()
