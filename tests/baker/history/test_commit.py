"""A commit's id is the hash of its whole description, and of nothing else."""

import hashlib
import json

import msgspec
import pytest

from baker.history.commit import Commit, Kind, Parent, canonical, content_id

COMMIT = Commit(Kind.BAKE, "a" * 64, "b" * 64, "c" * 64, "pirate voice ☠", "admin", 1, (Parent("d" * 64),))


def test_the_id_is_the_sha256_of_the_sorted_json() -> None:
    text = json.dumps(msgspec.to_builtins(COMMIT), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert COMMIT.id == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": Kind.IMPORT},
        {"adapter": "e" * 64},
        {"recipe": None},
        {"base": "e" * 64},
        {"message": "pirate voice"},
        {"author": "user"},
        {"created": 2},
        {"parents": ()},
        {"parents": (Parent("d" * 64, 0.5),)},
    ],
    ids=str,
)
def test_every_field_counts(changes: dict[str, object]) -> None:
    assert msgspec.structs.replace(COMMIT, **changes).id != COMMIT.id


def test_the_id_survives_encoding() -> None:
    again = msgspec.json.decode(canonical(COMMIT), type=Commit)
    assert again == COMMIT
    assert again.id == COMMIT.id
    assert again.parent_ids == ("d" * 64,)


def test_unknown_fields_are_refused_because_the_id_would_not_cover_them() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(canonical({**msgspec.to_builtins(COMMIT), "extra": 1}), type=Commit)


def test_the_order_of_keys_does_not_matter() -> None:
    assert content_id({"a": 1, "b": [{"d": 1, "c": 2}]}) == content_id({"b": [{"c": 2, "d": 1}], "a": 1})
    assert content_id({"a": [1, 2]}) != content_id({"a": [2, 1]})
