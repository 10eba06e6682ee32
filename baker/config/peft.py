"""Raw PEFT settings in a bake's config: which set the adapter, which have no effect, which can't be served.

A whole `peft.LoraConfig(...).to_dict()` is accepted. peft itself is not imported.
"""

from itertools import islice
from typing import Any

from baker.config.mistakes import MAX_KEY, MAX_LISTED, Mistake, shown
from baker.suggestions import did_you_mean

_ADAPTER_FIELDS = ("r", "lora_alpha", "lora_dropout", "bias", "target_modules")
"""Settings with the same meaning as in `baked_adapter_config`."""
_FIXED: dict[str, Any] = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "init_lora_weights": True}
"""Settings with only one supported value."""
_DESCRIPTIVE = frozenset(
    {"base_model_name_or_path", "inference_mode", "megatron_core", "peft_version", "qalora_group_size", "revision"}
)
"""Settings that change nothing on their own."""
_NOT_SERVED = frozenset(
    {
        "alora_invocation_tokens",
        "alpha_pattern",
        "arrow_config",
        "auto_mapping",
        "corda_config",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "kasa_config",
        "layer_replication",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_bias",
        "lora_ga_config",
        "megatron_config",
        "modules_to_save",
        "monteclora_config",
        "rank_pattern",
        "runtime_config",
        "target_parameters",
        "trainable_token_indices",
        "use_bdlora",
        "use_dora",
        "use_qalora",
        "use_rslora",
        "velora_config",
    }
)
"""Features of peft 0.21 that the engine does not serve as trained, or that our training lacks."""
_ALL = (*_ADAPTER_FIELDS, *_FIXED, *sorted(_DESCRIPTIVE), *sorted(_NOT_SERVED))


def peft_mistakes(config: dict[str, Any]) -> list[Mistake]:
    """One for each setting that is not supported, as a field of `peft_config`; the first ones if there are many."""
    complaints = ((key, _complaint(key, value)) for key, value in sorted(config.items()))
    mistakes = (Mistake(("peft_config", key[:MAX_KEY]), text) for key, text in complaints if text is not None)
    return [*islice(mistakes, MAX_LISTED + 1)]


def adapter_fields(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of `baked_adapter_config` that `config` contains."""
    return {key: config[key] for key in _ADAPTER_FIELDS if key in config}


def _complaint(key: str, value: Any) -> str | None:
    if key in _ADAPTER_FIELDS or key in _DESCRIPTIVE or value is None:
        return None
    if key in _FIXED:
        return None if value == _FIXED[key] else f"must be {_FIXED[key]!r}, got {shown(value)}"
    if key in _NOT_SERVED:
        # PEFT writes its features out even if they are off: False, {} or [].
        return "not served here: remove it" if value else None
    return f"not a setting of a LoRA adapter{did_you_mean(key, _ALL)}"
