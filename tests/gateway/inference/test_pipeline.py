"""The path of a model request through the application, with scripted handlers."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from litestar import Request

from baker.errors import EngineError
from baker.types import Checkpoint
from gateway.access.auth import Caller
from gateway.engine.requests import kinds
from gateway.errors import EngineRefusedError, UnusableModelError
from gateway.services import Services
from tests.gateway.application import client_of
from tests.gateway.inference.scripted import CHAT, Scripted, post

pytestmark = pytest.mark.anyio

ROUTE = "/v1/chat/completions"


def counted(services: Services) -> set[str]:
    """`model outcome` of the requests that the metrics count."""
    text = services.pipeline.metrics.render(with_names=False).decode()
    labels = [
        line.split("{")[1].split("}")[0] for line in text.splitlines() if line.startswith("bread_requests_total{")
    ]
    values = [dict(pair.split("=") for pair in each.replace('"', "").split(",")) for each in labels]
    return {f"{value['model']} {value['outcome']}" for value in values}


async def test_a_full_queue_and_a_key_over_its_limits_get_the_time_to_retry(
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


@pytest.mark.parametrize(
    ("body", "status", "label"),
    [
        (b"{", 400, "unknown refused"),
        (b"[]", 400, "unknown refused"),
        (b'{"messages": []}', 400, "unknown refused"),
        (b'{"model": "no/such"}', 404, "unknown refused"),
        (b" " * (1 << 20) + b"{}", 413, "unknown refused"),
    ],
    ids=["broken", "list", "no model", "unknown model", "too large"],
)
async def test_a_wrong_body_is_refused_and_counted_before_the_engine_sees_it(
    app_with: Callable[..., Services], scripted: Scripted, body: bytes, status: int, label: str
) -> None:
    services = app_with(key_requests_per_minute=9)
    async with client_of(services) as client:
        answer = await client.post(ROUTE, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    assert answer.headers["x-ratelimit-remaining-requests"] == "8", "a refused request counts against the key"
    assert counted(services) == {label}
    assert (scripted.models, services.pipeline.admission.in_flight) == ([], 0)


@pytest.mark.parametrize(
    ("error", "status", "label"),
    [
        (EngineRefusedError(404, "n", "why"), 404, "base refused"),
        (UnusableModelError("why"), 422, "base refused"),
        (EngineError("why"), 503, "base failed"),
        (RuntimeError("a bug"), 500, "base failed"),
    ],
)
async def test_an_error_of_the_handlers_becomes_the_familys_answer(
    app_with: Callable[..., Services], scripted: Scripted, error: Exception, status: int, label: str
) -> None:
    scripted.error = error
    services = app_with()
    async with client_of(services) as client:
        answers = [await client.post(path, json=CHAT) for path in (ROUTE, "/v1/messages")]
    assert [answer.status_code for answer in answers] == [status, status]
    openai, anthropic = (answer.json() for answer in answers)
    assert set(openai["error"]) == {"message", "type", "param", "code"}
    assert (anthropic["type"], set(anthropic["error"])) == ("error", {"type", "message"})
    assert counted(services) == {label}


async def test_only_requests_that_run_the_model_use_its_adapter(
    app_with: Callable[..., Services], scripted: Scripted
) -> None:
    services = app_with()
    registered: list[str] = []
    engine: Any = services.engine
    engine.register = lambda name, path: registered.append(name)
    services.registry.publish(Checkpoint("admin", "repo", "bake", 3, services.home, "0" * 64, 0, 1))
    async with client_of(services) as client:
        for path in (ROUTE, "/v1/messages/count_tokens", "/tokenize"):
            answer = await client.post(path, json={**CHAT, "model": "repo/bake"})
            assert answer.status_code == 200, answer.text
    assert scripted.models == ["admin/repo/bake/3", "fake/base", "fake/base"]
    assert registered == ["admin/repo/bake/3"]
    assert counted(services) == {"adapter ok"}


@pytest.mark.parametrize("is_streaming", [False, True], ids=["before the answer", "within a stream"])
async def test_a_cancelled_request_ends_its_work_and_frees_its_place(
    app_with: Callable[..., Services], scripted: Scripted, is_streaming: bool
) -> None:
    """The server cancels requests at its shutdown."""
    services = app_with()
    (scripted.rest if is_streaming else scripted.first).clear()
    messages: list[Any] = [{"type": "http.request", "body": msgspec.json.encode({**CHAT, "stream": is_streaming})}]
    has_begun = asyncio.Event()

    async def receive() -> Any:
        if messages:
            return messages.pop()
        if not is_streaming:
            has_begun.set()
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        has_begun.set()

    task = asyncio.create_task(chat(services, receive, send))
    await has_begun.wait()
    assert (services.pipeline.admission.in_flight, scripted.running) == (1, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (services.pipeline.admission.in_flight, scripted.running) == (0, 0)
    assert counted(services) == {"base failed" if is_streaming else "base client_left"}


async def test_a_client_that_does_not_read_its_refusal_holds_no_place(app_with: Callable[..., Services]) -> None:
    services = app_with()
    is_sending = asyncio.Event()

    async def receive() -> Any:
        return {"type": "http.request", "body": b'{"model": "no/such"}'}

    async def send(message: Any) -> None:
        is_sending.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(chat(services, receive, send))
    await is_sending.wait()
    assert services.pipeline.admission.in_flight == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert services.pipeline.admission.in_flight == 0, "it left once"
    assert counted(services) == {"unknown refused"}


@pytest.mark.parametrize("model", [{}, {"model": None}], ids=["absent", "null"])
async def test_only_tokens_need_no_model(
    app_with: Callable[..., Services], scripted: Scripted, model: dict[str, None]
) -> None:
    """The base model's tokenizer is that of all models."""
    bodies: dict[str, Any] = {"/tokenize": {"prompt": "Hi"}, "/v1/tokenize": CHAT, "/detokenize": {"tokens": [1]}}
    async with client_of(app_with()) as client:
        for path, body in bodies.items():
            unnamed = {name: value for name, value in body.items() if name != "model"}
            assert (await client.post(path, json={**unnamed, **model})).status_code == 200
            assert (await client.post(path, json={**body, "model": "no/such"})).status_code == 404
            assert (await client.post(path, json={**body, "model": ""})).status_code == 400
        for path in ("/v1/chat/completions", "/v1/messages/count_tokens"):
            assert (await client.post(path, json={"messages": CHAT["messages"], **model})).status_code == 400
    assert scripted.models == ["fake/base"] * 3


async def chat(services: Services, receive: Any, send: Any) -> None:
    """A chat request to the pipeline without a server: `receive` and `send` are the test's."""
    scope: Any = {"type": "http", "method": "POST", "path": ROUTE, "path_template": ROUTE, "headers": [], "state": {}}
    scope["route_handler"] = SimpleNamespace(resolve_request_max_body_size=lambda: None)
    caller = Caller("admin", is_master=True)
    answer: Any = services.pipeline.answer(Request(scope, receive), caller, kinds.CHAT)
    await answer(scope, receive, send)


async def test_openais_clients_read_how_long_it_took(app_with: Callable[..., Services], scripted: Scripted) -> None:
    name = "openai-processing-ms"
    for body in (CHAT, CHAT | {"stream": True}, CHAT | {"model": "none"}):
        assert 0 <= int((await post(app_with(), body)).headers[name]) < 60_000
    async with client_of(app_with()) as client:
        assert name not in (await client.post("/v1/messages", json=CHAT | {"max_tokens": 1})).headers
