from typing import Any

import pytest

from baker.config.bake import bake_config
from baker.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"model": {"type": "hf"}}, "model.type: 'hf' is not supported; allowed: bake"),
        ({"model": {"dtype": "fp8"}}, "dtype: 'fp8' is not supported; allowed: bf16, fp16, fp32, bfloat16"),
        ({"model": {"save_name": "a/b"}}, "save name 'a/b' contains an invalid character: '/'"),
        ({"model": {"baked_adapter_config": {"bias": "all"}}}, "bias: 'all' is not supported; allowed: none"),
        (
            {"model": {"baked_adapter_config": {"target_modules": "q_proj("}}},
            "neither a comma-separated list nor a regular",
        ),
    ],
)
def test_a_bad_field_is_named_with_the_allowed_values(overrides: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        bake_config(overrides)
