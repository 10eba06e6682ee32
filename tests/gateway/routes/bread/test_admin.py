"""Users, keys and callbacks over HTTP: permissions, keys that are shown once, removals that take effect at once."""

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from baker.status import JobState
from gateway.services import Services
from tests.gateway.application import Client, add_user, finish_bake, holding, make_bake, new_user

pytestmark = pytest.mark.anyio

USERS = "/v1/admin/users"


async def test_a_user_is_added_with_a_key_that_is_shown_once(client: Client) -> None:
    body: dict[str, Any] = {**new_user("alice"), "team": "unknown fields are ignored", "credits": 5}
    created = await client.post(USERS, json=body)
    assert created.status_code == 200
    key = created.json().pop("api_key")
    shown = {"user_id": "alice", "user_alias": "Alice", "user_email": "alice@example.org"}
    assert created.json() == {**shown, "api_key": key}
    assert (await client.get("/v1/repo", headers=holding(key))).json() == {"repos": [], "items": []}
    again = await client.post(USERS, json=new_user("alice"))
    assert (again.status_code, again.json()) == (200, shown)
    assert (await client.get("/v1/repo", headers=holding(key))).status_code == 200


@pytest.mark.parametrize("field", ["user_alias", "user_email", "password"])
async def test_a_user_with_other_data_is_a_conflict(client: Client, field: str) -> None:
    await add_user(client, "alice")
    refused = await client.post(USERS, json=new_user("alice", **{field: "other@example.org"}))
    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
    assert "other@example.org" not in refused.text


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"user_id": "a/b"}, "'/'"),
        ({"user_id": "admin"}, "reserved"),
        ({"user_email": "alice"}, "user_email"),
        ({"user_email": None}, "user_email"),
        ({"password": ""}, "password"),
        ({"user_alias": 5}, "user_alias"),
    ],
)
async def test_a_user_of_the_wrong_form_is_refused(client: Client, change: dict[str, Any], word: str) -> None:
    refused = await client.post(USERS, json={**new_user("alice"), **change})
    assert (refused.status_code, refused.json()["code"]) == (422, "VALIDATION_ERROR")
    assert word in refused.json()["message"]
    assert "correct horse" not in refused.text
    assert (await client.get(USERS)).json() == {"users": []}


