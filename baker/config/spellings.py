"""Accepted values of text settings, including older spellings and those of other libraries, with their meanings."""

from collections.abc import Mapping
from typing import Literal, TypeVar, get_args

from baker.config.mistakes import Mistake, shown
from baker.suggestions import did_you_mean

BAKERS = {"single_baker": "single_baker"}
MODEL_FACTORIES = {"bake": "bake"}
TEACHERS = {"top_k": "top_k", "full": "full"}
SOURCE_TYPES = {"bake_jsonl": "bake_jsonl"}
CHECKPOINT_ENGINES = {"huggingface": "huggingface"}
BIASES = {"none": "none"}
"""The engine can't serve adapters with biases."""
MERGE_KINDS = {"merge": "merge", "cherry_pick": "cherry-pick", "revert": "revert"}
MERGE_STRATEGIES = {name: name for name in ("auto", "algebra", "distill", "compose")}
RESOLUTIONS = {"ours": "ours", "theirs": "theirs"}
CACHE_FILE_SYSTEMS = {name: name for name in ("auto", "local", "shared")}

DTYPES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp32": "float32",
    **{name: name for name in ("bfloat16", "float16", "float32")},
}

OPTIMIZERS = dict.fromkeys(
    ("adamw", "adam", "adamw_torch", "adamw_torch_fused", "fused_adam", "fusedadam", "cpu_adam", "huggingface"), "adamw"
)

Curve = Literal["linear", "cosine", "constant"]
"""How the learning rate changes after the warmup."""

_CURVES: tuple[Curve, ...] = get_args(Curve)

SCHEDULES: dict[str, Curve] = {
    **{name: name for name in _CURVES},
    **{f"{name}_with_warmup": name for name in _CURVES},
    **{f"get_{name}_schedule_with_warmup": name for name in _CURVES},
    "huggingface": "linear",
}
"""Every schedule warms up for `warmup_steps`, whichever way it is spelled."""

Meaning = TypeVar("Meaning", bound=str)


def meaning(field: str, value: str, spellings: Mapping[str, Meaning]) -> Meaning:
    """The meaning of `value`; case does not matter, and `-` equals `_`. Raises: ValueError listing allowed values."""
    known = spellings.get(_plain(value))
    if known is None:
        raise ValueError(f"{field} {_complaint(value, spellings)}")
    return known


def misspelling(field: str, value: str | None, spellings: Mapping[str, str]) -> Mistake | None:
    """The mistake of a field whose value has no meaning; None if it has one, or is absent."""
    if value is None or _plain(value) in spellings:
        return None
    return Mistake((field,), _complaint(value, spellings))


def _plain(value: str) -> str:
    return value.strip().lower().replace("-", "_")


def _complaint(value: str, spellings: Mapping[str, str]) -> str:
    return f"{shown(value)} is not supported; allowed: {', '.join(spellings)}{did_you_mean(value, spellings)}"
