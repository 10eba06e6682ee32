from pathlib import Path

from baker.types import Checkpoint
from gateway.serving.pointers import Bakes, Versions


def checkpoint(step: int, job_id: int = 1, bake: str = "bake") -> Checkpoint:
    return Checkpoint("admin", "repo", bake, step, Path(f"{job_id}/{step}"), "0" * 64, 0, job_id)


def test_a_name_points_to_nothing_until_it_is_moved() -> None:
    versions = Versions()
    versions.add(checkpoint(1))
    assert versions.live is None and len(versions) == 1
    versions.point_to(1)
    assert versions.live == checkpoint(1)


def test_the_name_falls_back_to_where_it_pointed_before() -> None:
    versions = Versions()
    for step in (1, 2, 3):
        versions.add(checkpoint(step))
        versions.point_to(step)
    versions.point_to(1)
    versions.remove(checkpoint(1))
    assert versions.live == checkpoint(3)
    versions.remove(checkpoint(3))
    assert versions.live == checkpoint(2)
    versions.remove(checkpoint(2))
    assert versions.live is None and len(versions) == 0


def test_a_namesake_of_another_run_takes_the_step_and_is_not_removed_with_the_old_one() -> None:
    versions, old, new = Versions(), checkpoint(1, job_id=1), checkpoint(1, job_id=2)
    versions.add(old)
    versions.point_to(1)
    versions.add(new)
    assert versions.live is None, "the pointer went with the old checkpoint"
    versions.remove(old)
    assert versions.find(1) == new
    versions.add(new)
    assert versions.newest_first == [new]


def test_bakes_are_listed_newest_first_each_name_before_its_checkpoints() -> None:
    bakes = Bakes()
    for each in (checkpoint(1), checkpoint(4, job_id=2, bake="other"), checkpoint(5, job_id=2, bake="other")):
        bakes.of(each).add(each)
    bakes.of(checkpoint(1)).point_to(1)
    assert [versions.newest_first[0].bake for versions in bakes.newest_first()] == ["other", "bake"]
    assert list(bakes.names()) == ["admin/repo/other/5", "admin/repo/other/4", "repo/bake", "admin/repo/bake/1"]
    assert bakes.find("repo", "other", None) is None
    assert bakes.find("repo", "other", 4) == checkpoint(4, job_id=2, bake="other")


def test_a_bake_without_checkpoints_is_forgotten() -> None:
    bakes = Bakes()
    bakes.of(checkpoint(1)).add(checkpoint(1))
    bakes.remove(checkpoint(1))
    bakes.remove(checkpoint(1))
    assert bakes.versions == {}
