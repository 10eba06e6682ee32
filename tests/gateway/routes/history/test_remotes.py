"""Remotes over HTTP."""

import pytest

from gateway.services import Services
from tests.baker.transfer.versions import add_version
from tests.gateway.application import Client

pytestmark = pytest.mark.anyio

REMOTES = "/v1/repo/repo/remotes"


async def test_remotes_are_added_tracked_and_forgotten(client: Client, services: Services) -> None:
    checkpoint = await services.catalog(lambda catalog: add_version(catalog, "bake", 1))
    added = await client.put(f"{REMOTES}/origin", json={"url": "https://bread.example/hooli"})
    assert added.status_code == 200
    assert added.json() == {
        "name": "origin",
        "url": "https://bread.example/hooli",
        "refs": {},
        "created": added.json()["created"],
        "updated": added.json()["updated"],
    }
    body = {"refs": {"yoda": checkpoint.commit_id}, "verb": "push"}
    tracked = await client.put(f"{REMOTES}/origin/refs", json=body)
    assert (tracked.status_code, tracked.json()["refs"]) == (200, {"yoda": checkpoint.commit_id})
    assert (await client.get(f"{REMOTES}/origin")).json() == tracked.json()
    assert (await client.get(REMOTES)).json() == {"remotes": [tracked.json()]}
    assert (await client.delete(f"{REMOTES}/origin")).json() == {"message": "Remote 'origin' deleted"}
    assert (await client.get(f"{REMOTES}/origin")).status_code == 404


async def test_wrong_remotes_are_refused(client: Client) -> None:
    await client.post("/v1/repo", json={"repo_name": "repo"})
    for path, body, status in (
        ("origin", {"url": "https://carol:sk-secret@host/repo"}, 422),
        ("-x", {"url": "https://host/repo"}, 422),
        ("..%2Fup", {"url": "https://host/repo"}, 404),
        ("gone/refs", {"refs": {}}, 404),
        ("origin", {}, 422),
    ):
        answer = await client.put(f"{REMOTES}/{path}", json=body)
        assert answer.status_code == status, answer.text
    assert (await client.get(REMOTES)).json() == {"remotes": []}
