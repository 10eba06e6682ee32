"""Lineage over HTTP, with a fake engine."""

import pytest

from tests.gateway.application import Client
from tests.gateway.routes.bread.filled import fill

pytestmark = pytest.mark.anyio


async def test_lineage_is_shown_as_a_graph_a_plan_and_a_tree(client: Client) -> None:
    await fill(client)
    overrides = {"datasets": [{"target": "target", "weight": 1.0}]}
    await client.post("/v1/repo/repo/bakes", json={"bake_name": "bake", "template": "default", "overrides": overrides})
    graph = (await client.get("/v1/repo/repo/recipe/bake/dependency-graph")).json()
    assert graph["edges"] == [
        ["bake", "bake", "target", "target"],
        ["target", "target", "prompt", "loud"],
        ["target", "target", "prompt", "plain"],
    ]
    assert graph["prompts"] == {"loud": "prompts/loud.yml", "plain": "prompts/plain.yml"}
    assert graph["bakes"]["bake"]["datasets"] == overrides["datasets"]
    assert "u" not in graph["targets"]["target"]
    plan = (await client.get("/v1/repo/repo/recipe/bake/recreation-plan")).json()
    assert [step["step"] for step in plan["steps"]] == list(range(1, plan["total_steps"] + 1))
    assert plan["resources"]["bakes"] == [{"bake_name": "bake", "model_names": [], "name": "bake", "model_name": None}]
    tree = (await client.get("/v1/repo/repo/tree")).json()
    assert (tree["bakes"]["bake"]["status"], tree["bakes"]["bake"]["model_name"], tree["edges"]) == ("pending", [], [])
