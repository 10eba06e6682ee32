"""A local HTTP server that speaks Anthropic's messages protocol, in place of Anthropic's own."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class AnthropicServer(ThreadingHTTPServer):
    daemon_threads = True
    api_key = "sk-ant-test"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []
        self.failures: list[tuple[int, str]] = []
        """(status, error type) of the next answers, before any good one."""
        self._written = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def questions(self, count: int) -> str:
        """A numbered list of questions that were not written before."""
        first = self._written
        self._written += count
        return "\n".join(f"{i + 1}. What is the meaning of number {first + i}?" for i in range(count))


class _Handler(BaseHTTPRequestHandler):
    server: AnthropicServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/v1/messages" or not self.headers["anthropic-version"]:
            return self._answer(404, error("not_found_error", self.path))
        if self.server.api_key not in (self.headers["x-api-key"], (self.headers["authorization"] or "")[7:]):
            return self._answer(401, error("authentication_error", "invalid x-api-key"))
        self.server.requests.append(body)
        if self.server.failures:
            status, kind = self.server.failures.pop(0)
            return self._answer(status, error(kind, f"a planned {kind}"))
        message = self._message(body)
        return self._stream(message) if body.get("stream") else self._answer(200, message)

    def _stream(self, message: dict[str, Any]) -> None:
        """The message as server-sent events, its text in pieces of seven characters."""
        text = message["content"][0]["text"]
        pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            *(
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
                for piece in pieces
            ),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None},
                "usage": message["usage"],
            },
            {"type": "message_stop"},
        ]
        data = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _message(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": f"Here you are:\n\n{self.server.questions(20)}"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 10, "output_tokens": 10},
        }

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


@contextmanager
def anthropic_server() -> Iterator[AnthropicServer]:
    with AnthropicServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
