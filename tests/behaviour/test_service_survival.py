"""The whole service is killed (SIGKILL) in the middle of undo, gc and the first start with an older home.

The service is the real application with a fake engine, in a process of its own. It kills itself at a chosen statement
or removal of a file (`tests/killer.py`); then it is started again and asked by its clients' routes. A real engine is
in `test_first_bake.py`.
"""

import multiprocessing
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlite_utils import Database

from baker.adapters.base_fingerprint import base_fingerprint
from baker.history.ref_table import RefKind
from baker.model_names import BaseModelNames
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.storage.migrations import MIGRATIONS
from baker.transfer import receiving
from baker.transfer.receiving import Arrival, Data
from baker.types import MovedBy
from baker.versions import promotion, refs
from gateway.app import build_app
from gateway.http import connections
from tests import killer
from tests.asgi_server import served
from tests.baker.transfer.versions import add_version, foreign_commit, write_adapter
from tests.gateway.application import KEY, services_in
from tests.service import ROOT

REPO = "/v1/repo/repo"
TIMES = {"created", "updated", "deleted", "until", "since", "kept_until", "finished", "started", "worked_seconds"}
"""Fields that differ between two runs of the same step."""
Act = Callable[[httpx.Client], httpx.Response]


def serve(home: Path, order: Path, ready: Connection) -> None:
    killer.install(order)
    with served(build_app(services_in(home)), http=connections.Connection) as url:
        ready.send(url)
        threading.Event().wait()


@contextmanager
def running(home: Path, order: Path) -> Iterator[tuple[httpx.Client | None, BaseProcess]]:
    """The service and a client of it; None instead of a client if the service was killed while it started."""
    ready, sending = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=serve, args=(home, order, sending))
    process.start()
    sending.close()
    try:
        with ready:
            url = ready.recv()
    except EOFError:
        process.join()
        yield None, process
    else:
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
            yield client, process
    finally:
        process.kill()
        process.join()
        process.close()


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if key not in TIMES}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def seen(client: httpx.Client, home: Path) -> dict[str, Any]:
    """What clients see of the repo, what each model's name means, and which jobs have files."""
    paths = ("commits?all=true", "refs", "operations", "bakes", "gc")
    state = {path: client.get(f"{REPO}/{path}").json() for path in paths}
    names = [each["id"] for each in client.get("/v1/models").json()["data"]]
    state["models"] = {name: client.get(f"/v1/models/{name}").json() for name in sorted(names)}
    for commit in state["commits?all=true"]["commits"]:
        if commit["model"] is not None:
            blob = client.get(f"{REPO}/blobs/{commit['adapter']}")
            assert blob.status_code == 200 and len(blob.content) > 100, "its files are whole"
    state["jobs"] = sorted(path.relative_to(home).parts[1] for path in (home / "jobs").glob("*/checkpoints"))
    state["leftovers"] = sorted(path.name for path in (home / "jobs").iterdir() if not path.name.isdigit())
    value: dict[str, Any] = without_times(state)
    return value


