"""How answers reach clients: comments, time limits, late errors, and clients that leave or stop reading."""

import asyncio
import json
import logging
import os
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import anthropic
import openai
import pytest

from baker.errors import EngineError
from gateway.app import build_app
from gateway.engine import Reply, StreamReply
from gateway.engine.adapters.slots import Lease
from gateway.http.asgi import disconnected
from gateway.inference.delivery import Delivery, ErrorFormat, Patience
from gateway.inference.model_request import ModelRequest, Outcome
from gateway.services import Services
from tests.asgi_server import served
from tests.gateway.application import KEY
from tests.gateway.inference.scripted import CHAT, WORDS, Scripted, chunk, logged_fields, new_model_request, post

pytestmark = pytest.mark.anyio

SOON = 0.01


@contextmanager
def openai_client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_a_stream_without_a_result_yet_is_kept_open(app_with: Callable[..., Services], scripted: Scripted) -> None:
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


async def test_an_early_error_keeps_its_own_status(app_with: Callable[..., Services], scripted: Scripted) -> None:
    scripted.error = EngineError("asleep")
    answer = await post(app_with(stream_keep_alive_seconds=60.0), CHAT | {"stream": True})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["message"] == "asleep"


def test_a_late_error_is_an_event_that_the_client_raises(app_with: Callable[..., Services], scripted: Scripted) -> None:
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
            await asyncio.sleep(5 * SOON)  # long enough for comments; without any, the test would prove less
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


def late(scripted: Scripted, error: Exception | None = None) -> None:
    """Let the next answer of the application come after some keep-alives."""
    scripted.first.clear()
    scripted.error = error

    def answer() -> None:
        while not scripted.running:
            time.sleep(SOON)
        time.sleep(10 * SOON)
        scripted.first.set()

    threading.Thread(target=answer, daemon=True).start()


def in_node(url: str) -> str:
    """What node's own fetch reads as the answer to a chat request, or the error that it raises."""
    if (node := shutil.which("node")) is None:
        assert "CI" not in os.environ, "CI needs node"
        pytest.skip("node is not installed: late answers are tested with Python's clients only")
    options = json.dumps({"method": "POST", "headers": {"Authorization": f"Bearer {KEY}"}, "body": json.dumps(CHAT)})
    script = f"""
        fetch("{url}/v1/chat/completions", {options}).then((answer) => answer.json())
            .then((body) => console.log(JSON.stringify(body)), (error) => console.log(String(error)))"""
    return subprocess.run([node, "-e", script], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_a_late_answer_in_one_piece_is_kept_open_by_spaces(
    app_with: Callable[..., Services], scripted: Scripted
) -> None:
    with served(build_app(app_with(answer_keep_alive_seconds=SOON))) as url, openai_client(url) as client:
        scripted.first.clear()
        with client.chat.completions.with_streaming_response.create(**CHAT) as raw:  # type: ignore[call-overload]
            assert (raw.status_code, raw.headers["content-type"]) == (200, "application/json")
            assert "content-length" not in raw.headers
            body, pieces = b"", raw.iter_bytes()
            while len(body) < 2:
                body += next(pieces)
            scripted.first.set()
            body += b"".join(pieces)
        assert body.startswith(b"  ") and json.loads(body) == {"choices": []}
        late(scripted)
        assert client.chat.completions.create(**CHAT).choices == []  # type: ignore[call-overload]
        late(scripted)
        with anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as other:
            assert other.messages.create(**CHAT, max_tokens=9).model_extra == {"choices": []}  # type: ignore[call-overload]
        late(scripted)
        assert in_node(url) == '{"choices":[]}'


def test_a_late_answer_that_fails_is_never_read_as_a_result(
    app_with: Callable[..., Services], scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with served(build_app(app_with(answer_keep_alive_seconds=SOON))) as url, openai_client(url) as client:
        late(scripted, EngineError("asleep"))
        with pytest.raises(openai.APIConnectionError):
            client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
        late(scripted, EngineError("asleep"))
        with (
            anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as other,
            pytest.raises(anthropic.APIConnectionError),
        ):
            other.messages.create(**CHAT, max_tokens=9)  # type: ignore[call-overload]
        late(scripted, EngineError("asleep"))
        assert in_node(url) == "TypeError: terminated"
    assert [(fields["outcome"], fields["status"]) for fields in logged_fields(caplog)] == [("failed", 503)] * 3
    assert caplog.text.count("asleep") >= 3, "the log has what no client could be told"


def test_a_late_answer_that_takes_too_long_breaks_off_too(
    app_with: Callable[..., Services], scripted: Scripted, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    scripted.first.clear()
    services = app_with(answer_keep_alive_seconds=SOON, request_timeout_seconds=20 * SOON)
    with (
        served(build_app(services)) as url,
        openai_client(url) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
    assert [(fields["outcome"], fields["status"]) for fields in logged_fields(caplog)] == [("timeout", 504)]
    assert (scripted.running, services.pipeline.admission.in_flight) == (0, 0)


@pytest.mark.parametrize("seconds", [0.0, 60.0])
async def test_an_answer_in_one_piece_keeps_its_status_and_length_until_then(
    app_with: Callable[..., Services], scripted: Scripted, seconds: float
) -> None:
    late(scripted)
    answer = await post(app_with(answer_keep_alive_seconds=seconds), CHAT)
    assert (answer.status_code, answer.headers["content-length"]) == (200, str(len(answer.content)))
    late(scripted, EngineError("asleep"))
    assert (await post(app_with(answer_keep_alive_seconds=seconds), CHAT)).status_code == 503


@pytest.mark.parametrize("stream", [1, "true"])
async def test_a_stream_by_another_spelling_gets_no_spaces(
    app_with: Callable[..., Services], scripted: Scripted, stream: Any
) -> None:
    late(scripted)
    answer = await post(app_with(answer_keep_alive_seconds=SOON), CHAT | {"stream": stream})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith("data: {") and answer.text.endswith("data: [DONE]\n\n")


async def test_an_answer_that_takes_too_long_is_504_and_its_work_ends(
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
    gate: str,
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


async def test_a_client_that_stops_reading_loses_its_stream() -> None:
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
    assert taken == 6, "nothing more was sent to it"


async def test_a_client_that_does_not_read_the_first_comment_ends_the_work() -> None:
    closed = asyncio.Event()

    async def work() -> Reply:
        await forever(closed)
        raise AssertionError

    async def never(message: Any = None) -> Any:
        await asyncio.Event().wait()

    delivery = delivery_of(work(), never, Patience(keep_alive=SOON, stall=SOON), ERRORS, new_model_request())
    await delivery.wait(is_stream=True)
    assert await delivery.send(never) is Outcome.STALLED
    assert closed.is_set()


async def test_an_answer_that_can_t_be_sent_keeps_its_outcome() -> None:
    async def work() -> Reply:
        return Reply(400, b"{}")

    async def never() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        raise OSError

    delivery = delivery_of(work(), never, Patience(), ERRORS, model_request := new_model_request())
    await delivery.wait(is_stream=False)
    with pytest.raises(OSError):
        await delivery.send(send)
    assert (delivery.outcome, model_request.status) == (Outcome.REFUSED, 400)


ERRORS = ErrorFormat(
    lambda error: Reply(500, str(error).encode()), lambda body: b"data: " + body + b"\n\ndata: [DONE]\n\n"
)


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
    """An application that answers every request with the result of `work`."""

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
