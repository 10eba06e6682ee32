"""`GET /` for browsers and for other clients, with a fake engine."""

import re
from typing import Any

import pytest

import gateway
from gateway.services import Services
from tests.gateway.application import KEY, Client, add_user, client_of, holding, services_in
from tests.service import ROOT

pytestmark = pytest.mark.anyio

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/plain", "application/json, text/html;q=0.5"])
async def test_clients_get_json_and_only_a_key_shows_the_number_of_models(client: Client, accept: str) -> None:
    del client.headers["Authorization"]
    plain = await client.get("/", headers={"Accept": accept})
    assert (plain.status_code, plain.headers["content-type"]) == (200, "application/json")
    expected = {"name": "Bread Gateway", "version": gateway.__version__, "status": "ready"}
    assert expected.items() <= plain.json().items() and "models" not in plain.json()
    for field in ("openapi", "docs", "health"):
        assert (await client.get(plain.json()[field])).status_code == 200
    listed = (await client.get("/v1/models", headers=holding(KEY))).json()["data"]
    assert (await client.get("/", headers={"Accept": accept, **holding(KEY)})).json()["models"] == len(listed)
    assert (await client.get("/", headers=holding("wrong"))).status_code == 401


async def test_browsers_get_a_page_that_loads_nothing(client: Client) -> None:
    del client.headers["Authorization"]
    answer = await client.get("/", headers={"Accept": CHROME})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
    assert "<script" not in answer.text and "refresh" not in answer.text and "models." not in answer.text
    assert "fake/base" not in answer.text, "the model's name needs a key"
    for text in ("Ready", "http://gateway.local/v1/models", "chat_with_model.py", 'href="/schema"', "README.md"):
        assert text in answer.text
    scripts = re.findall(r"python3 (\S+\.py)", answer.text)
    assert len(scripts) == 2 and all((ROOT / script).is_file() for script in scripts)
    alice = holding(await add_user_as_master(client))
    assert "Your key can use 1 model." in (await client.get("/", headers={"Accept": CHROME, **alice})).text


async def add_user_as_master(client: Client) -> str:
    client.headers.update(holding(KEY))
    key = await add_user(client, "alice")
    del client.headers["Authorization"]
    return key


@pytest.mark.parametrize("accept", [CHROME, "*/*"])
async def test_head_has_the_headers_of_get_and_no_body(client: Client, accept: str) -> None:
    get, head = [await client.request(method, "/", headers={"Accept": accept}) for method in ("GET", "HEAD")]
    changing = {"x-request-id", "request-id"}
    assert head.content == b"" and head.status_code == 200
    assert {k: v for k, v in get.headers.items() if k not in changing} == {
        k: v for k, v in head.headers.items() if k not in changing
    }


async def test_a_service_that_is_not_ready_says_why_and_the_page_asks_again(
    client: Client, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor: Any = services.supervisor
    monkeypatch.setattr(type(supervisor), "trouble", property(lambda _: "the engine is <starting>"))
    answer = (await client.get("/")).json()
    assert (answer["status"], answer["detail"]) == ("not_ready", "the engine is <starting>")
    page = await client.get("/", headers={"Accept": CHROME})
    assert page.status_code == 200 and "Not ready: the engine is &lt;starting&gt;" in page.text
    assert '<meta http-equiv="refresh" content="5">' in page.text


async def test_the_address_of_the_examples_is_escaped_and_quoted(tmp_path: Any) -> None:
    async with client_of(services_in(tmp_path, base_url="http://proxy/<b>;x/")) as client:
        page = (await client.get("/", headers={"Accept": CHROME})).text
    assert "curl 'http://proxy/&lt;b&gt;;x'/v1/models" in page and "<b>" not in page
