from typing import Any

import pytest

from baker.config.bake import bake_config
from baker.config.unsupported import refusals, warnings


def test_nothing_is_to_be_said_of_the_defaults() -> None:
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
def test_what_would_change_the_result_is_refused(overrides: dict[str, Any], reason: str) -> None:
    config = bake_config(overrides)
    (found,) = refusals(config)
    assert reason in found and warnings(config) == []


@pytest.mark.parametrize(
    ("overrides", "warning"),
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
def test_what_changes_no_result_is_a_warning(overrides: dict[str, Any], warning: str) -> None:
    config = bake_config(overrides)
    (found,) = warnings(config)
    assert warning in found and refusals(config) == []


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
def test_what_is_honoured_is_not_warned_of(overrides: dict[str, Any]) -> None:
    assert warnings(bake_config(overrides)) == []
