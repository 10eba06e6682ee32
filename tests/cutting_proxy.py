"""A TCP proxy on this machine that counts what a client sends, and cuts all connections after so many bytes."""

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

BLOCK_BYTES = 1 << 14


class CuttingProxy:
    def __init__(self, url: str) -> None:
        """Args: url: of the server behind it."""
        parts = urlsplit(url)
        self._server = (parts.hostname, parts.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0
        """Bytes from the client that reached the server."""
        self.most: int | None = None
        """Bytes after which nothing goes through any more; None: no limit."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for pair, is_counted in (((client, server), True), ((server, client), False)):
                    threading.Thread(target=self._copy, args=(*pair, is_counted), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, is_counted: bool) -> None:
        with suppress(OSError):
            while block := source.recv(BLOCK_BYTES):
                if is_counted and self.most is not None:
                    block = block[: max(0, self.most - self.sent)]
                target.sendall(block)
                if is_counted:
                    self.sent += len(block)
                    if self.most is not None and self.sent >= self.most:
                        break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
