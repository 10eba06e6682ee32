"""docs/bake-config.md agrees with the code: every field, its default, and what is refused or warned about."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.config.bake import BakeConfig, bake_config
from baker.errors import ConfigError, InvalidInputError
from baker.jobs import plan
from baker.jobs.policy import Policy
from baker.repos import bakes, prompts, repos, targets
from baker.repos.catalog import Catalog
from baker.status import Stage
from baker.types import Prompt
from tests.baker.settings import settings_of
from tests.baker.tiny import save_model
from tests.baker.training.run.test_train import run, warnings_of, write_spec
from tests.service import ROOT

PAGE = (ROOT / "docs" / "bake-config.md").read_text()
ROWS = {
    field: (kind, default, here)
    for field, kind, default, here in re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \| (.+?) \| .*\|$", PAGE, re.MULTILINE)
}
OLD_NAMES = re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", PAGE, re.MULTILINE)
FIELDS = {
    path: field
    for path, field in settings_of(BakeConfig)
    if not (isinstance(field.type, type) and issubclass(field.type, msgspec.Struct))
    and not path.startswith("data.eval_sources[]")  # the same as those of data.sources
}

TRIES: dict[str, tuple[dict[str, Any], str]] = {
    "model_name": ({"model_name": "fake/other", "model": {"parent_model_name": "fake/base"}}, "model_name is 'fake/o"),
    "activation_checkpoint_cpu_offload": ({"activation_checkpoint_cpu_offload": True}, "activations are never moved"),
    "model.parent_model_name": ({"model": {"parent_model_name": "repo/gone"}}, "Model 'repo/gone' is not served here"),
    "model.baked_adapter_config.r": ({"model": {"baked_adapter_config": {"r": 64}}}, "r is 64, but this service"),
    "model.baked_adapter_config.target_modules": (
        {"model": {"baked_adapter_config": {"target_modules": "q_proj"}}},
        "target_modules lack down_proj, gate_proj, k_proj, o_proj, up_proj, v_proj of the parent: kept",
    ),
    "model.dtype": ({"model": {"dtype": "fp16"}}, "model.dtype is float16"),
    "model.attn_implementation": ({"model": {"attn_implementation": "flash_attention_2"}}, "sdpa is used"),
    "model.peft_config": (
        {"model": {"peft_config": {"r": 2}, "baked_adapter_config": {"r": 4}}},
        "model.peft_config.r is 2, but model.baked_adapter_config.r wins: 4",
    ),
    "model.student_model_path": ({"model": {"student_model_path": "small"}}, "can't be run here: model.student"),
    "model.adapter_paths": ({"model": {"adapter_paths": ["/a"]}}, "model.adapter_paths has no effect"),
    "model.parent_peft_dir": ({"model": {"parent_peft_dir": "/a"}}, "model.parent_peft_dir has no effect"),
    "data.sources": ({"data": {"sources": [{"name_or_path": "a.jsonl"}]}}, "can't be run here: data.sources"),
    "data.eval_sources": ({"data": {"eval_sources": [{"split": "eval"}]}}, "can't be run here: data.eval_sources"),
    "data.on_policy.rounds": (
        {"data": {"on_policy": {"rounds": 1}}, "checkpoint": [{"auto_resume": False}]},
        "data.on_policy.rounds is 1, and each round resumes from the training state",
    ),
    "data.max_length": ({"data": {"max_length": 8}}, "cut to data.max_length (8 tokens)"),
    "data.train_eval_split": ({"data": {"train_eval_split": [1, 0]}}, "nothing is held out, so there is no eval_kl"),
    "optimizer.type": ({"optimizer": {"type": "adam", "weight_decay": 0.1}}, "weight_decay is decoupled"),
    "wandb.enable": ({"wandb": {"enable": True}}, "wandb.enable has no effect"),
    "merge.strategy": ({"merge": {"others": ["a"]}}, "leave datasets out, or set merge.strategy to compose"),
    "branch": ({"branch": "bake"}, "which is a bake of repo"),
    "deepspeed.zero_optimization.stage": ({"deepspeed": {"zero_optimization": {"stage": 2}}}, "stage 2 has no effect"),
}
NEEDS_A_PARENT = {"model.baked_adapter_config.target_modules"}


def test_every_field_has_a_row_and_every_row_a_field() -> None:
    assert list(ROWS) == list(FIELDS)


@pytest.mark.parametrize("path", FIELDS)
def test_a_row_s_default_is_the_code_s(path: str) -> None:
    field = FIELDS[path]
    if field.required:
        assert ROWS[path][1] == "required"
        return
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    assert ROWS[path][1] == f"`{json.dumps(default)}`"


def test_every_refusal_and_every_warning_is_tried() -> None:
    assert set(TRIES) == {path for path, (_, _, here) in ROWS.items() if "warned" in here or "refused" in here}
    for _, _, here in ROWS.values():
        assert set(here.split(" or ")) <= {"honoured", "stored", "warned", "refused"}


@pytest.mark.parametrize("path", TRIES)
def test_a_field_is_refused_or_warned_about_as_its_row_says(path: str, catalog: Catalog, tmp_path: Path) -> None:
    overrides, words = TRIES[path]
    is_refused, messages = outcome_of(overrides, catalog, tmp_path, has_parent=path in NEEDS_A_PARENT)
    assert words in messages
    assert ("refused" if is_refused else "warned") in ROWS[path][2]


@pytest.mark.parametrize("path", [path for path in FIELDS if path not in TRIES])
def test_a_value_of_another_type_is_refused_at_save(path: str) -> None:
    with pytest.raises(ConfigError, match=path.split(".")[-1].removesuffix("[]")):
        bake_config(nested(path, {"no": "such"}))


def test_the_defaults_give_no_warnings(catalog: Catalog, tmp_path: Path) -> None:
    assert outcome_of({}, catalog, tmp_path) == (False, "")


@pytest.mark.parametrize(("old", "new"), OLD_NAMES)
def test_an_older_name_means_the_newer_one(old: str, new: str) -> None:
    value = "a/b" if "model" in old else 7
    assert bake_config(nested(old, value)) == bake_config(nested(new, value)) != BakeConfig()


def nested(path: str, value: Any) -> dict[str, Any]:
    """`a.b[].c` -> {"a": {"b": [{"c": value}]}}"""
    for part in reversed(path.split(".")):
        value = {part.removesuffix("[]"): [value] if part.endswith("[]") else value}
    assert isinstance(value, dict)
    return value


def outcome_of(overrides: dict[str, Any], catalog: Catalog, folder: Path, has_parent: bool = False) -> tuple[bool, str]:
    """Save and run a bake as a service would. Returns: whether the run was refused, and the reason or the warnings."""
    user, questions = "admin", {"type": "hardcoded", "questions": ["One?", "Two?"]}
    repos.put(catalog, user, "repo", None)
    prompts.put(catalog, user, "repo", "loud", Prompt(), may_change=True)
    target = {"u": "loud", "v": "", "generators": [questions]}
    targets.put(catalog, user, "repo", "target", "default", target, may_change=True)
    bake = {"datasets": [{"target": "target"}], **overrides}
    bakes.put(catalog, user, "repo", "bake", "default", bake, may_change=True)
    policy = Policy(has_anthropic_key=False, stim_fallback=True, max_lora_rank=32)
    for stage in (Stage.STIM, Stage.ROLLOUT):
        plan.start(catalog, policy, stage, user, "repo", "target", None)
    try:
        job = plan.start(catalog, policy, Stage.BAKE, user, "repo", "bake", None)
    except InvalidInputError as error:
        return True, error.message
    base = save_model(folder / "model")
    parent = folder / "parent" / "out" / "6"
    if has_parent:
        run(write_spec(folder / "parent", base, epochs=1))
    held_out = 0 if overrides.get("data", {}).get("train_eval_split") else 3
    spec = write_spec(folder, base, held_out=held_out, parent=parent if has_parent else None, epochs=1, **overrides)
    return False, "; ".join([*job.warnings, *warnings_of(run(spec))])
