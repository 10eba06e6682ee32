"""Repos and prompts over HTTP, with a fake engine."""

import pytest

from tests.gateway.application import Client
from tests.gateway.routes.bread.filled import fill

pytestmark = pytest.mark.anyio


async def test_repos_are_listed_for_every_generation_of_clients(client: Client) -> None:
    assert (await client.get("/v1/repo")).json() == {"repos": [], "items": []}
    for name in ("b", "a", "c"):
        created = await client.post("/v1/repo", json={"repo_name": name, "base_model": "Qwen/Qwen3-32B"})
        assert (created.status_code, created.json()) == (201, {"repo_name": name, "base_model": "Qwen/Qwen3-32B"})
    assert (await client.post("/v1/repo", json={"repo_name": "a"})).status_code == 200
    listed = (await client.get("/v1/repo")).json()
    assert listed["repos"] == ["b", "a", "c"]
    assert listed["items"][0] == {"repo_name": "b", "base_model": "Qwen/Qwen3-32B"}
    page = (await client.get("/v1/repo?include_metadata=true&offset=1&limit=1")).json()
    assert page["repos"] == [{"repo_name": "a", "base_model": "Qwen/Qwen3-32B"}]
    assert (page["offset"], page["limit"], page["has_more"], page["total"]) == (1, 1, True, 3)


async def test_a_conflict_asks_clients_not_to_retry(client: Client) -> None:
    await client.put("/v1/repo", json={"repo_name": "repo"})
    refused = await client.put("/v1/repo", json={"repo_name": "repo", "base_model": "Other/Model"})
    assert refused.status_code == 409
    assert refused.headers["x-should-retry"] == "false"
    assert refused.json()["code"] == "RESOURCE_CONFLICT"
    assert refused.json()["message"] == refused.json()["error"]


async def test_prompts_are_created_changed_listed_and_deleted(client: Client) -> None:
    await fill(client)
    messages = [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
    created = await client.post("/v1/repo/repo/prompts", json={"prompt_name": "calls", "messages": messages})
    assert (created.status_code, created.json()["messages"], created.json()["tools"]) == (201, messages, None)
    other = await client.post("/v1/repo/repo/prompts", json={"prompt_name": "calls", "messages": []})
    assert other.status_code == 409
    assert (await client.put("/v1/repo/repo/prompts/calls", json={"messages": []})).status_code == 200
    assert (await client.get("/v1/repo/repo/prompts")).json()["prompts"] == ["loud", "plain", "calls"]
    deleted = (await client.delete("/v1/repo/repo/prompts/calls")).json()
    assert (deleted["message"], deleted["undoable"]) == ("Prompt 'calls' deleted", True)
    assert (await client.get("/v1/repo/repo/prompts/calls")).status_code == 404


async def test_true_and_1_are_different_in_a_prompt(client: Client) -> None:
    await client.put("/v1/repo", json={"repo_name": "repo"})
    for strict in (1, True, 1):
        tools = [{"type": "function", "function": {"name": "f", "strict": strict}}]
        done = await client.put("/v1/repo/repo/prompts/p", json={"messages": [], "tools": tools})
        assert done.json()["tools"][0]["function"]["strict"] is strict
