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
"""A chat message in OpenAI's format. Unknown keys are kept."""


class Prompt(msgspec.Struct, frozen=True):
    """Messages that condition the model, and tools for the chat template's `tools` argument."""

    messages: list[Message] = []
    tools: list[dict[str, Any]] | None = None


class Stimulus(msgspec.Struct, frozen=True):
    """A question for the prompted model."""

    id: int
    text: str
    generator: str
    """Type of the generator that produced it."""
    source: int = 0
    """Index of that generator in the target's list."""
    is_conditioned: bool = False
    """Whether it is answered under the student prompt, and the teacher only judges (`rollout_with_conditioned`)."""


class StopReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"


class SampleRequest(msgspec.Struct, frozen=True):
    """A context for the engine to continue, with sampling settings."""

    context_ids: list[int]
    adapter: "Checkpoint | None" = None
    """None: the base model."""
    max_tokens: int = 1024
    """Longest answer; lowered to the room that the context window leaves."""
    temperature: float = 1.0
    top_logprobs: int = 0
    """Number of tokens (K) to return the log-probabilities of at each position; 0: none."""
    seed: int | None = None
    extra: dict[str, Any] = {}
    """Further sampling settings under OpenAI's names: top_p, stop, frequency_penalty, ..."""


class Sample(msgspec.Struct, frozen=True):
    """An answer of the engine, as tokens."""

    response_ids: list[int]
    """T token ids; the last is the end-of-turn token, unless the answer was cut at max_tokens."""
    text: str
    stop_reason: StopReason
    top_ids_TK: NDArray[np.int32]
    """The K likeliest tokens at each position, likeliest first; shape (T, 0) if `top_logprobs` was 0."""
    top_logprobs_TK: NDArray[np.float32]
    """Their log-probabilities (nats) under the whole vocabulary at temperature 1."""


class Distribution(msgspec.Struct, frozen=True):
    """A model's predictions at each of T positions."""

    top_ids_TK: NDArray[np.int32]
    """The K likeliest tokens, likeliest first."""
    top_logprobs_TK: NDArray[np.float32]
    """Their log-probabilities (nats) under the whole vocabulary at temperature 1."""


class ParsedAnswer(msgspec.Struct, frozen=True):
    """An answer as a message: its text, and the tools that it calls."""

    content: str | None
    tool_calls: list[dict[str, Any]]
    """Tool calls in OpenAI's format."""


class Trajectory(msgspec.Struct, frozen=True):
    """A prompted answer with everything that training needs: no tokenizer and no second forward pass."""

    teacher_ids: NDArray[np.int32]
    """Token ids of the teacher's context: prompt, stimulus and the header of the assistant's turn."""
    student_ids: NDArray[np.int32]
    """Token ids of the student's context for the same stimulus; the same response follows it."""
    response_ids: NDArray[np.int32]
    top_ids_TK: NDArray[np.int32]
    top_logprobs_TK: NDArray[np.float32]
    stimulus: str
    """Text of the stimulus; the training and held-out parts are split by it."""


class SavedCheckpoint(msgspec.Struct, frozen=True):
    """An adapter that a training wrote and that has no name yet. Its folder is `<job folder>/checkpoints/<step>`."""

    step: int
    """Number of optimizer steps before it."""
    sha256: str
    """Hash of its files: see `adapters.files.content_hash`."""


class Checkpoint(msgspec.Struct, frozen=True):
    """The adapter of one training step: immutable, on disk, with its own name."""

    user: str
    repo: str
    bake: str
    step: int
    path: Path
    """Folder with adapter_config.json, adapter_model.safetensors and parity.json."""
    sha256: str
    """`content_hash` of the folder."""
    created: int
    """Unix seconds."""
    job_id: int
    is_served: bool = True
    """False for an adapter of another base model than the engine's: it is kept only for download."""
    parent: str | None = None
    """Name of the checkpoint that its training began from; None: the base model."""
    commit_id: str | None = None
    """Id of its commit; None until it has a row."""

    @property
    def name(self) -> str:
        return f"{self.user}/{self.repo}/{self.bake}/{self.step}"


class MovedBy(StrEnum):
    """Why a bake's name moved to a checkpoint."""

    BAKE = "bake"
    """The checkpoint was trained, or imported."""
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
    """Name of the base model, as the client wrote it."""
    created: int
    """Unix seconds."""
