"""The application with a fake engine, and a client that sends the master key."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient
from safetensors.numpy import save

from baker.history.revisions import RepoView
from baker.model_names import BaseModelNames
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.status import JobState
from baker.storage.home import job_folder
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.types import Checkpoint
from baker.versions import commits
from gateway.app import build_app, build_pipeline, build_services
from gateway.config import Settings
from gateway.services import Services
from tests.fakes import FakeEngine

KEY = "sk-bread-test"
ADAPTER = {"base_model_name_or_path": "fake/base", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
Client = AsyncTestClient[Litestar]


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return services_in(tmp_path)


@pytest.fixture
async def client(services: Services) -> AsyncIterator[Client]:
    async with client_of(services) as opened:
        yield opened


def services_in(home: Path, *, stands_in: bool = True, handlers: Any = None, **settings: Any) -> Services:
    """Args: handlers: replace vLLM's. settings: fields of `Settings`."""
    engine: Any = FakeEngine()
    chosen = Settings(**{"max_body_mib": 1, **settings})
    services = build_services(chosen, home, KEY, engine, BaseModelNames("fake/base", stands_in=stands_in))
    if handlers is None:
        return services
    return services._replace(pipeline=build_pipeline(chosen, services.registry, engine, handlers))


def client_of(services: Services) -> Client:
    client = AsyncTestClient(build_app(services), base_url="http://gateway.local")
    client.headers.update(holding(KEY))
    return client


def holding(key: str) -> dict[str, str]:
    """Headers of a request with this key instead of the client's."""
    return {"Authorization": f"Bearer {key}"}


def new_user(name: str, **fields: str) -> dict[str, str]:
    """A body for POST /v1/admin/users."""
    return {
        "user_id": name,
        "user_alias": name.title(),
        "user_email": f"{name}@example.org",
        "password": "correct horse",
        **fields,
    }


async def add_user(client: Client, name: str) -> str:
    """Create a user. Returns: the user's key."""
    answer = await client.post("/v1/admin/users", json=new_user(name))
    assert answer.status_code == 200, answer.text
    key: str = answer.json()["api_key"]
    return key


async def make_bake(client: Client, user: str, bake: str = "bake") -> None:
    """Create `repo` with the bake, not run yet; nothing if they exist."""
    headers = {"X-User-Id": user}
    await client.post("/v1/repo", json={"repo_name": "repo"}, headers=headers)
    created = await client.post("/v1/repo/repo/bakes", json={"bake_name": bake, "template": "default"}, headers=headers)
    assert created.status_code in (200, 201), created.text


async def finish_bake(
    services: Services,
    user: str,
    repo: str = "repo",
    bake: str = "bake",
    *,
    step: int = 3,
    state: JobState = JobState.COMPLETE,
    parent: str | None = None,
) -> Path:
    """Give an existing bake a job and a checkpoint with files, and serve it. Returns: the job's folder."""

    def finish(catalog: Catalog) -> tuple[Checkpoint, RepoView]:
        config, inputs = bakes.get(catalog, user, repo, bake), BakeInputs({}, parent)
        job = BakeJob(user=user, repo=repo, name=bake, state=state, config=config, inputs=inputs)
        job = catalog.store.jobs.add(job)
        folder = job_folder(services.home, job.id) / "checkpoints" / str(step)
        folder.mkdir(parents=True)
        (folder / "adapter_config.json").write_bytes(msgspec.json.encode(ADAPTER))
        (folder / "adapter_model.safetensors").write_bytes(weights(step))
        checkpoint = Checkpoint(user, repo, bake, step, folder, "0" * 64, 0, job.id, parent=parent)
        checkpoint = commits.committed(catalog, checkpoint)
        catalog.store.checkpoints.add(checkpoint)
        return checkpoint, repo_view(catalog, user, repo)

    checkpoint, view = await services.catalog(finish)
    services.registry.publish(checkpoint)
    services.registry.show(view)
    return job_folder(services.home, checkpoint.job_id)


def weights(step: int) -> bytes:
    """Content of adapter_model.safetensors."""
    return save({"weights": np.full(1000, step, np.float32)})
