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
        ({"type": "double_baker"}, "type 'double_baker' is not supported; allowed: single_baker"),
        ({"datasets": [{"target": "t", "weight": -1}]}, r"datasets.0.weight: Expected `float` >= 0"),
        ({"datasets": [{"target": "t", "weight": 0}]}, "weights sum to 0"),
        ({"data": {"train_eval_split": [0.5, 0.6]}}, r"data: train_eval_split must be .* got \[0.5, 0.6\]"),
        ({"data": {"beta": 1.1}}, "data.beta: Expected `float` <= 1.0"),
        ({"data": {"temperature": 0}}, "data.temperature: Expected `float` > 0"),
        ({"data": {"cache_fs_type": "tape"}}, "'tape' is not supported; allowed: auto, local, shared"),
        ({"data": {"sources": [{"type": "csv"}]}}, r"data.sources.0: type 'csv' .* allowed: bake_jsonl"),
        ({"data": {"sources": [{"max_samples": -2}]}}, "max_samples: Expected `int` >= -1"),
        ({"optimizer": {"betas": [0.9]}}, "optimizer.betas: Expected `array` of length 2"),
        ({"optimizer": {"betas": [0.9, 1.0]}}, r"betas must be at least 0 and below 1, got \[0.9, 1.0\]"),
        ({"optimizer": {"learning_rate": 0}}, "optimizer.learning_rate: Expected `float` > 0"),
        ({"optimizer": {"type": "muon"}}, "optimizer: type 'muon' is not supported; allowed: adamw"),
        ({"scheduler": {"type": "polynomial"}}, "'polynomial' is not supported; allowed: linear, cosine"),
        ({"scheduler": {"lr": 0.5}}, "scheduler: lr is no longer supported, got 0.5: set optimizer.learning_rate"),
        ({"model": {"type": "hf"}}, "model: type 'hf' is not supported; allowed: bake"),
        ({"model": {"dtype": "fp8"}}, "dtype 'fp8' is not supported; allowed: bf16, fp16, fp32, bfloat16"),
        ({"model": {"save_name": "a/b"}}, "save name 'a/b' contains an invalid character: '/'"),
        ({"model": {"baked_adapter_config": {"bias": "all"}}}, "bias 'all' is not supported; allowed: none"),
        (
            {"model": {"baked_adapter_config": {"target_modules": "q_proj("}}},
            "neither a comma-separated list nor a regular",
        ),
        ({"checkpoint": [{"type": "deepspeed"}]}, "checkpoint.0: type 'deepspeed' .* allowed: huggingface"),
        ({"checkpoint": [{"save_every_n_steps": -1}]}, "checkpoint.0.save_every_n_steps: Expected `int` >= 0"),
        ({"deepspeed": {"zero_optimization": {"stage": 4}}}, "deepspeed.zero_optimization.stage: Expected `int` <= 3"),
        ({"deepspeed": {"fp16": {"enabled": True}}}, "deepspeed: .* unknown field `fp16`"),
        ({"wandb": {"mode": "offline"}}, "wandb: .* unknown field `mode`"),
    ],
)
def test_a_bad_field_is_named_with_what_would_do(overrides: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        bake_config(overrides)


def test_a_template_lies_under_the_overrides() -> None:
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


def test_effective_settings_survive_the_store_and_another_save() -> None:
    config = bake_config(EVERYTHING)
    stored = msgspec.json.decode(msgspec.json.encode(config))
    assert msgspec.convert(stored, BakeConfig) == config
    assert bake_config(EVERYTHING, config) == config
    assert (
        stored["model_name"] == "repo/parent" and stored["model"]["peft_config"] == EVERYTHING["model"]["peft_config"]
    )


def test_null_is_not_given_in_objects_and_in_lists_of_them() -> None:
    def nulled(value: Any) -> Any:
        if isinstance(value, dict):
            return {"enabled": None, "type": None} | {key: nulled(inner) for key, inner in value.items()}
        return [nulled(item) for item in value] if isinstance(value, list) else value

    assert bake_config(nulled(EVERYTHING)) == bake_config(EVERYTHING)
    assert bake_config(dict.fromkeys(BakeConfig.__struct_fields__)) == BakeConfig()


def test_the_clients_fields_are_all_there() -> None:
    """Each override field of the published package, down to the last, has a field of ours."""

    def paths(kind: Any, at: str) -> Iterator[str]:
        if hasattr(kind, "__required_keys__"):  # a TypedDict
            for name, hint in get_type_hints(kind).items():
                yield f"{at}.{name}".lstrip(".")
                yield from paths(hint, f"{at}.{name}")
        for inner in get_args(kind):
            yield from paths(inner, at)

    theirs = set(paths(BakeConfigBaseParam, ""))
    assert "checkpoint.save_every_n_steps" in theirs and len(theirs) > 60
    assert theirs <= {path.replace("[]", "") for path, _ in settings_of(BakeConfig)}


def test_old_names_are_the_new_ones_and_the_new_ones_win() -> None:
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


def test_model_name_names_the_parent_where_the_model_does_not() -> None:
    assert bake_config({}).parent is None
    assert bake_config({"model_name": "a/b"}).parent == "a/b"
    assert bake_config({"model_name": "a/b", "model": {"parent_model_name": "c/d"}}).parent == "c/d"


def test_a_target_that_is_named_twice_weighs_as_both() -> None:
    datasets = [{"target": "a", "weight": 1.5}, {"target": "b"}, {"target": "a", "weight": 0.5}]
    assert bake_config({"datasets": datasets}).weights == {"a": 2.0, "b": 1.0}


@pytest.mark.parametrize(("rows", "epochs"), [(1, 8), (53, 8), (96, 7), (256, 4), (768, 3), (10_000, 2)])
def test_few_trajectories_get_many_passes(rows: int, epochs: int) -> None:
    assert epochs_for(rows) == epochs
