"""A fake engine with known outputs. Every capability is also tested on the real engine."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from baker.errors import EngineError, InvalidInputError, NotLentError
from baker.ports import LentWeights, OnText
from baker.types import Checkpoint, Distribution, Message, ParsedAnswer, Sample, SampleRequest, StopReason
from gateway.engine.adapters.slots import AdapterCounts

END_OF_TURN = 2


def encode(text: str) -> list[int]:
    """Token ids of a text for `FakeEngine`: code points plus 10."""
    return [ord(character) + 10 for character in text]


def decode(ids: Iterable[int]) -> str:
    """The text of `encode`'s token ids."""
    return "".join(chr(token - 10) for token in ids)


class FakeEngine:
    """Answers with `reply(text of the context)`; `encode` and `decode` are its tokenizer."""

    name = "fake/base"
    max_lora_rank = 32
    renders_tools = False

    def __init__(self, path: Path = Path(), reply: Callable[[str], str] = str.upper) -> None:
        self.path = path
        self.reply = reply
        self.requests: list[SampleRequest] = []
        self.judged: list[tuple[list[int], list[int]]] = []
        """(context, response) of each call of `distribution`."""
        self.running = 0
        self.most_running = 0
        self.asked = asyncio.Event()
        """Set when a request has arrived."""
        self.fail_after: int | None = None
        """Number of requests to answer before the engine dies: each later one raises EngineError and clears `ready`."""
        self.ready = asyncio.Event()
        self.ready.set()
        self.gate = asyncio.Event()
        self.gate.set()
        """Requests wait while it is cleared."""

    @property
    def generation(self) -> "FakeEngine":
        return self

    async def wait_ready(self) -> None:
        await self.ready.wait()

    lends_weights = False

    async def lend_weights(self) -> LentWeights:
        raise NotLentError("there are none")

    sleep_share = 0.0

    async def sleep(self) -> None:
        self.ready.clear()

    async def wake(self) -> None:
        self.ready.set()

    async def tokenise(self, messages: Sequence[Message], tools: list[dict[str, Any]] | None = None) -> list[int]:
        text = "\n".join(f"{message['role']}: {message.get('content')}" for message in messages)
        if "UNRENDERABLE" in text:
            raise InvalidInputError("the chat template refuses this")
        return encode(text)

    async def sample(self, request: SampleRequest, on_text: OnText | None = None) -> Sample:
        """It streams by lines: while `gate` is cleared, all but the last one are known."""
        if on_text is not None:
            on_text(self.reply(decode(request.context_ids)).rpartition("\n")[0] + "\n")
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            self.asked.set()
            await self.gate.wait()
            await asyncio.sleep(0)
            if self.fail_after is not None and len(self.requests) >= self.fail_after:
                self.ready.clear()
                raise EngineError("the engine is dead")
            self.requests.append(request)
        finally:
            self.running -= 1
        text = self.reply(decode(request.context_ids))
        ids = [*encode(text[: request.max_tokens - 1]), END_OF_TURN]
        width = request.top_logprobs
        return Sample(
            response_ids=ids,
            text=text,
            stop_reason=StopReason.STOP,
            top_ids_TK=np.tile(np.arange(width, dtype=np.int32), (len(ids), 1)),
            top_logprobs_TK=np.full((len(ids), width), -np.log(100.0), dtype=np.float32),
        )

    async def distribution(
        self, context_ids: Sequence[int], response_ids: Sequence[int], top_logprobs: int, adapter: Checkpoint | None
    ) -> Distribution:
        """A distribution in which the response's own token is the likeliest at each position."""
        self.judged.append((list(context_ids), list(response_ids)))
        ids = np.arange(top_logprobs, dtype=np.int32)[None] + np.array(response_ids, np.int32)[:, None]
        return Distribution(ids, np.full((len(response_ids), top_logprobs), -np.log(100.0), dtype=np.float32))

    async def logprobs(
        self, context_ids: Sequence[int], response_ids: Sequence[int], adapter: Checkpoint | None
    ) -> list[float]:
        return await self.score(context_ids, response_ids, None if adapter is None else adapter.name)

    def encode(self, text: str) -> list[int]:
        return encode(text)

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        return ["<end>" if token == END_OF_TURN else decode([token]) for token in ids]

    def read_answer(self, sample: Sample, tools: list[dict[str, Any]] | None) -> ParsedAnswer:
        """An answer `CALL name` calls a tool."""
        name = sample.text.removeprefix("CALL ")
        if not tools or name == sample.text:
            return ParsedAnswer(sample.text, [])
        return ParsedAnswer(None, [{"id": "1", "type": "function", "function": {"name": name, "arguments": "{}"}}])

    # Further methods that the gateway uses; adapters are only names here.

    max_model_len = 4096
    max_num_seqs = 16

    @property
    def is_ready(self) -> bool:
        return self.ready.is_set()

    async def start(self) -> None:
        return

    async def stop(self) -> None:
        return

    is_dead = is_asleep = False
    steps = 0

    async def probe(self) -> None:
        self.steps += 1

    wants_canary = False

    async def record_canary(self) -> None:
        return

    def kill(self) -> None:
        return

    def register(self, name: str, path: Path) -> None:
        return

    async def load(self, name: str, path: Path) -> None:
        return

    async def unload(self, name: str) -> None:
        return

    def rename(self, name: str, new_name: str, path: Path) -> None:
        return

    async def score(
        self, context_ids: Sequence[int], response_ids: Sequence[int], adapter: str | None = None
    ) -> list[float]:
        return [-1.0 if adapter is None else -2.0 for _ in response_ids]

    adapter_counts = AdapterCounts(resident=0, in_use=0, waiting=0, loads=0, load_seconds=0.0, evictions=0)

    def tokens_so_far(self, request_id: str) -> tuple[int, int] | None:
        return None

    def metrics(self) -> bytes:
        return b""
