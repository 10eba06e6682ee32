import msgspec
from hypothesis import given
from hypothesis import strategies as st

from baker.config.overrides import merge

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)


OBJECTS = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


def test_objects_merge_key_by_key_and_lists_as_a_whole() -> None:
    below = {"optimizer": {"learning_rate": 1, "betas": [1, 2]}, "datasets": [1, 2], "epochs": 3}
    above = {"optimizer": {"betas": [3]}, "datasets": [4], "epochs": None}
    assert merge(below, above) == {"optimizer": {"learning_rate": 1, "betas": [3]}, "datasets": [4], "epochs": 3}


@given(OBJECTS, OBJECTS)
def test_merge_changes_neither_side_and_is_settled_after_once(below: dict, above: dict) -> None:
    copies = msgspec.json.encode((below, above))
    merged = merge(below, above)
    assert msgspec.json.encode((below, above)) == copies
    assert merge(merged, above) == merged
