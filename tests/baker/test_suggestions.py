import time

import pytest

from baker.suggestions import closest, did_you_mean, field_hint

SETTINGS = ["epochs", "optimizer", "optimizer.learning_rate", "optimizer.type", "scheduler.type", "list[].name"]


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("gavin", ["pirate", "gavin_b", "plain"], "gavin_b"),
        ("Gavin-B", ["pirate", "gavin_b"], "gavin_b"),
        ("cosin", ["linear", "cosine"], "cosine"),
        ("xyz", ["pirate", "gavin"], None),
        ("", ["pirate"], None),
        ("pirate", [], None),
    ],
)
def test_the_most_similar_name_is_suggested_and_none_if_none_is_similar(
    name: str, known: list[str], expected: str | None
) -> None:
    assert closest(name, known) == expected
    assert did_you_mean(name, known) == ("" if expected is None else f"; did you mean {expected!r}?")


def test_a_hint_among_many_names_for_a_huge_one_takes_no_time() -> None:
    start = time.process_time()
    did_you_mean("x" * 10_000_000, (f"name{number}" for number in range(100_000)))
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("name", "place", "expected"),
    [
        ("learning_rate", "", "; did you mean `optimizer.learning_rate`?"),
        ("learning_rate", "scheduler", "; did you mean `optimizer.learning_rate`?"),
        ("learning-rates", "optimizer", "; did you mean `optimizer.learning_rate`?"),
        ("epoch", "", "; did you mean `epochs`?"),
        ("epoch", "optimizer", "; did you mean `epochs`?"),
        ("type", "", "; did you mean `optimizer.type` or `scheduler.type`?"),
        ("names", "list[]", "; did you mean `list[].name`?"),
        ("lr", "", "; did you mean `optimizer.learning_rate`?"),
        ("colour", "", ""),
    ],
)
def test_a_field_is_found_at_any_level_and_by_its_name_elsewhere(name: str, place: str, expected: str) -> None:
    assert field_hint(name, SETTINGS, place, {"lr": "optimizer.learning_rate"}) == expected
