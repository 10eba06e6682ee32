"""Branches, tags and steps such as `~1` as models, on a real engine: they answer at once, and streams run on."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from baker.history.ref_table import RefKind
from baker.history.revisions import RepoView
from baker.model_names import BaseModelNames
from baker.repos import bakes, repos
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.types import Checkpoint
from baker.versions import checkpoints, refs
from gateway.engine import Engine
from gateway.errors import UnknownModelError
from tests.behaviour.engine.test_swap import TOKENS, Make, answer, make, registry
from tests.gateway.engines import MODEL_NAME

__all__ = ["make"]  # a fixture

pytestmark = pytest.mark.anyio


def opened(home: Path) -> Catalog:
    return Catalog(home, BaseModelNames(MODEL_NAME, stands_in=False))


def kept(catalog: Catalog, version: Checkpoint, parent: Checkpoint | None) -> tuple[Checkpoint, RepoView]:
    """Store the version as the result of its bake, on top of the parent."""
    place = version.user, version.repo
    repos.put(catalog, *place, None)
    bakes.put(catalog, *place, version.bake, "default", {}, may_change=False)
    config, inputs = bakes.get(catalog, *place, version.bake), BakeInputs({}, parent and parent.name)
    job = catalog.store.jobs.add(
        BakeJob(user=version.user, repo=version.repo, name=version.bake, config=config, inputs=inputs)
    )
    row = msgspec.structs.replace(version, job_id=job.id, parent=parent and parent.name)
    stored = checkpoints.keep(catalog, job, [row], [row], is_result=True)
    return stored.checkpoints[-1], stored.view


async def test_names_answer_at_once_and_a_move_leaves_running_streams_alone(
    engine: Engine, make: Make, tmp_path: Path
) -> None:
    catalog, adapters = opened(tmp_path), registry(engine)
    first, _ = kept(catalog, make("calm", 1), None)
    second, view = kept(catalog, make("loud", 2), first)
    for version in (first, second):
        adapters.publish(version)
    adapters.show(view)
    user, repo = first.user, first.repo

    def put(name: str, kind: RefKind, to: str) -> None:
        refs.put(catalog, user, repo, name, kind, to)
        adapters.show(repo_view(catalog, user, repo))

    async def text(name: str) -> str:
        return (await answer(engine, adapters, f"{repo}/{name}"))[1]

    put("main", RefKind.BRANCH, "calm")
    put("v1", RefKind.TAG, "main")
    running = asyncio.create_task(answer(engine, adapters, f"{repo}/main", max_tokens=200))
    while engine.adapter_counts.in_use == 0:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)
    put("main", RefKind.BRANCH, "loud")
    assert await text("main") == "c" * TOKENS, "while the old stream is still running"
    assert (await running)[1] == "b" * 200
    short_id = (second.commit_id or "")[:7]
    for name, letter in (("v1", "b"), ("main~1", "b"), ("loud^", "b"), ("main@{1}", "b"), (short_id, "c")):
        assert await text(name) == letter * TOKENS, name
    assert await text("main~1@1") == "b" * TOKENS
    assert adapters.resolve(f"{repo}/main~1@0", user).name == f"{first.name}@0"
    with pytest.raises(UnknownModelError):
        adapters.resolve(f"{repo}/main", "somebody")

    catalog.close()
    again, reopened = registry(engine), opened(tmp_path)
    again.restore([second, first], [second, first], [repo_view(reopened, user, repo)])
    for name in ("main", "v1", "main~1", "main@{1}"):
        assert again.resolve(f"{repo}/{name}", user) == adapters.resolve(f"{repo}/{name}", user)
    reopened.close()
