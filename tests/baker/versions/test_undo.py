"""Undo and redo of everything that a repo can have; nothing is ever lost."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baker.comparison import probes
from baker.errors import ConflictError, NotFoundError
from baker.history.ref_table import Ref, RefKind
from baker.repos import bakes, pointers, prompts, recycle_bin, repos, targets
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.versions import undo
from tests.baker.repos.filled import TEMPLATE
from tests.baker.versions.history import (
    NAMES,
    USER,
    VERBS,
    act,
    new_repo,
    promote,
    put_bake,
    put_prompt,
    put_target,
    roll_back,
    run_bake,
    run_stim,
    seen,
    step,
)

ACTIONS = st.lists(
    st.tuples(st.sampled_from([*VERBS]), st.sampled_from(NAMES), st.integers(0, 3)), min_size=1, max_size=20
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
def test_as_many_undos_give_the_starting_state_and_as_many_redos_the_final_one(
    catalog: Catalog, actions: list[tuple[str, str, int]]
) -> None:
    repo = new_repo(catalog)
    states = [seen(catalog, repo)]
    for action in actions:
        count = len(catalog.history.operations.of_repo(USER, repo))
        act(catalog, repo, action)
        if len(catalog.history.operations.of_repo(USER, repo)) > count:
            states.append(seen(catalog, repo))
        elif count:  # only a job ran, if anything
            states[-1] = seen(catalog, repo)
    for before in reversed(states[:-1]):
        step(catalog, repo, "undo")
        check(seen(catalog, repo), before)
    assert seen(catalog, repo) == states[0]
    for after in states[1:]:
        step(catalog, repo, "redo")
        check(seen(catalog, repo), after)
    assert seen(catalog, repo) == states[-1]
    with pytest.raises(ConflictError, match="nothing to redo"):
        step(catalog, repo, "redo")


def check(present: dict[str, Any], expected: dict[str, Any]) -> None:
    """All is as expected. To run a job is no operation: later ones may be there, and they replace checkpoints that were
    held back."""
    later = ("jobs", "checkpoints")
    assert {key: value for key, value in present.items() if key not in later} == {
        key: value for key, value in expected.items() if key not in later
    }
    assert all(job in present["jobs"] for job in expected["jobs"])


def test_a_deleted_bake_comes_back_with_its_jobs_checkpoints_and_moves(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    put_bake(catalog, repo, "one", 0)
    run_bake(catalog, repo, "one", 1)
    promote(catalog, repo, "one", 1)
    before = seen(catalog, repo)
    assert before["jobs"] and len(before["pointers"]["one"]["moves"]) == 2
    deletion = bakes.delete(catalog, USER, repo, "one")
    assert deletion.is_undoable and deletion.removed == []
    done = step(catalog, repo, "undo")
    assert seen(catalog, repo) == before
    (meaning,) = done.meanings
    assert [each.step for each in meaning.latest_moved_first] == [1, 2]


def test_jobs_of_another_config_are_set_aside_and_come_back(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    put_target(catalog, repo, "one", 0)
    put_target(catalog, repo, "one", 1)
    run_stim(catalog, repo, "one", 1)
    step(catalog, repo, "undo")
    assert catalog.store.jobs.latest(Stage.STIM, USER, repo, "one") is None, "its questions are not those of the config"
    step(catalog, repo, "redo")
    assert catalog.store.jobs.latest(Stage.STIM, USER, repo, "one") is not None


def test_a_name_that_was_given_again_is_not_taken_from_its_new_owner(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    put_bake(catalog, repo, "one", 0)
    old = run_bake(catalog, repo, "one", 1)
    deletion = bakes.delete(catalog, USER, repo, "one")
    put_bake(catalog, repo, "one", 1)
    new = run_bake(catalog, repo, "one", 1)
    assert new.step != old.step, "no name ever means one or the other"
    step(catalog, repo, "undo")
    step(catalog, repo, "undo")
    step(catalog, repo, "undo")
    assert [each.step for each in bakes.checkpoints(catalog, USER, repo, "one")] == [2, 1]
    assert deletion.operation is not None


def test_what_changed_since_is_not_overwritten(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    put_prompt(catalog, repo, "one", 1)
    catalog.store.remove("prompts", USER, repo, "one")  # not by an operation
    with pytest.raises(ConflictError, match=r"Can't undo operation 1 \(put prompt one\): prompt 'one' is missing now"):
        step(catalog, repo, "undo")
    assert len(catalog.history.operations.of_repo(USER, repo)) == 1


def test_a_pointer_that_moved_since_is_named_with_both_values(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    put_bake(catalog, repo, "one", 0)
    run_bake(catalog, repo, "one", 1)
    catalog.store.checkpoints.move_name(bakes.checkpoints(catalog, USER, repo, "one")[1], pointers.MovedBy.PROMOTE)
    with pytest.raises(ConflictError, match="the name 'one' is 1 now, and was 2"):
        step(catalog, repo, "undo")


def test_nothing_is_undone_while_a_job_is_active_on_it(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    put_bake(catalog, repo, "one", 0)
    checkpoint = run_bake(catalog, repo, "one", 1)
    catalog.store.jobs.update(checkpoint.job_id, state=JobState.RUNNING)
    with pytest.raises(ConflictError, match="Bake 'one' is running"):
        step(catalog, repo, "undo")


def test_a_version_that_a_tag_names_is_neither_deleted_nor_undone(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    put_bake(catalog, repo, "one", 0)
    run_bake(catalog, repo, "one", 1)
    commit = bakes.checkpoints(catalog, USER, repo, "one")[0].commit_id
    assert commit is not None
    catalog.history.refs.put(USER, repo, Ref("v1", RefKind.TAG, commit))
    with pytest.raises(ConflictError, match=r"The tag 'v1' names '.*/one/2': move or delete it first"):
        bakes.delete(catalog, USER, repo, "one")
    step(catalog, repo, "undo")
    with pytest.raises(ConflictError, match="The tag 'v1' names"):
        step(catalog, repo, "undo")


def test_the_bin_s_end_is_the_end_of_undo(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    put_bake(catalog, repo, "one", 0)
    checkpoint = run_bake(catalog, repo, "one", 1)
    bakes.delete(catalog, USER, repo, "one")
    (binned,) = catalog.store.bin.all()
    assert recycle_bin.sweep(catalog, binned.deleted + recycle_bin.KEPT_SECONDS - 1) == []
    assert recycle_bin.sweep(catalog, binned.deleted + recycle_bin.KEPT_SECONDS) == [checkpoint.job_id]
    with pytest.raises(ConflictError, match="removed for good"):
        step(catalog, repo, "undo")
    assert catalog.store.jobs.find(checkpoint.job_id) is None


@pytest.mark.parametrize("kind", ["prompt", "target", "bake"])
def test_what_was_pruned_can_t_come_back_and_its_text_is_gone(catalog: Catalog, kind: str) -> None:
    repo = new_repo(catalog)
    put_prompt(catalog, repo, "other", 1)
    if kind == "prompt":
        put_prompt(catalog, repo, "one", 7)
        prompts.delete(catalog, USER, repo, "one")
        put_prompt(catalog, repo, "one", 8)
        deletion = prompts.delete(catalog, USER, repo, "one", prune=True)
    elif kind == "target":
        put_target(catalog, repo, "one", 7)
        run_stim(catalog, repo, "one", 1)
        targets.delete(catalog, USER, repo, "one")
        put_target(catalog, repo, "one", 8)
        deletion = targets.delete(catalog, USER, repo, "one", prune=True)
    else:
        put_bake(catalog, repo, "one", 7)
        run_bake(catalog, repo, "one", 1)
        bakes.delete(catalog, USER, repo, "one")
        put_bake(catalog, repo, "one", 8)
        deletion = bakes.delete(catalog, USER, repo, "one", prune=True)
    assert not deletion.is_undoable and len(deletion.removed) == (kind != "prompt")
    with pytest.raises(ConflictError, match=r'can\'t be undone.* send {"operation": 1}'):
        step(catalog, repo, "undo")
    values = str([operation.changes for operation in catalog.history.operations.of_repo(USER, repo)[1:]])
    assert "Prompt" not in values and "Question" not in values and "epochs" not in values
    step(catalog, repo, "undo", 1)
    assert catalog.names("prompts", USER, repo) == []
    step(catalog, repo, "redo")
    assert catalog.names("prompts", USER, repo) == ["other"]


def test_a_plan_that_another_operation_overtook_is_refused(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    put_prompt(catalog, repo, "one", 1)
    planned = undo.plan(catalog, USER, repo, "undo")
    put_prompt(catalog, repo, "two", 1)
    with pytest.raises(ConflictError, match="Another operation came first"):
        undo.apply(catalog, planned)
    with pytest.raises(NotFoundError):
        undo.plan(catalog, USER, "nowhere", "undo")


def test_rollback_means_the_same_after_an_undo_and_a_redo(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    put_bake(catalog, repo, "one", 0)
    run_bake(catalog, repo, "one", 1)
    promote(catalog, repo, "one", 1)
    step(catalog, repo, "undo")
    step(catalog, repo, "redo")
    roll_back(catalog, repo, "one", 0)
    meant = pointers.pointer(catalog, USER, repo, "one")
    assert meant is not None and meant.step == 2


def test_a_probe_and_a_template_come_back(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    first, second = (probes.as_conversations([f"Who {number}?"]) for number in (1, 2))
    probes.put(catalog, USER, repo, "who", first)
    probes.put(catalog, USER, repo, "who", second)
    probes.delete(catalog, USER, repo, "who")
    for expected in (second, first):
        step(catalog, repo, "undo")
        assert probes.get(catalog, USER, repo, "who").conversations == expected
    step(catalog, repo, "undo")
    assert probes.listing(catalog, USER, repo) == []
    generator = {"type": "oneshot_qs", "numq": 1, "template_content": TEMPLATE}
    targets.put(catalog, USER, repo, "one", "default", {"generators": [generator]}, may_change=True)
    templates = {name: catalog.store.template(USER, repo, name) for name in catalog.names("templates", USER, repo)}
    step(catalog, repo, "undo")
    assert catalog.names("templates", USER, repo) == []
    step(catalog, repo, "redo")
    assert {name: catalog.store.template(USER, repo, name) for name in templates} == templates
    assert templates


def test_a_repo_goes_with_all_that_it_has_in_the_bin(catalog: Catalog) -> None:
    repo = new_repo(catalog)
    put_bake(catalog, repo, "one", 0)
    checkpoint = run_bake(catalog, repo, "one", 1)
    put_target(catalog, repo, "one", 1)
    run_stim(catalog, repo, "one", 1)
    bakes.delete(catalog, USER, repo, "one")
    targets.delete(catalog, USER, repo, "one")
    assert sorted(repos.delete(catalog, USER, repo)) == [checkpoint.job_id, checkpoint.job_id + 1]
    assert catalog.store.jobs.numbers() == set() and catalog.store.bin.all() == []
    assert catalog.history.operations.of_repo(USER, repo) == []
