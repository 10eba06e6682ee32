from typing import Any

import pytest

from baker.config.bake import bake_config
from baker.config.data import OnPolicyConfig
from baker.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"data": {"train_eval_split": [0.5, 0.6]}}, r"data.train_eval_split: must be .* got \[0.5, 0.6\]"),
        ({"data": {"beta": 1.1}}, "data.beta: Expected `float` <= 1.0"),
        ({"data": {"temperature": 0}}, "data.temperature: Expected `float` > 0"),
        ({"data": {"cache_fs_type": "tape"}}, "'tape' is not supported; allowed: auto, local, shared"),
        ({"data": {"sources": [{"type": "csv"}]}}, r"data.sources.0.type: 'csv' .* allowed: bake_jsonl"),
        ({"data": {"sources": [{"max_samples": -2}]}}, "max_samples: Expected `int` >= -1"),
    ],
)
def test_a_bad_field_is_named_with_the_allowed_values(overrides: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        bake_config(overrides)


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({}, (10, 0)),
        ({"trajectories": 6}, (6, 0)),
        ({"share": 0.5}, (10, 10)),
        ({"trajectories": 6, "share": 0.75}, (6, 2)),
    ],
)
def test_the_share_gives_the_number_of_the_teacher_s_rows_in_a_round(
    settings: dict[str, Any], rows: tuple[int, int]
) -> None:
    assert OnPolicyConfig(**settings).rows(10) == rows


@pytest.mark.parametrize(
    ("data", "has_full_teacher", "has_other_teacher"),
    [
        ({}, False, False),
        ({"teacher": "top_k"}, False, False),
        ({"teacher": "Top-K", "on_policy": {"rounds": 1}}, False, True),
        ({"teacher": "FULL"}, True, True),
    ],
)
def test_the_parent_teaches_with_a_full_teacher_and_in_rounds(
    data: dict[str, Any], has_full_teacher: bool, has_other_teacher: bool
) -> None:
    config = bake_config({"data": data}).data
    assert (config.has_full_teacher, config.has_other_teacher) == (has_full_teacher, has_other_teacher)
