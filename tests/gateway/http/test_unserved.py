"""Answers to paths and methods that no route serves, through the application."""

from typing import Any

import openai
import pytest

from gateway.app import build_app
from gateway.http.unserved import MISSING, explain
from gateway.services import Services
from tests.asgi_server import served
from tests.gateway.application import KEY, Client

pytestmark = pytest.mark.anyio

VERSION = {"anthropic-version": "2023-06-01"}


def shape_of(body: Any) -> str:
    if body.get("type") == "error":
        return "anthropic"
    return "openai" if isinstance(body["error"], dict) else "bread"


def message_of(body: Any) -> str:
    text: str = body["message"] if shape_of(body) == "bread" else body["error"]["message"]
    return text


@pytest.mark.parametrize(
    ("method", "path", "status", "shape", "words"),
    [
        ("GET", "/v1/files", 404, "openai", "/download"),
        ("POST", "/v1/files/file-1/content", 404, "openai", "put their text into the messages"),
        ("POST", "/v1/batches", 404, "openai", "--max-waiting"),
        ("POST", "/v1/fine_tuning/jobs", 404, "openai", "bake a prompt"),
        ("GET", "/v1/vector_stores", 404, "openai", "on the client's side"),
        ("POST", "/v1/assistants", 404, "openai", "/v1/responses"),
        ("POST", "/v1/threads/thread_1/messages", 404, "openai", "the whole conversation"),
        ("POST", "/v1/images/generations", 404, "openai", "text only"),
        ("POST", "/v1/audio/speech", 404, "openai", "text only"),
        ("POST", "/v1/moderations", 404, "openai", "no moderation model"),
        ("POST", "/v1/conversations", 404, "openai", "the whole conversation"),
        ("POST", "/v1/rerank", 404, "openai", "text only"),
        ("POST", "/v1/responses/input_tokens", 404, "openai", "/v1/tokenize"),
        ("DELETE", "/v1/responses/resp_1", 404, "openai", "not stored"),
        ("GET", "/v1/responses/resp_1/input_items", 404, "openai", "not stored"),
        ("GET", "/v1/chat/completions/chatcmpl-1", 404, "openai", "not stored"),
        ("GET", "/v1/nowhere", 404, "openai", "GET /v1/nowhere"),
        ("GET", "/v1", 404, "openai", "GET /v1"),
        ("PATCH", "/v1/models", 405, "openai", "use GET"),
        ("DELETE", "/v1/models/repo/bake", 405, "openai", "DELETE /v1/repo/{repo}/bakes/{bake}"),
        ("GET", "/v1/chat/completions", 405, "openai", "use POST"),
        ("GET", "/tokenize", 405, "openai", "use POST"),
        ("POST", "/v1/messages/batches", 404, "anthropic", "--max-waiting"),
        ("GET", "/v1/messages", 405, "anthropic", "use POST"),
        ("POST", "/v1/complete", 404, "anthropic", "POST /v1/messages"),
        ("GET", "/v1/organizations/me", 404, "anthropic", "/v1/admin/users"),
        ("PATCH", "/v1/repo/x", 405, "bread", "use "),
        ("GET", "/v1/repo/x/nowhere", 404, "bread", "GET /v1/repo/x/nowhere"),
        ("GET", "/v1/repo/x/models", 404, "bread", "GET /v1/repo/x/models"),
        ("POST", "/v1/files/weights/a/b/c/1/f", 405, "bread", "use "),
        ("POST", "/v1/health", 405, "bread", "use GET"),
        ("GET", "/nowhere", 404, "bread", "GET /nowhere"),
        ("POST", "/api/chat", 404, "bread", "Ollama"),
    ],
)
async def test_what_clients_read(client: Client, method: str, path: str, status: int, shape: str, words: str) -> None:
    answer = await client.request(method, path)
    body = answer.json()
    assert (answer.status_code, shape_of(body)) == (status, shape)
    assert words in message_of(body)
    if shape == "openai":
        assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (status == 405) == ("allow" in answer.headers)
    if status == 405:
        allowed = [name for name in answer.headers["allow"].split(", ") if name not in ("OPTIONS", "HEAD")]
        assert allowed and all(name in message_of(body) for name in allowed)


@pytest.mark.parametrize("path", ["/v1/files", "/v1/nowhere", "/v1/models/x/y"])
async def test_clients_that_name_a_version_of_anthropics_api_read_its_shape(client: Client, path: str) -> None:
    answer = await client.put(path, headers=VERSION)
    assert answer.status_code in (404, 405) and shape_of(answer.json()) == "anthropic"
    assert shape_of((await client.patch("/v1/repo/x", headers=VERSION)).json()) == "bread"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/v1/models", "/v1/models?"),
        ("/v1/v1/models/repo/bake", "/v1/models/repo/bake?"),
        ("/v1/v1/chat/completions", "/v1/chat/completions?"),
        ("/chat/completions", "/v1/chat/completions?"),
        ("/models", "/v1/models?"),
        ("/api/v1/responses", "/v1/responses?"),
        ("/openai/v1/completions", "/v1/completions?"),
        ("/v1/chat/completions/chat/completions", "/v1/chat/completions?"),
        ("/v1/chat/completions/models", "/v1/models?"),
        ("/v1/chat/embeddings", "/v1/embeddings?"),
    ],
)
async def test_a_wrong_base_url_is_explained(client: Client, path: str, meant: str) -> None:
    error = (await client.post(path, json={})).json()["error"]
    assert error["message"].startswith(f"There is no route POST {path}. Did you mean {meant}")
    assert "ends with /v1" in error["message"]


@pytest.mark.parametrize("path", ["/v1/v1/messages", "/messages", "/v1/v1/messages/count_tokens"])
async def test_a_wrong_base_url_of_an_anthropic_client_too(client: Client, path: str) -> None:
    body = (await client.post(path, json={})).json()
    assert shape_of(body) == "anthropic" and "ends before /v1" in body["error"]["message"]


async def test_a_wrong_base_url_of_a_bread_client_too(client: Client) -> None:
    for path in ("/v1/v1/repo", "/repo", "/v1/v1/repo/x/prompts"):
        body = (await client.get(path)).json()
        assert "ends before /v1" in message_of(body), path


@pytest.mark.parametrize("path", ["/v1/models/", "/v1//models", "//v1/models", "/v1/repo/", "/v1//repo//", "//health/"])
async def test_needless_slashes_do_no_harm(client: Client, path: str) -> None:
    assert (await client.get(f"http://gateway.local{path}")).status_code == 200


async def test_a_long_path_is_not_sent_back(client: Client) -> None:
    for path in (f"/v1/{'a' * 60_000}", f"/v1/v1/models/{'a' * 60_000}", f"/v1/repo/{'a' * 60_000}/x"):
        assert len((await client.get(path)).content) < 1000


@pytest.mark.parametrize("path", MISSING)
def test_every_sentence_says_what_is_not_offered(path: str) -> None:
    for below in (path, f"{path}/x/y"):
        status, _, message = explain("POST", below, allowed=None, is_anthropic=False)
        assert (status, message) == (404, MISSING[path])
    assert " not offered" in message


def test_openais_client_shows_the_sentence(services: Services) -> None:
    with served(build_app(services)) as url, openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        for call in (client.files.list, client.batches.list, client.fine_tuning.jobs.list, client.vector_stores.list):
            with pytest.raises(openai.NotFoundError, match="not offered"):
                call()  # type: ignore[operator]
        with pytest.raises(openai.NotFoundError, match="not offered") as raised:
            client.images.generate(prompt="a cat")
        assert raised.value.type == "NotFoundError"