async def test_neither_password_nor_key_is_stored_or_logged(
    client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    key = await add_user(client, "alice")
    await client.post(USERS, json=new_user("alice", password="battery staple"))
    further = (await client.post(f"{USERS}/alice/keys")).json()["api_key"]
    with sqlite3.connect(tmp_path / "bread.db") as database:
        dump = "\n".join(database.iterdump())
    database.close()
    assert "alice@example.org" in dump
    listed = (await client.get(USERS)).text
    for secret in ("correct horse", "battery staple", key.rpartition("-")[2], further.split("-", 3)[3]):
        for place in (dump, caplog.text, listed):
            assert secret not in place
            assert secret.encode().hex().upper() not in place


async def test_users_are_listed_with_their_keys_but_no_secrets(client: Client) -> None:
    for name in ("bob", "alice"):
        await add_user(client, name)
    further = (await client.post(f"{USERS}/alice/keys")).json()
    users = (await client.get(USERS)).json()["users"]
    assert [user["user_id"] for user in users] == ["bob", "alice"]
    assert users[1].keys() == {"user_id", "user_alias", "user_email", "created", "keys"}
    assert [key.keys() for key in users[1]["keys"]] == [{"key_id", "created"}] * 2
    assert users[1]["keys"][1]["key_id"] == further["key_id"]


async def test_keys_are_rotated_without_a_gap(client: Client) -> None:
    old = await add_user(client, "alice")
    created = await client.post(f"{USERS}/alice/keys")
    assert created.status_code == 200
    new = created.json()["api_key"]
    first, second = (await client.get(USERS)).json()["users"][0]["keys"]
    assert created.json() == {"user_id": "alice", "key_id": second["key_id"], "api_key": new}
    for key in (old, new):
        assert (await client.get("/v1/repo", headers=holding(key))).status_code == 200
    revoked = await client.delete(f"{USERS}/alice/keys/{first['key_id']}")
    assert (revoked.status_code, first["key_id"] in revoked.json()["message"]) == (200, True)
    assert (await client.get("/v1/repo", headers=holding(old))).status_code == 401
    assert (await client.get("/v1/repo", headers=holding(new))).status_code == 200
    for path in (f"{USERS}/alice/keys/{first['key_id']}", f"{USERS}/bob/keys/{second['key_id']}", f"{USERS}/bob"):
        assert (await client.delete(path)).status_code == 404
    for name in ("bob", "admin"):
        assert (await client.post(f"{USERS}/{name}/keys")).status_code == 404


async def test_keys_hold_after_a_restart(client: Client, services: Services) -> None:
    key = await add_user(client, "alice")
    services.keys.replace([])
    assert (await client.get("/v1/repo", headers=holding(key))).status_code == 401
    await services.accounts.restore()
    assert (await client.get("/v1/repo", headers=holding(key))).status_code == 200


async def test_keys_are_checked_without_the_database(client: Client, services: Services) -> None:
    key = await add_user(client, "alice")
    may_go_on = threading.Event()
    busy = asyncio.create_task(services.catalog(lambda catalog: may_go_on.wait()))
    try:
        async with asyncio.timeout(10):
            assert (await client.get("/v1/models", headers=holding(key))).status_code == 200
            assert (await client.get("/v1/models", headers=holding(key + "x"))).status_code == 401
    finally:
        may_go_on.set()
        await busy


ADMIN_ROUTES = [
    ("post", USERS),
    ("get", USERS),
    ("delete", f"{USERS}/alice"),
    ("post", f"{USERS}/alice/keys"),
    ("delete", f"{USERS}/alice/keys/0"),
    ("post", "/v1/admin/done_job"),
    ("post", "/v1/admin/model_ready"),
]


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
async def test_admin_routes_are_for_the_master_key_alone(client: Client, method: str, path: str) -> None:
    key = await add_user(client, "alice")
    body = new_user("bob") if path == USERS and method == "post" else None
    refused = await client.request(method, path, json=body, headers=holding(key))
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    unknown = await client.request(method, path, json=body, headers={"Authorization": ""})
    assert (unknown.status_code, unknown.json()["code"]) == (401, "UNAUTHORIZED")
    assert [user["user_id"] for user in (await client.get(USERS)).json()["users"]] == ["alice"]


async def test_a_deleted_user_is_gone_at_once_with_everything_it_owns(client: Client, services: Services) -> None:
    keys = {name: await add_user(client, name) for name in ("alice", "bob")}
    folders = {}
    for name in keys:
        await make_bake(client, name)
        folders[name] = await finish_bake(services, name)
    deleted = await client.delete(f"{USERS}/alice")
    assert (deleted.status_code, deleted.json()) == (200, {"message": "User 'alice' deleted", "undoable": False})
    assert (await client.get("/v1/repo", headers=holding(keys["alice"]))).status_code == 401
    assert (await client.get("/v1/models/alice/repo/bake/3")).status_code == 404
    assert (await client.get("/v1/repo?user_id=alice")).status_code == 404
    assert not folders["alice"].exists()
    assert (await client.get("/v1/models/repo/bake", headers=holding(keys["bob"]))).status_code == 200
    assert folders["bob"].exists()
    key = await add_user(client, "alice")
    assert (await client.get("/v1/repo", headers=holding(key))).json()["repos"] == []


async def test_a_user_with_a_running_job_is_not_removed(client: Client, services: Services) -> None:
    key = await add_user(client, "alice")
    await make_bake(client, "alice")
    folder = await finish_bake(services, "alice", state=JobState.RUNNING)
    refused = await client.delete(f"{USERS}/alice")
    assert (refused.status_code, "'bake'" in refused.json()["message"]) == (409, True)
    assert (await client.get("/v1/models/repo/bake", headers=holding(key))).status_code == 200
    assert folder.exists()


async def test_callbacks_may_be_repeated(client: Client, services: Services) -> None:
    await add_user(client, "alice")
    await make_bake(client, "alice")
    await finish_bake(services, "alice")
    done = {"file": "__done_stim", "user": "alice", "repo": "repo"}
    ready = {"user": "alice", "repo": "repo", "bake_name": "bake"}
    for _ in range(2):
        for route, body in (("done_job", done), ("model_ready", ready)):
            answer = await client.post(f"/v1/admin/{route}", json=body)
            assert (answer.status_code, answer.json()) == (200, {"message": "ok"})


@pytest.mark.parametrize(
    ("route", "body", "status", "word"),
    [
        ("done_job", {"file": "f", "user": "nobody", "repo": "repo"}, 404, "'nobody'"),
        ("done_job", {"file": "f", "user": "alice", "repo": "gone"}, 404, "'gone'"),
        ("done_job", {"user": "alice", "repo": "repo"}, 422, "file"),
        ("model_ready", {"user": "nobody", "repo": "repo", "bake_name": "bake"}, 404, "'nobody'"),
        ("model_ready", {"user": "alice", "repo": "repo", "bake_name": "gone"}, 404, "'gone'"),
        ("model_ready", {"user": "admin", "repo": "repo", "bake_name": "fresh"}, 409, "'fresh'"),
    ],
)
async def test_callbacks_about_missing_things_are_refused(
    client: Client, services: Services, route: str, body: dict[str, str], status: int, word: str
) -> None:
    await add_user(client, "alice")
    await make_bake(client, "alice")
    await finish_bake(services, "alice")
    await client.post("/v1/repo", json={"repo_name": "repo"})
    await client.post("/v1/repo/repo/bakes", json={"bake_name": "fresh", "template": "default"})
    answer = await client.post(f"/v1/admin/{route}", json=body)
    assert (answer.status_code, word in answer.json()["message"]) == (status, True), answer.text
