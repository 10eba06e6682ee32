"""The log, undo and redo over HTTP: what is served after each step, also after a restart."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.storage.home import job_folder
from baker.types import Checkpoint
from baker.versions import checkpoints
from gateway.services import Services
from tests.gateway.application import Client, add_user, client_of, finish_bake, holding, make_bake, services_in
from tests.gateway.serving.test_promotion import make_versions

pytestmark = pytest.mark.anyio

REPO = "/v1/repo/repo"
BAKE = f"{REPO}/bakes/bake"


async def step(client: Client, verb: str, **body: Any) -> Any:
    answer = await client.post(f"{REPO}/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def log(client: Client, **query: Any) -> Any:
    return (await client.get(f"{REPO}/operations", params=query)).json()


async def served(client: Client) -> list[str]:
    return [model["id"] for model in (await client.get("/v1/models")).json()["data"]][1:]


async def test_the_log_says_who_changed_what_and_pages(client: Client) -> None:
    key = await add_user(client, "alice")
    await client.post("/v1/repo", json={"repo_name": "repo"}, headers=holding(key))
    for headers in (holding(key), {"X-User-Id": "alice"}):
        for text in ("Hello", "Goodbye"):
            prompt = {"messages": [{"role": "user", "content": text}]}
            await client.put(f"{REPO}/prompts/polite", json=prompt, headers=headers)
    page = (await client.get(f"{REPO}/operations?limit=3", headers=holding(key))).json()
    assert [(row["summary"], row["by"]) for row in page["operations"]] == [
        ("change prompt polite", "admin"),
        ("change prompt polite", "admin"),
        ("change prompt polite", "alice"),
    ]
    assert page["undo"] == page["operations"][0]["id"] and page["redo"] is None
    last = page["operations"][-1]["id"]
    (first,) = (await client.get(f"{REPO}/operations?before={last}", headers=holding(key))).json()["operations"]
    assert (first["summary"], first["changes"][0]["before"]) == ("put prompt polite", None)


async def test_repeating_a_request_adds_no_operation_and_a_batch_adds_one(client: Client) -> None:
    await client.post("/v1/repo", json={"repo_name": "repo"})
    for _ in range(2):
        answer = await client.put(f"{REPO}/prompts/batch", json={"prompts": {"a": [], "b": [], "batch": []}})
        assert answer.json()["created"] == ["a", "b"], "the third name is reserved"
        await client.put(f"{REPO}/targets/t", json={"template": "default", "overrides": {"u": "a", "v": "b"}})
        await client.post(f"{REPO}/bakes", json={"bake_name": "x", "template": "default"})
    assert [row["summary"] for row in (await log(client))["operations"]] == [
        "put bake x",
        "put target t",
        "put prompts a, b",
    ]
    await step(client, "undo", operation=(await log(client))["operations"][-1]["id"])
    for nouns in ("prompts", "targets", "bakes"):
        assert (await client.get(f"{REPO}/{nouns}")).json()[nouns] == []


async def test_undo_takes_the_pointer_back_and_redo_forward_also_for_a_new_service(tmp_path: Path) -> None:
    services = services_in(tmp_path)
    async with client_of(services) as client:
        await make_versions(client, services, "admin", 3, 7)
        assert (await client.post(f"{BAKE}/promote", json={"checkpoint": 3})).status_code == 200
        undone = await step(client, "undo")
        assert undone["verb"] == "undo" and undone["summary"].endswith("(promote bake: 7 -> 3)")
        assert services.registry.resolve("repo/bake", "admin").name == "admin/repo/bake/7"
    services = services_in(tmp_path)
    async with client_of(services) as client:
        assert services.registry.resolve("repo/bake", "admin").name == "admin/repo/bake/7"
        redone = await step(client, "redo")
        assert redone["target"] == undone["target"]
        assert services.registry.resolve("repo/bake", "admin").name == "admin/repo/bake/3"
        refused = await client.post(f"{REPO}/redo", json={})
        assert (refused.status_code, "nothing to redo" in refused.text) == (409, True)


async def test_a_deleted_bake_is_served_again_whole(client: Client, services: Services) -> None:
    await make_versions(client, services, "admin", 3, 7)
    names, status = await served(client), (await client.get(BAKE)).json()
    deleted = (await client.delete(BAKE)).json()
    assert deleted["undoable"] and deleted["kept_until"] > 0 and await served(client) == []
    assert (await log(client))["undo"] == deleted["operation"]
    await step(client, "undo")
    assert await served(client) == names
    again = (await client.get(BAKE)).json()
    for field in ("status", "live_checkpoint", "model_name", "checkpoints", "config", "job_id"):
        assert again[field] == status[field], field
    assert (await client.get(f"{BAKE}/download")).status_code == 200
    await step(client, "redo")
    assert await served(client) == []
    await step(client, "undo")
    assert await served(client) == names


async def test_a_deletion_with_prune_says_that_nothing_brings_it_back(client: Client, services: Services) -> None:
    await make_versions(client, services, "admin", 3)
    deleted = (await client.delete(f"{BAKE}?prune=true")).json()
    assert (deleted["undoable"], deleted["kept_until"]) == (False, None)
    page = await log(client)
    assert page["undo"] is None and not page["operations"][0]["undoable"]
    refused = await client.post(f"{REPO}/undo", json={})
    assert refused.status_code == 409 and "removed for good" in refused.text
    assert list(services.home.glob("jobs/*")) == []


async def test_two_clients_that_undo_at_once_take_back_one_operation_each(client: Client, services: Services) -> None:
    await make_versions(client, services, "admin", 3, 7, 9)
    for number in (3, 7, 3):
        await client.post(f"{BAKE}/promote", json={"checkpoint": number})
    answers = await asyncio.gather(*(client.post(f"{REPO}/undo", json={}) for _ in range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.json()["target"] for answer in answers}) == 3
    assert services.registry.resolve("repo/bake", "admin").name == "admin/repo/bake/9"


async def test_an_undo_that_waits_for_the_engine_holds_up_no_other_repo(
    client: Client, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_versions(client, services, "admin", 3, 7)
    await client.post(f"{BAKE}/promote", json={"checkpoint": 3})
    await client.post("/v1/repo", json={"repo_name": "other"})
    await client.put("/v1/repo/other/prompts/polite", json={"messages": []})
    is_waiting, may_go_on = asyncio.Event(), asyncio.Event()

    async def prepare(checkpoint: Checkpoint) -> None:
        is_waiting.set()
        await may_go_on.wait()

    monkeypatch.setattr(services.registry.gate, "prepare", prepare)
    waiting = asyncio.create_task(services.undo.step("admin", "repo", "undo"))
    await is_waiting.wait()
    assert len(await asyncio.wait_for(services.undo.step("admin", "other", "undo"), 10)) == 1
    may_go_on.set()
    assert len(await waiting) == 1


async def test_an_undo_that_the_engine_can_t_serve_changes_nothing(
    client: Client, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_versions(client, services, "admin", 3, 7)
    await client.post(f"{BAKE}/promote", json={"checkpoint": 3})
    before = await log(client)
    checkpoint = await services.catalog(bakes.find_checkpoint, "admin", "repo", "bake", 7)
    assert checkpoint is not None
    weights = checkpoint.path / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    assert (await client.post(f"{REPO}/undo", json={})).status_code == 422
    weights.unlink()
    assert (await client.post(f"{REPO}/undo", json={})).status_code == 422
    assert await log(client) == before
    weights.write_bytes(whole)
    await step(client, "undo")


async def test_the_checkpoints_of_one_bake_are_one_operation(client: Client, services: Services) -> None:
    await make_bake(client, "admin")
    folder = await finish_bake(services, "admin", step=3)

    def train_on(catalog: Catalog) -> None:
        known = bakes.find_checkpoint(catalog, "admin", "repo", "bake", 3)
        assert known is not None
        job = catalog.store.jobs.find_bake(known.job_id)
        assert job is not None
        for number in (4, 5):
            path = folder / "checkpoints" / str(number)
            row = Checkpoint("admin", "repo", "bake", number, path, str(number) * 64, 0, job.id)
            checkpoints.keep(catalog, job, [row], [row])

    await services.catalog(train_on)
    rows = (await log(client))["operations"]
    assert [row["summary"] for row in rows] == ["bake bake: 3 -> 5", "put bake bake"]
    assert rows[0]["changes"][0]["after"]["job"] == int(
        job_folder(services.home, rows[0]["changes"][0]["after"]["job"]).name
    )


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("undo", {"operation": "one"}, 422),
        ("undo", {"number": 1}, 422),
        ("undo", {"operation": 99}, 404),
        ("undo", {}, 200),
        ("redo", {}, 409),
    ],
)
async def test_requests_are_checked(client: Client, path: str, body: Any, status: int) -> None:
    await client.post("/v1/repo", json={"repo_name": "repo"})
    await client.put(f"{REPO}/prompts/one", json={"messages": []})
    assert (await client.post(f"{REPO}/{path}", json=body)).status_code == status
    assert (await client.get("/v1/repo/nowhere/operations")).status_code == 404
    for query in ("limit=0", "limit=1001", "before=0", f"before={2**63}", f"before={10**30}"):
        assert (await client.get(f"{REPO}/operations?{query}")).status_code == 422
