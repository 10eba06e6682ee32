"""Handlers that answer what and when a test decides, and requests to the application around them."""

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from gateway.access.auth import Caller
from gateway.engine import Reply, StreamReply
from gateway.engine.adapters.slots import Lease
from gateway.engine.core.usage import Usage
from gateway.engine.requests.kinds import Kind
from gateway.inference.model_request import ModelRequest
from gateway.services import Services
from tests.gateway.application import client_of

CHAT = {"model": "fake/base", "messages": [{"role": "user", "content": "a secret of mine"}]}
WORDS = ("Hello", " there")


def chunk(text: str) -> str:
    delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    fields = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "fake/base", "choices": [delta]}
    return f"data: {json.dumps(fields)}\n\n"


class Scripted:
    """Replaces vLLM's handlers. A gate that is not set holds up all that comes after it."""

    def __init__(self) -> None:
        self.first, self.rest = threading.Event(), threading.Event()
        self.first.set()
        self.rest.set()
        self.error: Exception | None = None
        self.running = 0
        self.headers: dict[str, str] = {}
        self.models: list[str] = []
        """The engine's model name of each request."""

    async def serve(
        self, kind: Kind, fields: dict[str, Any], headers: Any, *, model: str, usage: Usage
    ) -> Reply | StreamReply:
        self.running += 1
        self.headers = headers
        self.models.append(model)
        usage.request_metadata = SimpleNamespace(request_id="chatcmpl-1", final_usage_info=None)
        try:
            await opened(self.first)
            if self.error is not None:
                raise self.error
        except BaseException:
            self.running -= 1
            raise
        if fields.get("stream"):
            rest = self._rest(usage)
            return StreamReply([chunk(WORDS[0])], rest, rest, Lease(None))
        self.running -= 1
        self._count(usage)
        return Reply(200, b'{"choices": []}')

    async def _rest(self, usage: Usage) -> Any:
        try:
            await opened(self.rest)
            yield chunk(WORDS[1])
            self._count(usage)
            yield "data: [DONE]\n\n"
        finally:
            self.running -= 1

    def _count(self, usage: Usage) -> None:
        usage.request_metadata.final_usage_info = SimpleNamespace(prompt_tokens=3, completion_tokens=2)


async def opened(gate: threading.Event) -> None:
    """Wait for a gate that any thread may set."""
    while not gate.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def post(services: Services, body: dict[str, Any], **headers: str) -> httpx.Response:
    async with client_of(services) as client:
        return await client.post("/v1/chat/completions", json=body, headers=headers)


def logged_fields(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if hasattr(record, "fields")]


def new_model_request() -> ModelRequest:
    return ModelRequest("id", "/route", Caller("admin", is_master=True))
