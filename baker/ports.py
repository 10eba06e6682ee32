"""What baking needs of an engine. The gateway implements it with vLLM; tests with a small fake."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from baker.types import Checkpoint, Distribution, Message, ParsedAnswer, Sample, SampleRequest


class Sampler(Protocol):
    """Text with the distribution that it was drawn from. Ready once `ServedModel.wait_ready` has returned."""

    @property
    def renders_tools(self) -> bool:
        """Whether the chat template shows tools to the model; some drop them without a word."""
        ...

    async def tokenise(self, messages: Sequence[Message], tools: list[dict[str, Any]] | None = None) -> list[int]:
        """The token ids of a chat up to and with the header of the assistant's turn, as serving renders it.

        Raises: InvalidInputError if the chat template refuses the messages; EngineError.
        """
        ...

    async def sample(self, request: SampleRequest) -> Sample:
        """Continue `request.context_ids`.

        Raises: InvalidInputError if the context does not fit the window or a setting is refused; AdapterError;
        EngineError.
        """
        ...

    async def distribution(
        self, context_ids: Sequence[int], response_ids: Sequence[int], top_logprobs: int, adapter: Checkpoint | None
    ) -> Distribution:
        """What the model would have expected at each of the response's T positions.

        Raises: InvalidInputError if they do not fit the window; AdapterError; EngineError.
        """
        ...

    def read_answer(self, sample: Sample, tools: list[dict[str, Any]] | None) -> ParsedAnswer:
        """The answer as serving would return it, with calls of `tools` told apart from text."""
        ...


class LentWeights(NamedTuple):
    handles: bytes
    """What one other process on the same device reads them by, once."""
    gone: Callable[[], Awaitable[None]]
    """Returns when their engine has ended."""


class ServedModel(Protocol):
    """The one base model that the engine serves."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path:
        """Its folder in Hugging Face's format."""
        ...

    @property
    def max_lora_rank(self) -> int: ...

    async def wait_ready(self) -> None:
        """Until the engine answers."""
        ...

    @property
    def lends_weights(self) -> bool:
        """Whether a training may ask for its weights."""
        ...

    async def lend_weights(self) -> LentWeights:
        """Raises: NotLentError saying why there is nothing to lend; EngineError."""
        ...

    @property
    def sleep_share(self) -> float:
        """Of each device's memory, that comes free while the engine sleeps; 0 where it can't."""
        ...

    async def sleep(self) -> None:
        """Give that memory back: what runs may end first, what comes waits. Raises: EngineError, and it serves on."""
        ...

    async def wake(self) -> None:
        """Serve again, once the engine has proved that it answers as before; one that does not is replaced."""
        ...


class Publisher(Protocol):
    async def prove(self, checkpoint: Checkpoint) -> None:
        """Load the checkpoint and see that the engine serves it as it was trained.

        Raises: AdapterError if it does not; EngineError.
        """
        ...

    def register(self, checkpoint: Checkpoint) -> None:
        """Give out its own name; the bake's stays where it is."""
        ...

    def publish(self, checkpoint: Checkpoint) -> None:
        """Give out its own name, and point the bake's at it. What runs on an older checkpoint ends there."""
        ...

    async def retire(self, checkpoint: Checkpoint) -> None:
        """Give its name to nobody any more, and return when nothing runs on it: then its files may go."""
        ...


Warn = Callable[[str], Awaitable[None]]
