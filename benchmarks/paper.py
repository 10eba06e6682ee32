"""Reproduces the findings of Prompt Baking (arXiv:2409.13697) with a small model on a CPU.

    python -m benchmarks.paper --out plots [--trajectories 128] [--questions 20]

The same prompt is baked once (into *baked*), then pursued: baked again with the prompted *baked* as the teacher. For
comparison it is also baked twice with the prompted base model as the teacher. Each model answers questions that no
training used, through the engine as for a client, and is compared with the bare base model and the prompted one. No
judge model is used; the two measures are:

- *KL*: from the prompted base model to this one, on the prompted one's answers, over the whole vocabulary, in nats per
  token. 0 is the prompted model itself. The KL shows how close a model is, not on which side.
- *log-odds*: along this model's own answers, its expectation of log P(token | prompt) - log P(token), P the base model,
  in nats per token. This is the evidence, token by token, for "this was written under the prompt" to a reader who knows
  both reference models. It is -KL(base || prompted) for the base model, and KL(prompted || base) for the prompted one,
  which is also the base model's KL above; a higher value shows the prompt more strongly than prompting does. It can't
  distinguish sense from caricature.

Errors are one standard error over questions.
"""

import argparse
import asyncio
import datetime
import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from baker.conversation import context_messages
from baker.model_names import at_strength
from baker.questions import bank
from baker.training.devices import openmp
from baker.trajectories.rollout import RolloutItem, RolloutSettings, rollout
from baker.types import Checkpoint, Prompt, Stimulus, Trajectory
from benchmarks import _models
from benchmarks._paper_report import (
    BAKED,
    FIRST,
    PROMPTED,
    SHARES,
    THEN,
    VOICES,
    Measures,
    Voice,
    draw,
    per_token,
    table,
    verdicts,
)
from benchmarks.baking import RANK, TOP_LOGPROBS, YODA, alone, cpu_name
from gateway.engine import Engine, EngineSettings, Handlers, Reply
from gateway.engine.requests import kinds
from gateway.http.errors import error_event

PROMPT = Prompt(messages=[{"role": "system", "content": YODA}])


class Answer(msgspec.Struct, frozen=True):
    bare_ids: list[int]
    """Context of the question without the prompt."""
    prompted_ids: list[int]
    """Context of the question with the prompt."""
    response_ids: list[int]
    text: str


class Study:
    """The engine's part: trajectories for the trainer, and each model's answers to the unseen questions."""

    def __init__(self, engine: Engine, folder: Path, max_tokens: int) -> None:
        self._engine, self._handlers = engine, Handlers(engine, error_event)
        self._folder, self._max_tokens = folder, max_tokens

    async def roll_out(self, questions: Sequence[str], teacher: str | None) -> list[Trajectory]:
        """Answers of the prompted base model, or of a prompted adapter, as trajectories to train on."""
        settings = RolloutSettings(
            teacher=PROMPT,
            student=Prompt(),
            model=self._engine.name,
            checkpoint=None if teacher is None else self._checkpoint(teacher),
            trajectories_per_stimulus=1,
            temperature=1.0,
            max_tokens=self._max_tokens,
            max_concurrency=32,
            top_logprobs=TOP_LOGPROBS,
        )
        rows: list[Trajectory] = []

        async def keep(item: RolloutItem) -> None:
            rows.append(item.trajectory)

        stimuli = [Stimulus(id=number, text=text, generator="hardcoded") for number, text in enumerate(questions)]
        await rollout(stimuli, settings, self._engine.generation, keep)
        return rows

    async def ask_all(self, voices: Sequence[Voice], questions: Sequence[str]) -> dict[str, list[Answer]]:
        """Each voice's answers to the questions, at temperature 1, by its label."""
        answers = {}
        for voice in voices:
            requests = (self._ask(voice, question, seed) for seed, question in enumerate(questions))
            answers[voice.label] = await asyncio.gather(*requests)
            print(f"  {voice.label}: {answers[voice.label][0].text[:100]!r}", flush=True)
        return answers

    async def _ask(self, voice: Voice, question: str, seed: int) -> Answer:
        bare, prompted = [
            await self._engine.generation.tokenise(context_messages(prompt, question)) for prompt in (Prompt(), PROMPT)
        ]
        name = self._engine.name
        if voice.adapter is not None:
            adapter = self._checkpoint(voice.adapter)
            name = at_strength(adapter.name, voice.strength)
            self._engine.register(name, adapter.path)
        fields = {
            "prompt": prompted if voice.is_prompted else bare,
            "max_tokens": self._max_tokens,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "seed": seed,
            "return_token_ids": True,
        }
        reply = await self._handlers.serve(kinds.COMPLETION, fields, {}, model=name)
        assert isinstance(reply, Reply) and reply.status == 200, reply
        (choice,) = msgspec.json.decode(reply.body)["choices"]
        return Answer(bare, prompted, choice["token_ids"], choice["text"])

    def _checkpoint(self, adapter: str) -> Checkpoint:
        return Checkpoint("admin", "paper", adapter, 1, self._folder / adapter, "", 0, 0)