def opened(home: Path) -> Catalog:
    return Catalog(home, BaseModelNames("fake/base", stands_in=True), base_fingerprint(ROOT))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A repo with a bake of two versions that was promoted, a deleted bake, and a version that nothing reaches."""
    home = tmp_path / "home"
    home.mkdir()
    catalog = opened(home)
    first = add_version(catalog, "one", 1)
    add_version(catalog, "one", 2, step=5, checkpoint=first.name)
    refs.put(catalog, "admin", "repo", "main", RefKind.BRANCH, "one")
    add_version(catalog, "two", 3)
    adapter = write_adapter(home / "jobs/.import-x", 4)
    commit = foreign_commit(adapter, catalog.fingerprint)
    receiving.keep(catalog, "admin", "repo", Arrival(commit, {}, Data(), False), home / "jobs/.import-x", [])
    catalog.store.rows.execute("update checkpoints set created = 0 where commit_id = ?", commit.id)
    catalog.store.rows.execute("update commits set arrived = 0")
    promotion.move(catalog, first, MovedBy.PROMOTE)
    bakes.delete(catalog, "admin", "repo", "two")
    catalog.close()
    return home


def undo(client: httpx.Client) -> httpx.Response:
    """Of the deletion and of the promote before it."""
    numbers = [each["id"] for each in client.get(f"{REPO}/operations").json()["operations"]]
    return client.post(f"{REPO}/undo", json={"operation": numbers[1]})


def prune(client: httpx.Client) -> httpx.Response:
    return client.post(f"{REPO}/gc", json={"prune": True})


@pytest.mark.parametrize(
    ("act", "points"),
    [
        (undo, {"before 40 .": "before", "before 1 ^commit": "before", "after 1 ^commit": "after"}),
        (prune, {"before 1 ^commit": "before", "after 1 ^commit": "after", "remove 1": "after", "remove 3": "after"}),
    ],
    ids=["undo", "gc"],
)
def test_a_step_that_a_kill_interrupts_is_done_or_not(
    home: Path, tmp_path: Path, act: Act, points: dict[str, str]
) -> None:
    order = tmp_path / "order"
    whole = shutil.copytree(home, tmp_path / "whole")
    with running(whole, order) as (client, _):
        assert client is not None
        states = {"before": seen(client, whole)}
        assert act(client).status_code == 200
        states["after"] = seen(client, whole)
    assert states["before"] != states["after"]
    for number, (point, which) in enumerate(points.items()):
        copy = shutil.copytree(home, tmp_path / f"copy{number}")
        with running(copy, order) as (client, process):
            assert client is not None
            order.write_text(point)
            with pytest.raises(httpx.HTTPError):
                act(client)
            process.join()
            assert process.exitcode == -signal.SIGKILL, point
        order.unlink()
        with running(copy, order) as (client, _):
            assert client is not None
            assert seen(client, copy) == states[which], point
            if which == "before":
                assert act(client).status_code == 200
                assert seen(client, copy) == states["after"], f"{point}, repeated"


PARENTS = {"first/3": None, "second/3": "first/3", "second/5": "first/3", "third/3": "second/5"}
"""Checkpoint -> the one that it began from."""


@pytest.fixture
def old_home(tmp_path: Path) -> Path:
    """A home of the version before commits, with files."""
    home = tmp_path / "home"
    home.mkdir()
    connection = sqlite3.connect(home / "bread.db", isolation_level=None)
    db = Database(connection)
    MIGRATIONS.apply(db, stop_before="history")
    connection.execute("insert into repos (user, name, base_model, created) values ('admin', 'repo', 'fake/base', 0)")
    for number, (name, parent) in enumerate(PARENTS.items(), start=1):
        bake, step = name.split("/")
        folder = f"jobs/{number}/checkpoints/{step}"
        sha256 = write_adapter(home / folder, number)
        connection.execute(
            "insert into jobs (stage, user, repo, name, state, config, inputs, depends_on, lines, progress_percent, "
            "warnings, attempts, created) values ('bake', 'admin', 'repo', ?, 'complete', '{}', "
            "'{\"rollouts\": {}, \"checkpoint\": null}', '[]', 3, 100.0, '[]', 1, 0)",
            [bake],
        )
        connection.execute(
            "insert into checkpoints (user, repo, bake, step, path, sha256, created, job_id, parent, moved, moved_by) "
            "values ('admin', 'repo', ?, ?, ?, ?, 7, ?, ?, ?, 'bake')",
            [
                bake,
                step,
                f"jobs/{number}/checkpoints/{step}",
                sha256,
                number,
                parent and f"admin/repo/{parent}",
                number,
            ],
        )
        connection.execute(
            "insert or ignore into bakes (user, repo, name, config, created) values ('admin', 'repo', ?, '{}', 0)",
            [bake],
        )
    db.close()
    return home


def test_a_first_start_with_an_older_home_that_is_killed_is_done_by_the_next(old_home: Path, tmp_path: Path) -> None:
    """Killed in a migration, between two of them, and in the middle of the backfill of commits and operations."""
    order = tmp_path / "order"
    whole = shutil.copytree(old_home, tmp_path / "whole")
    with running(whole, order) as (client, _):
        assert client is not None
        state = seen(client, whole)
    assert len(state["commits?all=true"]["commits"]) == len(PARENTS)
    assert {each["name"]: each["model"] for each in state["refs"]["refs"]} == {
        bake: f"repo/{bake}" for bake in ("first", "second", "third")
    }
    points = (
        "before 1 create.*operations",
        "after 2 ^commit",
        "before 3 insert.*commits",
        "before 2 insert.*operations",
    )
    for number, point in enumerate(points):
        copy = shutil.copytree(old_home, tmp_path / f"copy{number}")
        order.write_text(point)
        with running(copy, order) as (client, process):
            assert client is None and process.exitcode == -signal.SIGKILL, point
        order.unlink()
        with running(copy, order) as (client, _):
            assert client is not None
            assert seen(client, copy) == state, point
