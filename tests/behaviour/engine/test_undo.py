"""Undo on a real engine: names move back, deleted bakes answer again, and running streams are left alone."""

import asyncio
from pathlib import Path

import pytest

from baker.model_names import BaseModelNames
from baker.repos import bakes, repos
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.storage.one_thread import OneThread
from gateway.engine import Engine
from gateway.errors import UnknownModelError
from gateway.serving.promotion import Promotion
from gateway.serving.undo import Undo
from tests.behaviour.engine.test_swap import TOKENS, Make, answer, make, registry
from tests.gateway.engines import MODEL_NAME

__all__ = ["make"]  # a fixture

pytestmark = pytest.mark.anyio


async def test_undo_moves_names_and_brings_bakes_back_while_streams_run_on(
    engine: Engine, make: Make, tmp_path: Path
) -> None:
    catalog = OneThread(lambda: Catalog(tmp_path, BaseModelNames(MODEL_NAME, stands_in=False)), "store")
    adapters = registry(engine)
    promotion, undo = Promotion(catalog, adapters), Undo(catalog, adapters)
    first, second = make("taken-back", 1), make("taken-back", 2)
    user, repo, bake = first.user, first.repo, first.bake
    name = f"{repo}/{bake}"

    def fill(known: Catalog) -> None:
        repos.put(known, user, repo, None)
        bakes.put(known, user, repo, bake, "default", {}, may_change=False)
        config, inputs = bakes.get(known, user, repo, bake), BakeInputs({}, None)
        for checkpoint in (first, second):
            job = BakeJob(user=user, repo=repo, name=bake, state=JobState.COMPLETE, config=config, inputs=inputs)
            assert known.store.jobs.add(job).id == checkpoint.job_id
            known.store.checkpoints.add(checkpoint)

    async def until_it_streams() -> "asyncio.Task[tuple[int, str]]":
        task = asyncio.create_task(answer(engine, adapters, name, max_tokens=200))
        while engine.adapter_counts.in_use == 0:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        return task

    await catalog(fill)
    adapters.restore([second, first], [second, first])
    await promotion.promote(user, repo, bake, 1)
    running = await until_it_streams()
    await undo.step(user, repo, "undo")
    assert (await answer(engine, adapters, name))[1] == "c" * TOKENS
    assert (await running)[1] == "b" * 200

    running = await until_it_streams()
    await catalog(bakes.delete, user, repo, bake)
    unloading = asyncio.create_task(adapters.unload(adapters.withdraw(user, repo, bake)))
    with pytest.raises(UnknownModelError):
        adapters.resolve(name, user)
    await undo.step(user, repo, "undo")
    assert (await answer(engine, adapters, name))[1] == "c" * TOKENS, "while the old stream is still running"
    assert (await running)[1] == "c" * 200
    await unloading
    assert (await answer(engine, adapters, f"{name}/1"))[1] == "b" * TOKENS
    await undo.step(user, repo, "redo")
    with pytest.raises(UnknownModelError):
        adapters.resolve(name, user)
    catalog.close(Catalog.close)
