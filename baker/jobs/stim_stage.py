"""Runs a stim job: generators -> `jobs/<number>/stimuli.jsonl`, one stimulus per line."""

import asyncio
from functools import partial
from pathlib import Path

import msgspec

from baker.config.generator import Generator
from baker.conversation import prompt_text
from baker.errors import StimError
from baker.jobs.job_row import JobRow
from baker.ports import FindCheckpoint, Sampler
from baker.questions.datasets import QuestionSets
from baker.questions.effect import PromptEffect
from baker.questions.generators import QuestionSource
from baker.questions.stim import expected_stimuli, stim
from baker.questions.writers import AnthropicWriter, ServedWriter, Writer
from baker.storage.files import append_lines, read_lines, repair_lines
from baker.storage.home import output_file
from baker.storage.job import StimJob
from baker.storage.job_inputs import GeneratorPlan, StimInputs, WriterPlan
from baker.types import Stimulus


class StimStage:
    def __init__(
        self,
        home: Path,
        sampler: Sampler,
        find_checkpoint: FindCheckpoint,
        anthropic_api_key: str | None,
        anthropic_base_url: str | None,
    ) -> None:
        self._home, self._sampler, self._find_checkpoint = home, sampler, find_checkpoint
        self._anthropic_api_key, self._anthropic_base_url = anthropic_api_key, anthropic_base_url

    async def run(self, job: StimJob, row: JobRow) -> None:
        """Write the stimuli that are not on disk yet. Raises: StimError; EngineError, after which it may run again."""
        file = output_file(self._home, job)
        repair_lines(file)
        done = [msgspec.convert(line, Stimulus) for line in read_lines(file)]
        count, total = len(done), expected_stimuli(job.config.generators)

        async def keep(stimuli: list[Stimulus]) -> None:
            nonlocal count
            await asyncio.to_thread(append_lines, file, stimuli)
            count += len(stimuli)
            await row.set_progress(count, total)

        def show_waiting(written: int) -> None:
            row.show(count + written, total)

        await row.set_progress(count, total)
        teacher_text = prompt_text(job.inputs.teacher)
        sources = [
            (await self._source(generator, planned, teacher_text, job.inputs))._replace(show_waiting=show_waiting)
            for generator, planned in zip(job.config.generators, job.inputs.generators, strict=True)
        ]
        await stim(sources, keep, row.warn, done)

    async def _source(
        self, generator: Generator, planned: GeneratorPlan, teacher_text: str, inputs: StimInputs
    ) -> QuestionSource:
        dataset, effect = planned.dataset, PromptEffect(self._sampler, inputs.teacher, inputs.student)
        read = None if dataset is None else partial(QuestionSets(self._home).read, dataset, generator.column)
        return QuestionSource(
            generator=planned.replacement or generator,
            prompt_text=teacher_text,
            writer=None if planned.writer is None else await self._writer(planned.writer),
            template=planned.template,
            written=planned.written,
            read_dataset=read,
            # The replaced generator promises questions that bring the prompt out.
            effect_of=None if planned.replacement is None else effect.of,
        )

    async def _writer(self, planned: WriterPlan) -> Writer:
        if planned.kind == "anthropic":
            if self._anthropic_api_key is None:
                raise StimError(f"{planned.model!r} needs an Anthropic key: set ANTHROPIC_API_KEY and run stim again")
            return AnthropicWriter(planned.model, self._anthropic_api_key, self._anthropic_base_url)
        return ServedWriter(self._sampler, planned.model, await self._find_checkpoint(planned.checkpoint))
