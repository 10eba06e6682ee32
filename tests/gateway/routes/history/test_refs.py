"""Branches and tags over HTTP, and what they mean as models from then on."""

from typing import Any
from urllib.parse import quote

import pytest

from gateway.services import Services
from tests.gateway.application import Client, add_user, client_of, finish_bake, holding, make_bake, services_in
from tests.gateway.routes.history.grown import REPO, grow

pytestmark = pytest.mark.anyio


async def put(client: Client, name: str, to: str, kind: str = "branch", **fields: Any) -> Any:
    return await client.put(f"{REPO}/refs/{name}", json={"kind": kind, "to": to, **fields})


async def served(client: Client, name: str, **headers: str) -> str | None:
    """The version that answers as this model; None if there is none."""
    answer = await client.get(f"/v1/models/{quote(name)}", headers=headers)
    return answer.json()["served"] if answer.status_code == 200 else None


async def test_a_branch_and_a_tag_are_models_at_once(client: Client, services: Services) -> None:
    first, second = await grow(client, services)
    added = await put(client, "main", "first", message="what users get")
    assert added.status_code == 201, added.text
    ref = added.json()
    assert (ref["name"], ref["kind"], ref["commit"], ref["model"]) == ("main", "branch", first, "repo/main")
    assert (ref["message"], ref["is_head"]) == ("what users get", False)
    assert (await put(client, "v1", "first", "tag")).status_code == 201
    assert await served(client, "repo/main") == await served(client, "repo/v1") == "admin/repo/first/3"
    moved = await put(client, "main", "second")
    assert (moved.status_code, moved.json()["commit"]) == (200, second)
    for name, version in (
        ("repo/main", "admin/repo/second/3"),
        ("admin/repo/main", "admin/repo/second/3"),
        ("repo/main~1", "admin/repo/first/3"),
        ("repo/main@{1}", "admin/repo/first/3"),
        ("repo/main@{1}@0.5", "admin/repo/first/3@0.5"),
        ("repo/second^@0.5", "admin/repo/first/3@0.5"),
        (f"repo/{second[:7]}", "admin/repo/second/3"),
        (f"admin/repo/{second}~", "admin/repo/first/3"),
        ("repo/v1", "admin/repo/first/3"),
        ("repo/HEAD", None),
        ("repo/main~2", None),
        ("repo/none", None),
    ):
        assert await served(client, name) == version, name
    await client.put(f"{REPO}/head", json={"branch": "main"})
    assert await served(client, "repo/HEAD~1") == "admin/repo/first/3"


async def test_models_list_branches_and_tags_with_their_kind_and_commit(client: Client, services: Services) -> None:
    first, second = await grow(client, services)
    await put(client, "main", "second")
    await put(client, "v1", "first", "tag")
    listed = {model["id"]: model for model in (await client.get("/v1/models")).json()["data"]}
    kinds = {name: (model["kind"], model["commit"]) for name, model in listed.items()}
    assert kinds == {
        "fake/base": ("base", None),
        "repo/second": ("bake", second),
        "admin/repo/second/3": ("checkpoint", second),
        "repo/first": ("bake", first),
        "admin/repo/first/3": ("checkpoint", first),
        "repo/main": ("branch", second),
        "repo/v1": ("tag", first),
    }
    assert listed["repo/main"]["served"] == "admin/repo/second/3"
    for name, kind in (("repo/main", "branch"), ("repo/v1", "tag"), ("repo/main~1", "revision")):
        assert (await client.get(f"/v1/models/{quote(name)}")).json()["kind"] == kind


async def test_refs_are_listed_bakes_first_and_deleted(client: Client, services: Services) -> None:
    await grow(client, services)
    await put(client, "main", "second")
    await put(client, "v1", "first", "tag")
    await client.put(f"{REPO}/head", json={"branch": "main"})
    listing = (await client.get(f"{REPO}/refs")).json()
    assert [(ref["name"], ref["kind"], ref["is_head"]) for ref in listing["refs"]] == [
        ("first", "bake", False),
        ("second", "bake", False),
        ("main", "branch", True),
        ("v1", "tag", False),
    ]
    head = (await client.get(f"{REPO}/head")).json()
    assert (listing["head"], head["branch"], head["commit"]) == ("main", "main", listing["refs"][2]["commit"])
    for name in ("main", "v1"):
        assert (await client.delete(f"{REPO}/refs/{name}")).status_code == 409
        assert (await client.delete(f"{REPO}/refs/{name}?force=true")).json()["message"].endswith("deleted")
        assert (await client.delete(f"{REPO}/refs/{name}?force=true")).status_code == 404
        assert await served(client, f"repo/{name}") is None
    assert (await client.get(f"{REPO}/head")).json() == {"branch": None, "commit": None}
    assert await served(client, "repo/second") == "admin/repo/second/3"


