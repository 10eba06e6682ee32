"""A request becomes a bake of the repo, with a name and a branch."""

import msgspec
import pytest

from baker.errors import ConflictError, InvalidInputError, NotFoundError
from baker.history.ref_table import RefKind
from baker.merging import requests
from baker.merging.requests import MergeRequest, Planned
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.versions import refs
from tests.baker.grown import baked

RANK = 64


def plan(catalog: Catalog, request: MergeRequest) -> Planned:
    return requests.plan(catalog, "admin", "repo", request, max_rank=RANK)


def asked(*others: str, into: str = "pirate", name: str | None = None, **merge: object) -> MergeRequest:
    return MergeRequest({"others": list(others), **merge}, into=into, name=name)


def test_the_bake_is_named_after_the_versions_and_asked_again_it_is_the_same(catalog: Catalog) -> None:
    pirate, json = baked(catalog, "pirate"), baked(catalog, "json")
    planned = plan(catalog, asked("json"))
    assert planned.name == "pirate-json"
    assert planned.config.merge.others == ["json"] and planned.config.parent == pirate.name
    assert [side.checkpoint for side in planned.inputs.sides] == [pirate.name, json.name]
    for _ in range(2):
        requests.save(catalog, "admin", "repo", plan(catalog, asked("json")), max_rank=RANK)
    assert bakes.get(catalog, "admin", "repo", "pirate-json") == planned.config
    assert plan(catalog, asked("json", weights=[1.0, 0.5])).name == "pirate-json-2", "another merge"
    with pytest.raises(ConflictError):
        requests.save(
            catalog,
            "admin",
            "repo",
            plan(catalog, asked("json", weights=[1.0, 0.5], name="pirate-json")),
            max_rank=RANK,
        )


def test_a_name_that_moved_since_gives_another_merge(catalog: Catalog) -> None:
    pirate, _ = baked(catalog, "pirate"), baked(catalog, "json")
    planned = plan(catalog, asked("json"))
    requests.save(catalog, "admin", "repo", planned, max_rank=RANK)
    inputs = BakeInputs({}, pirate.name, merge=planned.inputs)
    job = BakeJob(user="admin", repo="repo", name=planned.name, config=planned.config, inputs=inputs)
    job = catalog.store.jobs.add(job)
    assert plan(catalog, asked("json")) == msgspec.structs.replace(planned, overrides=None), "it is there already"
    json = baked(catalog, "json", steps=(6,))
    later = plan(catalog, asked("json"))
    assert (later.name, later.inputs.sides[1].checkpoint) == ("pirate-json-2", json.name)
    with pytest.raises(ConflictError, match="other versions of the same names"):
        plan(catalog, asked("json", name="pirate-json"))
    catalog.store.jobs.update(job.id, state=JobState.FAILED)
    assert plan(catalog, asked("json")).name == "pirate-json", "what failed runs again, with what the names mean now"


@pytest.mark.parametrize(
    "overrides, reason",
    [
        ({"merge": {"others": ["x"]}}, "has merge"),
        ({"datasets": [{"target": "x"}], "model_name": "y"}, "has datasets, model_name"),
        ({"model": "pirate"}, "must be an object, got str"),
        ({"model": [1]}, "must be an object, got list"),
        ({"model": {"parent_model_name": "x"}}, "has parent_model_name"),
    ],
)
def test_what_the_merge_sets_itself_can_not_be_overridden(
    catalog: Catalog, overrides: dict[str, object], reason: str
) -> None:
    baked(catalog, "pirate"), baked(catalog, "json")
    with pytest.raises(InvalidInputError, match=reason):
        plan(catalog, msgspec.structs.replace(asked("json"), overrides=overrides))
    empty = msgspec.structs.replace(asked("json"), overrides={"model": None})
    assert plan(catalog, empty).config.parent is not None


@pytest.mark.parametrize("merge, name", [({"kind": "cherry_pick"}, "pick-json"), ({"kind": "merge"}, "pirate-json")])
def test_the_kind_is_in_the_name(catalog: Catalog, merge: dict[str, str], name: str) -> None:
    baked(catalog, "pirate"), baked(catalog, "json")
    assert plan(catalog, asked("json", **merge)).name == name


def test_the_current_branch_moves_if_that_is_forward(catalog: Catalog) -> None:
    tone = baked(catalog, "tone")
    baked(catalog, "pirate", tone), baked(catalog, "json", tone)
    refs.put(catalog, "admin", "repo", "support", RefKind.BRANCH, "tone")
    refs.switch(catalog, "admin", "repo", "support")
    assert plan(catalog, asked("json")).config.branch == "support"
    assert plan(catalog, asked("json", into="pirate")).config.branch == "support"
    other = baked(catalog, "other")
    refs.put(catalog, "admin", "repo", "elsewhere", RefKind.BRANCH, other.commit_id or "")
    refs.switch(catalog, "admin", "repo", "elsewhere")
    assert plan(catalog, asked("json")).config.branch is None


def test_without_a_branch_there_is_nothing_to_merge_into(catalog: Catalog) -> None:
    baked(catalog, "pirate")
    with pytest.raises(InvalidInputError, match="no current branch to merge into"):
        plan(catalog, asked("pirate", into="HEAD"))
    with pytest.raises(InvalidInputError, match="base model can't be merged into"):
        plan(catalog, asked("pirate", into="base"))
    with pytest.raises(NotFoundError):
        plan(catalog, asked("gone"))


def test_settings_that_a_merge_can_not_have_are_refused_before_anything_is_added(catalog: Catalog) -> None:
    baked(catalog, "pirate"), baked(catalog, "json")
    request = msgspec.structs.replace(asked("json"), overrides={"data": {"teacher": "full"}})
    with pytest.raises(InvalidInputError, match="needs one teacher"):
        plan(catalog, request)


def test_a_composed_merge_learns_the_target_of_its_name(catalog: Catalog) -> None:
    baked(catalog, "pirate"), baked(catalog, "json")
    planned = plan(catalog, asked("json", strategy="compose"))
    assert [dataset.target for dataset in planned.config.datasets] == [planned.name] == ["pirate-json"]
