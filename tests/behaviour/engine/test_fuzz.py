"""Every body gets an answer or a clean refusal, and the engine answers the next request as before.

Runs for about a minute with the same cases each time; `BREAD_FUZZ_EXAMPLES=5000` draws that many new ones of each kind.
"""

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from baker.model_names import BaseModelNames
from gateway.app import build_app, build_services
from gateway.config import Settings
from gateway.engine import Engine
from gateway.engine.requests.kinds import CHAT, COMPLETION, DETOKENIZE, MESSAGES, RESPONSES, TOKENIZE, Kind
from tests.behaviour.engine.bodies import PATHS, bodies
from tests.gateway.engines import MODEL_NAME

pytestmark = pytest.mark.anyio

KEY = "sk-bread-fuzz"
EXAMPLES = int(os.environ.get("BREAD_FUZZ_EXAMPLES", "0"))
PROBE = {"model": MODEL_NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "temperature": 0}
HELD_SECONDS = 1.0
"""Processor time, so that a busy machine makes no difference."""
HANGS_SECONDS = 300.0


class Gateway:
    """The application around the engine of the session, without its jobs."""

    def __init__(self, client: httpx.AsyncClient, engine: Engine) -> None:
        self.client = client
        self.engine = engine
        self.expected: Any = None

    async def post(self, path: str, body: bytes) -> httpx.Response:
        return await asyncio.wait_for(self.client.post(path, content=body), HANGS_SECONDS)

    async def probe(self) -> Any:
        answer = await self.post("/v1/chat/completions", msgspec.json.encode(PROBE))
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["message"]["content"]

    async def check(self, kind: Kind, body: bytes) -> None:
        async with event_loop_is_free():
            answer = await self.post(PATHS[kind], body)
        text = answer.text
        assert answer.status_code in (200, 400, 404), f"{answer.status_code} {text[:2000]}"
        if answer.status_code != 200:
            error = answer.json()["error"]
            assert error["message"] and "Traceback" not in text and "site-packages" not in text
            assert set(error) == ({"type", "message"} if kind.shape == "anthropic" else set(OPENAI_ERROR))
        elif answer.headers["content-type"].startswith("text/event-stream"):
            assert '"error":' not in text and "event: error" not in text, text[-2000:]
        assert not self.engine.is_dead, "the engine died"
        assert self.engine.running().get_num_unfinished_requests() == 0, "a request was left behind"
        assert await self.probe() == self.expected, "the engine does not answer as before"


OPENAI_ERROR = ("message", "type", "param", "code")


@asynccontextmanager
async def event_loop_is_free() -> AsyncIterator[None]:
    """Fails if the event loop was blocked for HELD_SECONDS."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        before = time.thread_time()
        while True:
            await asyncio.sleep(0.005)
            now = time.thread_time()
            longest, before = max(longest, now - before), now

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
    assert longest < HELD_SECONDS, f"the event loop was blocked for {longest:.1f} s"


@pytest.fixture(scope="module", autouse=True)
def the_past_is_frozen() -> Iterator[None]:
    """As in the service. Otherwise garbage collection of all that tests imported would block the event loop."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
async def gateway(engine: Engine, tmp_path: Path) -> AsyncIterator[Gateway]:
    base = BaseModelNames(MODEL_NAME, stands_in=False)
    app = build_app(build_services(Settings(), tmp_path, KEY, engine, base))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://gateway.local", headers={"x-api-key": KEY}
    ) as client:
        gateway = Gateway(client, engine)
        gateway.expected = await gateway.probe()
        yield gateway


def branches(depth: int) -> bytes:
    """A schema of two properties, each with two, and so on."""
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema, "b": schema}}
    return msgspec.json.encode(schema)


