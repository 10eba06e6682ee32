"""The list of models and single models, in both shapes, with a fake engine."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import pytest

from baker.types import Checkpoint
from chat_with_model import Chat, ChatClient, Conversation, Screen
from gateway.app import build_app
from gateway.services import Services
from tests.asgi_server import served
from tests.gateway.application import KEY, Client, holding, services_in

pytestmark = pytest.mark.anyio

VERSION = {"anthropic-version": "2023-06-01"}
LATEST = "admin/repo/bake/3"


def publish(services: Services, *steps: int) -> None:
    for step in steps:
        folder = services.home / str(step)
        services.registry.publish(Checkpoint("admin", "repo", "bake", step, folder, "0" * 64, 1234, 1))


async def test_models_are_listed_and_found(client: Client) -> None:
    models = (await client.get("/v1/models")).json()
    assert [model["id"] for model in models["data"]] == ["fake/base"]
    assert (await client.get("/v1/models/fake/base")).json()["id"] == "fake/base"
    missing = await client.get("/v1/models/repo/bake")
    assert missing.status_code == 404
    assert "fake/base" in missing.json()["error"]["message"]


async def test_a_bakes_models_name_the_base_model_as_their_parent(client: Client, services: Services) -> None:
    publish(services, 3)
    base, pointer, version = (await client.get("/v1/models")).json()["data"]
    assert (base["root"], base["parent"], base["owned_by"], base["served"]) == ("fake/base", None, "bread", "fake/base")
    assert [model["id"] for model in (pointer, version)] == ["repo/bake", LATEST]
    assert pointer["served"] == version["served"] == LATEST
    for model in (pointer, version, (await client.get("/v1/models/repo/bake@1")).json()):
        assert (model["root"], model["parent"]) == ("fake/base", "fake/base")
        assert (model["owned_by"], model["created"]) == ("admin", 1234)


async def test_a_model_that_was_trained_on_another_bake_names_that_as_its_parent(
    client: Client, services: Services
) -> None:
    child = Checkpoint("admin", "repo", "child", 5, services.home, "0" * 64, 1234, 2, parent=LATEST)
    services.registry.publish(child)
    assert (await client.get("/v1/models/repo/child")).json()["parent"] == LATEST


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("fake/base", "fake/base"),
        ("Qwen/Qwen3-32B", "fake/base"),
        ("repo/bake", LATEST),
        ("admin/repo/bake", LATEST),
        ("repo/bake/2", "admin/repo/bake/2"),
        ("admin/repo/bake/2", "admin/repo/bake/2"),
        ("repo/bake@0.5", f"{LATEST}@0.5"),
        ("repo/bake@1", LATEST),
        ("admin/repo/bake/2@1.50", "admin/repo/bake/2@1.5"),
    ],
)
async def test_a_models_id_is_the_name_that_was_asked_for(
    client: Client, services: Services, name: str, served: str
) -> None:
    publish(services, 2, 3)
    for path in (name, name.replace("/", "%2F").replace("@", "%40")):
        for headers in ({}, VERSION):
            model = (await client.get(f"/v1/models/{path}", headers=headers)).json()
            assert (model["id"], model["served"]) == (name, served)


async def test_a_very_long_name_is_not_sent_back(client: Client) -> None:
    for headers in ({}, VERSION):
        refused = await client.get(f"/v1/models/{'a' * 60_000}", headers=headers)
        assert refused.status_code == 404
        assert len(refused.content) < 1000


async def test_with_anthropics_version_models_have_anthropics_shape(client: Client, services: Services) -> None:
    publish(services, 3)
    page = (await client.get("/v1/models", headers=VERSION)).json()
    assert {name: page[name] for name in page if name != "data"} == {
        "has_more": False,
        "first_id": "fake/base",
        "last_id": LATEST,
    }
    model = page["data"][1]
    assert model == {
        "type": "model",
        "id": "repo/bake",
        "display_name": "repo/bake",
        "created_at": "1970-01-01T00:20:34Z",
        "lifecycle": "active",
        "max_input_tokens": 4096,
        "max_tokens": 4096,
        "served": LATEST,
    }
    assert (await client.get("/v1/models/repo/bake", headers=VERSION)).json() == model


STEPS = range(1, 8)


@pytest.mark.parametrize("limit", [1, 2, 3, 8, 9, 1000])
@pytest.mark.parametrize("cursor", ["after_id", "before_id"])
async def test_pages_join_to_the_whole_list(client: Client, services: Services, limit: int, cursor: str) -> None:
    publish(services, *STEPS)
    names = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
    assert len(names) == len(STEPS) + 2
    query: dict[str, Any] = {"limit": limit}
    seen = ["" if cursor == "after_id" else names[-1]]
    has_more = True
    while has_more:
        here = seen[-1] if cursor == "after_id" else seen[0]
        page = (await client.get("/v1/models", params=query | ({cursor: here} if here else {}), headers=VERSION)).json()
        ids = [model["id"] for model in page["data"]]
        assert (page["first_id"], page["last_id"]) == (ids[0], ids[-1]) and len(ids) <= limit
        seen = seen + ids if cursor == "after_id" else ids + seen
        has_more = page["has_more"]
    assert [name for name in seen if name] == names


async def test_an_empty_page_names_no_model(client: Client) -> None:
    for cursor in ("after_id", "before_id"):
        page = (await client.get(f"/v1/models?{cursor}=fake/base", headers=VERSION)).json()
        assert page == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "limit is '0'"),
        ("limit=1001", "limit is '1001'"),
        ("limit=many", "limit is 'many'"),
        ("limit=%C2%B2", "limit is"),
        ("after_id=none", "after_id is 'none'"),
        ("before_id=none", "before_id is 'none'"),
        ("after_id=fake/base&before_id=fake/base", "exclude each other"),
    ],
)
async def test_a_wrong_page_is_refused_in_anthropics_shape(client: Client, query: str, words: str) -> None:
    refused = await client.get(f"/v1/models?{query}", headers=VERSION)
    body = refused.json()
    assert (refused.status_code, body["type"], body["error"]["type"]) == (400, "error", "invalid_request_error")
    assert words in body["error"]["message"]
    assert (await client.get(f"/v1/models?{query}")).status_code == 200, "OpenAI's list has no pages"


async def test_other_errors_have_anthropics_shape_too(client: Client) -> None:
    missing = await client.get("/v1/models/none", headers=VERSION)
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    for path in ("/v1/models", "/v1/models/fake/base"):
        refused = await client.get(path, headers={**VERSION, **holding("wrong")})
        assert (refused.status_code, refused.json()["error"]["type"]) == (401, "authentication_error")


def test_the_chat_reads_which_version_answers(services: Services) -> None:
    publish(services, 2, 3)
    with served(build_app(services)) as url, closing(ChatClient(url, KEY)) as client:
        chat = Chat(Conversation(client, "repo/bake", ""), Screen(is_terminal=False, has_style=False))
        for name in ("repo/bake", "admin/repo/bake"):
            assert chat.check_model(name) == f"{name} (version 3)"
        assert chat.check_model("repo/bake/2") == "repo/bake/2"
        assert chat.check_model("Qwen/Qwen3-32B") == "Qwen/Qwen3-32B (answered by fake/base)"


def test_anthropics_client_reads_all_pages(tmp_path: Path) -> None:
    services = services_in(tmp_path)
    publish(services, *STEPS)
    with (
        served(build_app(services)) as url,
        anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0, _strict_response_validation=True) as client,
    ):
        expected = [model.name for model in services.registry.models("admin")]
        assert [model.id for model in client.models.list(limit=2)] == expected
        assert [model.id for model in client.models.list(limit=100, before_id=expected[-1])] == expected[:-1]
        model = client.models.retrieve("repo/bake")
        assert (model.id, model.created_at) == ("repo/bake", datetime.fromtimestamp(1234, UTC))
        with pytest.raises(anthropic.NotFoundError, match="does not exist"):
            client.models.retrieve("none")
