"""Which versions a merge adds up, from what, and what it refuses."""

import msgspec
import pytest

from baker.config.bake import BakeConfig, bake_config
from baker.config.target import TargetConfig
from baker.errors import BakeryError, ConflictError, InvalidInputError, NotFoundError
from baker.history.commit import Commit, Kind, Parent
from baker.history.ref_table import Ref, RefKind
from baker.merging.plan import FAST_FORWARD, UP_TO_DATE, plan_merge
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.job_inputs import MergeInputs, MergeSide, TargetSnapshot
from baker.types import Checkpoint, Prompt
from tests.baker.grown import baked
from tests.baker.grown import merged as planned_merge


def config(*others: str, **merge: object) -> BakeConfig:
    return bake_config({"merge": {"others": list(others), **merge}})


def plan(catalog: Catalog, into: Checkpoint | None, *others: str, **merge: object) -> MergeInputs:
    return plan_merge(catalog, "admin", "repo", config(*others, **merge), into)


def id_of(checkpoint: Checkpoint) -> str:
    assert checkpoint.commit_id is not None
    return checkpoint.commit_id


def side(label: str, checkpoint: Checkpoint, weight: float, *own: Checkpoint) -> MergeSide:
    jobs = [each.job_id for each in own or (checkpoint,)]
    return MergeSide(label, id_of(checkpoint), checkpoint.name, weight, jobs)


def test_two_bakes_of_the_base_model_are_added_up(catalog: Catalog) -> None:
    a, b = baked(catalog, "a"), baked(catalog, "b")
    inputs = plan(catalog, a, "b")
    assert inputs == MergeInputs([side("a", a, 1.0), side("b", b, 1.0)], None, None)
    assert inputs.base_weight == -1.0


def test_changes_are_counted_from_the_merge_base(catalog: Catalog) -> None:
    tone = baked(catalog, "tone")
    a1 = baked(catalog, "a1", tone)
    a, b = baked(catalog, "a", a1), baked(catalog, "b", tone)
    inputs = plan(catalog, a, "b", weights=[0.7, 0.3])
    assert inputs == MergeInputs([side("a", a, 0.7, a, a1), side("b", b, 0.3)], tone.name, id_of(tone))
    assert inputs.base_weight == pytest.approx(0.0)


def test_three_versions(catalog: Catalog) -> None:
    a, _b, c = (baked(catalog, name) for name in "abc")
    assert [each.label for each in plan(catalog, a, "b", id_of(c)[:9]).sides] == ["a", "b", id_of(c)[:9]]


def test_a_cherry_pick_counts_from_the_picked_version_s_parent(catalog: Catalog) -> None:
    tone = baked(catalog, "tone")
    picked, a = baked(catalog, "x", tone), baked(catalog, "a")
    inputs = plan(catalog, a, "x", kind="cherry_pick")
    assert inputs == MergeInputs([side("a", a, 1.0), side("x", picked, 1.0)], tone.name, id_of(tone))
    assert plan(catalog, a, "tone", kind="cherry_pick").base is None, "its parent is the base model"


def test_a_revert_takes_out_what_an_ancestor_changed(catalog: Catalog) -> None:
    first = baked(catalog, "first")
    second = baked(catalog, "second", first)
    third = baked(catalog, "third", second)
    inputs = plan(catalog, third, "second", kind="revert")
    assert inputs == MergeInputs([side("third", third, 1.0), side("second", second, -1.0)], first.name, id_of(first))
    # first + (third - first) - (second - first)
    assert inputs.base_weight == 1.0
    with pytest.raises(ConflictError, match="newest version itself"):
        plan(catalog, third, "third", kind="revert")
    with pytest.raises(ConflictError, match="no ancestor"):
        plan(catalog, second, "third", kind="revert")