def train(
    model: Path,
    rows: list[Trajectory],
    folder: Path,
    overrides: dict[str, Any],
    name: str,
    teacher: str | None,
    parent: str | None,
) -> int:
    """Bake answers of `teacher` with our trainer, as the service does. Returns: the number of steps.

    Writes the adapter to `folder`/`name`-<share> after each of the `SHARES` of the steps.
    """
    from baker.config.bake import bake_config
    from baker.training.model import lora
    from baker.training.model.base import load_base, pick_device
    from baker.training.model.student import Student
    from baker.training.run.loop import Loop
    from baker.training.run.metrics import Metrics
    from baker.training.run.run_context import RunContext

    config = bake_config(overrides).settled(is_own_teacher=teacher == parent)
    torch.manual_seed(config.seed)
    base = load_base(model, pick_device()).model
    student = Student(base)
    adapter = lora.attach(
        base,
        rank=RANK,
        alpha=RANK,
        parent=None if parent is None else folder / parent,
        remembers_parent=config.data.has_full_teacher,
    ).model
    student.as_teacher = partial(lora.as_parent, adapter)
    with Metrics(folder / f"{name}.jsonl", None) as metrics:
        loop = Loop(student, rows, RunContext(config, metrics, emit=lambda event: None))
        due = {max(1, round(share * loop.plan.total_steps)): share for share in SHARES}
        for step in loop.steps():
            if step in due:
                kept = folder / f"{name}-{due[step]:g}"
                kept.mkdir(exist_ok=True)
                lora.save_adapter(adapter, kept, model.name)
    return loop.plan.total_steps


def measure(model: Path, folder: Path, answers: dict[str, list[Answer]]) -> dict[str, Measures]:
    """The measures of each of `VOICES`, computed from the weights without the engine; only the answers are sampled."""
    from baker.training.model.base import load_base, pick_device
    from baker.training.model.losses import full_kl

    base: Any = load_base(model, pick_device()).model.eval()
    reference = answers[PROMPTED.label]
    prompted = [logits(base, answer.prompted_ids, answer) for answer in reference]
    measures = {}
    for voice in VOICES:
        speaker = base if voice.adapter is None else scaled(model, folder / voice.adapter, voice.strength)
        distances = [
            full_kl(logits(speaker, _context(voice, answer), answer), teacher)
            for answer, teacher in zip(reference, prompted, strict=True)
        ]
        evidence = [
            expected_log_odds(
                logits(speaker, _context(voice, answer), answer),
                logits(base, answer.prompted_ids, answer),
                logits(base, answer.bare_ids, answer),
            )
            for answer in answers[voice.label]
        ]
        measures[voice.label] = Measures(per_token(distances), per_token(evidence))
        print(f"  {voice.label}: KL {measures[voice.label].kl}, log-odds {measures[voice.label].log_odds}", flush=True)
    return measures


def _context(voice: Voice, answer: Answer) -> list[int]:
    return answer.prompted_ids if voice.is_prompted else answer.bare_ids


