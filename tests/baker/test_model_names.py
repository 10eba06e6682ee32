from collections.abc import Iterator

import pytest

from baker.model_names import CheckpointRef, at_all_strengths, at_strength, nearest, parse_model_name, split_strength


@pytest.mark.parametrize(
    ("name", "ref"),
    [
        ("repo/bake", CheckpointRef(None, "repo", "bake", None)),
        ("repo/bake/7", CheckpointRef(None, "repo", "bake", 7)),
        ("user/repo/bake", CheckpointRef("user", "repo", "bake", None)),
        ("user/repo/bake/7", CheckpointRef("user", "repo", "bake", 7)),
        ("bare", None),
        ("user/repo/bake/last", None),
        ("a/b/c/d/5", None),
        ("../x", None),
        ("a//b", None),
        ("repo/bake/٣", None),
    ],
)
def test_a_model_name_is_parsed_into_its_parts(name: str, ref: CheckpointRef | None) -> None:
    assert parse_model_name(name) == ref


def test_the_nearest_known_name_comes_first() -> None:
    known = ["org/base", "crew/pirate", "crew/pilot", "crew/pirate/7", "zoo/lion"]
    assert nearest("crew/pirat", known, 1) == ["crew/pirate"]
    assert nearest("org/bas", known, 1) == ["org/base"]
    assert set(nearest("", known, 5)) == set(known)
    assert nearest("x", [], 3) == []


def test_of_many_names_only_some_are_compared() -> None:
    read = 0

    def names() -> Iterator[str]:
        nonlocal read
        for number in range(100_000):
            read += 1
            yield f"repo/bake{number}"

    assert nearest("repo/bake17" + "x" * 10**6, names(), 3)[0] == "repo/bake17"
    assert read <= 1000


@pytest.mark.parametrize(
    ("name", "model", "strength"),
    [
        ("repo/bake", "repo/bake", 1.0),
        ("repo/bake@0.5", "repo/bake", 0.5),
        ("user/repo/bake/120@0", "user/repo/bake/120", 0.0),
        ("repo/bake@1", "repo/bake", 1.0),
        ("repo/bake@1.00", "repo/bake", 1.0),
        ("repo/bake@2.00", "repo/bake", 2.0),
        ("repo/bake@0.07", "repo/bake", 0.07),
        ("repo/bake@{1}", "repo/bake@{1}", 1.0),
        ("repo/bake@{1}~2@0.5", "repo/bake@{1}~2", 0.5),
        ("repo/bake@{", "repo/bake@{", 1.0),
        ("repo/bake@{1}@{2}@0.5", "repo/bake@{1}@{2}", 0.5),
    ],
)
def test_a_strength_is_split_off_the_end_of_a_name(name: str, model: str, strength: float) -> None:
    assert split_strength(name) == (model, strength)


@pytest.mark.parametrize(
    "text",
    [
        *("", "2.01", "3", "-0.5", "+1", ".5", "1.", "0.123", "00.5", "1e0", "nan", "inf", "0,5", "half"),
        *(" 1", "1 ", "1\n", "٣", "0.5/120", "0.5@0.5", "0.5@{1}"),
    ],
)
def test_an_invalid_strength_is_none(text: str) -> None:
    assert split_strength(f"repo/bake@{text}") == ("repo/bake", None)


def test_each_strength_has_one_name() -> None:
    names = list(at_all_strengths("repo/bake"))
    assert len(set(names)) == len(names) == 201
    for hundredths, name in enumerate(names):
        strength = hundredths / 100
        assert at_strength("repo/bake", strength) == name
        assert split_strength(name) == ("repo/bake", strength)
        assert at_strength("repo/bake", split_strength(f"repo/bake@{strength:.2f}")[1] or 0.0) == name
    assert names[100] == "repo/bake", "strength 1 is the adapter itself"
