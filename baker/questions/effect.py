"""Measures how much a prompt changes the beginning of the served model's answer to a question."""

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from baker.conversation import context_messages
from baker.errors import InvalidInputError, StimError
from baker.ports import Sampler
from baker.types import Distribution, Prompt, SampleRequest

MEASURED_TOKENS = 8
"""Tokens of the answer that are measured. On SmolLM2-135M the KL of the first 8 has a rank correlation of 0.33 and 0.35
with that of the next 16 (two prompts, 72 and 40 questions); that of the first token alone, 0.34 and 0.06."""
TOP_LOGPROBS = 32
TINY = 1e-9


class PromptEffect:
    """Divergence of the answers with the teacher prompt from those with the student prompt."""

    def __init__(self, sampler: Sampler, teacher: Prompt, student: Prompt) -> None:
        self._sampler, self._teacher, self._student = sampler, teacher, student

    async def of(self, questions: Sequence[str]) -> list[float]:
        """For each question, KL(teacher || student) in nats per token over the first tokens of the teacher's answer.

        Raises: StimError if a question does not fit with the prompts; EngineError.
        """
        return list(await asyncio.gather(*map(self._of, questions)))

    async def _of(self, question: str) -> float:
        try:
            teacher_ids, student_ids = [
                await self._sampler.tokenise(context_messages(prompt, question), prompt.tools)
                for prompt in (self._teacher, self._student)
            ]
            answer = await self._sampler.sample(
                SampleRequest(teacher_ids, max_tokens=MEASURED_TOKENS, temperature=0.0, top_logprobs=TOP_LOGPROBS)
            )
            student = await self._sampler.distribution(student_ids, answer.response_ids, TOP_LOGPROBS, None)
        except InvalidInputError as error:
            raise StimError(f"question {question[:80]!r}: {error}") from error
        return top_kl(Distribution(answer.top_ids_TK, answer.top_logprobs_TK), student)


def top_kl(teacher: Distribution, student: Distribution) -> float:
    """A lower bound of KL(teacher || student), in nats per token, from the K likeliest tokens of each at T positions.

    Tokens that both have count one by one. Those that only the teacher has form a bucket, and all others form a second:
    merging tokens never raises a KL. How the student shares its remaining probability between the two buckets is not
    known, so the share with the lowest KL counts.
    """
    rows = zip(teacher.top_ids_TK, teacher.top_logprobs_TK, student.top_ids_TK, student.top_logprobs_TK, strict=True)
    return sum(map(_position_kl, *zip(*rows, strict=True))) / len(teacher.top_ids_TK)


def _position_kl(
    teacher_ids: NDArray[np.int32],
    teacher_logprobs: NDArray[np.float32],
    student_ids: NDArray[np.int32],
    student_logprobs: NDArray[np.float32],
) -> float:
    p, q = np.exp(teacher_logprobs, dtype=np.float64), np.exp(student_logprobs, dtype=np.float64)
    _, in_p, in_q = np.intersect1d(teacher_ids, student_ids, return_indices=True)
    shared_p, shared_q = p[in_p], q[in_q]
    only_p = max(p.sum() - shared_p.sum(), 0.0)
    rest_p = max(1.0 - p.sum(), 0.0)
    remaining_q = max(1.0 - shared_q.sum(), TINY)
    # None of the teacher's own tokens is likelier than the student's K-th, and they are all outside the student's K.
    most_q = min((len(p) - len(in_p)) * q.min(), max(1.0 - q.sum(), 0.0))
    only_q = min(most_q, remaining_q * only_p / max(only_p + rest_p, TINY))
    shared = float((shared_p * np.log(shared_p / shared_q)).sum())
    return shared + _term(only_p, only_q) + _term(rest_p, remaining_q - only_q)


def _term(p: float, q: float) -> float:
    return p * float(np.log(p / max(q, TINY))) if p > TINY else 0.0
