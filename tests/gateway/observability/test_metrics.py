"""Metrics of bakes in `/metrics`."""

import re
from typing import Any

import msgspec
import pytest

from baker.repos.catalog import Catalog
from baker.status import JobState, Loss, Progress
from gateway.services import Services
from tests.gateway.application import Client, finish_bake, make_bake

pytestmark = pytest.mark.anyio

LOSS = Loss(latest_loss=0.4, eval_kl_before=0.5, eval_kl=0.1, recovered=0.8, agreement=0.75, drift=0.031)
STEP = Progress(
    step=3,
    total_steps=9,
    epoch=1.0,
    loss=0.4,
    lr=0.002,
    grad_norm=1.5,
    tokens_per_second=420.0,
    eta_seconds=60.5,
    memory_bytes=1 << 30,
    device_memory_bytes=3 << 30,
)


def set_loss(catalog: Catalog, loss: Loss) -> int:
    """Store the loss of the only bake. Returns: its job's number."""
    (job,) = catalog.store.jobs.in_state(JobState.RUNNING, JobState.COMPLETE)
    catalog.update_job(job.id, loss=loss, finished=1)
    return job.id


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.COMPLETE])
async def test_the_evaluations_of_a_bake_stay_when_it_is_complete(
    client: Client, services: Services, state: JobState
) -> None:
    await make_bake(client, "admin")
    await finish_bake(services, "admin", state=state)
    number = await services.catalog(set_loss, LOSS)
    if state is JobState.RUNNING:
        training: Any = services.jobs.training
        training[number] = STEP
    text = (await client.get("/metrics")).text
    series = re.compile(rf'^bread_bake_(\w+)\{{bake="admin/repo/bake",job="{number}"\}} (.*)$', re.MULTILINE)
    shown = dict(series.findall(text))
    evaluated = {
        "eval_kl_before_nats": 0.5,
        "eval_kl_nats": 0.1,
        "recovered": 0.8,
        "agreement": 0.75,
        "drift_nats": 0.031,
    }
    running = {
        "progress_percent": 0.0,
        "loss_nats": 0.4,
        "trainer_tokens_per_second": 420.0,
        "learning_rate": 0.002,
        "gradient_norm": 1.5,
        "time_left_seconds": 60.5,
        "trainer_memory_bytes": 2.0**30,
        "trainer_device_memory_bytes": 3 * 2.0**30,
    }
    expected = evaluated | (running if state is JobState.RUNNING else {})
    assert {name: float(value) for name, value in shown.items()} == expected


async def test_a_bake_without_a_measured_drift_has_no_drift_series(client: Client, services: Services) -> None:
    await make_bake(client, "admin")
    await finish_bake(services, "admin")
    await services.catalog(set_loss, msgspec.structs.replace(LOSS, drift=None))
    text = (await client.get("/metrics")).text
    assert "bread_bake_agreement{" in text and "bread_bake_drift_nats{" not in text
