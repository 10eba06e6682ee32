"""From generators to questions: as they stand in the config, drawn from the bank or a dataset, written by a model.

Questions come in batches, each to be kept before the next is made. All kinds go on where an interrupted run ended:
they are told what was made, and make what is missing.
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from string import Template
from typing import NamedTuple

from baker.config import question_templates
from baker.config.generator import Asking, FromDataset, Generator, Hardcoded, Persona
from baker.errors import StimError
from baker.ports import Warn
from baker.questions import bank
from baker.questions.parsing import parse_questions, question_key
from baker.questions.writers import Writer

Batches = AsyncIterator[list[str]]

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

VARIATION_TEMPLATE = Template(
    '"${prompt_u}"\n\n'
    "People ask questions such as these:\n${examples}\n\n"
    "Write ${numq} different short questions like these, but for a conversation with the character or assistant "
    "described above. Number them from 1 to ${numq}, one on each line."
)
"""Of three ways, SmolLM2-135M followed this one best, with half as many examples as questions: 23 new lines about its
character in four calls for ten. Told to change each of ten examples, it wrote about the task."""

CALLS_AT_ONCE = 8
BARREN_CALLS = 24
"""So many calls in a row without a new question, and the model has run out of them."""
TOKENS_PER_QUESTION = 32
TEMPERATURE = 1.0
"""For a type whose config need not have one."""
SEEDS = 1 << 63
"""Engines take seeds from 0 up to here."""


class QuestionSource(NamedTuple):
    """A generator with all that it works with."""

    generator: Generator
    prompt_text: str = ""
    """The teacher prompt as plain text."""
    writer: Writer | None = None
    template: str | None = None
    """Asks for questions in place of the built-in text."""
    written: int = 0
    """How many of a persona's questions the writer is to write."""
    read_dataset: Callable[[], list[str]] | None = None
    """Blocks. All questions of the dataset; raises StimError."""


def generate(source: QuestionSource, made: Sequence[str], warn: Warn) -> Batches:
    """The source's questions that `made` lacks.

    Raises: StimError when it can't make as many as it should.
    """
    match source.generator:
        case Hardcoded() as generator:
            return hardcoded_batches(generator, made)
        case Asking() as generator:
            assert source.writer is not None
            return asked_batches(generator, source.writer, source.prompt_text, source.template, made)
        case Persona() as generator:
            return persona_batches(generator, source, made, warn)
        case FromDataset() as generator:
            assert source.read_dataset is not None
            return dataset_batches(generator, source.read_dataset, made, warn)


def hardcoded_questions(generator: Hardcoded) -> list[str]:
    return generator.questions[: generator.numq]


async def hardcoded_batches(generator: Hardcoded, made: Sequence[str]) -> Batches:
    yield hardcoded_questions(generator)[len(made) :]


def asked_batches(
    generator: Asking, writer: Writer, prompt_text: str, template: str | None, made: Sequence[str]
) -> Batches:
    """What a model writes, until there are exactly `generator.numq` distinct questions."""

    def render(call: int, asked: int) -> str:
        if template is not None:
            return question_templates.render(template, numq=asked, prompt_text=prompt_text)
        topic = TOPICS[call % len(TOPICS)]
        return QUESTION_TEMPLATE.substitute(prompt_u=prompt_text or "(none)", numq=asked, topic=topic)

    return written_batches(generator, writer, render, generator.numq, made)


async def persona_batches(generator: Persona, source: QuestionSource, made: Sequence[str], warn: Warn) -> Batches:
    """Questions of the bank, and then what the model writes like them; where it fails, the bank gives the rest."""
    drawn = bank.balanced_order(bank.bank(), generator.seed)
    in_bank = {question_key(question) for question in drawn}
    known = {question_key(question) for question in made}
    yield _new(drawn[: generator.numq - source.written], known, generator.numq)
    if source.writer is not None:
        render = _variations(source.prompt_text, drawn, generator.seed)
        written = [question for question in made if question_key(question) not in in_bank]
        count = generator.numq - len(known) + len(written)
        try:
            async for batch in written_batches(generator, source.writer, render, count, written, in_bank):
                known.update(map(question_key, batch))
                yield batch
        except StimError as error:
            await warn(f"{error}; the built-in bank gives the rest")
    yield _new(drawn, known, generator.numq)
    if len(known) < generator.numq:
        raise StimError(
            f"persona: {len(known)} distinct questions of the {generator.numq} asked for, {len(drawn)} from the "
            "built-in bank: lower numq, or name a stronger model"
        )


