from typing import Any

import pytest

from baker.config.bake import bake_config
from baker.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"optimizer": {"betas": [0.9]}}, "optimizer.betas: Expected `array` of length 2"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, r"optimizer.betas: must be at least 0 and below 1, got \[0.9, 1.0\]"),
        ({"optimizer": {"learning_rate": 0}}, "optimizer.learning_rate: Expected `float` > 0"),
        ({"optimizer": {"type": "muon"}}, "optimizer.type: 'muon' is not supported; allowed: adamw"),
        ({"scheduler": {"type": "polynomial"}}, "'polynomial' is not supported; allowed: linear, cosine"),
        ({"scheduler": {"lr": 0.5}}, "scheduler.lr: is no longer supported, got 0.5: set optimizer.learning_rate"),
    ],
)
def test_a_bad_field_is_named_with_the_allowed_values(overrides: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        bake_config(overrides)
