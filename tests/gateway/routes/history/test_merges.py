"""The route of merges: bodies, states, errors. What a merge is, is tested in tests/baker/merging."""

from functools import partial
from typing import Any

import pytest

from baker.history.ref_table import RefKind
from baker.repos import bakes
from baker.types import Checkpoint
from baker.versions import refs
from gateway.services import Services
from tests.baker.adapters.dense import MODULES, adapter
from tests.baker.grown import baked, merged
from tests.gateway.application import Client
from tests.gateway.routes.history.test_diff import events

pytestmark = pytest.mark.anyio
PATH = "/v1/repo/repo/merges"


async def two(services: Services) -> list[Checkpoint]:
    """`pirate` and `json` on the base model, with weights."""
    versions = [await services.catalog(baked, name) for name in ("pirate", "json")]
    for seed, version in enumerate(versions):
        adapter(version.path, seed=seed, ranks={MODULES[0]: 2})
    return versions


async def test_a_merge_becomes_a_bake_that_is_started(client: Client, services: Services) -> None:
    pirate, json = await two(services)
    body = {"into": "pirate", "others": ["json"], "message": "both", "overrides": {"epochs": 2}}
    answer = await client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    merge = answer.json()
    assert (merge["state"], merge["bake"], merge["base"]) == ("started", "pirate-json", None)
    assert merge["sides"] == [
        {"label": "pirate", "commit": pirate.commit_id, "weight": 1.0},
        {"label": "json", "commit": json.commit_id, "weight": 1.0},
    ]
    assert (merge["report"]["rank"], merge["report"]["conflict"]["moved"]) == (4, 0)
    status = (await client.get("/v1/repo/repo/bakes/pirate-json")).json()
    assert status["status"] in ("pending", "running")
    config = status["config"]
    assert (config["message"], config["epochs"], config["merge"]["others"]) == ("both", 2, ["json"])
    again = (await client.post(PATH, json=body)).json()
    assert (again["bake"], (await client.get("/v1/repo/repo/bakes/pirate-json")).json()["job_id"]) == (
        "pirate-json",
        status["job_id"],
    )


async def test_a_dry_run_makes_nothing(client: Client, services: Services) -> None:
    await two(services)
    body = {"into": "pirate", "others": ["json"], "dry_run": True}
    merge = (await client.post(PATH, json=body)).json()
    assert (merge["state"], merge["bake"], merge["report"]["rank"]) == ("planned", None, 4)
    assert (await client.get("/v1/repo/repo/bakes")).json()["bakes"] == ["pirate", "json"]
    *progress, (last, result) = events((await client.post(PATH, json={**body, "stream": True})).text)
    assert progress and {name for name, _ in progress} == {"progress"}
    assert (last, result) == ("result", merge)


async def test_fast_forward_moves_the_current_branch_and_up_to_date_does_nothing(
    client: Client, services: Services
) -> None:
    first = await services.catalog(baked, "first")
    second = await services.catalog(baked, "second", first)
    for seed, version in enumerate((first, second)):
        adapter(version.path, seed=seed, ranks={MODULES[0]: 2})
    await services.catalog(refs.put, "admin", "repo", "main", RefKind.BRANCH, "first")
    await services.catalog(refs.switch, "admin", "repo", "main")
    dry = (await client.post(PATH, json={"others": ["second"], "dry_run": True})).json()
    assert dry["state"] == "fast_forward"
    assert (await client.get("/v1/repo/repo/head")).json()["commit"] == first.commit_id
    merge = (await client.post(PATH, json={"others": ["second"]})).json()
    assert (merge["state"], merge["bake"]) == ("fast_forward", None)
    assert (await client.get("/v1/repo/repo/head")).json()["commit"] == second.commit_id
    for others in (["second"], ["first"]):
        assert (await client.post(PATH, json={"others": others})).json()["state"] == "up_to_date"
    elsewhere = (await client.post(PATH, json={"into": "first", "others": ["second"]})).json()
    assert elsewhere["state"] == "fast_forward" and "move the name" in elsewhere["message"]
    undone = await client.post("/v1/repo/repo/undo", json={"operation": None})
    assert undone.status_code == 200, undone.text
    assert (await client.get("/v1/repo/repo/head")).json()["commit"] == first.commit_id


