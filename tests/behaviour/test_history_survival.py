"""Undo, garbage collection and a new branch that are killed (SIGKILL) at any statement, or that find the disk full.

Nothing that was finished is lost, and nothing half-done is visible: a child process does one step and kills itself
before one of the statements that it sends to the database; the parent opens the database again.
"""

import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from baker.errors import DiskError
from baker.history.commit import Commit, Kind
from baker.history.ref_table import RefKind
from baker.model_names import BaseModelNames
from baker.repos import bakes, prompts
from baker.repos.catalog import Catalog
from baker.types import Prompt
from baker.versions import gc, refs
from tests.baker.versions.history import (
    USER,
    new_repo,
    promote,
    put_bake,
    put_prompt,
    put_target,
    run_bake,
    run_stim,
    seen,
    step,
)

Step = Callable[[Catalog], object]
REPO = "repo0"


def opened(home: Path) -> Catalog:
    return Catalog(home, BaseModelNames("fake/base", stands_in=True))


def state(catalog: Catalog) -> tuple[Any, ...]:
    operations = [each.verb for each in catalog.history.operations.of_repo(USER, REPO)]
    return seen(catalog, REPO), operations, [*catalog.history.commits.of_repo(USER, REPO)], catalog.store.bin.all()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A repo with two bakes, one of which is deleted, a target with a stim, and a version that nothing reaches."""
    home = tmp_path / "home"
    home.mkdir()
    catalog = opened(home)
    assert new_repo(catalog) == REPO
    put_prompt(catalog, REPO, "one", 1)
    put_target(catalog, REPO, "one", 1)
    run_stim(catalog, REPO, "one", 1)
    for name in ("one", "two"):
        put_bake(catalog, REPO, name, 0)
        run_bake(catalog, REPO, name, 1)
        promote(catalog, REPO, name, 1)
    catalog.history.commits.add(USER, REPO, Commit(Kind.MERGE, "a" * 64, None, "base", "lost" * 5000, USER, 1))
    bakes.delete(catalog, USER, REPO, "one")
    catalog.close()
    return home


def undo(catalog: Catalog) -> object:
    return step(catalog, REPO, "undo")


def undo_all(catalog: Catalog) -> object:
    return step(catalog, REPO, "undo", catalog.history.operations.of_repo(USER, REPO)[0].id)


def collect(catalog: Catalog) -> object:
    return gc.collect(catalog, USER, REPO, prune=False)


def prune(catalog: Catalog) -> object:
    return gc.collect(catalog, USER, REPO, prune=True, now=time.time() + 31 * 24 * 3600)


def branch(catalog: Catalog) -> object:
    return refs.put(catalog, USER, REPO, "main", RefKind.BRANCH, "two")


def die_before(home: Path, act: Step, statement: int) -> None:
    """Do the step in this process, which is killed before that statement of it."""
    catalog = opened(home)
    count = 0

    def trace(_: str) -> None:
        nonlocal count
        count += 1
        if count == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    catalog.store.rows._db.conn.set_trace_callback(trace)
    act(catalog)
    os._exit(0)


@pytest.mark.parametrize("act", [undo, undo_all, prune, branch])
def test_a_step_that_is_killed_is_done_wholly_or_not_at_all(home: Path, tmp_path: Path, act: Step) -> None:
    """The steps have hundreds of statements: the first ones are all tried, later ones ever less densely."""
    catalog = opened(home)
    before = state(catalog)
    catalog.close()
    after = None
    statements, endings = 1, set()
    while True:
        copy = tmp_path / f"copy{statements}"
        shutil.copytree(home, copy, ignore=shutil.ignore_patterns("jobs"))
        child = multiprocessing.get_context("fork").Process(target=die_before, args=(copy, act, statements))
        child.start()
        child.join()
        catalog = opened(copy)
        found = without_paths(state(catalog), copy)
        catalog.close()
        endings.add(child.exitcode)
        if child.exitcode == 0:
            after = found
            break
        assert child.exitcode == -signal.SIGKILL
        assert found == without_paths(before, home), f"killed before statement {statements}"
        statements += 1 + statements // 3
    assert endings == {0, -signal.SIGKILL} and after != without_paths(before, home)


def without_paths(value: tuple[Any, ...], home: Path) -> str:
    return repr(value).replace(str(home), "")


@pytest.mark.parametrize("act", [undo, undo_all, collect, prune])
def test_a_step_on_a_full_disk_says_so_and_changes_nothing(home: Path, act: Step) -> None:
    """The operation that the step would append is larger than the space that is left."""
    catalog = opened(home)
    if act in (undo, undo_all):
        prompt = Prompt(messages=[{"role": "user", "content": "long" * 5000}])
        prompts.put(catalog, USER, REPO, "long", prompt, may_change=True)
    before = state(catalog)
    connection = catalog.store.rows._db.conn
    connection.execute("create table filler (text)")
    (pages,) = connection.execute("pragma page_count").fetchone()
    connection.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(Exception, match="full"):
        while True:
            connection.execute("insert into filler values (?)", ["x" * 100])
    with pytest.raises(DiskError, match=r"database or disk is full.*free some space"):
        act(catalog)
    assert state(catalog) == before
    connection.execute(f"pragma max_page_count = {pages + 1000}")
    act(catalog)
    assert state(catalog) != before
    catalog.close()
