"""What a bake will need of memory, from the model's config alone: said before anything is loaded.

Counted is what stays until the backward pass, as `student.py`, `lora.py` and `attention.py` keep it for models shaped
like Llama (Qwen, Mistral, SmolLM); what a layer needs for a moment is small beside that. Others: a guess.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from baker.config.bake import BakeConfig
from baker.config.model import LoraConfig
from baker.errors import StageError
from baker.training.data.batches import READ_ROWS, READ_TOKENS
from baker.training.model.student import MIDDLE_PARTS
from baker.training.model.teacher_states import TEACHER_BYTES

MIB = 2**20
RUNTIME_BYTES = {"cpu": 430 * MIB, "cuda": 700 * MIB}
"""Of a process that has loaded torch, transformers and peft (CPU, measured); of a CUDA context and its libraries."""
LOGITS_BYTES = {"cpu": 3 * 64 * MIB, "cuda": 3 * 256 * MIB}
"""Both sides' logits of a chunk of `losses.CHUNK_BYTES` or `GPU_CHUNK_BYTES`, in float32 at most, and what a tile of it
takes. On a GPU, measures other than the forward KL take up to 800 MiB more."""
ADAM_BYTES = 16  # a trained weight, its gradient and two moments, in float32
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Shape(NamedTuple):
    """Of a decoder."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    head_width: int
    parameters: int

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a layer's linear parts."""
        queries, keys = self.heads * self.head_width, self.key_heads * self.head_width
        return {
            "q_proj": (self.hidden, queries),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (queries, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }


class Need(NamedTuple):
    """Bytes."""

    weights: int
    adapter: int
    """With gradients and optimizer."""
    activations: int
    """Kept for the backward pass, or read without one; with the teacher's hidden states."""
    logits: int
    runtime: int

    @property
    def total(self) -> int:
        return sum(self)

    @property
    def to_take(self) -> int:
        """By a process that runs already, and has loaded nothing."""
        return self.total - self.runtime

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / MIB:,.0f}" for name, size in self._asdict().items())
        return f"{self.total / MIB:,.0f} MiB ({parts})"


def read_shape(folder: Path) -> Shape:
    """Of the model in Hugging Face's format. Raises: StageError if its config says too little."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        config = config.get("text_config", config)
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        width = config.get("head_dim") or hidden // heads
        shape = Shape(
            layers=config["num_hidden_layers"],
            hidden=hidden,
            intermediate=config["intermediate_size"],
            heads=heads,
            key_heads=config.get("num_key_value_heads") or heads,
            head_width=width,
            parameters=0,
        )
        tables = 1 if config.get("tie_word_embeddings", False) else 2
        inside = shape.layers * sum(inputs * outputs for inputs, outputs in shape.linear.values())
        return shape._replace(parameters=inside + tables * config["vocab_size"] * hidden)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"base model {folder}: its config does not tell its shape ({error!r})") from error


def estimate(
    shape: Shape,
    config: BakeConfig,
    lengths: Sequence[int],
    *,
    dtype: str = "bfloat16",
    device: str = "cpu",
    recomputes: bool = False,
    keeps_teacher: bool = True,
    taught: Sequence[int] = (),
) -> Need:
    """Of training on trajectories of these `lengths` (context and response), at its peak.

    Args:
        taught: their lengths with the teacher's contexts, which a full teacher reads.
        dtype: what the base computes in.
        recomputes: whether only what enters each layer is kept, and one layer at a time computed again.
        keeps_teacher: whether the states of a full teacher are kept through the training.
    """
    longest = sorted(lengths, reverse=True)[: config.micro_batch_size]
    size = DTYPE_BYTES[dtype]
    wanted = config.model.baked_adapter_config
    kept = shape._replace(layers=1) if recomputes else shape
    entering = shape.layers * shape.hidden * size if recomputes else 0
    step = sum(length * (entering + token_bytes(kept, wanted.r, size, keys=length // 2)) for length in longest)
    read = _tokens_read(lengths, config.micro_batch_size)
    if config.data.has_full_teacher:
        read = max(read, _tokens_read(taught, config.micro_batch_size))
        states = _teacher_bytes(shape, config, lengths, size) if keeps_teacher else 0
    else:
        states = 0
    return Need(
        weights=shape.parameters * size,
        adapter=_adapter_weights(shape, wanted) * ADAM_BYTES,
        activations=max(step, read * _read_bytes(shape, size)) + states,
        logits=LOGITS_BYTES[device],
        runtime=RUNTIME_BYTES[device],
    )


def _teacher_bytes(shape: Shape, config: BakeConfig, lengths: Sequence[int], size: int) -> int:
    """At most: contexts are counted as if they were responses."""
    states = MIDDLE_PARTS if config.data.hidden_weight else 1
    return min(TEACHER_BYTES, sum(lengths) * states * shape.hidden * size)


def _tokens_read(lengths: Sequence[int], at_once: int) -> int:
    """At once, without gradients: to evaluate, and by a teacher whose states are not kept, the rows of a pass."""
    longest = sorted(lengths, reverse=True)
    return max(sum(longest[:at_once]), min(READ_TOKENS, sum(longest[:READ_ROWS])))


def _read_bytes(shape: Shape, size: int) -> int:
    """What a token takes that is read without gradients: one layer's numbers, and the states that are kept of some."""
    layer = 4 * shape.intermediate + 4 * shape.hidden + (shape.heads + 2 * shape.key_heads) * shape.head_width
    return size * (layer + MIDDLE_PARTS * shape.hidden) + 4 * shape.hidden


def token_bytes(shape: Shape, rank: int, size: int, keys: int = 0) -> int:
    """What is kept of a token for the backward pass. Args: keys: that it attends to, on average."""
    queries, key_width = shape.heads * shape.head_width, shape.key_heads * shape.head_width
    norms = 2 * shape.hidden * (4 + size)  # what goes in, in float32, and what comes out
    attention = (2 * queries + 2 * key_width + shape.heads * keys) * size
    gated = 4 * shape.intermediate * size  # the gate before and after its activation, its partner, their product
    return shape.layers * (norms + attention + gated + len(shape.linear) * rank * size)


def _adapter_weights(shape: Shape, wanted: LoraConfig) -> int:
    """All linear parts, where `target_modules` is no plain list of names."""
    targets = wanted.target_modules
    names = {name.strip().rpartition(".")[2] for name in (targets.split(",") if isinstance(targets, str) else targets)}
    meant = [sides for name, sides in shape.linear.items() if name in names] or list(shape.linear.values())
    return shape.layers * wanted.r * sum(inputs + outputs for inputs, outputs in meant)
