"""Asks the engine for all comparisons together, one request at a time.

So they take one place of its batch, however many clients compare, and without other traffic each request is computed
alone, which gives the same numbers every time: a batch of another size rounds differently.
"""

import asyncio
from collections.abc import Callable, Sequence

from baker.errors import InvalidInputError
from baker.ports import Sampler
from baker.types import Checkpoint, Distribution, Message, Sample, SampleRequest

ANSWER_TOKENS = 64
"""Longest answer that a comparison has a version give."""


OnProgress = Callable[[int, int], None]
"""Hears the number of requests to the engine that are done, and of all."""


class Progress:
    """Counts requests to the engine. A part that is read from the store counts at once."""

    def __init__(self, total: int, on_progress: OnProgress) -> None:
        self._done, self._total, self._on_progress = 0, total, on_progress
        on_progress(0, total)

    def step(self) -> None:
        self.reach(self._done + 1)

    def reach(self, done: int) -> None:
        if done > self._done:
            self._done = min(done, self._total)
            self._on_progress(self._done, self._total)


class Scorer:
    def __init__(self, sampler: Sampler, top_logprobs: int) -> None:
        self._sampler = sampler
        self.top_logprobs = top_logprobs
        """K: number of likeliest tokens that distributions have."""
        self._turn = asyncio.Lock()

    async def context(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation. Raises: InvalidInputError that quotes the last message; EngineError."""
        try:
            return await self._sampler.tokenise(messages)
        except InvalidInputError as error:
            raise InvalidInputError(f"question {str(messages[-1].get('content'))[:80]!r}: {error}") from error

    def encode(self, text: str) -> list[int]:
        return self._sampler.encode(text)

    def texts(self, ids: Sequence[int]) -> list[str]:
        return self._sampler.token_texts(ids)

    async def distribution(
        self, context_ids: Sequence[int], response_ids: Sequence[int], model: Checkpoint | None
    ) -> Distribution:
        async with self._turn:
            return await self._sampler.distribution(context_ids, response_ids, self.top_logprobs, model)

    async def logprobs(
        self, context_ids: Sequence[int], response_ids: Sequence[int], model: Checkpoint | None
    ) -> list[float]:
        async with self._turn:
            return await self._sampler.logprobs(context_ids, response_ids, model)

    async def greedy(self, context_ids: Sequence[int], model: Checkpoint | None, *, top_logprobs: int = 0) -> Sample:
        """The answer of the likeliest token at each position."""
        return await self._sample(context_ids, model, temperature=0.0, top_logprobs=top_logprobs)

    async def sampled(self, context_ids: Sequence[int], model: Checkpoint | None, seed: int) -> Sample:
        """An answer at temperature 1."""
        return await self._sample(context_ids, model, temperature=1.0, seed=seed)

    async def _sample(
        self,
        context_ids: Sequence[int],
        model: Checkpoint | None,
        *,
        temperature: float,
        top_logprobs: int = 0,
        seed: int | None = None,
    ) -> Sample:
        request = SampleRequest(
            context_ids=list(context_ids),
            adapter=model,
            max_tokens=ANSWER_TOKENS,
            temperature=temperature,
            top_logprobs=top_logprobs,
            seed=seed,
        )
        async with self._turn:
            return await self._sampler.sample(request)
