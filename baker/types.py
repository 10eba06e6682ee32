"""The values that flow between the stages.

Letters in the names of arrays and tensors: B trajectories of a batch, T positions (of a response, unless a
docstring says otherwise), V vocabulary, K kept top tokens.
"""

from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Message = dict[str, Any]
"""A chat message in OpenAI's form; keys that we don't know are kept."""


class Prompt(msgspec.Struct, frozen=True):
    """What conditions the model: messages, and tools for the chat template's tools argument."""

    messages: list[Message] = []
    tools: list[dict[str, Any]] | None = None


class Stimulus(msgspec.Struct, frozen=True):
    """One question that the prompted model will be asked."""

    id: int
    text: str
    generator: str
    """The type of the generator that made it."""
    source: int = 0
    """Its place in the target's list of generators."""
    is_conditioned: bool = False
    """Answered under the student prompt (`rollout_with_conditioned`); the teacher only judges the answer."""


class StopReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"


class SampleRequest(msgspec.Struct, frozen=True):
    """What the engine is to continue, and how."""

    context_ids: list[int]
    adapter: "Checkpoint | None" = None
    """None: the base model."""
    max_tokens: int = 1024
    """Cut down to what the context window leaves."""
    temperature: float = 1.0
    top_logprobs: int = 0
    """K; 0 returns no distribution."""
    seed: int | None = None
    extra: dict[str, Any] = {}
    """More sampling settings by OpenAI's names: top_p, stop, frequency_penalty, ..."""


class Sample(msgspec.Struct, frozen=True):
    """One answer of the engine."""

    response_ids: list[int]
    """T ids; the last is the end-of-turn token, unless the answer was cut."""
    text: str
    stop_reason: StopReason
    top_ids_TK: NDArray[np.int32]
    """The K likeliest tokens at each position, likeliest first; shape (T, 0) if none were asked for."""
    top_logprobs_TK: NDArray[np.float32]
    """Their log-probabilities (nats) under the whole vocabulary at temperature 1."""


class Distribution(msgspec.Struct, frozen=True):
    """What a model expects at each of T positions."""

    top_ids_TK: NDArray[np.int32]
    """The K likeliest tokens, likeliest first."""
    top_logprobs_TK: NDArray[np.float32]
    """Their log-probabilities (nats) under the whole vocabulary at temperature 1."""


class ParsedAnswer(msgspec.Struct, frozen=True):
    """An answer as a message: what was written, and the tools that were called."""

    content: str | None
    tool_calls: list[dict[str, Any]]
    """In OpenAI's form."""


class Trajectory(msgspec.Struct, frozen=True):
    """A prompted answer with all that training needs: no tokenizer, no second forward pass."""

    teacher_ids: NDArray[np.int32]
    """The teacher's context: prompt, stimulus and the header of the assistant's turn."""
    student_ids: NDArray[np.int32]
    """The student's context for the same stimulus; the response follows it as it is."""
    response_ids: NDArray[np.int32]
    top_ids_TK: NDArray[np.int32]
    top_logprobs_TK: NDArray[np.float32]
    stimulus: str
    """The stimulus itself: the held-out part is split by it."""


class Checkpoint(msgspec.Struct, frozen=True):
    """The adapter of one training step: immutable, on disk, with a name of its own."""

    user: str
    repo: str
    bake: str
    step: int
    path: Path
    """Its folder: adapter_config.json, adapter_model.safetensors, parity.json."""
    sha256: str
    created: int
    """Unix seconds."""
    job_id: int
    is_served: bool = True
    """False: it adapts another base model than the engine's, and is kept to be taken away."""

    @property
    def name(self) -> str:
        return f"{self.user}/{self.repo}/{self.bake}/{self.step}"


class MovedBy(StrEnum):
    """What let a bake's name move to a checkpoint."""

    BAKE = "bake"
    """It was made, or imported."""
    PROMOTE = "promote"
    ROLLBACK = "rollback"


class User(msgspec.Struct, frozen=True):
    id: str
    alias: str
    email: str
    created: int
    """Unix seconds."""


class Repo(msgspec.Struct, frozen=True):
    name: str
    base_model: str
    """As the client spelled it."""
    created: int
