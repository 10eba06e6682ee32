"""Remotes: no keys in their URLs, and their names as they were when a client last asked."""

import pytest

from baker.errors import ConfigError, NotFoundError
from baker.history.operation_table import Change
from baker.repos import repos
from baker.repos.catalog import Catalog
from baker.transfer import remotes
from tests.baker.transfer.versions import add_version

PLACE = ("admin", "repo")


@pytest.mark.parametrize("url", ["http://host:8080/hooli", "https://host/hooli", "file:/backup/hooli", "hf://org/name"])
def test_a_remote_is_put_changed_and_removed(catalog: Catalog, url: str) -> None:
    repos.put(catalog, *PLACE, None)
    remotes.put(catalog, *PLACE, "origin", "http://old/repo")
    assert remotes.put(catalog, *PLACE, "origin", url).remote.url == url
    assert [each.remote.url for each in remotes.listing(catalog, *PLACE)] == [url]
    remotes.remove(catalog, *PLACE, "origin")
    assert remotes.listing(catalog, *PLACE) == []
    with pytest.raises(NotFoundError, match="Remote 'origin' not found"):
        remotes.get(catalog, *PLACE, "origin")


@pytest.mark.parametrize(
    "url",
    [
        "https://carol:sk-secret@host/repo",
        "https://sk-secret@host/repo",
        "https://host/repo?key=sk-secret",
        "ftp://host/repo",
        "host/repo",
        "",
        "http://host/\nrepo",
        "http://" + "x" * 3000,
        "http://[host/repo",
    ],
)
def test_urls_with_keys_and_other_texts_are_refused(catalog: Catalog, url: str) -> None:
    repos.put(catalog, *PLACE, None)
    with pytest.raises(ConfigError, match="url"):
        remotes.put(catalog, *PLACE, "origin", url)


@pytest.mark.parametrize("name", ["../up", "", "a/b", "-x"])
def test_names_of_remotes_and_of_their_refs_are_names(catalog: Catalog, name: str) -> None:
    repos.put(catalog, *PLACE, None)
    with pytest.raises(ConfigError, match="remote name"):
        remotes.put(catalog, *PLACE, name, "http://host/repo")
    remotes.put(catalog, *PLACE, "origin", "http://host/repo")
    with pytest.raises(ConfigError, match="ref name"):
        remotes.track(catalog, *PLACE, "origin", {name: None}, "fetch")


def test_remotes_and_their_names_are_limited(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remotes, "MOST_REMOTES", 2)
    monkeypatch.setattr(remotes, "MOST_NAMES", 3)
    commit = add_version(catalog, "one", 1).commit_id
    for name in ("origin", "backup"):
        remotes.put(catalog, *PLACE, name, "http://host/repo")
    with pytest.raises(ConfigError, match="has 2 remotes, the most"):
        remotes.put(catalog, *PLACE, "third", "http://host/repo")
    remotes.put(catalog, *PLACE, "origin", "http://other/repo")
    remotes.track(catalog, *PLACE, "origin", {"a": commit, "b": commit}, "fetch")
    with pytest.raises(ConfigError, match="would have 4 names, at most 3"):
        remotes.track(catalog, *PLACE, "origin", {"c": commit, "d": commit}, "fetch")
    assert remotes.track(catalog, *PLACE, "origin", {"c": commit, "d": commit, "a": None}, "fetch").refs.keys() == {
        "b",
        "c",
        "d",
    }


def test_what_a_remote_s_names_meant_is_recorded_and_can_not_be_undone(catalog: Catalog) -> None:
    one, two = (add_version(catalog, name, seed).commit_id or "" for seed, name in enumerate(("one", "two")))
    remotes.put(catalog, *PLACE, "origin", "http://host/repo")
    before = len(catalog.history.operations.of_repo(*PLACE))
    assert remotes.track(catalog, *PLACE, "origin", {"yoda": one, "v1": one}, "fetch").refs == {"v1": one, "yoda": one}
    assert remotes.track(catalog, *PLACE, "origin", {"yoda": two}, "push").refs == {"v1": one, "yoda": two}
    remotes.track(catalog, *PLACE, "origin", {"yoda": two}, "fetch")
    assert remotes.track(catalog, *PLACE, "origin", {"v1": None}, "fetch").refs == {"yoda": two}
    assert remotes.get(catalog, *PLACE, "origin").refs == {"yoda": two}
    log = catalog.history.operations.of_repo(*PLACE)[before:]
    assert [(operation.verb, operation.is_undoable) for operation in log] == [
        ("fetch", False),
        ("push", False),
        ("fetch", False),
    ], "what changes nothing is not recorded"
    assert log[1].changes == [Change("remote", "origin/yoda", one, two)]
    remotes.remove(catalog, *PLACE, "origin")
    assert catalog.history.refs.of_repo(*PLACE) == []


def test_a_remote_s_name_means_only_commits_that_are_here(catalog: Catalog) -> None:
    mine = add_version(catalog, "bake", 1).commit_id or ""
    theirs = add_version(catalog, "bake", 2, user="bob").commit_id or ""
    remotes.put(catalog, *PLACE, "origin", "http://host/repo")
    with pytest.raises(NotFoundError, match="does not have"):
        remotes.track(catalog, *PLACE, "origin", {"yoda": mine, "his": theirs}, "fetch")
    assert remotes.get(catalog, *PLACE, "origin").refs == {}, "all or nothing"
    with pytest.raises(NotFoundError):
        remotes.track(catalog, "bob", "repo", "origin", {}, "fetch")
