"""A finished comparison stays the answer."""

import pytest

from baker.history import comparison_table
from baker.history.commit import Commit, Kind
from baker.repos.catalog import Catalog


def test_the_first_result_stays(catalog: Catalog) -> None:
    table = catalog.history.comparisons
    assert table.find("admin", "repo", "k") is None
    assert table.keep("admin", "repo", "k", "a", "b", {"kl": 1.5}) == {"kl": 1.5}
    assert table.keep("admin", "repo", "k", "a", "b", {"kl": 1.6}) == {"kl": 1.5}
    assert table.find("admin", "other", "k") is table.find("user", "repo", "k") is None


def test_the_oldest_make_room(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison_table, "MOST_OF_A_REPO", 3)
    table = catalog.history.comparisons
    table.keep("admin", "other", "k0", "a", "b", 0)
    for number in range(5):
        table.keep("admin", "repo", f"k{number}", "a", "b", number)
    assert [table.find("admin", "repo", f"k{number}") for number in range(5)] == [None, None, 2, 3, 4]
    assert table.find("admin", "other", "k0") == 0


def test_a_commit_takes_its_comparisons_along(catalog: Catalog) -> None:
    commit = Commit(Kind.IMPORT, "a" * 64, None, "b" * 64, "message", "admin", 1)
    commit_id, table = catalog.history.commits.add("admin", "repo", commit), catalog.history.comparisons
    for key, pair in (("1", (commit_id, "x")), ("2", ("x", commit_id)), ("3", ("x", "y"))):
        table.keep("admin", "repo", key, *pair, {})
    catalog.history.commits.remove("admin", "repo", commit_id)
    assert [table.find("admin", "repo", key) for key in "123"] == [None, None, {}]
