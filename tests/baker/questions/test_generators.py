import random
import re
import zlib
from collections.abc import Callable, Sequence
from itertools import count

import pytest

from baker.config.generator import Custom, FromDataset, Hardcoded, OneshotQs, Persona
from baker.errors import StimError
from baker.ports import OnText
from baker.questions import bank
from baker.questions.generators import SEEDS, Batches, QuestionSource, generate, hardcoded_questions
from baker.questions.parsing import question_key
from baker.questions.writers import Answer

BANK = {category: [f"What about {category} number {i}?" for i in range(10)] for category in ("tea", "rain", "bread")}
ALL = [question for questions in BANK.values() for question in questions]


@pytest.fixture(autouse=True)
def small_bank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baker.questions.bank.bank", lambda: BANK)


class FakeWriter:
    """Answers with `reply(number of the call, text of the request)`."""

    name = "scripted"
    questions_per_call = 3
    calls_per_need = 1

    def __init__(self, reply: Callable[[int, str], str]) -> None:
        self.reply = reply
        self.texts: list[str] = []
        self.settings: list[tuple[float, int]] = []
        self.seeds: list[int | None] = []

    async def ask(
        self, text: str, on_text: OnText | None = None, *, temperature: float, max_tokens: int, seed: int | None
    ) -> Answer:
        self.texts.append(text)
        self.settings.append((temperature, max_tokens))
        self.seeds.append(seed)
        return Answer(self.reply(len(self.texts) - 1, text), is_cut=False)


def scripted(*answers: str) -> FakeWriter:
    return FakeWriter(lambda call, _: answers[call % len(answers)])


def inventive() -> FakeWriter:
    """A writer that never repeats a question and always gives as many as it is asked for."""
    numbers = count()

    def reply(_: int, text: str) -> str:
        asked = int(re.findall(r"from 1 to (\d+)", text)[-1])
        return "\n".join(f"{i + 1}. What is thing {next(numbers)}?" for i in range(asked))

    return FakeWriter(reply)


class Warnings(list[str]):
    async def __call__(self, message: str) -> None:
        self.append(message)


async def flat(batches: Batches) -> list[str]:
    return [text async for batch in batches for text in batch]


async def written(numq: int, writer: FakeWriter, existing: list[str]) -> list[str]:
    return await flat(generate(QuestionSource(OneshotQs(numq=numq), "Be kind", writer), existing, Warnings()))


@pytest.mark.parametrize(("numq", "taken"), [(None, 3), (2, 2), (9, 3)])
def test_hardcoded_takes_the_first_numq(numq: int | None, taken: int) -> None:
    assert hardcoded_questions(Hardcoded(questions=["a", "b", "c"], numq=numq)) == ["a", "b", "c"][:taken]


# A model writes


@pytest.mark.anyio
async def test_exactly_numq_distinct_questions_come_out() -> None:
    writer = scripted("1. Is it one?\n2. Is it two?", "1. is it TWO\n2. Is it three?\n3. Is it four?")
    assert await written(3, writer, []) == ["Is it one?", "Is it two?", "Is it three?"]


@pytest.mark.anyio
async def test_existing_questions_are_not_repeated() -> None:
    writer = scripted("1. Is it one?\n2. Is it two?\n3. Is it three?")
    assert await written(3, writer, ["Is it one?"]) == ["Is it two?", "Is it three?"]


@pytest.mark.anyio
async def test_a_model_that_repeats_itself_fails_with_the_number_of_questions_so_far() -> None:
    with pytest.raises(StimError, match="2 distinct questions of the 5"):
        await written(5, scripted("1. Is it one?\n2. Is it two?"), [])


@pytest.mark.anyio
async def test_a_template_replaces_the_built_in_text() -> None:
    for generator in (OneshotQs(numq=4), Custom(numq=4)):
        writer = inventive()
        source = QuestionSource(generator, "Be kind", writer, "For $$5: from 1 to ${numq} about ${prompt_u} and $more")
        assert len(await flat(generate(source, [], Warnings()))) == 4
        assert set(writer.texts) == {"For $5: from 1 to 3 about Be kind and $more"}, "no topic is added"


