"""Settings of merges."""

import pytest

from baker.config.bake import BakeConfig, bake_config
from baker.errors import ConfigError


def test_a_bake_is_no_merge_by_default() -> None:
    config = bake_config({})
    assert not config.merge.is_set and not config.moves_at_end
    assert config == BakeConfig()


def test_names_are_read_in_any_spelling() -> None:
    merge = bake_config({"merge": {"others": ["b"], "kind": "Cherry-Pick", "resolution": "OURS"}}).merge
    assert (merge.meant_kind, merge.meant_strategy, merge.meant_resolution) == ("cherry-pick", "auto", "ours")


@pytest.mark.parametrize(
    "merge, mistake",
    [
        ({"others": list("abcd")}, "others: 4 versions, at most 3"),
        ({"others": ["a", "b"], "kind": "revert"}, "others: 2 versions, but a revert takes one"),
        ({"others": ["a"], "weights": [1]}, "weights: 1 weights for 2 versions"),
        ({"others": ["a"], "weights": [1, 11]}, "weights"),
        ({"others": ["a"], "strategy": "ties"}, "strategy: 'ties'"),
        ({"others": ["a"], "resolution": "both"}, "resolution: 'both'"),
        ({"others": ["a"], "kind": "octopus"}, "kind: 'octopus'"),
        ({"others": "a"}, "others"),
        ({"parents": ["a"]}, "parents"),
    ],
)
def test_a_wrong_merge_is_refused(merge: dict[str, object], mistake: str) -> None:
    with pytest.raises(ConfigError, match=mistake):
        bake_config({"merge": merge})
