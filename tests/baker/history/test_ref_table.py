"""Refs are rows by name in their repo."""

import msgspec

from baker.history.ref_table import Ref, RefKind
from baker.repos.catalog import Catalog


def test_a_ref_moves_and_keeps_the_time_of_its_creation(catalog: Catalog) -> None:
    refs = catalog.history.refs
    refs.put("admin", "repo", Ref("main", RefKind.BRANCH, "a" * 64, created=5))
    moved = msgspec.structs.replace(refs.of_repo("admin", "repo")[0], target="b" * 64, message="moved")
    refs.put("admin", "repo", moved)
    (ref,) = refs.of_repo("admin", "repo")
    assert (ref.name, ref.kind, ref.target, ref.message, ref.created) == ("main", "branch", "b" * 64, "moved", 5)
    assert ref.updated > 5


def test_refs_of_other_repos_are_apart(catalog: Catalog) -> None:
    refs = catalog.history.refs
    refs.put("admin", "repo", Ref("v1", RefKind.TAG, "a" * 64))
    assert refs.find("admin", "other", "v1") is None
    assert refs.find("user", "repo", "v1") is None
    assert not refs.remove("user", "repo", "v1")
    assert refs.remove("admin", "repo", "v1")
    assert refs.of_repo("admin", "repo") == []
