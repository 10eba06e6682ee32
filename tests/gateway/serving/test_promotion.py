"""Moving a bake's name by hand, over HTTP: what it means then, also after a restart, and for which users."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save

from baker.errors import EngineError
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.status import JobState
from gateway.services import Services
from tests.gateway.application import Client, add_user, client_of, finish_bake, holding, make_bake, services_in

pytestmark = pytest.mark.anyio

BAKE = "/v1/repo/repo/bakes/bake"


async def make_versions(client: Client, services: Services, user: str, *steps: int) -> None:
    """Add checkpoints of `repo/bake`, with files that pass the checks."""
    await make_bake(client, user)
    for step in steps:
        folder = await finish_bake(services, user, step=step) / "checkpoints" / str(step)
        module = "base_model.model.model.layers.0.self_attn.q_proj"
        sides = {"A": np.ones((2, 8), np.float32), "B": np.ones((8, 2), np.float32)}
        tensors = {f"{module}.lora_{side}.weight": values for side, values in sides.items()}
        (folder / "adapter_model.safetensors").write_bytes(save(tensors))


async def meant(client: Client, key: str | None = None) -> int:
    """Step of the checkpoint that `repo/bake` means."""
    headers = {} if key is None else holding(key)
    listed = (await client.get("/v1/models", headers=headers)).json()["data"]
    assert "repo/bake" in [model["id"] for model in listed]
    status = (await client.get(BAKE, headers=headers)).json()
    assert status["live_checkpoint"] == status["checkpoint"] == status["checkpoints"][0]
    assert status["model_name"][0].endswith(f"/{status['live_checkpoint']}")
    return int(status["live_checkpoint"])


async def test_the_name_moves_to_the_chosen_checkpoint_and_stays_there_after_a_restart(tmp_path: Path) -> None:
    services = services_in(tmp_path)
    async with client_of(services) as client:
        await make_versions(client, services, "admin", 3, 7, 9)
        assert await meant(client) == 9
        for _ in range(2):
            answer = await client.post(f"{BAKE}/promote", json={"checkpoint": 3})
            assert (answer.status_code, answer.json()["checkpoints"]) == (200, [3, 9, 7])
        assert services.registry.resolve("repo/bake", "admin").name == "admin/repo/bake/3"
        assert services.registry.swaps == 4, "promoting what is live is no move"
        link = (await client.get(f"{BAKE}/download")).json()
        assert link["checkpoint"] == 3
        tree = (await client.get("/v1/repo/repo/tree")).json()["bakes"]["bake"]
        assert (tree["model_name"][0], tree["checkpoints"]) == ("admin/repo/bake/3", [3, 9, 7])
    services = services_in(tmp_path)
    async with client_of(services) as client:
        assert await meant(client) == 3
        for _ in range(2):
            answer = await client.post(f"{BAKE}/rollback")
            assert (answer.status_code, answer.json()["live_checkpoint"]) == (200, 9)
        assert services.registry.resolve("repo/bake@0.5", "admin").name == "admin/repo/bake/9@0.5"
    services = services_in(tmp_path)
    async with client_of(services) as client:
        assert services.registry.resolve("repo/bake", "admin").name == "admin/repo/bake/9"


@pytest.mark.parametrize(
    ("call", "body", "status", "text"),
    [
        ("promote", {"checkpoint": 4}, 404, "no checkpoint 4; it has 3"),
        ("promote", {"checkpoint": 10**30}, 404, "no checkpoint"),
        ("promote", {"checkpoint": -1}, 422, "checkpoint"),
        ("promote", {"checkpoint": "three"}, 422, "checkpoint"),
        ("promote", {}, 422, "checkpoint"),
        ("promote", {"checkpoint": 3, "step": 3}, 422, "step"),
        ("promote", None, 422, "body"),
        ("rollback", None, 409, "meant no other checkpoint before"),
    ],
)
async def test_a_refused_move_says_why_and_changes_nothing(
    client: Client, services: Services, call: str, body: object, status: int, text: str
) -> None:
    await make_versions(client, services, "admin", 3)
    answer = await client.post(f"{BAKE}/{call}", json=body)
    assert answer.status_code == status and text in answer.text, answer.text
    assert await meant(client) == 3


async def test_a_broken_or_unloadable_checkpoint_is_not_promoted(
    client: Client, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_versions(client, services, "admin", 3, 7)
    checkpoint = await services.catalog(bakes.find_checkpoint, "admin", "repo", "bake", 3)
    assert checkpoint is not None

    async def away(name: str, path: Path) -> None:
        raise EngineError("the engine is away")

    with monkeypatch.context() as patch:
        patch.setattr(services.engine, "load", away)
        assert (await client.post(f"{BAKE}/promote", json={"checkpoint": 3})).status_code == 503
    weights = checkpoint.path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert (await client.post(f"{BAKE}/rollback")).status_code == 422
    assert await meant(client) == 7


async def test_users_can_t_move_the_names_of_others(client: Client, services: Services) -> None:
    alice, bob = await add_user(client, "alice"), await add_user(client, "bob")
    await make_versions(client, services, "alice", 3, 7)
    for call, body in (("promote", {"checkpoint": 3}), ("rollback", None)):
        answer = await client.post(f"{BAKE}/{call}", json=body, headers=holding(bob))
        assert answer.status_code == 404 and "7" not in answer.text
    assert await meant(client, alice) == 7
    await client.post(f"{BAKE}/rollback", headers=holding(alice))
    assert await meant(client, alice) == 3


async def test_a_bake_that_was_held_back_is_404_by_its_name_until_it_is_promoted(
    client: Client, services: Services
) -> None:
    await make_versions(client, services, "admin", 3)

    def hold_back(catalog: Catalog) -> None:
        (job,) = catalog.store.jobs.in_state(JobState.COMPLETE)
        checkpoint = bakes.find_checkpoint(catalog, "admin", "repo", "bake", 3)
        assert checkpoint is not None
        catalog.store.checkpoints.add(checkpoint, moves_name=False)
        catalog.update_job(job.id, held_back="drift 0.5 nats per token, publish_if.max_drift 0.1")

    await services.catalog(hold_back)
    async with client_of(services_in(services.home)) as again:
        asked = {"model": "repo/bake", "messages": [{"role": "user", "content": "Hello"}]}
        answer = await again.post("/v1/chat/completions", json=asked)
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "model_not_found"
        assert "publish_if holds them back" in answer.text and "admin/repo/bake/3" in answer.text
        status = (await again.get(BAKE)).json()
        assert (status["status"], status["live_checkpoint"]) == ("complete", None)
        assert status["held_back"].startswith("drift 0.5") and status["model_name"] == ["admin/repo/bake/3"]
        models = [model["id"] for model in (await again.get("/v1/models")).json()["data"]]
        assert models == ["fake/base", "admin/repo/bake/3"]
        promoted = msgspec.json.decode((await again.post(f"{BAKE}/promote", json={"checkpoint": 3})).content)
        assert promoted["live_checkpoint"] == 3
        assert await meant(again) == 3
