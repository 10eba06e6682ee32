"""How answers reach clients, with handlers that say what the tests want, when the tests want it."""

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import httpx
import openai
import pytest

from baker.errors import EngineError
from gateway.access.auth import Caller
from gateway.app import build_app
from gateway.engine import Reply, StreamReply
from gateway.engine.adapters.slots import Lease
from gateway.engine.core.usage import Usage
from gateway.engine.requests.kinds import Kind
from gateway.http.asgi import disconnected
from gateway.inference.delivery import Delivery, ErrorFormat, Patience
from gateway.inference.model_request import ModelRequest, Outcome
from gateway.services import Services
from tests.asgi_server import served
from tests.gateway.application import KEY, Client, client_of, holding, services_in

pytestmark = pytest.mark.anyio

CHAT = {"model": "fake/base", "messages": [{"role": "user", "content": "a secret of mine"}]}
SOON = 0.01
WORDS = ("Hello", " there")


def chunk(text: str) -> str:
    delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    fields = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "fake/base", "choices": [delta]}
    return f"data: {json.dumps(fields)}\n\n"


class Scripted:
    """In place of vLLM's handlers. Each gate that is closed holds up what comes after it."""

    def __init__(self) -> None:
        self.first, self.rest = threading.Event(), threading.Event()
        self.first.set()
        self.rest.set()
        self.error: Exception | None = None
        self.running = 0
        self.headers: dict[str, str] = {}

    async def serve(
        self, kind: Kind, fields: dict[str, Any], headers: Any, *, model: str, usage: Usage
    ) -> Reply | StreamReply:
        self.running += 1
        self.headers = headers
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
    """Of whichever thread."""
    while not gate.is_set():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def app_with(tmp_path: Path, scripted: Scripted) -> Callable[..., Services]:
    def build(**settings: Any) -> Services:
        return services_in(tmp_path, handlers=scripted, **settings)

    return build


async def post(services: Services, body: dict[str, Any], **headers: str) -> httpx.Response:
    async with client_of(services) as client:
        return await client.post("/v1/chat/completions", json=body, headers=headers)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if hasattr(record, "fields")]


@contextmanager
def openai_client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_a_stream_that_has_nothing_to_say_yet_is_kept_open(
    app_with: Callable[..., Services], scripted: Scripted
) -> None:
    scripted.first.clear()
    with served(build_app(app_with(stream_keep_alive_seconds=SOON))) as url, openai_client(url) as client:
        with client.chat.completions.with_streaming_response.create(**CHAT, stream=True) as raw:  # type: ignore[call-overload]
            assert raw.status_code == 200, "the headers came before the first token"
            incoming = raw.iter_lines()
            assert [next(incoming) for _ in range(4)] == [": keep-alive", "", ": keep-alive", ""]
            scripted.first.set()
            assert [line for line in incoming if line and not line.startswith(":")][-1] == "data: [DONE]"
        scripted.first.clear()
        threading.Timer(10 * SOON, scripted.first.set).start()
        chunks = client.chat.completions.create(**CHAT, stream=True)  # type: ignore[call-overload]
        assert "".join(part.choices[0].delta.content for part in chunks) == "Hello there"


def test_a_pause_within_a_stream_is_filled_with_comments(app_with: Callable[..., Services], scripted: Scripted) -> None:
    scripted.rest.clear()
    with (
        served(build_app(app_with(stream_keep_alive_seconds=SOON))) as url,
        openai_client(url) as client,
        client.chat.completions.with_streaming_response.create(**CHAT, stream=True) as raw,  # type: ignore[call-overload]
    ):
        incoming = (line for line in raw.iter_lines() if line)
        assert next(line for line in incoming if not line.startswith(":")).startswith("data: {")
        assert [next(incoming), next(incoming)] == [": keep-alive", ": keep-alive"]
        scripted.rest.set()
        assert list(incoming)[-1] == "data: [DONE]"


async def test_an_error_that_comes_soon_has_its_own_status(
    app_with: Callable[..., Services], scripted: Scripted
) -> None:
    scripted.error = EngineError("asleep")
    answer = await post(app_with(stream_keep_alive_seconds=60.0), CHAT | {"stream": True})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["message"] == "asleep"


