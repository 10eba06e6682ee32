import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baker.config.overrides import convert, merge
from baker.errors import ConfigError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)

OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


def test_objects_are_merged_by_key_and_lists_replaced() -> None:
    below = {"optimizer": {"learning_rate": 1, "betas": [1, 2]}, "datasets": [1, 2], "epochs": 3}
    above = {"optimizer": {"betas": [3]}, "datasets": [4], "epochs": None}
    assert merge(below, above) == {"optimizer": {"learning_rate": 1, "betas": [3]}, "datasets": [4], "epochs": 3}


@given(OBJECTS, OBJECTS)
def test_merging_changes_neither_side_and_merging_again_changes_nothing(below: dict, above: dict) -> None:
    before = msgspec.json.encode((below, above))
    merged = merge(below, above)
    assert msgspec.json.encode((below, above)) == before
    assert merge(merged, above) == merged


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    numbers: list[int] = []
    by_name: dict[str, int] = {}


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: list[Inner] = []
    flag: bool = False


@pytest.mark.parametrize(
    ("overrides", "message", "loc"),
    [
        ({"flag": "yes"}, "overrides.flag: Expected `bool`, got `str`: 'yes'", ["flag"]),
        (
            {"inner": [{}, {"numbers": [1, "two"]}]},
            "overrides.inner.1.numbers.1: Expected `int`, got `str`: 'two'",
            ["inner", "1", "numbers", "1"],
        ),
        (
            {"inner": [{"by_name": {"a": "b"}}]},
            "overrides.inner.0.by_name.a: Expected `int`, got `str`: 'b'",
            ["inner", "0", "by_name", "a"],
        ),
        (
            {"colour": 1},
            "overrides.colour: unknown field `colour`; the fields here are inner, flag",
            ["colour"],
        ),
    ],
)
def test_an_error_names_the_path_of_the_field_and_shows_its_value(
    overrides: dict, message: str, loc: list[str]
) -> None:
    with pytest.raises(ConfigError) as raised:
        convert(overrides, None, Outer)
    assert raised.value.message == message
    assert raised.value.detail is not None
    assert raised.value.detail[0]["loc"] == ["body", "overrides", *loc]


def test_a_long_value_is_cut_in_the_error() -> None:
    with pytest.raises(ConfigError) as raised:
        convert({"flag": "x" * 10_000}, None, Outer)
    assert len(raised.value.message) < 200