@pytest.mark.parametrize(
    "into, other, kind", [("b", "a", UP_TO_DATE), ("a", "b", FAST_FORWARD), ("a", "a", UP_TO_DATE)]
)
def test_nothing_is_merged_that_came_from_the_other(catalog: Catalog, into: str, other: str, kind: str) -> None:
    a = baked(catalog, "a")
    versions = {"a": a, "b": baked(catalog, "b", a)}
    with pytest.raises(ConflictError) as caught:
        plan(catalog, versions[into], other)
    assert caught.value.detail and caught.value.detail[0]["type"] == kind


def test_a_criss_cross_asks_for_the_merge_base(catalog: Catalog) -> None:
    a, b = baked(catalog, "a"), baked(catalog, "b")
    left, right = (merged(catalog, name, a, b) for name in ("left", "right"))
    with pytest.raises(ConflictError, match="--merge-base") as caught:
        plan(catalog, left, "right")
    assert id_of(a)[:12] in caught.value.message and id_of(b)[:12] in caught.value.message
    inputs = plan(catalog, left, "right", base="a")
    assert (inputs.base, [each.jobs for each in inputs.sides]) == (a.name, [[], []]), "both have what b taught"
    assert id_of(right) == inputs.sides[1].commit


def merged(catalog: Catalog, name: str, *parents: Checkpoint) -> Checkpoint:
    """A merge of these versions."""
    made = baked(catalog, name, parents[0])
    inputs = MergeInputs([side(each.bake, each, 1.0) for each in parents], None, None)
    job = catalog.store.jobs.find_bake(made.job_id)
    assert job is not None
    catalog.store.jobs.update(job.id, inputs=msgspec.structs.replace(job.inputs, merge=inputs))
    old = catalog.history.commits.of_repo("admin", "repo")[id_of(made)]
    commit = msgspec.structs.replace(old, kind=Kind.MERGE, parents=tuple(Parent(id_of(each)) for each in parents))
    catalog.history.commits.add("admin", "repo", commit)
    changed = msgspec.structs.replace(made, commit_id=commit.id)
    catalog.store.checkpoints.set_commit(changed)
    return changed


def test_a_merge_has_the_rows_of_its_parents(catalog: Catalog) -> None:
    a, b, c = (baked(catalog, name) for name in "abc")
    both = merged(catalog, "both", a, b)
    inputs = plan(catalog, both, "c")
    assert inputs.sides[0].jobs == [b.job_id, a.job_id], "not the merge's own, which are copies of these"
    assert inputs.sides[1].jobs == [c.job_id]


def test_versions_that_can_not_be_merged_are_refused(catalog: Catalog) -> None:
    a, _ = baked(catalog, "a"), baked(catalog, "b")
    refusals: list[tuple[type[BakeryError], str, Checkpoint | None, str]] = [
        (InvalidInputError, "is the base model", a, "base"),
        (InvalidInputError, "strength", a, "b@0.5"),
        (NotFoundError, "no revision 'gone'", a, "gone"),
        (InvalidInputError, "no version of repo 'repo' to merge into", None, "b"),
    ]
    for error, reason, into, other in refusals:
        with pytest.raises(error, match=reason):
            plan(catalog, into, other)


def test_a_version_that_was_held_back_or_still_trains_is_refused_on_either_side(catalog: Catalog) -> None:
    a, b = baked(catalog, "a"), baked(catalog, "b")
    catalog.store.jobs.update(b.job_id, held_back="recovered 0.1")
    assert plan(catalog, a, "b").sides[1].label == "b", "its name means it: a user promoted it"
    later = baked(catalog, "b", steps=(6,))
    for into, other in ((a, "b/3"), (b, "a")):
        with pytest.raises(InvalidInputError, match=r"held back \(recovered 0\.1\)"):
            plan(catalog, into, other)
        assert plan(catalog, into, other, allows_held_back=True).sides
    for into, other in ((a, "b"), (later, "a")):
        catalog.store.jobs.update(later.job_id, state=JobState.RUNNING)
        with pytest.raises(ConflictError, match="still training"):
            plan(catalog, into, other, allows_held_back=True)