def scaled(model: Path, adapter: Path, strength: float) -> Any:
    """The base model with `strength` times the adapter's update, through PEFT's own factor: the engine's differs."""
    from baker.training.model import lora
    from baker.training.model.base import load_base, pick_device

    speaker = lora.attach(load_base(model, pick_device()).model, rank=RANK, alpha=RANK, parent=adapter).model
    for module in speaker.modules():
        if hasattr(module, "lora_A"):
            module.scaling = {name: strength * factor for name, factor in module.scaling.items()}
    return speaker.eval()


def logits(model: Any, context_ids: Sequence[int], answer: Answer) -> Tensor:
    """Logits that predict the answer's tokens, (T, V), in the model's own type."""
    ids = torch.tensor([[*context_ids, *answer.response_ids]], device=model.device)
    with torch.no_grad():
        kept: Tensor = model(input_ids=ids, use_cache=False, logits_to_keep=len(answer.response_ids) + 1).logits
    return kept[0, :-1]


def expected_log_odds(speaker_TV: Tensor, prompted_TV: Tensor, base_TV: Tensor) -> Tensor:
    """The speaker's expectation of log P(token | prompt) - log P(token) at each position, in nats, (T,).

    Its mean is the mean of the sampled tokens' own log-odds, with less noise.
    """
    odds_TV = prompted_TV.float().log_softmax(-1) - base_TV.float().log_softmax(-1)
    return (speaker_TV.float().softmax(-1) * odds_TV).sum(-1)


async def study(
    options: argparse.Namespace, model: Path, unseen: list[str], questions: list[str]
) -> dict[str, Measures]:
    folder = options.out.resolve()
    engine = Engine(EngineSettings(model=model, name=model.name))
    await engine.start()
    try:
        part = Study(engine, folder, options.max_tokens)
        rows = await part.roll_out(questions, None)
        steps = await asyncio.to_thread(alone, train, model, rows, folder, options.overrides, "baked", None, None)
        print(f"baked in {steps} steps; answers to {unseen[0]!r}:", flush=True)
        answers = await part.ask_all(FIRST, unseen)
        for name, teacher in (("twice", None), ("pursuit", BAKED.adapter)):
            rows = await part.roll_out(questions, teacher)
            work = (model, rows, folder, options.overrides, name, teacher, BAKED.adapter)
            await asyncio.to_thread(alone, train, *work)
        answers |= await part.ask_all(THEN, unseen)
    finally:
        await engine.stop()
    (folder / "answers.json").write_bytes(msgspec.json.encode(answers))
    print("measuring:", flush=True)
    measures: dict[str, Measures] = alone(measure, model, folder, answers)
    return measures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=128, help="questions per bake, with one answer each (128)")
    parser.add_argument("--questions", type=int, default=20, help="unseen questions to measure on (20)")
    parser.add_argument("--max-tokens", type=int, default=48, help="longest answer in tokens (48)")
    parser.add_argument(
        "--overrides", type=json.loads, default={}, help="overrides of the bakes, as JSON; absent: all defaults"
    )
    _models.add_options(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for plots, results.json, answers.json, adapters"
    )
    options = parser.parse_args()
    openmp.set_spin_count()
    options.out.mkdir(parents=True, exist_ok=True)
    model = _models.chosen(options)
    drawn = bank.balanced_order(bank.bank(), seed=1)
    unseen, questions = drawn[: options.questions], drawn[options.questions :][: options.trajectories]
    measures = asyncio.run(study(options, model, unseen, questions))
    (options.out / "results.json").write_text(json.dumps(measures, indent=2))
    print(
        f"\n{datetime.date.today()}, {cpu_name()}, {os.cpu_count()} cores, {model.name}, {len(questions)} trajectories "
        f"of up to {options.max_tokens} tokens per bake, {len(unseen)} unseen questions\n\n{table(measures)}\n"
    )
    print("\n".join(f"- {verdict}" for verdict in verdicts(measures)))
    draw(measures, options.out)


if __name__ == "__main__":
    main()
