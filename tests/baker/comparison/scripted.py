"""An engine whose versions each have one answer, and so known distributions."""

import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from baker.types import Checkpoint, Distribution, Message, Sample, SampleRequest, StopReason
from tests.fakes import END_OF_TURN, FakeEngine, decode, encode

VOCABULARY = [END_OF_TURN, *encode(string.ascii_lowercase + " ")]
SURE = 0.9
"""Probability of a version's own token; the others share the rest equally."""


class ScriptedEngine(FakeEngine):
    """Each bake has an answer. At every position it expects that answer's token there, whatever came before."""

    def __init__(self, answers: dict[str | None, str]) -> None:
        """Args: answers: name of a bake -> its answer in small letters; None is the base model."""
        super().__init__()
        self.answers = answers
        self.calls: list[tuple[str, str | None]] = []
        """(method, bake) of each request."""

    def expected_ids(self, model: Checkpoint | None, positions: int) -> list[int]:
        ids = [*encode(self.answers[None if model is None else model.bake]), END_OF_TURN]
        return [ids[min(at, len(ids) - 1)] for at in range(positions)]

    def probabilities(self, model: Checkpoint | None, positions: int) -> np.ndarray:
        """Probabilities of VOCABULARY at each position."""
        p_TV = np.full((positions, len(VOCABULARY)), (1 - SURE) / (len(VOCABULARY) - 1))
        for at, token in enumerate(self.expected_ids(model, positions)):
            p_TV[at, VOCABULARY.index(token)] = SURE
        return p_TV

    def _top(self, model: Checkpoint | None, positions: int, width: int) -> Distribution:
        p_TV = self.probabilities(model, positions)
        order_TK = np.argsort(-p_TV, axis=1, kind="stable")[:, :width]
        ids = np.array(VOCABULARY, np.int32)[order_TK]
        return Distribution(ids, np.log(np.take_along_axis(p_TV, order_TK, axis=1)).astype(np.float32))

    async def tokenise(self, messages: Sequence[Message], tools: Any = None) -> list[int]:
        self._note("tokenise", None)
        return await super().tokenise(messages, tools)

    def _note(self, method: str, model: Checkpoint | None) -> None:
        if method != "tokenise":
            self.calls.append((method, None if model is None else model.bake))

    async def sample(self, request: SampleRequest, on_text: Any = None) -> Sample:
        self._note("sample", request.adapter)
        await self.gate.wait()
        answer = self.answers[None if request.adapter is None else request.adapter.bake]
        if request.seed is not None:
            answer = f"{answer} {string.ascii_lowercase[request.seed]}"
        ids = [*encode(answer), END_OF_TURN][: request.max_tokens]
        top = self._top(request.adapter, len(ids), request.top_logprobs)
        return Sample(ids, answer, StopReason.STOP, top.top_ids_TK, top.top_logprobs_TK)

    async def distribution(
        self, context_ids: Sequence[int], response_ids: Sequence[int], top_logprobs: int, adapter: Checkpoint | None
    ) -> Distribution:
        self._note("distribution", adapter)
        await self.gate.wait()
        return self._top(adapter, len(response_ids), top_logprobs)

    async def logprobs(
        self, context_ids: Sequence[int], response_ids: Sequence[int], adapter: Checkpoint | None
    ) -> list[float]:
        self._note("logprobs", adapter)
        await self.gate.wait()
        p_TV = self.probabilities(adapter, len(response_ids))
        return [float(np.log(p_TV[at, VOCABULARY.index(token)])) for at, token in enumerate(response_ids)]


def kl_per_position(first: str, second: str) -> list[float]:
    """KL(first || second) of two versions with these answers, at each position of the longer one and its end."""
    engine = ScriptedEngine({None: first})
    positions = max(len(first), len(second)) + 1
    p = engine.probabilities(None, positions)
    engine.answers = {None: second}
    q = engine.probabilities(None, positions)
    return [sum(a * np.log(a / b) for a, b in zip(*row, strict=True)) for row in zip(p, q, strict=True)]


__all__ = ["SURE", "VOCABULARY", "ScriptedEngine", "decode", "kl_per_position"]
