"""Settings under `model`: the model to start from, the adapter, and the precision of the training."""

import re
from typing import Annotated, Any

import msgspec

from baker.config.mistakes import Mistake, check, refusal, shown
from baker.config.peft import peft_mistakes
from baker.config.ranges import Positive
from baker.config.spellings import BIASES, DTYPES, MODEL_FACTORIES, meaning, misspelling
from baker.names import check_name


class LoraConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The LoRA adapter that a bake trains."""

    r: Positive = 16
    """Inner dimension (rank) of the update B @ A; at most the engine's max_lora_rank."""
    lora_alpha: Annotated[float, msgspec.Meta(gt=0.0)] = 16
    """Scale of the update: it is multiplied by lora_alpha / r (LoRA, arXiv:2106.09685)."""
    lora_dropout: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    """Dropout probability on the adapter's input during training."""
    bias: str = "none"
    """Must be `none`: the engine can't serve adapters with biases."""
    target_modules: str | list[str] = "all-linear"
    """Modules to adapt: `all-linear` (attention and MLP, never embeddings or lm_head), a list or a comma-separated
    string of module names, or a regular expression that matches whole module names."""

    def __post_init__(self) -> None:
        check(misspelling("bias", self.bias, BIASES), self._wrong_pattern())

    def _wrong_pattern(self) -> Mistake | None:
        if isinstance(self.target_modules, str):
            try:
                re.compile(self.target_modules)
            except (re.error, OverflowError, RecursionError) as error:
                text = (
                    f"{shown(self.target_modules)} is neither a comma-separated list nor a regular expression: {error}"
                )
                return Mistake(("target_modules",), text)
        return None


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model to start from, and its adapter."""

    type: str = "bake"
    """Must be `bake`."""
    parent_model_name: str | None = None
    """Base model or bake to start from; absent: the repo's base model."""
    baked_adapter_config: LoraConfig = LoraConfig()
    """Settings of the adapter."""
    dtype: str | None = None
    """Type that the base model computes in during training; absent: chosen by device. Adapter weights are always
    float32."""
    attn_implementation: str = "sdpa"
    """Attention implementation of the training: `sdpa`, `eager`, `flash_attention_2` or `flash_attention_3`."""
    disable_activation_checkpoint: bool = False
    """Whether to keep all activations, even if the training then does not fit into memory
    (`training/setup/memory.py`)."""
    peft_config: dict[str, Any] | None = None
    """Raw PEFT settings. They apply where baked_adapter_config does not set a value."""
    save_name: str | None = None
    """Label of the result."""
    student_model_path: str | None = None
    """Name of another model in the service's models folder, with the same vocabulary, to train as student."""
    adapter_paths: list[str] | None = None
    """Ignored; sent by older clients."""
    parent_peft_dir: str | None = None
    """Ignored; sent by older clients."""

    def __post_init__(self) -> None:
        name = self.save_name
        check(
            misspelling("type", self.type, MODEL_FACTORIES),
            misspelling("dtype", self.dtype, DTYPES),
            *peft_mistakes(self.peft_config or {}),
            None if name is None else refusal("save_name", lambda: check_name(name, "save")),
        )

    @property
    def torch_dtype(self) -> str | None:
        """`dtype` under torch's name."""
        return None if self.dtype is None else meaning("dtype", self.dtype, DTYPES)
