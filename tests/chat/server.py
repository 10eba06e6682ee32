"""A small real server with OpenAI's wire format, and ways in which it can fail."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from chat_with_model import Chunk

KEY = "sk-test"
MODELS = ["base/Smol-135M", "alice/hooli/gavin_bake/21", "alice/hooli/gavin_bake/7", "alice/dagobah/yoda/3"]
PATIENCE_SECONDS = 30  # only a hang takes this long

Behaviour = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server_bind()  # reserves a port; connections are refused until `serving`
        self.models = list(MODELS)
        self.has_model_route = True  # many servers only have the list
        self.bodies_by_path: dict[str, Any] = {}  # path and query of a GET -> body of its answer
        self.next: list[Behaviour] = []  # behaviour for the next chat requests; after those, a normal answer
        self.by_model: dict[str, list[Behaviour]] = {}  # the same, for requests to one model
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.reached = threading.Event()  # a chat request has arrived
        self.dropped = threading.Event()  # a client closed its connection during an answer
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.keys.append(self.headers["Authorization"])
        if self.path in self.server.bodies_by_path:
            self.reply(200, self.server.bodies_by_path[self.path])
        elif self.path == "/v1/models":
            models = [{"id": name, "object": "model"} for name in self.server.models]
            self.reply(200, {"object": "list", "data": models})
        elif self.path.startswith("/v1/models/") and self.server.has_model_route:
            self.reply_model(unquote(self.path.removeprefix("/v1/models/")))
        else:
            self.reply(404, {"error": {"message": f"no route {self.path}"}})

    def reply_model(self, name: str) -> None:
        """As the gateway does: `repo/bake` means its newest version, and a strength is kept."""
        bare, mark, strength = name.partition("@")
        for known in self.server.models:
            if known == bare or ("/" in bare and f"/{bare}/" in f"/{known}/"):
                if not mark or strength in {"0", "0.5", "1.5"}:
                    self.reply(200, {"id": name, "object": "model", "served": known + mark + strength})
                else:
                    self.reply(404, {"error": {"message": f"{name}: a strength is a number from 0 to 2"}})
                return
        self.reply(404, {"error": {"message": f"The model {name!r} does not exist"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.append(self.headers["Authorization"])
        self.server.bodies.append(body)
        self.server.reached.set()
        planned = self.server.by_model.get(body["model"]) or self.server.next
        behaviour = planned.pop(0) if planned else answers(f"reply {len(self.server.bodies)}")
        behaviour(self)

    def reply(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        data = (
            body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        )
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def send_delta(self, finish_reason: str | None = None, **delta: Any) -> None:
        self.send(event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}))


def event(body: Any) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def answers(*words: str, finish_reason: str = "stop", thought: str = "") -> Behaviour:
    def behave(handler: Handler) -> None:
        handler.start_stream()
        handler.send_delta(role="assistant", content="")
        if thought:
            handler.send_delta(reasoning_content=thought)
        for word in words:
            handler.send_delta(content=word)
        handler.send_delta(finish_reason)
        handler.send(event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 42}}))
        handler.send(b"data: [DONE]\n\n")
        handler.send(b"")

    return behave


def sends(*pieces: bytes) -> Behaviour:
    """Stream exactly these bytes, in these pieces, and end the response properly."""

    def behave(handler: Handler) -> None:
        handler.start_stream()
        for piece in (*pieces, b""):
            handler.send(piece)

    return behave


def refuses(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Behaviour:
    return lambda handler: handler.reply(status, body, headers)


def breaks_after(*words: str) -> Behaviour:
    """Close the connection in the middle of the answer."""

    def behave(handler: Handler) -> None:
        handler.start_stream()
        for word in words:
            handler.send_delta(content=word)
        handler.close_connection = True

    return behave


def never_ends(*words: str) -> Behaviour:
    """After the words, send empty deltas until the client leaves."""

    def behave(handler: Handler) -> None:
        handler.start_stream()
        for word in words:
            handler.send_delta(content=word)
        try:
            while not handler.server.closing.wait(0.01):
                handler.send_delta(content="")
        except OSError:
            handler.server.dropped.set()

    return behave


@contextmanager
def serving(server: Server) -> Iterator[None]:
    server.server_activate()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()


def contents(body: Mapping[str, Any]) -> list[str]:
    return [message["content"] for message in body["messages"]]


def ignore(chunk: Chunk) -> None:
    """For tests that don't use the pieces of an answer."""
