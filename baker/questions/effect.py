"""Measures how much a prompt changes the beginning of the served model's answer to a question."""

import asyncio
from collections.abc import Sequence

from baker.conversation import context_messages
from baker.divergence import top_kl
from baker.errors import InvalidInputError, StimError
from baker.ports import Sampler
from baker.types import Distribution, Prompt, SampleRequest

MEASURED_TOKENS = 8
"""Tokens of the answer that are measured. On SmolLM2-135M the KL of the first 8 has a rank correlation of 0.33 and 0.35
with that of the next 16 (two prompts, 72 and 40 questions); that of the first token alone, 0.34 and 0.06."""
TOP_LOGPROBS = 32


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
