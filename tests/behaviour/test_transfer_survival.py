"""Versions that arrive while the receiver is killed (SIGKILL): one is whole, or only what was sent of it is there."""

import asyncio
import multiprocessing
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from baker.adapters.base_fingerprint import base_fingerprint
from baker.history.commit import Commit
from baker.repos import repos
from baker.repos.catalog import Catalog
from baker.transfer import receiving
from baker.transfer.receiving import Arrival, Data
from gateway.app import build_app
from gateway.http import connections as http_connections
from tests.asgi_server import served
from tests.baker.transfer.versions import foreign_commit, stream_of, write_adapter
from tests.behaviour.test_history_survival import die_before, opened
from tests.gateway.application import KEY, services_in
from tests.service import ROOT

REPO = "/v1/repo/repo"
ENGINE_SECONDS = 0.5


def serve(home: Path, ready: Connection) -> None:
    """A gateway with a fake engine that takes its time, until it is killed."""
    services = services_in(home)
    engine: Any = services.engine
    score = engine.score

    async def slow(*arguments: Any) -> list[float]:
        await asyncio.sleep(ENGINE_SECONDS)
        scores: list[float] = await score(*arguments)
        return scores

    engine.score = slow
    with served(build_app(services), http=http_connections.Connection) as url:
        ready.send(url)
        threading.Event().wait()


@contextmanager
def gateway(home: Path) -> Iterator[tuple[httpx.Client, BaseProcess]]:
    """The service in a process of its own, which the test may kill."""
    ready, ours = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=serve, args=(home, ours))
    process.start()
    try:
        with httpx.Client(base_url=ready.recv(), headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
            yield client, process
    finally:
        process.kill()
        process.join()
        process.close()
        ready.close()
        ours.close()


def test_a_push_goes_on_after_the_receiver_was_killed(tmp_path: Path) -> None:
    """Killed in the middle of an adapter, then in the middle of its proof; then the push is repeated."""
    home = tmp_path / "home"
    home.mkdir()
    sha256 = write_adapter(tmp_path / "adapter", 1, width=400_000)
    content = stream_of(tmp_path / "adapter")
    size, blob = len(content), f"{REPO}/blobs/{sha256}"
    half = size // 2

    def rest(start: int) -> dict[str, str]:
        return {"Content-Range": f"bytes {start}-{size - 1}/{size}", "Content-Length": str(size - start)}

    with gateway(home) as (client, process):
        client.post("/v1/repo", json={"repo_name": "repo"})
        part = home / "incoming/admin/repo" / f"{sha256}.part"
        written = threading.Event()

        def first_half() -> Iterator[bytes]:
            yield content[:half]
            while not (part.exists() and part.stat().st_size > 1 << 20):
                written.wait(0.01)
            process.kill()
            process.join()
            yield content[half:]

        with pytest.raises(httpx.HTTPError):
            client.put(blob, content=first_half(), headers=rest(0))

    with gateway(home) as (client, process):
        here = int(client.head(blob).headers["upload-offset"])
        assert 0 < here <= half
        assert client.put(blob, content=content[here:], headers=rest(here)).status_code == 201
        commit = foreign_commit(sha256, base_fingerprint(ROOT))  # the fake engine's model is where it runs
        body = {"description": msgspec.to_builtins(commit)}
        timer = threading.Timer(ENGINE_SECONDS / 2, process.kill)
        timer.start()
        with pytest.raises(httpx.HTTPError):
            client.put(f"{REPO}/commits/{commit.id}", json=body)
        timer.join()

    with gateway(home) as (client, process):
        missing = client.post(f"{REPO}/have", json={"commits": [commit.id], "blobs": [sha256]}).json()
        assert missing == {"missing_commits": [commit.id], "missing_blobs": [sha256]}
        assert not any("/repo/" in model["id"] for model in client.get("/v1/models").json()["data"])
        assert client.head(blob).headers["upload-complete"] == "?1", "nothing is sent a second time"
        assert [path.name for path in (home / "jobs").iterdir()] == [], "what was unpacked is gone"
        assert client.put(f"{REPO}/commits/{commit.id}", json=body).status_code == 201
        served = f"admin/repo/{commit.id[:12]}/0"
        assert served in [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert client.get(blob).content == content
        assert not [path for path in (home / "incoming").rglob("*") if path.is_file()]


def keep(commit: Commit, catalog: Catalog) -> object:
    home = catalog.store.home
    arrival = Arrival(commit, {"evaluation": {"eval_kl": 1}}, Data({"a": 1}, {"talk": ["row"]}), False)
    return receiving.keep(catalog, "admin", "repo", arrival, home / "jobs/.import-x", [])


def state(catalog: Catalog) -> tuple[Any, ...]:
    checkpoints = [each.name for each in catalog.store.checkpoints.all()]
    notes = catalog.history.commits.all_notes("admin", "repo")
    return [*catalog.history.commits.of_repo("admin", "repo")], checkpoints, catalog.store.jobs.numbers(), notes


def test_an_arrival_that_is_killed_at_any_statement_is_whole_or_not_at_all(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    catalog = opened(home)
    repos.put(catalog, "admin", "repo", None)
    before = state(catalog)
    catalog.close()
    commit = foreign_commit(write_adapter(home / "jobs/.import-x", 1), "")
    statement = 1
    while True:
        copy = tmp_path / f"copy{statement}"
        shutil.copytree(home, copy)
        act = partial(keep, commit)
        child = multiprocessing.get_context("fork").Process(target=die_before, args=(copy, act, statement))
        child.start()
        child.join()
        catalog = opened(copy)
        now = state(catalog)
        files = [path for path in copy.glob("jobs/*/checkpoints/0/*") if int(path.parts[-4]) in now[2]]
        catalog.close()
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        assert now == before, f"killed before statement {statement}"
        statement += 1 + statement // 4
    assert statement > 5
    assert now == ([commit.id], [f"admin/repo/{commit.id[:12]}/0"], {1}, {commit.id: {"evaluation": {"eval_kl": 1}}})
    assert sorted(path.name for path in files) == ["adapter_config.json", "adapter_model.safetensors"]