TURN, PART = b'{"role": "user", "content": "x"},', b'{"type": "text", "text": "x"},'
HEAVY = {
    "messages": (CHAT, b'"messages": [' + TURN * 500_000 + b"{}]"),
    "parts": (
        CHAT,
        b'"messages": [{"role": "user", "content": [' + PART * 500_000 + b"{}]}]",
    ),
    "wrong parts": (CHAT, b'"messages": [{"role": "user", "content": [' + b"1," * 4000 + b"1]}]"),
    "long message": (CHAT, b'"messages": [{"role": "user", "content": "' + b"x" * (30 << 20) + b'"}]'),
    "tools": (CHAT, b'"messages": [' + TURN + b'{}], "tools": [' + b"{}," * 500_000 + b"{}]"),
    "biases": (CHAT, b'"messages": [' + TURN[:-1] + b'], "logit_bias": {' + b'"1": 1,' * 500_000 + b'"1": 1}'),
    "prompts": (COMPLETION, b'"prompt": [' + b'"x",' * 500_000 + b'"x"]'),
    "ids": (COMPLETION, b'"prompt": [' + b"65," * 500_000 + b"65]"),
    "lists of ids": (COMPLETION, b'"prompt": [' + b"[65]," * 500_000 + b"[65]]"),
    "items": (RESPONSES, b'"input": [' + TURN * 500_000 + b"{}]"),
    "wrong items": (RESPONSES, b'"input": [' + b'{"role": "user", "content": 5},' * 4000 + b"{}]"),
    "wrong turns": (MESSAGES, b'"max_tokens": 1, "messages": [' + b"5," * 4000 + b"5]"),
    "long text": (TOKENIZE, b'"prompt": "' + b"x" * (30 << 20) + b'"'),
    "tokens": (DETOKENIZE, b'"tokens": [' + b"65," * 500_000 + b"65]"),
    "choices of a schema": (CHAT, b'"messages": [' + TURN[:-1] + b'], "response_format": {"type": "json_schema", '
        b'"json_schema": {"name": "x", "schema": {"enum": [' + b'"x",' * 100_000 + b'"x"]}}}'),
    "branches of a schema": (CHAT, b'"messages": [' + TURN[:-1] + b'], "structured_outputs": {"json": '
        + branches(14) + b"}"),
    "branches of a tool": (CHAT, b'"messages": [' + TURN[:-1] + b'], "tool_choice": "required", "tools": [{"type": '
        b'"function", "function": {"name": "x", "parameters": ' + branches(14) + b"}}]"),
    "lists": (CHAT, b'"messages": [' + b"[]," * 10_000_000 + b"[]]"),
    "nesting": (CHAT, b'"messages": ' + b"[" * 500_000),
}  # fmt: skip


@pytest.mark.parametrize("name", HEAVY)
async def test_a_heavy_body_does_not_block_the_event_loop(gateway: Gateway, name: str) -> None:
    kind, fields = HEAVY[name]
    await gateway.check(kind, b'{"model": "' + MODEL_NAME.encode() + b'", ' + fields + b"}")


ONCE_FAILED = [
    # An internal error, and a request that vLLM never dropped.
    (COMPLETION, {"prompt": "Hi", "stream_interval": 1e30}),
    # Refused after the stream's first events, so the stream broke off.
    (RESPONSES, {"input": "Hi", "stop_token_ids": [2**31], "stream": True}),
    (RESPONSES, {"input": "Hi", "structured_outputs": {"json": {"$ref": "#"}}, "stream": True}),
    # A null that vLLM accepts, but can't put into its answer.
    (RESPONSES, {"input": "Hi", "max_output_tokens": 4, "truncation": None}),
]


@pytest.mark.parametrize(("kind", "fields"), ONCE_FAILED, ids=lambda value: getattr(value, "name", None))
async def test_bodies_that_once_failed(gateway: Gateway, kind: Kind, fields: dict[str, Any]) -> None:
    await gateway.check(kind, msgspec.json.encode({"model": MODEL_NAME, **fields}))


@pytest.mark.parametrize("kind", PATHS, ids=lambda kind: kind.name)
async def test_any_body_is_answered_or_refused_without_effect_on_others(gateway: Gateway, kind: Kind) -> None:
    for body in drawn(kind):
        try:
            await gateway.check(kind, body)
        except Exception as error:
            raise AssertionError(f"{kind.name} {body!r:.2000}") from error


def drawn(kind: Kind) -> list[bytes]:
    """Bodies from hypothesis. Its own runner is not used, since a case may kill the engine."""
    cases: list[bytes] = []

    @settings(
        max_examples=EXAMPLES or 80,
        derandomize=not EXAMPLES,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(bodies(kind))
    def collect(body: bytes) -> None:
        cases.append(body)

    collect()
    return cases
