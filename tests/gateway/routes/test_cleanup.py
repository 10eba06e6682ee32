"""What is removed as a whole: the order in which rows, names, adapters and files go, and what is refused."""

import pytest

from baker.status import JobState
from gateway.services import Services
from tests.gateway.application import Client, add_user, finish_bake, make_bake

pytestmark = pytest.mark.anyio

REMOVALS = ["/v1/repo/repo/bakes/bake?prune=true&user_id=alice", "/v1/repo/repo?user_id=alice", "/v1/admin/users/alice"]


@pytest.mark.parametrize("path", REMOVALS)
async def test_names_stop_first_then_adapters_then_files(
    client: Client, services: Services, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    for name in ("alice", "bob"):
        await add_user(client, name)
        await make_bake(client, name)
    folders = [await finish_bake(services, "alice", step=step) for step in (1, 2)]
    kept = await finish_bake(services, "bob", step=1)
    unloaded = []

    async def unload(name: str) -> None:
        """Here the engine waits for the requests that are under way."""
        assert "alice" not in {model.checkpoint.user for model in services.registry.models("alice") if model.checkpoint}
        assert all((folder / "checkpoints").exists() for folder in folders), "a request may still read them"
        unloaded.append(name)

    monkeypatch.setattr(services.engine, "unload", unload)
    removed = await client.delete(path)
    assert removed.status_code == 200, removed.text
    assert sorted(unloaded) == ["alice/repo/bake/1", "alice/repo/bake/2"]
    assert not any(folder.exists() for folder in folders)
    assert (await client.get("/v1/models/alice/repo/bake/1")).status_code == 404
    assert (await client.get("/v1/models/bob/repo/bake/1")).status_code == 200
    assert kept.exists()
    assert (await client.delete(path)).status_code == 404


@pytest.mark.parametrize("path", REMOVALS)
@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
async def test_what_is_being_made_is_not_removed(
    client: Client, services: Services, path: str, state: JobState
) -> None:
    await add_user(client, "alice")
    await make_bake(client, "alice")
    folder = await finish_bake(services, "alice", state=state)
    refused = await client.delete(path)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
    assert (await client.get("/v1/models/alice/repo/bake/3")).status_code == 200
    assert folder.exists()
