"""Estimates the memory that a training needs, from the model's config alone, before anything is loaded.

Counts what is kept until the backward pass, as `student.py`, `lora_layer.py` and `attention.py` keep it for models
shaped like Llama (Qwen, Mistral, SmolLM); what a layer needs only briefly is small beside that. For other models it is
a guess.
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
"""Memory of a process that has loaded torch, transformers and peft (CPU, measured), or of a CUDA context with its
libraries."""
LOGITS_BYTES = {"cpu": 3 * 64 * MIB, "cuda": 3 * 256 * MIB}
"""Both sides' logits of a chunk (`losses.CHUNK_BYTES`, `GPU_CHUNK_BYTES`), in float32 at most, and one tile's values.
On a GPU, measures other than the forward KL take up to 800 MiB more."""
ADAM_BYTES = 16
"""Bytes of a trained weight, its gradient and two moments, in float32."""
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Shape(NamedTuple):
    """Dimensions of a decoder."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_heads: int
    head_width: int
    parameters: int
    """Number of weights of linear layers and embedding tables; norms are left out."""

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """Numbers of inputs and outputs of each linear part of a layer."""
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
    """Bytes that a process needs at its peak."""

    weights: int
    """Bytes of the base model's weights."""
    adapter: int
    """Bytes of the adapter with gradients and optimizer."""
    activations: int
    """Bytes of activations, of a training step or of a pass without gradients, and of the teacher's kept states."""
    logits: int
    """Bytes of the logits in work."""
    runtime: int
    """Bytes of the process itself with its libraries."""

    @property
    def total(self) -> int:
        return sum(self)

    @property
    def to_allocate(self) -> int:
        """Bytes still to be allocated by a process that runs, but has loaded no model."""
        return self.total - self.runtime

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / MIB:,.0f}" for name, size in self._asdict().items())
        return f"{self.total / MIB:,.0f} MiB ({parts})"


def read_shape(folder: Path) -> Shape:
    """The shape of a model in Hugging Face's format. Raises: StageError if its config lacks a dimension."""
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
        raise StageError(f"base model {folder}: its config lacks its shape ({error!r})") from error


def estimate(
    shape: Shape,
    config: BakeConfig,
    lengths: Sequence[int],
    *,
    dtype: str = "bfloat16",
    device: str = "cpu",
    recomputes: bool = False,
    keeps_teacher: bool = True,
    teacher_lengths: Sequence[int] = (),
) -> Need:
    """The need of a training at its peak. Its many arguments are independent facts, most of which callers name.

    Args:
        lengths: tokens of each trajectory, context and response.
        dtype: name of the type that the base computes in.
        recomputes: whether only each layer's input is kept, and one layer at a time is computed again.
        keeps_teacher: whether the states of a full teacher are kept through the training.
        teacher_lengths: tokens of each trajectory with the teacher's context, for a full teacher.
    """
    longest = sorted(lengths, reverse=True)[: config.micro_batch_size]
    size = DTYPE_BYTES[dtype]
    adapter = config.model.baked_adapter_config
    kept = shape._replace(layers=1) if recomputes else shape
    layer_inputs = shape.layers * shape.hidden * size if recomputes else 0
    step = sum(length * (layer_inputs + token_bytes(kept, adapter.r, size, keys=length // 2)) for length in longest)
    tokens_without_gradient = _tokens_without_gradient(lengths, config.micro_batch_size)
    if config.data.has_full_teacher:
        teacher_tokens = _tokens_without_gradient(teacher_lengths, config.micro_batch_size)
        tokens_without_gradient = max(tokens_without_gradient, teacher_tokens)
        states = _teacher_bytes(shape, config, lengths, size) if keeps_teacher else 0
    else:
        states = 0
    return Need(
        weights=shape.parameters * size,
        adapter=_adapter_weights(shape, adapter) * ADAM_BYTES,
        activations=max(step, tokens_without_gradient * _bytes_without_gradient(shape, size)) + states,
        logits=LOGITS_BYTES[device],
        runtime=RUNTIME_BYTES[device],
    )


def _teacher_bytes(shape: Shape, config: BakeConfig, lengths: Sequence[int], size: int) -> int:
    """Bytes of the teacher's kept states. An upper limit: contexts are counted as if they were responses."""
    states = MIDDLE_PARTS if config.data.hidden_weight else 1
    return min(TEACHER_BYTES, sum(lengths) * states * shape.hidden * size)


def _tokens_without_gradient(lengths: Sequence[int], most_rows: int) -> int:
    """Tokens of the largest pass without gradients: an evaluation, or a teacher whose states are not kept, which reads
    the `most_rows` rows of a training pass."""
    longest = sorted(lengths, reverse=True)
    return max(sum(longest[:most_rows]), min(READ_TOKENS, sum(longest[:READ_ROWS])))


def _bytes_without_gradient(shape: Shape, size: int) -> int:
    """Bytes per token of a pass without gradients: one layer's activations, and the states that middle layers keep."""
    layer = 4 * shape.intermediate + 4 * shape.hidden + (shape.heads + 2 * shape.key_heads) * shape.head_width
    return size * (layer + MIDDLE_PARTS * shape.hidden) + 4 * shape.hidden


def token_bytes(shape: Shape, rank: int, size: int, keys: int = 0) -> int:
    """Bytes per token that are kept for the backward pass.

    Args:
        rank: of the adapter.
        size: bytes of a number.
        keys: mean number of keys that a token attends to.
    """
    queries, key_width = shape.heads * shape.head_width, shape.key_heads * shape.head_width
    norms = 2 * shape.hidden * (4 + size)  # the input in float32, and the output
    attention = (2 * queries + 2 * key_width + shape.heads * keys) * size
    gated = 4 * shape.intermediate * size  # the gate before and after its activation, its partner, their product
    return shape.layers * (norms + attention + gated + len(shape.linear) * rank * size)


def _adapter_weights(shape: Shape, adapter: LoraConfig) -> int:
    """Number of the adapter's weights. All linear parts are counted if `target_modules` is not a list of names."""
    targets = adapter.target_modules
    names = {name.strip().rpartition(".")[2] for name in (targets.split(",") if isinstance(targets, str) else targets)}
    adapted = [sides for name, sides in shape.linear.items() if name in names] or list(shape.linear.values())
    return shape.layers * adapter.r * sum(inputs + outputs for inputs, outputs in adapted)
