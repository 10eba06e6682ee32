"""Probes: limits, errors, and the operations that record their changes."""

import hashlib
import json
from typing import Any

import pytest

from baker.comparison import probes
from baker.errors import ConfigError, NotFoundError
from baker.repos import repos
from baker.repos.catalog import Catalog

QUESTIONS = probes.as_conversations(["Who are you?", "Où es-tu?"])


@pytest.fixture
def repo(catalog: Catalog) -> Catalog:
    repos.put(catalog, "admin", "repo", None)
    return catalog


def changes(catalog: Catalog) -> list[tuple[str, Any, Any]]:
    operations = catalog.history.operations.of_repo("admin", "repo")
    return [(each.verb, each.changes[0].before, each.changes[0].after) for each in operations]


def test_a_probe_has_the_hash_of_its_rows_alone(repo: Catalog) -> None:
    for name in ("first", "second"):
        assert probes.put(repo, "admin", "repo", name, QUESTIONS).is_new
    first, second = probes.listing(repo, "admin", "repo")
    assert (first.name, second.name) == ("first", "second")
    text = json.dumps(QUESTIONS, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert first.sha256 == second.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert probes.get(repo, "admin", "repo", "first").conversations == QUESTIONS


def test_every_change_is_an_operation_and_the_same_rows_again_are_none(repo: Catalog) -> None:
    others = probes.as_conversations(["Why?"])
    for conversations in (QUESTIONS, QUESTIONS, others):
        probes.put(repo, "admin", "repo", "probe", conversations)
    probes.delete(repo, "admin", "repo", "probe")
    assert changes(repo) == [
        ("put-probe", None, QUESTIONS),
        ("put-probe", QUESTIONS, others),
        ("delete-probe", others, None),
    ]
    with pytest.raises(NotFoundError):
        probes.get(repo, "admin", "repo", "probe")


@pytest.mark.parametrize(
    ("conversations", "complaint"),
    [
        ([], "1 to 256"),
        (QUESTIONS * 129, "got 258"),
        ([[]], "conversation 0 has no message"),
        ([*QUESTIONS, [{"role": "robot", "content": "x"}]], "conversation 2 .*'robot'"),
        ([[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]], "nothing to answer"),
        (probes.as_conversations([" "]), "empty message"),
        (probes.as_conversations(["x"] * 100_000), "got 100000"),
        ([[{"role": "user", "content": 5}]], "conversation 0 has a message whose content must be a string"),
        ([[{"role": ["user"], "content": "x"}]], "the role"),
        ([[{"role": "user", "content": {"type": "text"}}]], "content must be a string"),
        ([[{"role": "user", "content": "x", "name": "y" * 300_000}]], "at most 200000 are allowed"),
        (probes.as_conversations(["x" * 100_001] * 2), "200002 characters"),
    ],
)
def test_rows_that_no_version_could_answer_are_refused(repo: Catalog, conversations: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        probes.put(repo, "admin", "repo", "probe", conversations)
    assert probes.listing(repo, "admin", "repo") == []
    assert changes(repo) == []


def test_a_repo_has_at_most_a_hundred(repo: Catalog) -> None:
    for number in range(probes.MOST_OF_A_REPO):
        probes.put(repo, "admin", "repo", f"p{number}", QUESTIONS)
    with pytest.raises(ConfigError, match="delete one first"):
        probes.put(repo, "admin", "repo", "one-more", QUESTIONS)
    probes.put(repo, "admin", "repo", "p0", probes.as_conversations(["Why?"]))


@pytest.mark.parametrize("call", [probes.get, probes.delete])
def test_a_wrong_name_is_answered_with_the_nearest(repo: Catalog, call: Any) -> None:
    probes.put(repo, "admin", "repo", "manners", QUESTIONS)
    with pytest.raises(NotFoundError, match="did you mean 'manners'"):
        call(repo, "admin", "repo", "maners")
    for user, name in (("admin", "other"), ("user", "repo")):
        with pytest.raises(NotFoundError):
            call(repo, user, name, "manners")


def test_they_go_with_their_repo(repo: Catalog) -> None:
    probes.put(repo, "admin", "repo", "probe", QUESTIONS)
    repos.delete(repo, "admin", "repo")
    repos.put(repo, "admin", "repo", None)
    assert probes.listing(repo, "admin", "repo") == []