@pytest.mark.parametrize(
    ("name", "body", "status", "kind"),
    [
        ("first", {"kind": "branch", "to": "second"}, 409, "name_taken"),
        ("v1", {"kind": "branch", "to": "second"}, 409, "name_taken"),
        ("v1", {"kind": "tag", "to": "second", "force": True}, 409, "tag_exists"),
        ("main", {"kind": "branch", "to": "first"}, 409, "not_fast_forward"),
        ("main", {"kind": "branch", "to": "second", "from": None}, 409, "compare_and_swap"),
        ("new", {"kind": "branch", "to": "second", "from": "0" * 64}, 409, "compare_and_swap"),
        ("new", {"kind": "branch"}, 404, None),
        ("new", {"kind": "branch", "to": "nowhere"}, 404, None),
        ("new", {"kind": "branch", "to": "../x"}, 400, None),
        ("new", {"kind": "bake", "to": "first"}, 422, None),
        ("new", {"kind": "branch", "to": "first", "unknown": 1}, 422, None),
        ("HEAD", {"kind": "branch", "to": "first"}, 422, None),
        ("a b", {"kind": "tag", "to": "first"}, 422, None),
        ("a%00", {"kind": "tag", "to": "first"}, 422, None),
        ("%2e%2e%2fx", {"kind": "tag", "to": "first"}, 404, None),  # the slash ends the name
    ],
)
async def test_what_may_not_be_is_refused_with_its_kind(
    client: Client, services: Services, name: str, body: dict[str, Any], status: int, kind: str | None
) -> None:
    await grow(client, services)
    await put(client, "main", "second")
    await put(client, "v1", "first", "tag")
    before = (await client.get(f"{REPO}/refs")).json()
    answer = await client.put(f"{REPO}/refs/{name}", json=body)
    assert answer.status_code == status, answer.text
    if kind is not None:
        assert [entry["type"] for entry in answer.json()["detail"]] == [kind]
    assert (await client.get(f"{REPO}/refs")).json() == before


async def test_a_new_bake_can_not_take_a_branch_s_name(client: Client, services: Services) -> None:
    await grow(client, services)
    await put(client, "main", "second")
    answer = await client.post(f"{REPO}/bakes", json={"bake_name": "main", "template": "default"})
    assert answer.status_code == 409 and "'main' is a branch" in answer.text


async def test_a_bake_that_a_branch_means_is_not_deleted(client: Client, services: Services) -> None:
    await grow(client, services)
    await put(client, "main", "second")
    answer = await client.delete(f"{REPO}/bakes/second")
    assert answer.status_code == 409 and "branch 'main' names 'repo/second/3'" in answer.text
    assert await served(client, "repo/main") == "admin/repo/second/3"
    await client.delete(f"{REPO}/refs/main")
    assert (await client.delete(f"{REPO}/bakes/second")).status_code == 200


async def test_names_are_served_after_a_restart(client: Client, services: Services) -> None:
    await grow(client, services)
    await put(client, "main", "second")
    again = services_in(services.home)
    async with client_of(again) as restarted:
        for name in ("repo/main", "repo/main~1", "repo/second~1"):
            assert await served(restarted, name) == await served(client, name) is not None


async def test_steps_follow_a_bake_that_moves_and_end_with_one_that_goes(client: Client, services: Services) -> None:
    await grow(client, services)
    await finish_bake(services, "admin", bake="second", step=5)
    assert await served(client, "repo/second@{1}") == "admin/repo/second/3"
    await finish_bake(services, "admin", bake="second", step=7)
    assert await served(client, "repo/second@{1}") == "admin/repo/second/5"
    assert await served(client, "repo/second@{2}") == "admin/repo/second/3"
    await client.delete(f"{REPO}/bakes/second")
    assert await served(client, "repo/second~1") is None
    await client.delete("/v1/repo/repo")
    assert await served(client, "repo/first~0") is None


async def test_two_users_with_the_same_names_are_apart(client: Client, services: Services) -> None:
    keys = {name: await add_user(client, name) for name in ("alice", "bob")}
    for name, to in (("alice", "first"), ("bob", "second")):
        await grow(client, services, name)
        answer = await client.put(f"{REPO}/refs/main", json={"kind": "branch", "to": to}, headers=holding(keys[name]))
        assert answer.status_code == 201
    assert await served(client, "repo/main", **holding(keys["alice"])) == "alice/repo/first/3"
    assert await served(client, "repo/main", **holding(keys["bob"])) == "bob/repo/second/3"
    assert await served(client, "alice/repo/main", **holding(keys["bob"])) is None
    assert await served(client, "alice/repo/main") == "alice/repo/first/3", "the master key may name all"
    await make_bake(client, "alice", "third")
    assert (await client.delete("/v1/admin/users/alice")).status_code == 200
    assert await served(client, "repo/main", **holding(keys["bob"])) == "bob/repo/second/3"
