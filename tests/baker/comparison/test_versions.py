"""What a client's text means as a version, and what versions continue."""

import msgspec
import pytest

from baker.comparison.versions import BASE, BASE_VERSION, lineage, read_history
from baker.errors import InvalidInputError, NotFoundError
from baker.history import graph
from baker.history.commit import Commit, Kind, Parent
from baker.repos import bakes
from baker.repos.catalog import Catalog
from tests.baker.grown import baked


def chain(catalog: Catalog, *names: str) -> dict[str, str]:
    """Bakes that each continue the one before. Returns: name -> id."""
    parent, ids = None, {}
    for name in names:
        parent = baked(catalog, name, parent)
        ids[name] = parent.commit_id or ""
    return ids


def test_revisions_and_the_base_model(catalog: Catalog) -> None:
    ids = chain(catalog, "a", "b", "base")
    history = read_history(catalog, "admin", "repo")
    for text, name in (("b", "b"), ("b~1", "a"), (ids["b"][:9], "b"), ("base/3", "base"), ("b@{0}", "b")):
        version = history.version(text)
        assert (version.id, version.checkpoint and version.checkpoint.bake) == (ids[name], name)
    assert history.version("base") == BASE_VERSION, "the base model goes before a bake of that name"
    assert BASE_VERSION.short_id == BASE


def test_what_can_not_be_asked_is_refused(catalog: Catalog) -> None:
    ids = chain(catalog, "a", "b")
    history = read_history(catalog, "admin", "repo")
    with pytest.raises(InvalidInputError, match="strength"):
        history.version("a@0.5")
    with pytest.raises(NotFoundError, match="no revision 'c'"):
        history.version("c")
    gone = msgspec.structs.replace(history, checkpoints={})
    with pytest.raises(NotFoundError, match=f"weights of version {ids['a'][:12]} are not here"):
        gone.version("a")
    other = {ids["a"]: msgspec.structs.replace(history.checkpoints[ids["a"]], is_served=False)}
    with pytest.raises(InvalidInputError, match="another model"):
        msgspec.structs.replace(history, checkpoints=other).version("a")
    for user, repo in (("admin", "other"), ("user", "repo")):
        with pytest.raises(NotFoundError):
            read_history(catalog, user, repo)


def test_a_lineage_is_newest_first_and_ends_at_the_base_model(catalog: Catalog) -> None:
    ids = chain(catalog, "a", "b", "c")
    history = read_history(catalog, "admin", "repo")
    line = lineage(history, graph.ancestors(history.view.parents, [ids["c"]]), 9)
    assert [each.id for each in line.versions] == [ids["c"], ids["b"], ids["a"]]
    assert line.parents == {ids["c"]: [ids["b"]], ids["b"]: [ids["a"]], ids["a"]: [BASE]}
    assert line.warnings == []


def test_what_is_cut_or_gone_is_named_and_skipped(catalog: Catalog) -> None:
    ids = chain(catalog, "a", "b", "c")
    bakes.delete(catalog, "admin", "repo", "b")
    history = read_history(catalog, "admin", "repo")
    everything = graph.ancestors(history.view.parents, [ids["c"]])
    line = lineage(history, everything, 9)
    assert line.parents == {ids["c"]: [ids["a"]], ids["a"]: [BASE]}
    (warning,) = line.warnings
    assert f"not here: {ids['b'][:12]};" in warning
    cut = lineage(history, everything, 1)
    assert cut.parents == {ids["c"]: [BASE]}
    assert "only the newest 1 of 2 versions" in cut.warnings[1]


def test_a_merge_continues_both_and_a_parent_elsewhere_is_named(catalog: Catalog) -> None:
    ids = chain(catalog, "a", "b")
    foreign = "f" * 64
    merge = Commit(
        Kind.MERGE,
        "m" * 64,
        None,
        "",
        "merge",
        "admin",
        2_000_000,
        (Parent(ids["b"]), Parent(ids["a"]), Parent(foreign)),
    )
    merged = catalog.history.commits.add("admin", "repo", merge)
    history = read_history(catalog, "admin", "repo")
    served = {**history.checkpoints, merged: history.checkpoints[ids["a"]]}
    history = msgspec.structs.replace(history, checkpoints=served)
    line = lineage(history, graph.ancestors(history.view.parents, [merged]), 9)
    assert line.parents[merged] == [ids["b"], ids["a"]]
    assert line.warnings == [
        f"{foreign[:12]} is not in this repo; what it changed counts for the version that began from it"
    ]


def test_what_a_version_came_from_in_another_repo_is_asked_too(catalog: Catalog) -> None:
    first = baked(catalog, "first", repo="elsewhere")
    child = baked(catalog, "child", first)
    history = read_history(catalog, "admin", "repo")
    assert history.version("child~1").checkpoint == first
    line = lineage(history, graph.ancestors(history.view.parents, [child.commit_id or ""]), 9)
    assert [each.checkpoint for each in line.versions] == [child, first]
    assert line.warnings == []
