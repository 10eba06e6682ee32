from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from aibread.types.bake_config_base_param import BakeConfigBaseParam

from baker.config.bake import BakeConfig, bake_config, epochs_for
from baker.config.checkpoint import CheckpointConfig
from baker.errors import ConfigError
from tests.baker.settings import settings_of


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"colour": 1}, "unknown field `colour`"),
        ({"epochs": 0}, "epochs: Expected `int` >= 1"),
        ({"epochs": "three"}, "epochs: Expected `int"),
        ({"seed": 2**64}, "seed: Expected `int`"),
        ({"type": "double_baker"}, "type: 'double_baker' is not supported; allowed: single_baker"),
        ({"datasets": [{"target": "t", "weight": -1}]}, r"datasets.0.weight: Expected `float` >= 0"),
        ({"datasets": [{"target": "t", "weight": 0}]}, "weights sum to 0"),
        ({"deepspeed": {"zero_optimization": {"stage": 4}}}, "deepspeed.zero_optimization.stage: Expected `int` <= 3"),
        ({"deepspeed": {"fp16": {"enabled": True}}}, "deepspeed.fp16: unknown field `fp16`"),
        ({"wandb": {"mode": "offline"}}, "wandb.mode: unknown field `mode`"),
    ],
)
def test_a_bad_field_is_named_with_the_allowed_values(overrides: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        bake_config(overrides)


def test_overrides_are_applied_to_a_template() -> None:
    template = bake_config({"epochs": 5, "optimizer": {"learning_rate": 0.5}})
    config = bake_config({"optimizer": {"weight_decay": 0.1}}, template)
    assert (config.epochs, config.optimizer.learning_rate, config.optimizer.weight_decay) == (5, 0.5, 0.1)


EVERYTHING: dict[str, Any] = {
    "datasets": [{"target": "t", "weight": 2}],
    "total_trajectories": 9,
    "model_name": "repo/parent",
    "model": {"dtype": "bf16", "peft_config": {"r": 3, "inference_mode": True}, "adapter_paths": ["x"]},
    "data": {"sources": [{"name_or_path": "x.jsonl"}], "beta": 0.5, "train_eval_split": [1, 0]},
    "checkpoint": [{"output_dir": "/tmp/x", "save_every_n_epochs": 1}],
    "wandb": {"enable": True, "tags": ["a"]},
    "deepspeed": {"zero_optimization": {"stage": 2}},
}


def test_a_config_can_be_stored_read_back_and_saved_again() -> None:
    config = bake_config(EVERYTHING)
    stored = msgspec.json.decode(msgspec.json.encode(config))
    assert msgspec.convert(stored, BakeConfig) == config
    assert bake_config(EVERYTHING, config) == config
    assert (
        stored["model_name"] == "repo/parent" and stored["model"]["peft_config"] == EVERYTHING["model"]["peft_config"]
    )


def test_null_means_not_given_also_inside_lists_of_objects() -> None:
    def nulled(value: Any) -> Any:
        if isinstance(value, dict):
            return {"enabled": None, "type": None} | {key: nulled(inner) for key, inner in value.items()}
        return [nulled(item) for item in value] if isinstance(value, list) else value

    assert bake_config(nulled(EVERYTHING)) == bake_config(EVERYTHING)
    assert bake_config(dict.fromkeys(BakeConfig.__struct_fields__)) == BakeConfig()


def test_every_field_of_the_published_client_is_accepted() -> None:
    """Nested fields too."""

    def paths(kind: Any, at: str) -> Iterator[str]:
        if hasattr(kind, "__required_keys__"):  # a TypedDict
            for name, hint in get_type_hints(kind).items():
                yield f"{at}.{name}".lstrip(".")
                yield from paths(hint, f"{at}.{name}")
        for inner in get_args(kind):
            yield from paths(inner, at)

    client_fields = set(paths(BakeConfigBaseParam, ""))
    assert "checkpoint.save_every_n_steps" in client_fields and len(client_fields) > 60
    assert client_fields <= {path.replace("[]", "") for path, _ in settings_of(BakeConfig)}


def test_older_names_are_accepted_and_newer_ones_win() -> None:
    old = {"model": {"name_or_path": "a/b"}, "checkpoint": [{"save_interval": 7}]}
    config = bake_config(old)
    assert (config.parent, config.checkpoint) == ("a/b", [CheckpointConfig(save_every_n_steps=7)])
    assert old == {"model": {"name_or_path": "a/b"}, "checkpoint": [{"save_interval": 7}]}, "the input is not changed"
    both = bake_config(
        {
            "model": {"name_or_path": "a/b", "parent_model_name": "c/d"},
            "checkpoint": [{"save_interval": 7, "save_every_n_steps": 9}],
        }
    )
    assert (both.parent, both.checkpoint[0].save_every_n_steps) == ("c/d", 9)


def test_model_name_is_the_parent_if_parent_model_name_is_absent() -> None:
    assert bake_config({}).parent is None
    assert bake_config({"model_name": "a/b"}).parent == "a/b"
    assert bake_config({"model_name": "a/b", "model": {"parent_model_name": "c/d"}}).parent == "c/d"


def test_a_target_that_is_listed_twice_gets_the_sum_of_its_weights() -> None:
    datasets = [{"target": "a", "weight": 1.5}, {"target": "b"}, {"target": "a", "weight": 0.5}]
    assert bake_config({"datasets": datasets}).weights == {"a": 2.0, "b": 1.0}


@pytest.mark.parametrize(("rows", "epochs"), [(1, 8), (53, 8), (96, 7), (256, 4), (768, 3), (10_000, 2)])
def test_fewer_trajectories_get_more_epochs(rows: int, epochs: int) -> None:
    assert epochs_for(rows) == epochs


def test_of_several_checkpoint_entries_the_strictest_setting_counts_and_disabled_ones_do_not() -> None:
    entries = [
        {"state_every_n_seconds": 20, "save_total_limit": 5},
        {"state_every_n_seconds": 40, "save_total_limit": 3, "keep_state": True},
        {"state_every_n_seconds": 1, "save_total_limit": 1, "auto_resume": False, "enabled": False},
    ]
    config = bake_config({"checkpoint": entries})
    assert (config.state_seconds, config.save_total_limit, config.keeps_state, config.resumes) == (20, 3, True, True)
    defaults = bake_config({})
    assert (defaults.state_seconds, defaults.save_total_limit, defaults.resumes) == (30, None, True)
    assert not bake_config({"checkpoint": [{"auto_resume": False}, {"auto_resume": True}]}).resumes


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"model": {"baked_adapter_config": {"r": 33}}}, "baked_adapter_config"),
        ({"model": {"peft_config": {"r": 33}}}, "peft_config"),
        ({"model": {"peft_config": {"r": 8}, "baked_adapter_config": {"r": 33}}}, "baked_adapter_config"),
    ],
)
def test_a_rank_that_can_t_be_served_is_refused_with_both_numbers(overrides: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as raised:
        bake_config({**overrides, "epochs": 0}, max_rank=32)
    texts = {entry["loc"][-1]: entry["msg"] for entry in raised.value.detail or []}
    assert set(texts) == {"r", "epochs"}, "with the other mistakes"
    assert f"overrides.model.{field}.r: the rank is 33, but this service serves ranks up to 32" in raised.value.message
    assert bake_config(overrides, max_rank=64) == bake_config(overrides)
    assert bake_config({"model": {**overrides["model"], "student_model_path": "small"}}, max_rank=32)


def test_a_template_s_or_the_default_rank_is_refused_too() -> None:
    template = bake_config({"model": {"baked_adapter_config": {"r": 64}}})
    for below in (template, None):
        with pytest.raises(ConfigError, match="ranks up to 8"):
            bake_config({}, below, max_rank=8)
