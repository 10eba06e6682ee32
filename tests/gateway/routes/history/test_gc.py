"""Garbage over HTTP: what is listed, what goes, and how many bytes that frees."""

from typing import Any

import pytest

from baker.history.commit import Commit, Kind
from gateway.services import Services
from tests.gateway.application import Client
from tests.gateway.serving.test_promotion import make_versions

pytestmark = pytest.mark.anyio

REPO = "/v1/repo/repo"


async def garbage(client: Client) -> Any:
    return (await client.get(f"{REPO}/gc")).json()


async def test_a_version_that_nothing_reaches_goes_to_the_bin_and_comes_back(
    client: Client, services: Services
) -> None:
    await client.post("/v1/repo", json={"repo_name": "repo"})
    assert await garbage(client) == {"unreachable": [], "bin": [], "freed_bytes": 0}
    commit = Commit(Kind.MERGE, "a" * 64, None, "base", "lost", "admin", 7)
    await services.catalog(lambda catalog: catalog.history.commits.add("admin", "repo", commit))
    row = {"commit": commit.id, "bytes": 0, "since": 7}
    assert (await garbage(client))["unreachable"] == [row]
    done = (await client.post(f"{REPO}/gc", json={})).json()
    assert done == {"unreachable": [], "bin": [], "freed_bytes": 0}
    assert (await client.get(f"{REPO}/operations")).json()["operations"][0]["summary"] == "gc: 1 version removed"
    assert (await client.post(f"{REPO}/undo", json={})).status_code == 200
    assert (await garbage(client))["unreachable"] == [row]
    assert (await client.post(f"{REPO}/redo", json={})).status_code == 200
    assert (await garbage(client))["unreachable"] == []


async def test_pruning_empties_the_bin_and_says_the_bytes(client: Client, services: Services) -> None:
    await make_versions(client, services, "admin", 3)
    (folder,) = services.home.glob("jobs/*")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    deleted = (await client.delete(f"{REPO}/bakes/bake")).json()
    (item,) = (await garbage(client))["bin"]
    assert (item["kind"], item["name"], item["bytes"]) == ("bake", "bake", size)
    assert (item["operation"], item["until"]) == (deleted["operation"], deleted["kept_until"])
    kept = (await client.post(f"{REPO}/gc", json={})).json()
    assert (kept["freed_bytes"], kept["bin"]) == (0, [item]) and folder.exists()
    freed = (await client.post(f"{REPO}/gc", json={"prune": True})).json()
    assert freed == {"unreachable": [], "bin": [], "freed_bytes": size} and not folder.exists()
    refused = await client.post(f"{REPO}/undo", json={})
    assert refused.status_code == 409 and "removed for good" in refused.text


@pytest.mark.parametrize("body", [{"prune": "yes"}, {"force": True}])
async def test_requests_are_checked(client: Client, body: Any) -> None:
    await client.post("/v1/repo", json={"repo_name": "repo"})
    assert (await client.post(f"{REPO}/gc", json=body)).status_code == 422
    for answer in (await client.get("/v1/repo/nowhere/gc"), await client.post("/v1/repo/nowhere/gc", json={})):
        assert answer.status_code == 404