@pytest.mark.anyio
async def test_the_same_seed_gives_the_same_calls_and_each_call_has_its_own_seed() -> None:
    first, second = inventive(), inventive()
    for writer in (first, second):
        generator = OneshotQs(numq=20, seed=100, temperature=0.5, max_tokens=77)
        await flat(generate(QuestionSource(generator, "Be kind", writer), [], Warnings()))
    assert (first.texts, first.seeds) == (second.texts, second.seeds)
    assert first.seeds == list(range(100, 100 + len(first.seeds)))
    assert len(first.seeds) > 1
    assert set(first.settings) == {(0.5, 77)}


@pytest.mark.anyio
async def test_a_resumed_run_does_not_reuse_the_seeds_of_earlier_calls() -> None:
    writer = inventive()
    existing = [f"Was there number {i}?" for i in range(6)]
    await flat(generate(QuestionSource(OneshotQs(numq=9, seed=0), "", writer), existing, Warnings()))
    assert writer.seeds == [6]


@pytest.mark.anyio
@pytest.mark.parametrize("seed", [-1, SEEDS - 1, 1 << 80])
async def test_any_integer_becomes_a_seed_that_engines_accept(seed: int) -> None:
    writer = inventive()
    await flat(generate(QuestionSource(OneshotQs(numq=6, seed=seed), "", writer), [], Warnings()))
    assert all(isinstance(sent, int) and 0 <= sent < SEEDS for sent in writer.seeds)


@pytest.mark.anyio
async def test_without_a_seed_none_is_sent() -> None:
    writer = inventive()
    await written(6, writer, [])
    assert set(writer.seeds) == {None}


# A persona's questions


@pytest.mark.anyio
async def test_a_persona_without_a_model_draws_from_the_bank() -> None:
    async def drawn(seed: int) -> list[str]:
        return await flat(generate(QuestionSource(Persona(numq=8, seed=seed)), [], Warnings()))

    questions = await drawn(1)
    assert len(set(questions)) == 8
    assert set(questions) <= set(ALL)
    assert await drawn(1) == questions
    assert await drawn(2) != questions


async def length_as_effect(questions: Sequence[str]) -> list[float]:
    return [float(len(question)) for question in questions]


@pytest.mark.anyio
@pytest.mark.parametrize("existing_count", [0, 3, 8])
async def test_the_bank_gives_those_of_each_few_questions_that_the_prompt_affects_most(existing_count: int) -> None:
    source = QuestionSource(Persona(numq=10, seed=1), effect_of=length_as_effect)
    questions = await flat(generate(source, [], Warnings()))
    order = bank.balanced_order(BANK, 1)
    expected = [sorted(order[:24], key=len)[-8:], sorted(order[24:30], key=len)[-2:]]
    assert sum(map(len, questions)) == sum(len(question) for batch in expected for question in batch)
    assert len(set(questions)) == 10
    assert questions == sorted(questions, key=order.index), "the order of the bank stays, so it is still balanced"
    more = await flat(generate(source, questions[:existing_count], Warnings()))
    assert questions[:existing_count] + more == questions, "a resumed run adds the missing ones"


@pytest.mark.anyio
@pytest.mark.parametrize("existing_count", range(1, 10))
async def test_a_run_resumed_in_the_middle_of_a_batch_chooses_the_same_questions(existing_count: int) -> None:
    async def checksum_as_effect(questions: Sequence[str]) -> list[float]:
        return [float(zlib.crc32(question.encode())) for question in questions]

    source = QuestionSource(Persona(numq=10, seed=1), effect_of=checksum_as_effect)
    questions = await flat(generate(source, [], Warnings()))
    more = await flat(generate(source, questions[:existing_count], Warnings()))
    assert questions[:existing_count] + more == questions


@pytest.mark.anyio
async def test_without_enough_questions_to_choose_from_nothing_is_measured() -> None:
    async def never(questions: Sequence[str]) -> list[float]:
        raise AssertionError(questions)

    source = QuestionSource(Persona(numq=16, seed=1), effect_of=never)
    assert await flat(generate(source, [], Warnings())) == bank.balanced_order(BANK, 1)[:16]


@pytest.mark.anyio
async def test_half_of_a_personas_questions_are_variations_that_its_model_writes() -> None:
    writer, warnings = inventive(), Warnings()
    source = QuestionSource(Persona(numq=12, model="x", seed=3), "Be kind", writer, written=6)
    questions = await flat(generate(source, [], warnings))
    assert len(set(questions)) == 12
    assert len(set(questions) & set(ALL)) == 6
    assert set(writer.settings) == {(1.0, 160)}
    assert writer.seeds == [3, 4]
    for text in writer.texts:
        assert "Be kind" in text
        assert sum(f"- {question}\n" in text for question in ALL) == 2, "half as many examples as questions asked for"
    assert warnings == []


