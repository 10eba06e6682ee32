"""A request becomes a bake of the repo, with a name and a branch."""

import pytest

from baker.errors import ConflictError, InvalidInputError, NotFoundError
from baker.history.ref_table import RefKind
from baker.merging import requests
from baker.merging.requests import MergeRequest, Planned
from baker.repos import bakes
from baker.repos.catalog import Catalog
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


def test_a_composed_merge_learns_the_target_of_its_name(catalog: Catalog) -> None:
    baked(catalog, "pirate"), baked(catalog, "json")
    planned = plan(catalog, asked("json", strategy="compose"))
    assert [dataset.target for dataset in planned.config.datasets] == [planned.name] == ["pirate-json"]
