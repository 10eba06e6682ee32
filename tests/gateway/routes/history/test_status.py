"""A repo's state at a glance."""

import pytest

from baker.status import JobState
from gateway.services import Services
from tests.gateway.application import Client, finish_bake, make_bake
from tests.gateway.routes.history.grown import REPO, grow

pytestmark = pytest.mark.anyio


async def test_status_counts_names_and_versions_and_lists_active_jobs(client: Client, services: Services) -> None:
    await grow(client, services)
    await client.put(f"{REPO}/refs/main", json={"kind": "branch", "to": "second"})
    await client.put(f"{REPO}/head", json={"branch": "main"})
    await make_bake(client, "admin", "third")
    folder = await finish_bake(services, "admin", bake="third", state=JobState.RUNNING)
    status = (await client.get(f"{REPO}/status")).json()
    assert (status["repo"], status["base_model"], status["head"]) == ("repo", "fake/base", "main")
    assert (status["refs"], status["commits"]) == (4, 3)
    (job,) = status["jobs"]
    assert (job["number"], job["stage"], job["name"], job["state"]) == (int(folder.name), "bake", "third", "running")
    assert (status["undo"]["verb"], status["redo"]) == ("put-bake", None)
    assert (await client.get("/v1/repo/other/status")).status_code == 404
