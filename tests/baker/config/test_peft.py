from typing import Any

import msgspec
import pytest
from peft import LoraConfig as PeftLoraConfig

from baker.config.bake import bake_config
from baker.errors import ConfigError


def test_peft_config_gives_the_settings_that_baked_adapter_config_lacks() -> None:
    peft = {"r": 3, "lora_alpha": 5, "lora_dropout": 0.1, "target_modules": ["q_proj"], "peft_type": "LORA"}
    adapter = bake_config({"model": {"peft_config": peft, "baked_adapter_config": {"r": 7}}}).model.baked_adapter_config
    assert (adapter.r, adapter.lora_alpha, adapter.lora_dropout) == (7, 5, 0.1)
    assert adapter.target_modules == ["q_proj"]
    template = bake_config({"model": {"baked_adapter_config": {"r": 7, "lora_alpha": 9}}})
    above = bake_config({"model": {"peft_config": {"r": 3}}}, template).model.baked_adapter_config
    assert (above.r, above.lora_alpha) == (3, 9), "overrides win over the template, in either spelling"


def test_a_config_written_by_peft_is_accepted() -> None:
    written = PeftLoraConfig(r=6, lora_alpha=12, task_type="CAUSAL_LM", target_modules="all-linear").to_dict()
    config = bake_config({"model": {"peft_config": msgspec.to_builtins(written)}})
    assert (config.model.baked_adapter_config.r, config.model.baked_adapter_config.lora_alpha) == (6, 12)


@pytest.mark.parametrize(
    ("peft", "complaint"),
    [
        ({"use_dora": True}, "model.peft_config.use_dora: not served here"),
        ({"use_rslora": True, "modules_to_save": ["lm_head"]}, "modules_to_save: not .*; .*use_rslora: not served"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern: not served"),
        ({"layers_to_transform": [0]}, "layers_to_transform: not served"),
        ({"init_lora_weights": "gaussian"}, "init_lora_weights: must be True, got 'gaussian'"),
        ({"peft_type": "LOHA"}, "peft_type: must be 'LORA', got 'LOHA'"),
        ({"rank": 4}, "rank: not a setting of a LoRA adapter"),
        ({"r": 0}, "model.peft_config.r: Expected `int` >= 1"),
        ({"bias": "all"}, "model.peft_config.bias: 'all' is not supported"),
    ],
)
def test_peft_settings_that_are_not_served_are_refused_by_name(peft: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        bake_config({"model": {"peft_config": peft}})


def test_every_setting_of_the_installed_peft_is_known() -> None:
    """A new setting must be classified: does it ask for something that is not served?"""
    for name in PeftLoraConfig.__dataclass_fields__:
        try:
            bake_config({"model": {"peft_config": {name: ["something"]}}})
        except ConfigError as error:
            assert "not a setting of" not in error.message, name
