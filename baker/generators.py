"""Where stimuli come from: lists in the config, and models that are asked to write questions.

The only file that imports anthropic.
"""

import asyncio
import math
import re
from collections.abc import AsyncIterator
from string import Template
from typing import NamedTuple, Protocol

import anthropic

from baker.config import Hardcoded, OneshotQs
from baker.errors import StimError
from baker.ports import Sampler
from baker.types import Checkpoint, SampleRequest, StopReason

QUESTION_TEMPLATE = Template(
    '"${prompt_u}"\n\n'
    "Write ${numq} different short questions${topic} for a conversation with the character or assistant described "
    "above. Number them from 1 to ${numq}, one on each line."
)
"""Of three wordings, the one that SmolLM2-135M followed best: 43 distinct lines in four calls for ten, 28 and 19."""

TOPICS = (
    "",
    ", about itself and its life",
    ", asking for its opinion",
    ", about everyday things",
    ", asking for advice",
    ", to provoke it",
    ", as small talk",
    ", asking for an explanation of something",
    ", about feelings",
    ", about the past and the future",
    ", about work and money",
    ", about other people",
)
"""One a call, in turn: small models repeat themselves less when each call has a topic of its own."""

CALLS_AT_ONCE = 8
BARREN_CALLS = 24
"""So many calls in a row without a new question, and the model has run out of them."""

ANTHROPIC_MAX_TEMPERATURE = 1.0
"""Also what it is when nothing is sent; models without the setting refuse it, so it is sent only if it is lower."""
TOKENS_PER_QUESTION = 32
SERVED_TOP_P = 0.8
"""Small models need it: from all of its vocabulary, SmolLM2-135M wrote word salad and 3 usable lines in four calls."""


class Answer(NamedTuple):
    text: str
    is_cut: bool
    """True if the answer ran into max_tokens, so its last line is not whole."""


class Asker(Protocol):
    """A model that writes questions."""

    @property
    def name(self) -> str: ...

    @property
    def questions_per_call(self) -> int: ...

    @property
    def calls_per_need(self) -> int:
        """How many times as many calls are made at once as would do if every line were a new question."""
        ...

    async def ask(self, text: str, *, temperature: float, max_tokens: int) -> Answer: ...


class ServedAsker:
    """A model served here."""

    # A small model loses the thread in long lists; a large one loses little by being asked more often.
    questions_per_call = 10
    # It repeats itself and wanders off; and calls in one batch cost little more time than one.
    calls_per_need = 2

    def __init__(self, sampler: Sampler, name: str, checkpoint: Checkpoint | None) -> None:
        self.name = name
        self._sampler = sampler
        self._checkpoint = checkpoint

    async def ask(self, text: str, *, temperature: float, max_tokens: int) -> Answer:
        context_ids = await self._sampler.tokenise([{"role": "user", "content": text}])
        sample = await self._sampler.sample(
            SampleRequest(
                context_ids=context_ids,
                adapter=self._checkpoint,
                max_tokens=max_tokens,
                temperature=temperature,
                extra={"top_p": SERVED_TOP_P},
            )
        )
        return Answer(sample.text, sample.stop_reason is StopReason.LENGTH)


class AnthropicAsker:
    """A model at Anthropic, or at a server that speaks its messages protocol."""

    questions_per_call = 50
    calls_per_need = 1

    def __init__(self, model: str, api_key: str, base_url: str | None) -> None:
        self.name = model
        self._client = anthropic.AsyncAnthropic(api_key=api_key, base_url=base_url, max_retries=4)

    async def ask(self, text: str, *, temperature: float, max_tokens: int) -> Answer:
        """Raises: StimError with what the API said."""
        is_default = temperature >= ANTHROPIC_MAX_TEMPERATURE
        try:
            message = await self._client.messages.create(
                model=self.name,
                max_tokens=max_tokens,
                messages=[{"role": "user", "content": text}],
                extra_body=None if is_default else {"temperature": temperature},
            )
        except anthropic.APIStatusError as error:
            raise StimError(
                f"Anthropic answered {error.status_code} for model {self.name!r}: {_said(error)}"
            ) from error
        except anthropic.APIError as error:
            raise StimError(f"Anthropic could not be asked for questions: {error.message}") from error
        written = "".join(block.text for block in message.content if block.type == "text")
        return Answer(written, message.stop_reason == "max_tokens")


