"""The first stage: from a target's generators to stimuli."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from baker.config import Generator, Hardcoded
from baker.generators import Asker, hardcoded_questions, oneshot_questions
from baker.types import Stimulus

Keep = Callable[[Stimulus], Awaitable[None]]


def expected_stimuli(generators: Sequence[Generator]) -> int:
    return sum(
        len(hardcoded_questions(generator)) if isinstance(generator, Hardcoded) else generator.numq
        for generator in generators
    )


async def stim(
    generators: Sequence[Generator],
    askers: Sequence[Asker | None],
    prompt_text: str,
    keep: Keep,
    done: Sequence[Stimulus] = (),
) -> list[Stimulus]:
    """Run the generators in order.

    Args:
        askers: one a generator; None where it asks no model.
        prompt_text: the teacher prompt as plain text.
        keep: awaited for each new stimulus, in order, before the next: it puts the stimulus on disk.
        done: what an interrupted run has kept already; not made again.
    Raises: StimError when a generator can't make as many as it should; all that was kept stays.
    """
    stimuli = list(done)
    for source, (generator, asker) in enumerate(zip(generators, askers, strict=True)):
        made = [stimulus.text for stimulus in stimuli if stimulus.source == source]
        async for text in _questions(generator, asker, prompt_text, made):
            stimulus = Stimulus(
                id=len(stimuli), text=text, generator=str(type(generator).__struct_config__.tag), source=source
            )
            await keep(stimulus)
            stimuli.append(stimulus)
    return stimuli


async def _questions(
    generator: Generator, asker: Asker | None, prompt_text: str, made: list[str]
) -> AsyncIterator[str]:
    if isinstance(generator, Hardcoded):
        for text in hardcoded_questions(generator)[len(made) :]:
            yield text
    else:
        assert asker is not None
        async for text in oneshot_questions(generator, asker, prompt_text, made):
            yield text
