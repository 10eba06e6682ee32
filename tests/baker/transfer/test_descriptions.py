"""Descriptions of commits that came from elsewhere: only the real one of an id is accepted."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.errors import InvalidInputError
from baker.history.commit import Commit, Kind, Parent, canonical
from baker.transfer.descriptions import MAX_MESSAGE, check_notes, read_description
from tests.baker.transfer.versions import foreign_commit

hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
commits = st.builds(
    Commit,
    kind=st.sampled_from(Kind),
    adapter=hashes,
    recipe=st.none() | hashes,
    base=hashes,
    message=st.text(max_size=50),
    author=st.text(max_size=20),
    created=st.integers(0, 1 << 37),
    parents=st.lists(st.builds(Parent, hashes, st.floats(-10, 10)), max_size=3, unique_by=lambda parent: parent.id).map(
        tuple
    ),
)


@given(commits)
def test_a_commit_is_the_same_after_it_travelled(commit: Commit) -> None:
    sent = msgspec.json.decode(msgspec.json.encode(commit))
    assert read_description(sent, commit.id) == commit
    assert canonical(msgspec.to_builtins(read_description(sent, commit.id))) == canonical(sent)


@given(commits, commits)
def test_a_forged_id_is_refused(commit: Commit, other: Commit) -> None:
    if commit.id != other.id:
        with pytest.raises(InvalidInputError, match=other.id):
            read_description(msgspec.to_builtins(commit), other.id)


def test_a_commit_that_names_itself_as_parent_is_refused() -> None:
    """Its id would have to be in the text that it is the hash of."""
    commit = foreign_commit("a" * 64)
    forged = {**msgspec.to_builtins(commit), "parents": [{"id": commit.id, "weight": 1.0}]}
    with pytest.raises(InvalidInputError, match="one of them was changed"):
        read_description(forged, commit.id)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "octopus"}, "kind is 'octopus', known here are bake, import"),
        ({"kind": None}, "kind is None"),
        ({"adapter": "../../etc/passwd"}, "adapter is '../../etc/passwd'"),
        ({"adapter": "A" * 64}, "adapter"),
        ({"base": "0" * 63}, "base"),
        ({"recipe": "x"}, "recipe"),
        ({"message": "x" * (MAX_MESSAGE + 1)}, f"message has {MAX_MESSAGE + 1} characters"),
        ({"author": "x" * 300}, "author has 300"),
        ({"message": 7}, "message"),
        ({"created": -1}, "created is -1"),
        ({"created": 1 << 60}, "created"),
        ({"created": "now"}, "created"),
        ({"parents": [{"id": "x"}]}, "parent's id is 'x'"),
        ({"parents": [{"id": "a" * 64}, {"id": "a" * 64}]}, "twice"),
        ({"parents": [{"id": f"{n:064x}"} for n in range(17)]}, "parents are 17"),
        ({"parents": [{"id": "a" * 64, "weight": 1e9}]}, "beyond 100"),
        ({"parents": {}}, "parents"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_no_commit_can_have_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    commit = foreign_commit("a" * 64)
    with pytest.raises(InvalidInputError, match=words.replace("(", r"\(")):
        read_description({**msgspec.to_builtins(commit), **change}, commit.id)


@pytest.mark.parametrize("description", [None, [], "text", 7, {}])
def test_what_is_no_description_is_refused(description: Any) -> None:
    with pytest.raises(InvalidInputError):
        read_description(description, "a" * 64)


@pytest.mark.parametrize("text", ["\x1b[2J\x00", "'; drop table commits; --", "‮gnp.exe", "\n\n" * 100, "💥" * 100])
def test_hostile_texts_stay_texts(text: str) -> None:
    commit = foreign_commit("a" * 64, message=text, author=text)
    assert read_description(msgspec.to_builtins(commit), commit.id).message == text


def test_notes_have_plain_names_and_a_bounded_size() -> None:
    check_notes({"evaluation": {"eval_kl": 0.1}, "a-note_2": None})
    for name in ("", "Evaluation", "../up", "x" * 65, "a b"):
        with pytest.raises(InvalidInputError, match="note's name"):
            check_notes({name: 1})
    with pytest.raises(InvalidInputError, match="bytes"):
        check_notes({"big": "x" * (5 << 20)})
