"""Lineage over HTTP, with a fake engine."""

import pytest

from gateway.services import Services
from tests.gateway.application import Client, finish_bake, make_bake
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
    names = {"bake_name": "bake", "model_names": [], "name": "bake", "model_name": None}
    assert plan["resources"]["bakes"] == [{**names, "deleted": False}]
    tree = (await client.get("/v1/repo/repo/tree")).json()
    assert (tree["bakes"]["bake"]["status"], tree["edges"]) == ("not_started", [])
    assert (tree["bakes"]["bake"]["model_name"], tree["bakes"]["bake"]["deleted"]) == ([], False)


async def test_a_deleted_parent_stays_in_its_child_s_lineage_until_the_child_goes(
    client: Client, services: Services
) -> None:
    for name in ("bake", "child"):
        await make_bake(client, "admin", name)
    folder = await finish_bake(services, "admin")
    (folder / "metrics.jsonl").write_text('{"iter": 1, "loss": 0.5, "lr": 0.1}\n')
    (folder / "trainer.log").touch()
    child = await finish_bake(services, "admin", bake="child", parent="admin/repo/bake/3")
    bakes = "/v1/repo/repo/bakes"
    assert (await client.delete(f"{bakes}/bake?prune=true")).status_code == 200
    assert (await client.get(f"{bakes}/bake")).status_code == 404
    assert [path.name for path in folder.iterdir()] == ["metrics.jsonl"], "the weights are gone"
    assert (await client.get(f"{bakes}/bake/metrics")).json() == [{"iter": 1, "loss": 0.5, "lr": 0.1}]
    tree = (await client.get("/v1/repo/repo/tree")).json()
    assert tree["edges"] == [["bake", "child", "bake", "bake"]]
    assert {name: (row["deleted"], row["parent"]) for name, row in tree["bakes"].items()} == {
        "bake": (True, None),
        "child": (False, "admin/repo/bake/3"),
    }
    recipe = "/v1/repo/repo/recipe/child"
    graph = (await client.get(f"{recipe}/dependency-graph")).json()
    assert (graph["deleted"], graph["edges"]) == ({"bake": "bake"}, tree["edges"])
    plan = (await client.get(f"{recipe}/recreation-plan")).json()
    assert [(step["action"], step["resource_name"], step["deleted"]) for step in plan["steps"]] == [
        ("create_bake", "bake", True),
        ("run_bake", "bake", True),
        ("create_bake", "child", False),
        ("run_bake", "child", False),
    ]
    models = (await client.get("/v1/models")).json()["data"]
    assert {row["id"]: row["parent"] for row in models if "child" in row["id"]} == dict.fromkeys(
        ("repo/child", "admin/repo/child/3"), "admin/repo/bake/3"
    )
    assert (await client.delete(f"{bakes}/child?prune=true")).status_code == 200
    assert not folder.exists() and not child.exists()
    assert (await client.get(f"{bakes}/bake/metrics")).status_code == 404
