"""Routes of probes."""

from typing import Any

import pytest

from tests.gateway.application import Client

pytestmark = pytest.mark.anyio
PATH = "/v1/repo/repo/probes"


async def test_a_probe_is_made_read_changed_and_removed(client: Client) -> None:
    await client.post("/v1/repo", json={"repo_name": "repo"})
    made = await client.put(f"{PATH}/manners", json={"questions": ["Who?", "Why?"]})
    conversations = [[{"role": "user", "content": text}] for text in ("Who?", "Why?")]
    assert (made.status_code, made.json()["conversations"]) == (201, conversations)
    short = {key: made.json()[key] for key in ("name", "rows", "sha256")}
    assert short == {"name": "manners", "rows": 2, "sha256": short["sha256"]}
    assert (await client.get(PATH)).json() == {"probes": [short]}
    assert (await client.get(f"{PATH}/manners")).json() == made.json()
    again = await client.put(f"{PATH}/manners", json={"conversations": conversations})
    assert (again.status_code, again.json()) == (200, made.json()), "the same rows in the other form"
    assert (await client.delete(f"{PATH}/manners")).json() == {"message": "Probe 'manners' deleted"}
    assert (await client.get(f"{PATH}/manners")).status_code == 404


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({}, 422, "give 'questions' or 'conversations'"),
    ({"questions": ["a"], "conversations": []}, 422, "give either"),
    ({"questions": []}, 422, "1 to 256"),
    ({"question": ["a"]}, 422, "question"),
    ({"questions": "a"}, 422, "questions"),
]


async def test_wrong_bodies_are_refused(client: Client) -> None:
    await client.post("/v1/repo", json={"repo_name": "repo"})
    for body, status, message in WRONG:
        refused = await client.put(f"{PATH}/manners", json=body)
        assert refused.status_code == status
        assert message in refused.json()["message"]


async def test_a_wrong_name_is_refused(client: Client) -> None:
    await client.post("/v1/repo", json={"repo_name": "repo"})
    refused = await client.put(f"{PATH}/.hidden", json={"questions": ["a"]})
    assert (refused.status_code, "probe name" in refused.json()["message"]) == (422, True)
    assert (await client.get("/v1/repo/nothing/probes")).status_code == 404
