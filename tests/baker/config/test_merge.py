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
        ({"others": ["a"], "kind": "revert", "strategy": "compose"}, "strategy: a revert can't be composed"),
        ({"others": ["a"], "kind": "cherry_pick", "strategy": "compose"}, "strategy: a cherry-pick can't be composed"),
        ({"others": ["a"], "kind": "revert", "weights": [1, 1]}, "weights: 1 for what is taken out"),
        ({"others": ["a", "b"], "resolution": "ours"}, "resolution: 'ours' needs a merge of two versions"),
        ({"others": ["a"], "kind": "revert", "resolution": "ours"}, "resolution: 'ours' needs a merge"),
        ({"others": ["a"], "strategy": "algebra", "resolution": "theirs"}, "resolution: 'theirs' decides which rows"),
        ({"others": ["a"], "strategy": "compose", "resolution": "theirs"}, "resolution: 'theirs' decides which rows"),
        ({"parents": ["a"]}, "parents"),
    ],
)
def test_a_wrong_merge_is_refused(merge: dict[str, object], mistake: str) -> None:
    with pytest.raises(ConfigError, match=mistake):
        bake_config({"merge": merge})