async def test_an_undo_takes_a_merge_s_move_of_the_branch_back(client: Client, services: Services) -> None:
    pirate, _ = await two(services)
    await services.catalog(refs.put, "admin", "repo", "main", RefKind.BRANCH, "pirate")
    both = await services.catalog(partial(merged, overrides={"branch": "main"}), "both", "pirate", "json")
    adapter(both.path, seed=7, ranks={MODULES[0]: 2})

    async def main() -> str:
        names = (await client.get("/v1/repo/repo/refs")).json()["refs"]
        return str(next(name["commit"] for name in names if name["name"] == "main"))

    assert await main() == both.commit_id
    for verb, expected in (("undo", pirate), ("redo", both)):
        answer = await client.post(f"/v1/repo/repo/{verb}", json={"operation": None})
        assert answer.status_code == 200, answer.text
        assert await main() == expected.commit_id


async def test_a_revert_of_a_branch_s_newest_version_moves_the_branch_back(client: Client, services: Services) -> None:
    first = await services.catalog(baked, "first")
    second = await services.catalog(baked, "second", first)
    await services.catalog(refs.put, "admin", "repo", "main", RefKind.BRANCH, "second")
    await services.catalog(refs.switch, "admin", "repo", "main")
    for seed, version in enumerate((first, second)):
        adapter(version.path, seed=seed, ranks={MODULES[0]: 2})
    revert = {"kind": "revert", "others": ["HEAD"]}

    async def tip() -> str:
        return str((await client.get("/v1/repo/repo/head")).json()["commit"])

    dry = (await client.post(PATH, json={**revert, "dry_run": True})).json()
    assert (dry["state"], "main" in dry["message"], await tip()) == ("planned", True, second.commit_id)
    of_a_bake = await client.post(PATH, json={"kind": "revert", "others": ["second"], "into": "second"})
    assert (of_a_bake.status_code, "newest version itself" in of_a_bake.text) == (409, True)
    wrong = await client.post(PATH, json={**revert, "base": "second"})
    assert (wrong.status_code, "no parent" in wrong.text) == (409, True)
    merge = (await client.post(PATH, json=revert)).json()
    assert (merge["state"], merge["bake"], await tip()) == ("moved", None, first.commit_id)
    assert (await client.get("/v1/repo/repo/bakes")).json()["bakes"] == ["first", "second"]
    oldest = await client.post(PATH, json=revert)
    assert (oldest.status_code, "delete the branch" in oldest.text) == (409, True)
    assert (await client.post("/v1/repo/repo/undo", json={"operation": None})).status_code == 200
    assert await tip() == second.commit_id


async def test_a_held_back_merge_is_taken_back_from_its_branch(client: Client, services: Services) -> None:
    pirate, _ = await two(services)
    both = await services.catalog(partial(merged, held_back="too little is left"), "both", "pirate", "json")
    await services.catalog(refs.put, "admin", "repo", "main", RefKind.BRANCH, "both/0")
    merge = await client.post(PATH, json={"kind": "revert", "others": ["main"], "into": "main"})
    assert (merge.status_code, merge.json()["state"]) == (200, "moved"), merge.text
    names = {name["name"]: name["commit"] for name in (await client.get("/v1/repo/repo/refs")).json()["refs"]}
    assert (names["main"], both.commit_id in names.values()) == (pirate.commit_id, False)


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"others": []}, 422, "others"),
    ({"others": "json"}, 422, "others"),
    ({}, 422, "others"),
    ({"others": ["a", "b", "c", "d"]}, 422, "at most 3"),
    ({"others": ["json"], "strategy": "ties"}, 422, "strategy"),
    ({"others": ["json"], "weights": [1]}, 422, "1 weights for 2 versions"),
    ({"others": ["json"], "force": True}, 422, "force"),
    ({"others": ["gone"]}, 404, "no revision 'gone'"),
    ({"others": ["json"], "into": "../pirate"}, 400, "not a revision"),
    ({"others": ["base"]}, 400, "is the base model"),
    ({"others": ["json@0.5"]}, 400, "strength"),
    ({"others": ["json"], "into": "HEAD"}, 400, "no current branch"),
    ({"others": ["json"], "kind": "revert"}, 409, "no ancestor"),
    ({"others": ["json"], "name": "../x"}, 422, "name"),
    ({"others": ["json"], "name": "json"}, 409, "json"),
    ({"others": ["json"], "overrides": {"epoch": 1}}, 422, "epoch"),
    ({"others": ["json"], "probe": "hard"}, 404, "robe"),
]


@pytest.mark.parametrize(("body", "status", "reason"), WRONG)
async def test_a_wrong_request_is_refused_and_makes_nothing(
    client: Client, services: Services, body: dict[str, Any], status: int, reason: str
) -> None:
    await two(services)
    answer = await client.post(PATH, json={"into": "pirate", **body})
    assert (answer.status_code, reason in answer.text) == (status, True), answer.text
    assert await services.catalog(bakes.latest_job, "admin", "repo", "json") is not None
    assert (await client.get("/v1/repo/repo/bakes")).json()["bakes"] == ["pirate", "json"]
