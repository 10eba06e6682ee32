"""Bakes over HTTP, with a fake engine."""

import pytest

from gateway.services import Services
from tests.gateway.application import Client, finish_bake, make_bake
from tests.gateway.routes.bread.filled import fill

pytestmark = pytest.mark.anyio


async def test_a_started_bake_waits_for_its_rollout(client: Client) -> None:
    await fill(client)
    overrides = {"datasets": [{"target": "target", "weight": 1.0}]}
    created = await client.post(
        "/v1/repo/repo/bakes", json={"bake_name": "bake", "template": "default", "overrides": overrides}
    )
    assert created.status_code == 201
    assert created.json()["status"] == "not_started"
    assert (created.json()["model_name"], created.json()["checkpoints"]) == (None, [])
    assert (await client.get("/v1/repo/repo/bakes")).json()["bakes"] == ["bake"]
    assert (await client.get("/v1/repo/repo/bakes/bake/metrics")).json() == []


async def test_the_curves_of_a_bake_are_a_picture_when_they_are_drawn(client: Client, services: Services) -> None:
    await make_bake(client, "admin")
    path = "/v1/repo/repo/bakes/bake/metrics.png"
    assert (await client.get(path)).status_code == 404
    folder = await finish_bake(services, "admin")
    early = await client.get(path)
    assert early.status_code == 404 and "not drawn yet" in early.json()["message"]
    (folder / "metrics.png").write_bytes(b"\x89PNG and so on")
    drawn = await client.get(path)
    assert (drawn.content, drawn.headers["content-type"]) == (b"\x89PNG and so on", "image/png")