@pytest.mark.anyio
async def test_questions_that_a_model_copies_from_the_bank_do_not_count_and_the_bank_gives_the_rest() -> None:
    def copy(_: int, text: str) -> str:
        return "\n".join(question.upper() for question in ALL if question in text)

    warnings = Warnings()
    source = QuestionSource(Persona(numq=20), "", FakeWriter(copy), written=10)
    questions = await flat(generate(source, [], warnings))
    assert len(set(questions)) == 20
    assert set(questions) <= set(ALL)
    assert len(warnings) == 1
    assert "0 distinct questions of the 10" in warnings[0]


@pytest.mark.anyio
async def test_a_model_adds_to_a_bank_that_is_too_small() -> None:
    source = QuestionSource(Persona(numq=35), "", inventive(), written=5)
    questions = await flat(generate(source, [], Warnings()))
    assert len(set(map(question_key, questions))) == 35
    assert set(ALL) <= set(questions)


@pytest.mark.anyio
async def test_when_model_and_bank_are_exhausted_the_stim_fails_with_the_number_of_questions_so_far() -> None:
    source = QuestionSource(Persona(numq=35), "", scripted("1. Is it one?\n2. Is it two?"), written=5)
    kept: list[str] = []
    with pytest.raises(StimError, match="32 distinct questions of the 35 asked for, 30 from the built-in bank"):
        async for batch in generate(source, [], Warnings()):
            kept += batch
    assert len(set(kept)) == 32


@pytest.mark.anyio
@pytest.mark.parametrize("interrupted_after", range(0, 13, 3))
async def test_an_interrupted_persona_is_resumed(interrupted_after: int) -> None:
    async def run(existing: list[str]) -> list[str]:
        source = QuestionSource(Persona(numq=12, model="x"), "", inventive(), written=6)
        return await flat(generate(source, existing, Warnings()))

    existing = (await run([]))[:interrupted_after]
    more = await run(existing)
    assert len(set(existing + more)) == len(existing + more) == 12
    assert len(set(existing + more) & set(ALL)) == 6


def test_the_shipped_bank_is_large_and_has_no_question_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    questions = [question for questions in bank.bank().values() for question in questions]
    assert len({question_key(question) for question in questions}) == len(questions) > 1200


# Rows of a dataset


async def sampled(texts: list[str], numq: int, seed: int = 42, existing: list[str] | None = None) -> list[str]:
    generator = FromDataset(dataset="x", numq=numq, seed=seed)
    return await flat(generate(QuestionSource(generator, read_dataset=lambda: texts), existing or [], Warnings()))


@pytest.mark.anyio
async def test_a_dataset_is_sampled_without_replacement_in_an_order_given_by_the_seed() -> None:
    texts = [f"Row {i}" for i in range(50)] * 2
    rows = await sampled(texts, 20)
    assert len(set(rows)) == 20
    assert set(rows) <= set(texts)
    assert await sampled(texts, 20) == rows
    assert await sampled(texts, 5) == rows[:5]
    assert await sampled(texts, 20, seed=1) != rows
    assert rows[:7] + await sampled(texts, 20, existing=rows[:7]) == rows


@pytest.mark.anyio
async def test_a_dataset_that_is_too_small_gives_all_its_rows_with_a_warning() -> None:
    warnings = Warnings()
    generator = FromDataset(dataset="x", numq=10)
    source = QuestionSource(generator, read_dataset=lambda: ["a", "b", "a"])
    assert sorted(await flat(generate(source, [], warnings))) == ["a", "b"]
    assert "'x' has 2 distinct questions, fewer than the 10" in warnings[0]
    with pytest.raises(StimError, match="'x' has no questions"):
        await flat(generate(QuestionSource(generator, read_dataset=list), [], warnings))


@pytest.mark.anyio
async def test_every_row_of_a_dataset_can_be_drawn() -> None:
    texts = [f"Row {i}" for i in range(6)]
    rng = random.Random(0)
    seen = {row for _ in range(60) for row in await sampled(texts, 1, seed=rng.randrange(1 << 30))}
    assert seen == set(texts)
