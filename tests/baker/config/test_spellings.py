import pytest

from baker.config.bake import bake_config


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [("bf16", "bfloat16"), ("BF16", "bfloat16"), ("float16", "float16"), ("fp32", "float32"), (None, None)],
)
def test_types_have_a_short_and_a_long_name(spelled: str | None, meant: str | None) -> None:
    assert bake_config({"model": {"dtype": spelled}}).model.torch_dtype == meant


@pytest.mark.parametrize(
    "name", ["adamw", "AdamW", "adam", "FusedAdam", "adamw_torch", "fused-adam", "cpu-adam", "huggingface"]
)
def test_an_optimizer_of_the_adam_family_keeps_its_spelling(name: str) -> None:
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
def test_schedules_have_many_names(name: str, curve: str) -> None:
    assert bake_config({"scheduler": {"type": name}}).scheduler.curve == curve
