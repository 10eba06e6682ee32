"""Rows of remotes."""

from baker.history.remote_table import Remote
from baker.repos.catalog import Catalog


def test_a_remote_keeps_its_creation_and_gets_another_url(catalog: Catalog) -> None:
    table = catalog.history.remotes
    assert table.find("alice", "repo", "origin") is None
    table.put("alice", "repo", Remote("origin", "http://one", created=5))
    table.put("alice", "repo", Remote("origin", "http://two", created=5))
    table.put("alice", "repo", Remote("backup", "file:/backup"))
    found = table.find("alice", "repo", "origin")
    assert found is not None and (found.url, found.created) == ("http://two", 5)
    assert [remote.name for remote in table.of_repo("alice", "repo")] == ["backup", "origin"]
    assert table.of_repo("bob", "repo") == []
    assert table.remove("alice", "repo", "origin")
    assert not table.remove("alice", "repo", "origin")
