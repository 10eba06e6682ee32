import re

import pytest

from baker.config.bake import bake_config
from baker.config.spellings import SCHEDULES, meaning


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [("bf16", "bfloat16"), ("BF16", "bfloat16"), ("float16", "float16"), ("fp32", "float32"), (None, None)],
)
def test_a_dtype_has_a_short_and_a_long_name(spelled: str | None, meant: str | None) -> None:
    assert bake_config({"model": {"dtype": spelled}}).model.torch_dtype == meant


@pytest.mark.parametrize(
    "name", ["adamw", "AdamW", "adam", "FusedAdam", "adamw_torch", "fused-adam", "cpu-adam", "huggingface"]
)
def test_adamw_is_accepted_in_any_spelling_and_stored_as_written(name: str) -> None:
    assert bake_config({"optimizer": {"type": name}}).optimizer.type == name


@pytest.mark.parametrize(
    ("name", "curve"),
    [
        ("huggingface", "linear"),
        ("linear", "linear"),
        ("cosine_with_warmup", "cosine"),
        ("Constant-With-Warmup", "constant"),
        ("get_linear_schedule_with_warmup", "linear"),
    ],
)
def test_a_schedule_is_accepted_in_several_spellings(name: str, curve: str) -> None:
    assert bake_config({"scheduler": {"type": name}}).scheduler.curve == curve


def test_case_dashes_and_outer_spaces_do_not_matter() -> None:
    assert meaning("type", " Get-COSINE_schedule-with_warmup ", SCHEDULES) == "cosine"


def test_an_unknown_value_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match=re.escape(f"type 'x' is not supported; allowed: {', '.join(SCHEDULES)}")):
        meaning("type", "x", SCHEDULES)
