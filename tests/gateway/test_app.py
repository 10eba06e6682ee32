"""The wiring of the application, its start and its end."""

import re
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from baker.model_names import BaseModelNames
from gateway.app import (
    EMBEDDED_ROLLOUT_MAX_TOKENS,
    ROLLOUT_MAX_TOKENS,
    WITH_OWN_METRICS,
    _rollout_max_tokens,
    _sweep,
    build_app,
)
from gateway.http.openapi import INFERENCE_BODIES
from gateway.services import Services
from tests.gateway.application import client_of, finish_bake, make_bake, services_in

pytestmark = pytest.mark.anyio


def test_the_sweep_removes_what_a_crash_left_and_nothing_else(tmp_path: Path) -> None:
    for name in ("1", "2", "30", ".import-1", "notes"):
        (tmp_path / "jobs" / name).mkdir(parents=True)
        (tmp_path / "jobs" / name / "trainer.log").touch()
        (tmp_path / "jobs" / name / "metrics.jsonl").touch()
    _sweep(tmp_path, {1, 30}, {30})
    assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == ["1", "30", "notes"]
    assert [path.name for path in (tmp_path / "jobs" / "30").iterdir()] == ["metrics.jsonl"], "a deleted bake's record"
    assert len(list((tmp_path / "jobs" / "1").iterdir())) == 2
    _sweep(tmp_path / "new", set(), set())


@pytest.mark.parametrize(("stands_in", "longest"), [(True, EMBEDDED_ROLLOUT_MAX_TOKENS), (False, ROLLOUT_MAX_TOKENS)])
def test_rollouts_of_the_embedded_model_are_shorter(stands_in: bool, longest: int) -> None:
    assert _rollout_max_tokens(BaseModelNames("fake/base", stands_in=stands_in)) == longest


async def test_finished_bakes_are_served_again_after_a_restart(services: Services) -> None:
    async with client_of(services) as client:
        await make_bake(client, "admin")
        await finish_bake(services, "admin")
    async with client_of(services_in(services.home)) as client:
        models = (await client.get("/v1/models")).json()["data"]
    assert [model["id"] for model in models] == ["fake/base", "repo/bake", "admin/repo/bake/3"]


async def test_the_engine_is_stopped_and_the_store_closed_at_the_end(services: Services) -> None:
    stopped: list[str] = []
    engine: Any = services.engine
    stop = engine.stop

    async def recorded_stop() -> None:
        stopped.append("engine")
        await stop()

    engine.stop = recorded_stop
    async with client_of(services):
        assert stopped == []
    assert stopped == ["engine"]


def test_every_model_request_is_left_out_of_litestars_metrics(services: Services) -> None:
    """They have metrics of their own."""
    app: Litestar = build_app(services)
    paths = {route.path_format for route in app.routes if isinstance(route, HTTPRoute)}
    excluded = {path for path in paths if re.match(WITH_OWN_METRICS, path)}
    assert excluded == set(INFERENCE_BODIES) - {"/v1/embeddings"}
