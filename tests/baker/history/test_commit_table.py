"""Commits are kept per repo, unchanged and in order; notes beside them may change."""

from baker.history.commit import Commit, Kind, Parent
from baker.repos.catalog import Catalog

ROOT = Commit(Kind.IMPORT, "a" * 64, None, "c" * 64, "root", "admin", 1)
MERGE = Commit(Kind.MERGE, "b" * 64, None, "c" * 64, "", "admin", 2, (Parent(ROOT.id, 0.25), Parent("f" * 64, 0.75)))


def test_a_commit_comes_back_as_it_was_added(catalog: Catalog) -> None:
    commits = catalog.history.commits
    for commit in (ROOT, MERGE, ROOT):
        assert commits.add("admin", "repo", commit) == commit.id
    assert commits.find("admin", "repo", MERGE.id) == MERGE
    assert list(commits.of_repo("admin", "repo").items()) == [(ROOT.id, ROOT), (MERGE.id, MERGE)]


def test_repos_and_users_have_their_own(catalog: Catalog) -> None:
    commits = catalog.history.commits
    commits.add("admin", "repo", ROOT)
    assert commits.find("admin", "other", ROOT.id) is None
    assert commits.find("user", "repo", ROOT.id) is None
    commits.add("user", "repo", ROOT)
    commits.remove("admin", "repo", ROOT.id)
    assert commits.of_repo("admin", "repo") == {}
    assert commits.find("user", "repo", ROOT.id) == ROOT


def test_notes_are_replaced_and_go_with_their_commit(catalog: Catalog) -> None:
    commits = catalog.history.commits
    commits.add("admin", "repo", ROOT)
    for recovered in (0.5, 0.9):
        commits.put_note("admin", "repo", ROOT.id, "evaluation", {"recovered": recovered})
    commits.put_note("admin", "repo", ROOT.id, "certificate", [1])
    notes = {"certificate": [1], "evaluation": {"recovered": 0.9}}
    assert commits.notes("admin", "repo", ROOT.id) == notes
    assert commits.all_notes("admin", "repo") == {ROOT.id: notes}
    assert commits.all_notes("user", "repo") == {}
    commits.remove("admin", "repo", ROOT.id)
    assert commits.notes("admin", "repo", ROOT.id) == {}