def test_an_error_that_comes_late_is_an_event_and_the_clients_own_error(
    app_with: Callable[..., Services], scripted: Scripted
) -> None:
    scripted.first.clear()
    scripted.error = EngineError("asleep")
    with served(build_app(app_with(stream_keep_alive_seconds=SOON))) as url, openai_client(url) as client:
        chunks = client.chat.completions.create(**CHAT, stream=True)  # type: ignore[call-overload]
        scripted.first.set()
        with pytest.raises(openai.APIError, match="asleep"):
            list(chunks)


def test_the_anthropic_client_reads_past_comments_and_sees_a_late_error() -> None:
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
               "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
    events = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_stop"},
    ]
    written = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
    is_broken = False

    async def rest() -> AsyncIterator[str]:
        for event in written[1:]:
            await asyncio.sleep(5 * SOON)  # long enough for comments; without them the test proves less, and passes
            yield event

    async def work() -> Reply | StreamReply:
        await asyncio.sleep(5 * SOON)
        if is_broken:
            raise EngineError("asleep")
        return StreamReply([written[0]], source := rest(), source, Lease(None))  # type: ignore[arg-type]

    def reply(error: Exception) -> Reply:
        return Reply(503, json.dumps({"type": "error", "error": {"type": "api_error", "message": str(error)}}).encode())

    errors = ErrorFormat(reply, lambda body: b"event: error\ndata: " + body + b"\n\n")
    with (
        served(answering(work, errors, Patience(keep_alive=SOON))) as url,
        anthropic.Anthropic(base_url=url, api_key="x", max_retries=0) as client,
    ):
        ask: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
        with client.messages.stream(**ask) as stream:
            assert "".join(stream.text_stream) == "Hello"
        is_broken = True
        with pytest.raises(anthropic.APIStatusError, match="asleep"), client.messages.stream(**ask) as stream:
            list(stream.text_stream)


async def test_an_answer_that_takes_too_long_is_504_and_not_made(
    app_with: Callable[..., Services], scripted: Scripted
) -> None:
    scripted.first.clear()
    services = app_with(request_timeout_seconds=SOON)
    answer = await post(services, CHAT)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")
    assert answer.json()["error"]["code"] == 504
    assert scripted.running == 0
    assert services.pipeline.admission.in_flight == 0


async def test_a_stream_that_takes_too_long_ends_with_an_error(
    app_with: Callable[..., Services], scripted: Scripted
) -> None:
    scripted.rest.clear()
    answer = await post(app_with(request_timeout_seconds=20 * SOON), CHAT | {"stream": True})
    first, error, done = answer.text.strip().split("\n\n")
    assert first == chunk(WORDS[0]).strip() and done == "data: [DONE]"
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == 504
    assert scripted.running == 0


@pytest.mark.parametrize("gate", ["first", "rest"])
async def test_a_client_that_leaves_ends_the_work_and_its_tokens_are_counted(
    gate: str, caplog: pytest.LogCaptureFixture
) -> None:
    closed = asyncio.Event()

    async def work() -> Reply | StreamReply:
        model_request.usage.request_metadata = SimpleNamespace(request_id="chatcmpl-1", final_usage_info=None)
        if gate == "first":
            await forever(closed)
        return StreamReply([chunk("Hello")], source := rest(), source, Lease(None))

    async def rest() -> Any:
        await forever(closed)
        yield ""

    model_request = new_model_request()
    left = asyncio.Event()

    async def receive() -> Any:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        left.set()

    if gate == "first":
        left.set()
    delivery = delivery_of(work(), receive, Patience(), ERRORS, model_request, tokens=(7, 4))
    await delivery.wait(is_stream=True)
    outcome = await delivery.send(send)
    assert closed.is_set()
    assert outcome is Outcome.CLIENT_LEFT
    assert model_request.usage.tokens == (7, 4)


async def test_a_client_that_takes_nothing_loses_its_stream() -> None:
    closed = asyncio.Event()

    async def endless() -> Any:
        try:
            while True:
                yield chunk("Hello")
        finally:
            closed.set()

    async def work() -> StreamReply:
        return StreamReply([chunk("Hello")], source := endless(), source, Lease(None))

    async def never() -> Any:
        await asyncio.Event().wait()

    taken = 0

    async def send(message: Any) -> None:
        nonlocal taken
        taken += 1
        if taken > 5:
            await never()

    delivery = delivery_of(work(), never, Patience(stall=SOON), ERRORS, new_model_request())
    await delivery.wait(is_stream=True)
    outcome = await delivery.send(send)
    assert outcome is Outcome.STALLED and closed.is_set()
    assert taken == 6, "nothing more was made for it"