def test_of_several_versions_none_counts_twice(catalog: Catalog) -> None:
    a, b = baked(catalog, "a"), baked(catalog, "b")
    child, c = baked(catalog, "child", b), baked(catalog, "c", a)
    for into, others, reason in (
        (a, ("b", "b"), f"{id_of(b)[:12]} is named twice"),
        (a, ("b", id_of(b)[:9]), "is named twice"),
        (a, ("b", "child"), f"{id_of(child)[:12]} already has everything of {id_of(b)[:12]}"),
        (c, ("a", "b"), f"leave {id_of(a)[:12]} out"),
        (a, ("b", "c"), f"leave {id_of(a)[:12]} out"),
    ):
        with pytest.raises(ConflictError, match=reason) as caught:
            plan(catalog, into, *others)
        assert not caught.value.detail, "not up to date: there is something else to merge"


def test_a_version_that_only_another_server_names_is_called_by_its_id(catalog: Catalog) -> None:
    a, b = baked(catalog, "a", steps=(3, 6)), baked(catalog, "b")
    first = next(each for each in bakes.checkpoints(catalog, "admin", "repo", "a") if each.step == 3)
    catalog.history.refs.put("admin", "repo", Ref("origin/a", RefKind.REMOTE, id_of(first)))
    assert [each.label for each in plan(catalog, first, "b").sides] == [id_of(first)[:12], b.bake]
    assert a.commit_id != first.commit_id


def test_an_adapter_of_another_base_model_is_refused(catalog: Catalog) -> None:
    a, b = baked(catalog, "a"), baked(catalog, "b")
    known = catalog.history.commits.of_repo("admin", "repo")[id_of(b)]
    foreign: Commit = msgspec.structs.replace(known, base="f" * 64)
    catalog.history.commits.add("admin", "repo", foreign)
    catalog.store.checkpoints.set_commit(msgspec.structs.replace(b, commit_id=foreign.id))
    with pytest.raises(InvalidInputError, match=r"another base model \(f{12}\)"):
        plan(catalog, a, foreign.id[:9])


def test_on_policy_rounds_need_one_teacher(catalog: Catalog) -> None:
    a, b = baked(catalog, "a"), baked(catalog, "b")
    rounds = bake_config({"merge": {"others": ["b"]}, "data": {"on_policy": {"rounds": 1}}})
    job = catalog.store.jobs.find_bake(b.job_id)
    assert job is not None
    for teacher, is_refused in ((None, False), ("admin/repo/other/3", True)):
        job.inputs.targets["talk"] = TargetSnapshot(TargetConfig(), Prompt(), Prompt(), checkpoint=teacher)
        catalog.store.jobs.update(job.id, inputs=job.inputs)
        if is_refused:
            with pytest.raises(InvalidInputError, match="'b' learned from another model than the merge base"):
                plan_merge(catalog, "admin", "repo", rounds, a)
        else:
            assert plan_merge(catalog, "admin", "repo", rounds, a).base is None


def test_a_probe_measures_versions_without_rows(catalog: Catalog) -> None:
    a = baked(catalog, "a")
    baked(catalog, "b")
    with pytest.raises(NotFoundError, match="robe"):
        plan(catalog, a, "b", probe="hard")


def test_a_version_that_was_held_back_may_be_taken_out(catalog: Catalog) -> None:
    for name in ("a", "b"):
        baked(catalog, name)
    held = planned_merge(catalog, "held", "a", "b", held_back="too little is left")
    child = baked(catalog, "child", held)
    with pytest.raises(InvalidInputError, match="held back"):
        plan(catalog, baked(catalog, "other"), "held/0", kind="cherry_pick", base="a")
    assert [each.weight for each in plan(catalog, child, "held/0", kind="revert", base="a").sides] == [1.0, -1.0]
