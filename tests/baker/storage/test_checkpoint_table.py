from collections.abc import Iterator
from pathlib import Path

import pytest

from baker.storage.store import Store
from baker.types import Checkpoint, MovedBy


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.close()


def checkpoint(home: Path, step: int, job_id: int = 1, bake: str = "bake", user: str = "admin") -> Checkpoint:
    return Checkpoint(user, "repo", bake, step, home / "jobs" / str(job_id) / str(step), "0" * 64, 5, job_id)


def test_checkpoints_are_listed_by_job_and_step_newest_first(store: Store, tmp_path: Path) -> None:
    """A later run's first step is newer than an earlier run's last."""
    first, second, later = checkpoint(tmp_path, 4), checkpoint(tmp_path, 9), checkpoint(tmp_path, 2, job_id=2)
    other, alice = checkpoint(tmp_path, 1, 3, bake="other"), checkpoint(tmp_path, 1, 4, user="alice")
    for each in (second, alice, later, first, other):
        store.checkpoints.add(each)
    assert store.checkpoints.of_bake("admin", "repo", "bake") == [later, second, first]
    assert store.checkpoints.of_user("admin") == [other, later, second, first]
    assert store.checkpoints.all() == [alice, other, later, second, first]


def test_the_name_means_the_last_checkpoint_that_it_moved_to_and_that_still_exists(
    store: Store, tmp_path: Path
) -> None:
    first, second, third = (checkpoint(tmp_path, step) for step in (1, 2, 3))
    store.checkpoints.add(first)
    store.checkpoints.add(second)
    store.checkpoints.add(third, moves_name=False)
    moves = store.checkpoints.moves
    assert moves("admin", "repo", "bake") == [(second, MovedBy.BAKE), (first, MovedBy.BAKE)]
    store.checkpoints.move_name(first, MovedBy.ROLLBACK)
    assert moves("admin", "repo", "bake") == [(first, MovedBy.ROLLBACK), (second, MovedBy.BAKE)]
    store.checkpoints.remove(first.name)
    assert moves("admin", "repo", "bake") == [(second, MovedBy.BAKE)]
    assert store.checkpoints.all_moved() == [second]


def test_paths_are_stored_relative_so_that_the_folder_can_be_moved(store: Store, tmp_path: Path) -> None:
    store.checkpoints.add(checkpoint(tmp_path, 1))
    store.close()
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(moved)
    opened = Store(moved)
    assert opened.checkpoints.all() == [checkpoint(moved, 1)]
    opened.close()
    moved.rename(tmp_path)


def test_checkpoints_of_a_job_can_be_handed_over(store: Store, tmp_path: Path) -> None:
    for step, job_id in ((1, 1), (2, 1), (3, 2)):
        store.checkpoints.add(checkpoint(tmp_path, step, job_id))
    store.checkpoints.hand_over(1, 7)
    assert {known.step: known.job_id for known in store.checkpoints.all()} == {1: 7, 2: 7, 3: 2}


def test_a_deleted_checkpoint_is_only_known_to_those_who_ask_for_records(store: Store, tmp_path: Path) -> None:
    first, second = (checkpoint(tmp_path, step, job_id=7) for step in (1, 2))
    other = checkpoint(tmp_path, 1, bake="other")
    for each in (first, second, other):
        store.checkpoints.add(each)
    store.checkpoints.mark_deleted("admin", "repo", "bake", 2)
    assert store.checkpoints.of_bake("admin", "repo", "bake") == [first]
    assert [move.checkpoint for move in store.checkpoints.moves("admin", "repo", "bake")] == [first]
    assert store.checkpoints.deleted() == {second.name: 7}
    assert store.checkpoints.jobs_of_repo("admin", "repo") == {("bake", 1): 7, ("bake", 2): 7, ("other", 1): 1}
    store.checkpoints.mark_deleted("admin", "repo", "bake")
    assert store.checkpoints.all() == store.checkpoints.all_moved() == [other]
    assert store.checkpoints.deleted_steps("admin", "repo", "bake") == {1, 2}
    store.checkpoints.remove(second.name)
    assert store.checkpoints.deleted() == {first.name: 7}
    store.checkpoints.mark_deleted("admin", "repo")
    assert store.checkpoints.all() == []
