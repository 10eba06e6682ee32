"""The first stage: from a target's generators to stimuli."""

from collections.abc import Awaitable, Callable, Sequence

from baker.config.generator import Generator, Hardcoded
from baker.ports import Warn
from baker.questions.generators import QuestionSource, generate, hardcoded_questions
from baker.types import Stimulus

Keep = Callable[[list[Stimulus]], Awaitable[None]]


def expected_stimuli(generators: Sequence[Generator]) -> int:
    """As many as are asked for; a dataset may turn out to have fewer."""
    return sum(
        len(hardcoded_questions(generator)) if isinstance(generator, Hardcoded) else generator.numq
        for generator in generators
    )


async def stim(
    sources: Sequence[QuestionSource], keep: Keep, warn: Warn, done: Sequence[Stimulus] = ()
) -> list[Stimulus]:
    """Run the generators in order.

    Args:
        keep: awaited for each batch of new stimuli, in order, before the next is made: it puts them on disk.
        warn: awaited with what turns out otherwise than asked.
        done: what an interrupted run has kept already; not made again.
    Raises: StimError when a generator can't make as many as it should; all that was kept stays.
    """
    stimuli = list(done)
    for place, source in enumerate(sources):
        made = [stimulus.text for stimulus in stimuli if stimulus.source == place]

        async def warn_here(message: str, place: int = place) -> None:
            await warn(f"generators[{place}]: {message}")

        async for texts in generate(source, made, warn_here):
            batch = [
                Stimulus(
                    id=len(stimuli) + i,
                    text=text,
                    generator=source.generator.type,
                    source=place,
                    is_conditioned=source.generator.rollout_with_conditioned,
                )
                for i, text in enumerate(texts)
            ]
            if batch:
                await keep(batch)
            stimuli += batch
    return stimuli
