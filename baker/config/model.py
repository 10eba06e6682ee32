"""Settings under `model`: the base to start from, the adapter, and what the trainer computes in."""

import re
from typing import Annotated, Any

import msgspec

from baker.config.peft import check_peft_config
from baker.config.ranges import Positive
from baker.config.spellings import BIASES, DTYPES, MODEL_FACTORIES, meaning
from baker.names import check_name


class LoraConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    r: Positive = 16
    """Inner dimension (rank) of the update B @ A; at most the engine's max_lora_rank."""
    lora_alpha: Annotated[float, msgspec.Meta(gt=0.0)] = 16
    """The update is scaled by lora_alpha / r (LoRA, arXiv:2106.09685)."""
    lora_dropout: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    bias: str = "none"
    target_modules: str | list[str] = "all-linear"
    """`all-linear` (attention and MLP, never embeddings or lm_head), a list or a comma list of module names, or a
    regular expression that whole module names match."""

    def __post_init__(self) -> None:
        meaning("bias", self.bias, BIASES)
        if isinstance(self.target_modules, str):
            try:
                re.compile(self.target_modules)
            except re.error as error:
                raise ValueError(
                    f"target_modules {self.target_modules!r} is neither a comma list nor a regular expression: {error}"
                ) from error


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "bake"
    parent_model_name: str | None = None
    """Base model or bake to start from; absent: the repo's base model."""
    baked_adapter_config: LoraConfig = LoraConfig()
    dtype: str | None = None
    """What the base computes in while training; absent: by device. Adapter weights are float32 in any case."""
    attn_implementation: str = "sdpa"
    disable_activation_checkpoint: bool = False
    """Never compute activations again, not even where they would not fit (`memory.py`)."""
    peft_config: dict[str, Any] | None = None
    """Raw PEFT settings: they give what baked_adapter_config does not."""
    save_name: str | None = None
    """A label of the result."""
    student_model_path: str | None = None
    """Another model with the same vocabulary as student, by its name in the service's models folder."""
    adapter_paths: list[str] | None = None
    """[old] Ignored."""
    parent_peft_dir: str | None = None
    """[old] Ignored."""

    def __post_init__(self) -> None:
        meaning("type", self.type, MODEL_FACTORIES)
        if self.dtype is not None:
            meaning("dtype", self.dtype, DTYPES)
        if self.peft_config is not None:
            check_peft_config(self.peft_config)
        if self.save_name is not None:
            check_name(self.save_name, "save")

    @property
    def torch_dtype(self) -> str | None:
        """torch's name of `dtype`."""
        return None if self.dtype is None else meaning("dtype", self.dtype, DTYPES)
