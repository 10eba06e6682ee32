"""Generates questions: taken from the config, drawn from the bank or a dataset, or written by a model.

Questions come in batches; the caller stores each batch before the next is generated. Every kind of generator can resume
an interrupted run: it gets the questions that exist already, and generates the missing ones.
"""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from functools import partial
from string import Template
from typing import NamedTuple

from baker import question_templates
from baker.config.generator import Asking, FromDataset, Generator, Hardcoded, Persona
from baker.errors import StimError
from baker.ports import Warn
from baker.questions import bank
from baker.questions.calls import in_order, run_calls
from baker.questions.parsing import question_key
from baker.questions.writers import Writer

Batches = AsyncGenerator[list[str], None]

QUESTION_TEMPLATE = Template(
    '"${prompt_u}"\n\n'
    "Write ${numq} different short questions${topic} for a conversation with the character or assistant described "
    "above. Number them from 1 to ${numq}, one on each line."
)
"""The wording of three that SmolLM2-135M followed best: four calls for ten questions gave 43 distinct lines, the others
28 and 19."""

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
"""One per call, in turn: small models repeat themselves less if each call has its own topic."""

VARIATION_TEMPLATE = Template(
    '"${prompt_u}"\n\n'
    "People ask questions such as these:\n${examples}\n\n"
    "Write ${numq} different short questions like these, but for a conversation with the character or assistant "
    "described above. Number them from 1 to ${numq}, one on each line."
)
"""The wording of three that SmolLM2-135M followed best, with half as many examples as questions: four calls for ten
questions gave 23 new lines about its character. Asked to change each of ten examples, it wrote about the task."""

CANDIDATES_PER_QUESTION = 3
"""Number of the bank's questions that are measured for each one chosen, as far as the bank is large enough."""
CHOSEN_PER_BATCH = 8
"""So that progress shows, and an interrupted run keeps what it has."""
MAX_CONCURRENT_CALLS = 8
MAX_FRUITLESS_CALLS = 24
"""Consecutive calls without a new question after which the model counts as exhausted."""
TOKENS_PER_QUESTION = 32
DEFAULT_TEMPERATURE = 1.0
"""For generator types without a default of their own."""
SEEDS = 1 << 63
"""Engines accept seeds from 0 to SEEDS - 1."""


class QuestionSource(NamedTuple):
    """A generator with everything that it needs."""

    generator: Generator
    prompt_text: str = ""
    """The teacher prompt as plain text."""
    writer: Writer | None = None
    template: str | None = None
    """Text that asks for questions instead of the built-in one."""
    written: int = 0
    """Number of a persona's questions that the writer should write."""
    read_dataset: Callable[[], list[str]] | None = None
    """Returns all questions of the dataset; blocks. Raises: StimError."""
    effect_of: Callable[[Sequence[str]], Awaitable[list[float]]] | None = None
    """How much the prompt changes the answer to each question. If given, the bank gives those that it changes most."""
    show_waiting: Callable[[int], None] = lambda count: None
    """Shows the number of questions that the model has written and that come in a later batch."""


def generate(source: QuestionSource, existing: Sequence[str], warn: Warn) -> Batches:
    """The source's questions that are missing in `existing`. Raises: StimError if it can't generate enough."""
    match source.generator:
        case Hardcoded() as generator:
            return hardcoded_batches(generator, existing)
        case Asking() as generator:
            assert source.writer is not None
            return asked_batches(
                generator, source.writer, source.prompt_text, source.template, existing, source.show_waiting
            )
        case Persona() as generator:
            return persona_batches(generator, source, existing, warn)
        case FromDataset() as generator:
            assert source.read_dataset is not None
            return dataset_batches(generator, source.read_dataset, existing, warn)


def hardcoded_questions(generator: Hardcoded) -> list[str]:
    return generator.questions[: generator.numq]


async def hardcoded_batches(generator: Hardcoded, existing: Sequence[str]) -> Batches:
    yield hardcoded_questions(generator)[len(existing) :]


def asked_batches(
    generator: Asking,
    writer: Writer,
    prompt_text: str,
    template: str | None,
    existing: Sequence[str],
    show_waiting: Callable[[int], None] = lambda count: None,
) -> Batches:
    """Questions written by a model, until there are exactly `generator.numq` distinct ones."""

    def render(call: int, count: int) -> str:
        if template is not None:
            return question_templates.render(template, numq=count, prompt_text=prompt_text)
        topic = TOPICS[call % len(TOPICS)]
        return QUESTION_TEMPLATE.substitute(prompt_u=prompt_text or "(none)", numq=count, topic=topic)

    return written_batches(generator, writer, render, generator.numq, existing, show_waiting=show_waiting)


async def persona_batches(generator: Persona, source: QuestionSource, existing: Sequence[str], warn: Warn) -> Batches:
    """Questions of the bank, then variations written by the model; if the model fails, the bank gives the rest."""
    bank_questions = bank.balanced_order(bank.bank(), generator.seed)
    bank_keys = {question_key(question) for question in bank_questions}
    known = {question_key(question) for question in existing}
    from_bank = generator.numq - source.written
    if source.effect_of is not None:
        async for batch in most_affected_batches(bank_questions, from_bank, source.effect_of, known):
            yield batch
    yield _take_new(bank_questions[:from_bank], known, from_bank)
    if source.writer is not None:
        render = _variations(source.prompt_text, bank_questions, generator.seed)
        written = [question for question in existing if question_key(question) not in bank_keys]
        count = generator.numq - len(known) + len(written)
        try:
            batches = written_batches(
                generator, source.writer, render, count, written, bank_keys, show_waiting=source.show_waiting
            )
            async with aclosing(batches):
                async for batch in batches:
                    known.update(map(question_key, batch))
                    yield batch
        except StimError as error:
            await warn(f"{error}; the built-in bank gives the rest")
    yield _take_new(bank_questions, known, generator.numq)
    if len(known) < generator.numq:
        raise StimError(
            f"persona: {len(known)} distinct questions of the {generator.numq} asked for, {len(bank_questions)} from "
            "the built-in bank: lower numq, or name a stronger model"
        )


