"""Probes are rows by name in their repo."""

from baker.history.probe_table import Probe
from baker.repos.catalog import Catalog


def test_a_probe_is_found_by_its_name_in_its_repo_alone(catalog: Catalog) -> None:
    table, rows = catalog.history.probes, [[{"role": "user", "content": "Who?"}]]
    table.put("admin", "repo", Probe("a", []))
    table.put("admin", "repo", Probe("b", []))
    table.put("admin", "repo", Probe("a", rows))
    assert table.of_repo("admin", "repo") == [Probe("a", rows), Probe("b", [])], "in order of creation"
    assert table.find("admin", "repo", "a") == Probe("a", rows)
    assert table.find("admin", "other", "a") is table.find("user", "repo", "a") is None
    assert not table.remove("user", "repo", "a")
    assert table.remove("admin", "repo", "a")
    assert table.of_repo("admin", "repo") == [Probe("b", [])]