def _variations(prompt_text: str, bank: Sequence[str], seed: int) -> Callable[[int, int], str]:
    def render(call: int, asked: int) -> str:
        examples = random.Random(seed + call).sample(bank, min(math.ceil(asked / 2), len(bank)))
        return VARIATION_TEMPLATE.substitute(
            prompt_u=prompt_text or "(none)", numq=asked, examples="\n".join(f"- {example}" for example in examples)
        )

    return render


def _new(questions: Sequence[str], known: set[str], total: int) -> list[str]:
    """Those that are not known yet, until `total` are; they are known from then on."""
    new = []
    for question in questions:
        key = question_key(question)
        if key not in known and len(known) < total:
            known.add(key)
            new.append(question)
    return new


async def dataset_batches(
    generator: FromDataset, read: Callable[[], list[str]], made: Sequence[str], warn: Warn
) -> Batches:
    """Rows drawn without replacement: the same rows for the same seed, and a smaller `numq` takes the first of them."""
    texts = await asyncio.to_thread(_shuffled, read, generator.seed)
    if not texts:
        raise StimError(f"from_dataset: dataset {generator.dataset!r} has no questions")
    if len(texts) < generator.numq:
        await warn(
            f"dataset {generator.dataset!r} has {len(texts)} distinct questions, fewer than the {generator.numq} asked "
            "for: all were taken"
        )
    done = set(made)
    yield [text for text in texts[: generator.numq] if text not in done]


def _shuffled(read: Callable[[], list[str]], seed: int) -> list[str]:
    """The distinct texts in the seed's order. Blocks: there may be millions."""
    texts = list(dict.fromkeys(read()))
    random.Random(seed).shuffle(texts)
    return texts


async def written_batches(
    generator: Asking | Persona,
    writer: Writer,
    render: Callable[[int, int], str],
    count: int,
    made: Sequence[str],
    taken: Collection[str] = (),
) -> Batches:
    """What a model writes, until there are `count` distinct questions, of which `made` were there before.

    Args:
        render: what is asked in the call of that number, for so many questions.
        taken: keys of questions that do not count.
    Raises: StimError saying how far it got, when call after call brings nothing new.
    """
    known = {question_key(question) for question in made}
    # A run that goes on must not ask just what was asked: the same seed would bring the same questions.
    calls, barren = len(made), 0
    while len(known) < count:
        missing = count - len(known)
        asked = min(writer.questions_per_call, missing)
        width = min(CALLS_AT_ONCE, math.ceil(missing / writer.questions_per_call) * writer.calls_per_need)
        answers = await asyncio.gather(
            *(
                writer.ask(
                    render(call, asked),
                    temperature=TEMPERATURE if generator.temperature is None else generator.temperature,
                    max_tokens=generator.max_tokens or TOKENS_PER_QUESTION * (asked + 2),
                    # One seed for all calls would make their answers alike.
                    seed=None if generator.seed is None else (generator.seed + call) % SEEDS,
                )
                for call in range(calls, calls + width)
            )
        )
        calls += width
        written = [question for answer in answers for question in parse_questions(answer)]
        batch = _new([question for question in written if question_key(question) not in taken], known, count)
        if batch:
            yield batch
        barren = 0 if batch else barren + width
        if barren >= BARREN_CALLS:
            raise StimError(
                f"{generator.type}: {writer.name!r} wrote {len(known)} distinct questions of the {count} asked for "
                f"in {calls - len(made)} calls, and nothing new in the last {barren}: lower numq, raise the "
                "temperature, or name a stronger model"
            )
