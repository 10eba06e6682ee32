"""Accepted keys, and how the master key acts for a user: by `user_id`, by X-User-Id, or by the name of a repo."""

import pytest

from baker.types import Checkpoint
from gateway.services import Services
from tests.gateway.application import Client, add_user, holding

pytestmark = pytest.mark.anyio

QUESTIONS = {"type": "hardcoded", "questions": ["One?"]}
TARGET = {"template": "default", "overrides": {"u": "", "v": "", "generators": [QUESTIONS]}}


async def make_repo(client: Client, user: str, name: str = "repo") -> None:
    headers = {"X-User-Id": user}
    await client.post("/v1/repo", json={"repo_name": name}, headers=headers)
    created = await client.put(f"/v1/repo/{name}/targets/{user}s", json=TARGET, headers=headers)
    assert created.status_code == 200, created.text


async def targets(client: Client, query: str = "", **headers: str) -> list[str]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await client.get(f"/v1/repo/repo/targets{query}", headers=named)
    assert answer.status_code == 200, answer.text
    names: list[str] = answer.json()["targets"]
    return names


async def test_the_master_key_acts_for_the_named_user_or_else_for_admin(client: Client) -> None:
    for name in ("alice", "bob"):
        await add_user(client, name)
    for name in ("admin", "alice", "bob"):
        await make_repo(client, name)
    for name in ("admin", "alice", "bob"):
        assert await targets(client, f"?user_id={name}") == [f"{name}s"]
        assert await targets(client, x_user_id=name) == [f"{name}s"]
        assert await targets(client, f"?user_id={name}", x_user_id=name) == [f"{name}s"]
    assert await targets(client) == ["admins"]


@pytest.mark.parametrize("path", ["/v1/repo", "/v1/repo/repo/targets", "/v1/models", "/v1/models/fake/base"])
async def test_which_users_may_be_named(client: Client, path: str) -> None:
    key = await add_user(client, "alice")
    await add_user(client, "bob")
    await make_repo(client, "alice")
    both = await client.get(f"{path}?user_id=alice", headers={"X-User-Id": "bob"})
    twice = await client.get(f"{path}?user_id=alice&user_id=bob")
    assert (both.status_code, twice.status_code) == (400, 400)
    unknown = await client.get(f"{path}?user_id=carol")
    assert (unknown.status_code, "'carol'" in unknown.text) == (404, True)
    own = await client.get(f"{path}?user_id=alice", headers=holding(key))
    assert own.status_code == 200
    for other in ("bob", "carol", "admin"):
        refused = await client.get(path, headers={**holding(key), "X-User-Id": other})
        assert refused.status_code == 403, "the answer does not reveal whether the user exists"


async def test_chat_and_models_are_those_of_the_named_user(client: Client, services: Services) -> None:
    await add_user(client, "alice")
    services.registry.publish(Checkpoint("alice", "repo", "bake", 3, services.home, "0" * 64, 0, 1))
    for named, expected in (("?user_id=alice", ["fake/base", "repo/bake", "alice/repo/bake/3"]), ("", ["fake/base"])):
        models = (await client.get(f"/v1/models{named}")).json()["data"]
        assert [model["id"] for model in models] == expected
    assert (await client.get("/v1/models/repo/bake?user_id=alice")).json()["served"] == "alice/repo/bake/3"
    assert (await client.get("/v1/models/repo/bake")).status_code == 404
    assert (await client.get("/v1/models/alice/repo/bake/3")).json()["owned_by"] == "alice"
    for route in ("chat/completions", "completions"):
        unknown = await client.post(f"/v1/{route}?user_id=carol", json={"model": "repo/bake"})
        assert (unknown.status_code, unknown.json()["error"]["type"]) == (404, "NotFoundError")


async def test_a_poll_loop_without_a_user_finds_the_repo_it_started_with(client: Client) -> None:
    for name in ("alice", "bob"):
        await add_user(client, name)
    await make_repo(client, "alice")
    stim = "/v1/repo/repo/targets/alices/stim"
    started = await client.post(f"{stim}?user_id=alice")
    polled = await client.get(stim)
    assert polled.status_code == 200
    assert polled.json()["job_id"] == started.json()["job_id"]
    written = await client.put("/v1/repo/repo/prompts/hello", json={"messages": []})
    assert written.status_code == 200
    assert (await client.get("/v1/repo/repo/prompts?user_id=alice")).json()["prompts"] == ["hello"]
    await make_repo(client, "bob")
    assert (await client.get(stim)).status_code == 404, "with two such repos there is no guess"
    await make_repo(client, "admin")
    assert await targets(client) == ["admins"], "admin's own repo takes precedence"


async def test_other_keys_find_no_repos_of_other_users(client: Client) -> None:
    keys = {name: await add_user(client, name) for name in ("alice", "bob")}
    await make_repo(client, "alice")
    await make_repo(client, "admin", "admins_repo")
    for path in ("/v1/repo/repo", "/v1/repo/admins_repo"):
        assert (await client.get(path, headers=holding(keys["bob"]))).status_code == 404
    assert (await client.get("/v1/repo/repo?user_id=admin")).status_code == 404, "a named user takes precedence"
    assert (await client.get("/v1/repo")).json()["repos"] == ["admins_repo"]


async def test_a_new_repo_belongs_to_admin_even_if_another_user_has_one_of_that_name(client: Client) -> None:
    await add_user(client, "alice")
    await make_repo(client, "alice")
    created = await client.post("/v1/repo", json={"repo_name": "repo"})
    assert created.status_code == 201
    assert await targets(client) == []


@pytest.mark.parametrize("path", ["/v1/repo", "/v1/repo/x/prompts", "/v1/repo/x/bakes/y", "/v1/models"])
@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic abc"])
async def test_a_missing_or_unknown_key_is_401_in_the_familys_shape(client: Client, path: str, header: str) -> None:
    answer = await client.get(path, headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    error = answer.json()["error"]
    assert isinstance(error, dict if path == "/v1/models" else str)


async def test_an_encoded_body_is_refused_with_the_reason(client: Client) -> None:
    for path in ("/v1/repo", "/v1/chat/completions"):
        refused = await client.post(path, content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
        assert refused.status_code == 400
        assert "Content-Encoding 'gzip'" in refused.text
