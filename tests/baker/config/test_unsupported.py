from typing import Any

import pytest

from baker.config.bake import bake_config
from baker.config.unsupported import refusals, warnings


def test_the_defaults_give_neither_refusals_nor_warnings() -> None:
    assert refusals(bake_config({})) == warnings(bake_config({})) == []


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            {"model": {"student_model_path": "small"}, "data": {"teacher": "full"}},
            "data.teacher 'full' needs",
        ),
        ({"model": {"student_model_path": "small"}, "data": {"on_policy": {"rounds": 1}}}, "data.on_policy needs the"),
        ({"data": {"sources": [{"name_or_path": "x.jsonl"}]}}, "data.sources names 1 files"),
        ({"data": {"eval_sources": [{}, {}]}}, "data.eval_sources names 2 files"),
    ],
)
def test_settings_that_would_change_the_result_are_refused(overrides: dict[str, Any], reason: str) -> None:
    config = bake_config(overrides)
    (refusal,) = refusals(config)
    assert reason in refusal and warnings(config) == []


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"model": {"adapter_paths": ["/x"]}}, "model.adapter_paths has no effect"),
        ({"model": {"parent_peft_dir": "/x"}}, "model.parent_peft_dir has no effect"),
        (
            {"model": {"peft_config": {"r": 4}, "baked_adapter_config": {"r": 8}}},
            "model.peft_config.r is 4, but model.baked_adapter_config.r wins: 8",
        ),
        (
            {"model_name": "a/b", "model": {"parent_model_name": "c/d"}},
            "model_name is 'a/b', but model.parent_model_name wins: 'c/d'",
        ),
        ({"optimizer": {"type": "Adam", "weight_decay": 0.1}}, "weight_decay is decoupled"),
        ({"activation_checkpoint_cpu_offload": True}, "activation_checkpoint_cpu_offload has no effect"),
    ],
)
def test_settings_without_an_effect_on_the_result_give_a_warning(overrides: dict[str, Any], text: str) -> None:
    config = bake_config(overrides)
    (warning,) = warnings(config)
    assert text in warning and refusals(config) == []


@pytest.mark.parametrize(
    "overrides",
    [
        {"model": {"peft_config": {"r": 4}}},
        {"model_name": "a/b", "model": {"parent_model_name": "a/b"}},
        {"optimizer": {"type": "adam"}},
        {"optimizer": {"type": "fused_adam", "weight_decay": 0.1}},
        {"deepspeed": {"zero_optimization": {"stage": 3}}},
        {"checkpoint": [{"enabled": False, "auto_resume": True}]},
    ],
)
def test_settings_that_take_effect_give_no_warning(overrides: dict[str, Any]) -> None:
    assert warnings(bake_config(overrides)) == []
