"""The stim stage: stimuli in the order of the generators, in batches, and resumed after an interruption."""

from collections.abc import Sequence

import pytest

from baker.config.generator import FromDataset, Hardcoded, OneshotQs, Persona
from baker.errors import StimError
from baker.questions.generators import QuestionSource
from baker.questions.stim import expected_stimuli, stim
from baker.types import Stimulus

pytestmark = pytest.mark.anyio

SOURCES = [
    QuestionSource(Hardcoded(questions=["One?", "Two?"])),
    QuestionSource(FromDataset(dataset="rows", numq=3), read_dataset=lambda: ["Left?", "Right?"]),
    QuestionSource(Hardcoded(questions=["Three?"], rollout_with_conditioned=True)),
]


class Job:
    """What a run of the stage has stored."""

    def __init__(self) -> None:
        self.batches: list[list[Stimulus]] = []
        self.warnings: list[str] = []

    async def run(self, sources: Sequence[QuestionSource], done: Sequence[Stimulus] = ()) -> list[Stimulus]:
        return await stim(sources, self.keep, self.warn, done)

    async def keep(self, stimuli: list[Stimulus]) -> None:
        self.batches.append(stimuli)

    async def warn(self, message: str) -> None:
        self.warnings.append(message)


async def test_stimuli_are_numbered_in_the_order_of_their_generators() -> None:
    job = Job()
    stimuli = await job.run(SOURCES)
    assert [(stimulus.id, stimulus.source, stimulus.generator) for stimulus in stimuli] == [
        (0, 0, "hardcoded"),
        (1, 0, "hardcoded"),
        (2, 1, "from_dataset"),
        (3, 1, "from_dataset"),
        (4, 2, "hardcoded"),
    ]
    assert [stimulus.text for stimulus in stimuli if stimulus.source != 1] == ["One?", "Two?", "Three?"]
    assert [stimulus.is_conditioned for stimulus in stimuli] == [False, False, False, False, True]
    assert [stimulus for batch in job.batches for stimulus in batch] == stimuli
    assert all(job.batches), "an empty batch is not stored"


async def test_a_warning_names_the_generator() -> None:
    job = Job()
    await job.run(SOURCES)
    (warning,) = job.warnings
    assert warning.startswith("generators[1]: dataset 'rows' has 2 distinct questions, fewer than the 3")


@pytest.mark.parametrize("kept", range(6))
async def test_an_interrupted_run_is_resumed_without_a_repeat_or_a_gap(kept: int) -> None:
    complete = await Job().run(SOURCES)
    job = Job()
    assert await job.run(SOURCES, complete[:kept]) == complete
    assert [stimulus for batch in job.batches for stimulus in batch] == complete[kept:]


async def test_a_generator_that_fails_leaves_the_stimuli_kept_before_it() -> None:
    job = Job()
    empty = QuestionSource(FromDataset(dataset="empty"), read_dataset=list)
    with pytest.raises(StimError, match="'empty' has no questions"):
        await job.run([SOURCES[0], empty, SOURCES[2]])
    assert [stimulus.text for batch in job.batches for stimulus in batch] == ["One?", "Two?"]


def test_the_expected_number_counts_hardcoded_questions_and_the_others_numq() -> None:
    generators = [
        Hardcoded(questions=["a", "b", "c"]),
        Hardcoded(questions=["a", "b", "c"], numq=2),
        Hardcoded(questions=["a"], numq=9),
        OneshotQs(numq=7),
        Persona(),
    ]
    assert expected_stimuli(generators) == 3 + 2 + 1 + 7 + 25