async def most_affected_batches(
    questions: Sequence[str], count: int, effect_of: Callable[[Sequence[str]], Awaitable[list[float]]], known: set[str]
) -> Batches:
    """The questions that the prompt affects most, chosen from each few in turn; at most `count` with those in `known`.

    A resumed run repeats no whole batch, and chooses the same questions. Adds the keys of the questions to `known`.
    """
    per_question = min(CANDIDATES_PER_QUESTION, len(questions) // max(count, 1))
    if per_question < 2:
        return
    # An incomplete batch is measured again: other candidates would give other questions.
    for start in range(len(known) // CHOSEN_PER_BATCH * CHOSEN_PER_BATCH, count, CHOSEN_PER_BATCH):
        chosen = min(CHOSEN_PER_BATCH, count - start)
        candidates = questions[start * per_question : (start + chosen) * per_question]
        effects = await effect_of(candidates)
        order = sorted(range(len(candidates)), key=lambda place: -effects[place])
        yield _take_new([candidates[place] for place in sorted(order[:chosen])], known, count)


def _variations(prompt_text: str, bank_questions: Sequence[str], seed: int) -> Callable[[int, int], str]:
    def render(call: int, count: int) -> str:
        examples = random.Random(seed + call).sample(bank_questions, min(math.ceil(count / 2), len(bank_questions)))
        return VARIATION_TEMPLATE.substitute(
            prompt_u=prompt_text or "(none)", numq=count, examples="\n".join(f"- {example}" for example in examples)
        )

    return render


def _take_new(questions: Sequence[str], known: set[str], total: int) -> list[str]:
    """The questions whose keys are not in `known`, until it has `total` keys; adds their keys to `known`."""
    new = []
    for question in questions:
        key = question_key(question)
        if key not in known and len(known) < total:
            known.add(key)
            new.append(question)
    return new


async def dataset_batches(
    generator: FromDataset, read: Callable[[], list[str]], existing: Sequence[str], warn: Warn
) -> Batches:
    """Rows drawn without replacement. A seed always gives the same rows; a smaller `numq` gives the first of them."""
    texts = await asyncio.to_thread(_shuffled, read, generator.seed)
    if not texts:
        raise StimError(f"from_dataset: dataset {generator.dataset!r} has no questions")
    if len(texts) < generator.numq:
        await warn(
            f"dataset {generator.dataset!r} has {len(texts)} distinct questions, fewer than the {generator.numq} asked "
            "for: all of them are used"
        )
    known = set(existing)
    yield [text for text in texts[: generator.numq] if text not in known]


def _shuffled(read: Callable[[], list[str]], seed: int) -> list[str]:
    """The distinct texts in an order given by the seed. Blocks: there may be millions."""
    texts = list(dict.fromkeys(read()))
    random.Random(seed).shuffle(texts)
    return texts


async def written_batches(
    generator: Asking | Persona,
    writer: Writer,
    render: Callable[[int, int], str],
    count: int,
    existing: Sequence[str],
    excluded: Collection[str] = (),
    show_waiting: Callable[[int], None] = lambda count: None,
) -> Batches:
    """Questions written by a model, until there are `count` distinct ones, `existing` included.

    Calls run together, and their questions come in the order of the calls, each as soon as those before it are known.
    So the same answers give the same questions, however fast each one is written.

    Args:
        render: (number of the call, number of questions to ask for) -> the request's text.
        excluded: keys of questions that do not count.
        show_waiting: see `QuestionSource`.
    Raises: StimError with the number of questions so far, if MAX_FRUITLESS_CALLS calls in a row bring nothing new.
    """
    known = {question_key(question) for question in existing}
    # A resumed run must not repeat earlier calls: the same seed would bring the same questions.
    calls, fruitless_calls = len(existing), 0
    while len(known) < count:
        missing = count - len(known)
        per_call = min(writer.questions_per_call, missing)
        concurrent = min(MAX_CONCURRENT_CALLS, math.ceil(missing / writer.questions_per_call) * writer.calls_per_need)
        asks = [
            partial(
                writer.ask,
                render(call, per_call),
                temperature=DEFAULT_TEMPERATURE if generator.temperature is None else generator.temperature,
                max_tokens=generator.max_tokens or TOKENS_PER_QUESTION * (per_call + 2),
                # A single seed for all calls would give similar answers.
                seed=None if generator.seed is None else (generator.seed + call) % SEEDS,
            )
            for call in range(calls, calls + concurrent)
        ]
        calls, before = calls + concurrent, len(known)
        async with aclosing(run_calls(asks)) as under_way:
            async for written in under_way:
                settled = [question for question in in_order(written) if question_key(question) not in excluded]
                batch = _take_new(settled, known, count)
                if batch:
                    yield batch
                keys = {question_key(question) for call in written for question in call.questions}
                show_waiting(min(len(keys - known - set(excluded)), count - len(known)))
                if len(known) == count:
                    break  # whatever the other calls still write is not needed
        fruitless_calls = 0 if len(known) > before else fruitless_calls + concurrent
        if fruitless_calls >= MAX_FRUITLESS_CALLS:
            raise StimError(
                f"{generator.type}: {writer.name!r} wrote {len(known)} distinct questions of the {count} asked for "
                f"in {calls - len(existing)} calls, and nothing new in the last {fruitless_calls}: lower numq, raise "
                "the temperature, or name a stronger model"
            )