def _said(error: anthropic.APIStatusError) -> str:
    """The API's own words."""
    body = error.body
    reason = body.get("error") if isinstance(body, dict) else None
    return str(reason["message"]) if isinstance(reason, dict) and "message" in reason else error.message


def hardcoded_questions(generator: Hardcoded) -> list[str]:
    return generator.questions[: generator.numq]


async def oneshot_questions(
    generator: OneshotQs, asker: Asker, prompt_text: str, made: list[str]
) -> AsyncIterator[str]:
    """The questions that `made` lacks, until there are exactly `generator.numq` distinct ones.

    Raises: StimError saying how far it got, when call after call brings nothing new.
    """
    known = {question_key(question) for question in made}
    calls, barren = 0, 0
    while len(known) < generator.numq:
        missing = generator.numq - len(known)
        width = min(CALLS_AT_ONCE, math.ceil(missing / asker.questions_per_call) * asker.calls_per_need)
        answers = await asyncio.gather(
            *(_ask(generator, asker, prompt_text, missing, TOPICS[(calls + i) % len(TOPICS)]) for i in range(width))
        )
        calls += width
        before = len(known)
        for question in (question for answer in answers for question in parse_questions(answer)):
            key = question_key(question)
            if key not in known and len(known) < generator.numq:
                known.add(key)
                yield question
        barren = 0 if len(known) > before else barren + width
        if barren >= BARREN_CALLS:
            raise StimError(
                f"oneshot_qs: {asker.name!r} wrote {len(known)} distinct questions of the {generator.numq} asked for "
                f"in {calls} calls, and nothing new in the last {barren}: lower numq, raise the temperature, or name a "
                "stronger model"
            )


async def _ask(generator: OneshotQs, asker: Asker, prompt_text: str, missing: int, topic: str) -> Answer:
    asked = min(asker.questions_per_call, missing)
    text = QUESTION_TEMPLATE.substitute(prompt_u=prompt_text or "(none)", numq=asked, topic=topic)
    max_tokens = generator.max_tokens or TOKENS_PER_QUESTION * (asked + 2)
    return await asker.ask(text, temperature=generator.temperature, max_tokens=max_tokens)


_MARKER = re.compile(
    r"^\s*(?:[-*•+]\s+|#+\s*|\(?\d{1,3}\s*[.):]\s*|(?:q|question|user)\s*\d*\s*[:.)]\s*)+", re.IGNORECASE
)
_INLINE_NUMBER = re.compile(r"(?<=[?.!])\s+(?=\d{1,3}[.)]\s)")
_ANSWER = re.compile(r"^\s*(?:a|answer|assistant|response|note)\s*\d*\s*:", re.IGNORECASE)
_QUOTES = "*_`\"' \u2018\u2019\u201c\u201d"
_MIN_WORDS, _MAX_CHARACTERS = 3, 400


def parse_questions(answer: Answer) -> list[str]:
    """The questions in a model's list, whatever its numbering, bullets, quotes and chatter around it."""
    lines = [part for line in answer.text.splitlines() for part in _INLINE_NUMBER.split(line)]
    if answer.is_cut and lines:
        lines.pop()
    questions = []
    for line in lines:
        bare = _MARKER.sub("", line)
        is_listed = bare != line.lstrip()
        question = bare.strip().strip(_QUOTES).strip()
        if _ANSWER.match(bare) or question.endswith(":") or not (is_listed or question.endswith("?")):
            continue
        if len(question) <= _MAX_CHARACTERS and len(re.findall(r"[^\W\d_]+", question)) >= _MIN_WORDS:
            questions.append(question)
    return questions


def question_key(question: str) -> str:
    """What makes two questions the same: their words, not case, punctuation or spacing."""
    return " ".join(re.findall(r"\w+", question.casefold()))
