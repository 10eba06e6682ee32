"""A bake's name means the existing checkpoint that it was moved to last."""

import sqlite3
from pathlib import Path

import pytest
from sqlite_utils import Database

from baker.errors import ConflictError, NotFoundError
from baker.model_names import BaseModelNames
from baker.repos import bakes, repos
from baker.repos.catalog import Catalog
from baker.storage.migrations import MIGRATIONS
from baker.types import Checkpoint, MovedBy
from baker.versions import promotion

BAKE = ("admin", "repo", "bake")


@pytest.fixture
def filled(catalog: Catalog) -> Catalog:
    """Three checkpoints; the name was moved to 2 and then to 4."""
    repos.put(catalog, "admin", "repo", None)
    bakes.put(catalog, *BAKE, "default", {}, may_change=False)
    for step, moves_name in ((2, True), (4, True), (5, False)):
        catalog.store.checkpoints.add(made(catalog, step), moves_name=moves_name)
    return catalog


def made(catalog: Catalog, step: int, job_id: int = 1) -> Checkpoint:
    return Checkpoint(*BAKE, step, catalog.store.home / "jobs" / str(job_id) / str(step), "0" * 64, 0, job_id)


def live(catalog: Catalog) -> int | None:
    checkpoint = bakes.find_checkpoint(catalog, *BAKE, None)
    return None if checkpoint is None else checkpoint.step


def promote(catalog: Catalog, step: int) -> None:
    choice = promotion.named(catalog, *BAKE, step)
    if not choice.is_live:
        promotion.move(catalog, choice.checkpoint, MovedBy.PROMOTE)


def roll_back(catalog: Catalog) -> None:
    choice = promotion.before(catalog, *BAKE)
    if not choice.is_live:
        promotion.move(catalog, choice.checkpoint, MovedBy.ROLLBACK)


def test_the_name_moves_to_a_promoted_checkpoint_and_back_once(filled: Catalog, tmp_path: Path) -> None:
    assert live(filled) == 4
    assert [known.step for known in bakes.live_first(filled, *BAKE).checkpoints] == [4, 5, 2]
    promote(filled, 5)
    promote(filled, 5)
    assert live(filled) == 5
    for _ in range(3):  # a client repeats a call whose answer was lost
        roll_back(filled)
        assert live(filled) == 4
    filled.close()
    again = Catalog(filled.store.home, BaseModelNames("fake/base", stands_in=True))
    assert live(again) == 4
    again.store.checkpoints.add(made(again, 6, job_id=2))
    roll_back(again)
    assert live(again) == 4, "after another move, a rollback works again"
    again.close()


def test_when_the_live_checkpoint_is_removed_the_name_means_the_one_before(filled: Catalog) -> None:
    filled.store.checkpoints.remove(made(filled, 4).name)
    assert live(filled) == 2
    with pytest.raises(ConflictError, match=r"meant no other checkpoint before .* it has 5, 2"):
        roll_back(filled)
    filled.store.checkpoints.remove(made(filled, 2).name)
    assert live(filled) is None and bakes.find_checkpoint(filled, *BAKE, 5) is not None


def test_a_checkpoint_that_replaces_another_of_its_number_does_not_become_live(filled: Catalog) -> None:
    filled.store.checkpoints.add(made(filled, 4, job_id=2), moves_name=False)
    assert live(filled) == 2


def test_a_missing_checkpoint_can_t_be_promoted(filled: Catalog) -> None:
    with pytest.raises(NotFoundError, match="no checkpoint 3; it has 5, 4, 2"):
        promotion.named(filled, *BAKE, 3)
    with pytest.raises(NotFoundError, match="Bake 'other'"):
        promotion.named(filled, "admin", "repo", "other", 3)
    choice = promotion.named(filled, *BAKE, 2)
    filled.store.checkpoints.remove(choice.checkpoint.name)
    with pytest.raises(NotFoundError, match="no longer exists"):
        promotion.move(filled, choice.checkpoint, MovedBy.PROMOTE)
    assert live(filled) == 4


def test_names_in_a_database_of_an_older_version_mean_the_newest_and_can_be_rolled_back(tmp_path: Path) -> None:
    db = Database(sqlite3.connect(tmp_path / "bread.db", isolation_level=None))
    MIGRATIONS.apply(db, stop_before="names_point_to_checkpoints")
    for bake, step, job in (("bake", 7, 1), ("bake", 3, 2), ("other", 1, 3), ("bake", 5, 2)):
        db.execute(
            "insert into checkpoints (user, repo, bake, step, path, sha256, created, job_id) "
            "values ('admin', 'repo', ?, ?, ?, '', 0, ?)",
            [bake, step, f"jobs/{job}/{step}", job],
        )
    db.close()
    catalog = Catalog(tmp_path, BaseModelNames("fake/base", stands_in=True))
    assert live(catalog) == 5
    assert [move.checkpoint.step for move in catalog.store.checkpoints.moves(*BAKE)] == [5, 3, 7]
    latest = catalog.store.checkpoints.all_moved()[0]
    assert (latest.bake, latest.step) == ("other", 1)
    catalog.close()
