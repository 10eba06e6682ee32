"""Which web pages may read answers. In a real browser: tests/clients/test_browser.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from baker.errors import ConfigError, EngineError
from gateway.app import build_app
from gateway.http.cors import EXPOSED, config
from tests.gateway.application import Client, client_of, holding, services_in
from tests.gateway.inference.scripted import CHAT, Scripted

pytestmark = pytest.mark.anyio

PAGE, OTHER_PAGE, STRANGER = "http://page.test", "app://notes.md", "http://page.test.evil.example"
ALLOWED = f"{PAGE}, {OTHER_PAGE}"
ALLOW_ORIGIN = "access-control-allow-origin"


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def client(tmp_path: Path, scripted: Scripted) -> Client:
    return client_of(services_in(tmp_path, handlers=scripted, allowed_origins=ALLOWED))


def preflight(origin: str, method: str = "POST", **headers: str) -> dict[str, str]:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Authorization": ""}
    return {**asked, "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os", **headers}


Send = Callable[[Client, dict[str, str]], Any]
ANSWERS: dict[str, tuple[int, Send]] = {
    "models": (200, lambda client, headers: client.get("/v1/models", headers=headers)),
    "chat": (200, lambda client, headers: client.post("/v1/chat/completions", json=CHAT, headers=headers)),
    "stream": (
        200,
        lambda client, headers: client.post("/v1/chat/completions", json=CHAT | {"stream": True}, headers=headers),
    ),
    "repos": (200, lambda client, headers: client.get("/v1/repo", headers=headers)),
    "front page": (200, lambda client, headers: client.get("/", headers=headers)),
    "public": (200, lambda client, headers: client.get("/health", headers=headers)),
    "document": (200, lambda client, headers: client.get("/schema/openapi.json", headers=headers)),
    "wrong key": (401, lambda client, headers: client.get("/v1/models", headers={**headers, **holding("wrong")})),
    "unknown model": (404, lambda client, headers: client.get("/v1/models/none", headers=headers)),
    "unknown path": (404, lambda client, headers: client.get("/nowhere", headers=headers)),
    "wrong method": (405, lambda client, headers: client.get("/v1/chat/completions", headers=headers)),
    "too large": (413, lambda client, headers: client.put("/v1/repo", content=b" " * (1 << 21), headers=headers)),
    "invalid": (422, lambda client, headers: client.put("/v1/repo", json={}, headers=headers)),
}
"""Name -> status, and a request that is answered with it."""


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_allowed_page_may_read_every_answer_and_its_headers(client: Client, name: str) -> None:
    status, send = ANSWERS[name]
    async with client:
        for origin in (PAGE, OTHER_PAGE):
            answer: httpx.Response = await send(client, {"Origin": origin})
            assert (answer.status_code, answer.headers[ALLOW_ORIGIN]) == (status, origin)
            assert answer.headers["vary"] == "Origin"
            assert answer.headers["access-control-expose-headers"].split(", ") == EXPOSED
            assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("name", ANSWERS)
async def test_no_other_page_may_and_caches_keep_the_answers_apart(client: Client, name: str) -> None:
    status, send = ANSWERS[name]
    async with client:
        for headers in ({"Origin": STRANGER}, {"Origin": "null"}, {"Origin": PAGE.upper()}, {}):
            answer: httpx.Response = await send(client, headers)
            assert (answer.status_code, answer.headers.get(ALLOW_ORIGIN)) == (status, None)
            assert answer.headers["vary"] == "Origin"


async def test_errors_of_model_requests_can_be_read_too(client: Client, scripted: Scripted) -> None:
    scripted.error = EngineError("asleep")
    async with client:
        for stream in (False, True):
            body = CHAT | {"stream": stream}
            answer = await client.post("/v1/chat/completions", json=body, headers={"Origin": PAGE})
            assert (answer.status_code, answer.headers[ALLOW_ORIGIN]) == (503, PAGE)
            assert "retry-after" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions", "/v1/repo/x/bakes/y", "/v1/nowhere", "/health"])
async def test_a_preflight_needs_no_key(client: Client, path: str) -> None:
    async with client:
        allowed = await client.options(path, headers=preflight(PAGE, "DELETE"))
        assert (allowed.status_code, allowed.headers[ALLOW_ORIGIN]) == (204, PAGE)
        assert {"GET", "POST", "PUT", "DELETE"} <= set(allowed.headers["access-control-allow-methods"].split(", "))
        assert {"authorization", "content-type", "x-stainless-os"} <= {
            name.lower() for name in allowed.headers["access-control-allow-headers"].split(", ")
        }
        assert allowed.headers["vary"] == "Origin"
        assert allowed.headers["x-request-id"]
        refused = await client.options(path, headers=preflight(STRANGER))
        assert (refused.status_code, refused.headers.get(ALLOW_ORIGIN)) == (400, None)


async def test_an_allowed_page_may_reach_a_private_network(client: Client) -> None:
    asked, granted = "Access-Control-Request-Private-Network", "access-control-allow-private-network"
    async with client:
        answers = [
            await client.options("/v1/models", headers=headers)
            for headers in (preflight(PAGE, **{asked: "true"}), preflight(PAGE), preflight(STRANGER, **{asked: "true"}))
        ]
    assert [answer.headers.get(granted) for answer in answers] == ["true", None, None]


async def test_a_star_allows_every_page(tmp_path: Path) -> None:
    async with client_of(services_in(tmp_path, allowed_origins="*")) as client:
        for origin in (PAGE, STRANGER):
            answer = await client.get("/v1/models", headers={"Origin": origin})
            allowed = await client.options("/v1/models", headers=preflight(origin))
            assert answer.headers[ALLOW_ORIGIN] == allowed.headers[ALLOW_ORIGIN] == "*"


async def test_by_default_no_page_may(tmp_path: Path) -> None:
    async with client_of(services_in(tmp_path)) as client:
        answer = await client.get("/v1/models", headers={"Origin": PAGE})
        asked = await client.options("/v1/models", headers=preflight(PAGE))
    assert (answer.status_code, asked.status_code) == (200, 204)
    for headers in (answer.headers, asked.headers):
        assert not [name for name in headers if name.startswith("access-control-")]
        assert "vary" not in headers
    assert "GET" in asked.headers["allow"]


@pytest.mark.parametrize(
    "text",
    [
        "page.test",
        "http://page.test/",
        "http://page.test/chat",
        "http://page.test?x",
        "http://Page.test",
        "http://*.test",
        "http://page.test:80",
        "https://page.test:443",
        "http://page.test:x",
        "http://page.test:",
        "http://me@page.test",
        "http://page test",
        "http://",
        "//page.test",
        "null",
        "http://[",
    ],
)
def test_what_no_browser_sends_is_refused_at_the_start(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="BREAD_ALLOWED_ORIGINS") as raised:
        config(f"http://fine.test,{text}")
    assert repr(text) in raised.value.message and "fine.test" not in raised.value.message.split(" is not ")[0]
    with pytest.raises(ConfigError):
        build_app(services_in(tmp_path, allowed_origins=text))


@pytest.mark.parametrize(
    "text", ["http://localhost:5173", "https://page.test:8443", "http://[::1]:3000", "chrome-extension://abc", "*"]
)
def test_origins_of_every_scheme_are_accepted(text: str) -> None:
    cors = config(f" {text} ,")
    assert cors is not None and cors.allow_origins == [text]
