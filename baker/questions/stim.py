"""The first stage: turns a target's generators into stimuli."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from baker.config.generator import Generator, Hardcoded
from baker.ports import Warn
from baker.questions.generators import QuestionSource, generate, hardcoded_questions
from baker.types import Stimulus

Keep = Callable[[list[Stimulus]], Awaitable[None]]


def expected_stimuli(generators: Sequence[Generator]) -> int:
    """Number of stimuli that the generators ask for; a dataset may have fewer."""
    return sum(
        len(hardcoded_questions(generator)) if isinstance(generator, Hardcoded) else generator.numq
        for generator in generators
    )


async def stim(
    sources: Sequence[QuestionSource], keep: Keep, warn: Warn, done: Sequence[Stimulus] = ()
) -> list[Stimulus]:
    """Run the generators in order.

    Args:
        keep: awaited for each batch of new stimuli, in order, before the next is generated; it writes them to disk.
        warn: awaited with a warning if the stimuli differ from what was asked for.
        done: stimuli kept by an interrupted run; they are not generated again.
    Returns: all stimuli, including `done`.
    Raises: StimError if a generator can't generate enough questions; stimuli kept so far stay.
    """
    stimuli = list(done)
    for index, source in enumerate(sources):
        existing = [stimulus.text for stimulus in stimuli if stimulus.source == index]

        async def warn_of_generator(message: str, index: int = index) -> None:
            await warn(f"generators[{index}]: {message}")

        async with aclosing(generate(source, existing, warn_of_generator)) as batches:
            async for texts in batches:
                batch = [
                    Stimulus(
                        id=len(stimuli) + i,
                        text=text,
                        generator=source.generator.type,
                        source=index,
                        is_conditioned=source.generator.rollout_with_conditioned,
                    )
                    for i, text in enumerate(texts)
                ]
                if batch:
                    await keep(batch)
                stimuli += batch
    return stimuli