async def test_a_full_queue_and_a_key_beyond_its_limits_are_told_when_to_come_back(
    app_with: Callable[..., Services], scripted: Scripted
) -> None:
    services = app_with(max_waiting=0, key_requests_per_minute=1)
    async with client_of(services) as client:
        answered = await client.post("/v1/chat/completions", json=CHAT)
        refused = await client.post("/v1/chat/completions", json=CHAT)
        admission = services.pipeline.admission
        passes = [admission.enter(f"key {number}") for number in range(services.engine.max_num_seqs)]
        full = await client.post("/v1/chat/completions", json=CHAT)
    assert answered.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["type"] == "RateLimitError"
    assert len(passes) == admission.capacity
    assert (full.status_code, full.headers["retry-after"]) == (503, "5")
    text = services.pipeline.metrics.render(with_names=False).decode()
    for model, outcome in (("base", "ok"), ("unknown", "rate_limited"), ("unknown", "overloaded")):
        labels = f'model="{model}",outcome="{outcome}",route="/v1/chat/completions"'
        assert f"bread_requests_total{{{labels}}} 1.0" in text


async def test_a_request_is_one_line_in_the_log_without_its_prompt(
    app_with: Callable[..., Services], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.request_log")
    answer = await post(app_with(), CHAT | {"stream": True}, **{"X-Request-Id": "mine:1"})
    (line,) = lines(caplog)
    assert line.pop("duration_ms") >= line.pop("ttft_ms") >= 0
    assert line == {
        "id": "mine:1",
        "route": "/v1/chat/completions",
        "user": "admin",
        "key": "master",
        "model": "fake/base",
        "served": "fake/base",
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "outcome": "ok",
        "status": 200,
    }
    assert answer.headers["x-request-id"] == "mine:1"


async def test_prompts_are_logged_where_the_operator_asks(
    app_with: Callable[..., Services], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.request_log")
    await post(app_with(log_prompts="on"), CHAT)
    assert json.loads(lines(caplog)[0]["prompt"]) == {"messages": CHAT["messages"]}


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/models", 200), ("/v1/models/gone", 404), ("/nowhere", 404), ("/v1/completions", 405)]
)
async def test_every_answer_has_the_requests_id(client: Client, path: str, status: int) -> None:
    answer = await client.get(path, headers={"X-Request-Id": "abc-123"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (status, "abc-123")
    ours = {(await client.get(path)).headers["x-request-id"] for _ in range(2)}
    assert len(ours) == 2
    assert (await client.get(path, headers=holding("wrong"))).headers["x-request-id"]


@pytest.mark.parametrize("sent", ["", "two words", "x" * 129, 'quote"', "über"])
async def test_an_id_that_is_not_well_formed_is_replaced(
    sent: str, app_with: Callable[..., Services], scripted: Scripted
) -> None:
    async with client_of(app_with()) as client:
        headers = [(b"x-request-id", sent.encode())]
        answer = await client.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert len(answer.headers["x-request-id"]) == 32
    assert scripted.headers["x-request-id"] == answer.headers["x-request-id"], "the engine knows it by the same id"


ERRORS = ErrorFormat(
    lambda error: Reply(500, str(error).encode()), lambda body: b"data: " + body + b"\n\ndata: [DONE]\n\n"
)


def new_model_request() -> ModelRequest:
    return ModelRequest("id", "/route", Caller("admin", is_master=True))


def delivery_of(
    work: Coroutine[Any, Any, Reply | StreamReply],
    receive: Any,
    patience: Patience,
    errors: ErrorFormat,
    model_request: ModelRequest,
    tokens: tuple[int, int] | None = None,
) -> Delivery:
    return Delivery(
        asyncio.ensure_future(work),
        asyncio.create_task(disconnected(receive)),
        model_request,
        patience,
        errors,
        headers=dict,
        tokens_so_far=lambda _: tokens,
    )


async def forever(closed: asyncio.Event) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        closed.set()


def answering(work: Callable[[], Coroutine[Any, Any, Any]], errors: ErrorFormat, patience: Patience) -> Any:
    """An application that answers everything so."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await send({"type": "lifespan.startup.complete"} if (await receive())["type"] else {})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        while (await receive()).get("more_body"):
            pass
        delivery = delivery_of(work(), receive, patience, errors, new_model_request())
        await delivery.wait(is_stream=True)
        await delivery.send(send)

    return app
