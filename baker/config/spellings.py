"""Older and foreign words that are accepted for our settings."""

from collections.abc import Mapping
from typing import Literal, TypeVar, get_args

BAKERS = {"single_baker": "single_baker"}


MODEL_FACTORIES = {"bake": "bake"}


TEACHERS = {"top_k": "top_k", "full": "full"}


SOURCE_TYPES = {"bake_jsonl": "bake_jsonl"}


CHECKPOINT_ENGINES = {"huggingface": "huggingface"}


BIASES = {"none": "none"}
"""The engine serves no adapter with biases."""


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


_CURVES: tuple[Curve, ...] = get_args(Curve)


SCHEDULES: dict[str, Curve] = {
    **{name: name for name in _CURVES},
    **{f"{name}_with_warmup": name for name in _CURVES},
    **{f"get_{name}_schedule_with_warmup": name for name in _CURVES},
    "huggingface": "linear",
}
"""All of them warm up, by `warmup_steps`."""


Meaning = TypeVar("Meaning", bound=str)


def meaning(field: str, value: str, spellings: Mapping[str, Meaning]) -> Meaning:
    """What `value` stands for, whatever its case and its dashes. Raises: ValueError listing what there is."""
    known = spellings.get(value.strip().lower().replace("-", "_"))
    if known is None:
        raise ValueError(f"{field} {value!r} is not known here; there is {', '.join(spellings)}")
    return known
