"""Protocols that baking needs from an engine. The gateway implements them with vLLM, tests with a small fake."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from baker.types import Checkpoint, Distribution, Message, ParsedAnswer, Sample, SampleRequest

Warn = Callable[[str], Awaitable[None]]
"""Adds a warning to the job's status."""


OnText = Callable[[str], None]
"""Hears an answer's text so far, each time that it has grown."""


FindCheckpoint = Callable[[str | None], Awaitable[Checkpoint | None]]
"""Checkpoint of that full name; None for None, the base model. Raises: StageError if it was deleted."""


class Sampler(Protocol):
    """Samples text together with the distribution it came from. Ready when `ServedModel.wait_ready` has returned."""

    @property
    def renders_tools(self) -> bool:
        """Whether the chat template shows tools to the model; some templates drop them silently."""
        ...

    async def tokenise(self, messages: Sequence[Message], tools: list[dict[str, Any]] | None = None) -> list[int]:
        """Token ids of a chat, including the header of the assistant's turn, rendered as in serving.

        Raises: InvalidInputError if the chat template refuses the messages; EngineError.
        """
        ...

    async def sample(self, request: SampleRequest, on_text: OnText | None = None) -> Sample:
        """Continue `request.context_ids`.

        Raises: InvalidInputError if the context does not fit the window or a setting is refused; AdapterError;
        EngineError.
        """
        ...

    async def distribution(
        self, context_ids: Sequence[int], response_ids: Sequence[int], top_logprobs: int, adapter: Checkpoint | None
    ) -> Distribution:
        """The model's predictions at each of the response's T positions, given the context.

        Raises: InvalidInputError if context and response do not fit the window; AdapterError; EngineError.
        """
        ...

    async def logprobs(
        self, context_ids: Sequence[int], response_ids: Sequence[int], adapter: Checkpoint | None
    ) -> list[float]:
        """The log-probability (nats) of each of the response's tokens, given the context.

        Raises: InvalidInputError if context and response do not fit the window; AdapterError; EngineError.
        """
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as part of an answer: nothing is added. Raises: EngineError."""
        ...

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """What each token adds to the text of all; empty where a character needs the next token too.

        Raises: EngineError.
        """
        ...

    def read_answer(self, sample: Sample, tools: list[dict[str, Any]] | None) -> ParsedAnswer:
        """The answer as serving would return it, with calls of `tools` separated from the text."""
        ...


class LentWeights(NamedTuple):
    handles: bytes
    """Handles with which one other process on the same device can open the weights, once."""
    gone: Callable[[], Awaitable[None]]
    """Returns when the engine that lent them has ended."""


class ServedModel(Protocol):
    """The one base model that the engine serves."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path:
        """Folder of the model in Hugging Face's format."""
        ...

    @property
    def max_lora_rank(self) -> int: ...

    async def wait_ready(self) -> None:
        """Return when the engine answers."""
        ...

    @property
    def lends_weights(self) -> bool:
        """Whether a training may ask to use the engine's weights."""
        ...

    async def lend_weights(self) -> LentWeights:
        """Raises: NotLentError with the reason why the weights can't be lent; EngineError."""
        ...

    @property
    def sleep_share(self) -> float:
        """Share of each device's memory that is free while the engine sleeps; 0 if it can't sleep."""
        ...

    async def sleep(self) -> None:
        """Free that memory. Running requests may end first, new ones wait.

        Raises: EngineError; the engine then keeps serving.
        """
        ...

    async def wake(self) -> None:
        """Serve again, after the engine has given its known answers; an engine that does not is replaced."""
        ...
