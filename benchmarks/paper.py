"""What Prompt Baking (arXiv:2409.13697) found, at the scale of a small model on a CPU.

    python -m benchmarks.paper --out plots [--trajectories 128] [--questions 20]

The same prompt is baked once (into *baked*), then pursued: baked again with *baked*, prompted, as the teacher; and, to
compare with, baked twice with the prompted base model as the teacher. On questions that no training saw, each model
answers in its own words, asked through the engine as clients ask it, and is compared with the two that frame it, the
bare base model and the prompted one. No judge model is asked:

- *KL*: from the prompted base model to this one, on the prompted one's answers, over the whole vocabulary, in nats per
  token. 0 is the prompted model itself; it says how close, not on which side.
- *log-odds*: along this model's own answers, its expectation of log P(token | prompt) - log P(token), P the base model,
  in nats per token. This is the evidence that a reader who knows both framing models finds, token by token, for "this
  was written under the prompt". It is -KL(base || prompted) for the base model, and KL(prompted || base) for the
  prompted one, which is also the base model's KL above; more than that is more prompted than prompted. What it can't
  tell is sense from caricature.

Errors are one standard error over questions.
"""

import argparse
import asyncio
import datetime
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from baker.conversation import context_messages
from baker.model_names import at_strength
from baker.questions import bank
from baker.training.devices import openmp
from baker.trajectories.rollout import Rolled, RolloutSettings, rollout
from baker.types import Checkpoint, Prompt, Stimulus, Trajectory
from benchmarks import _models
from benchmarks.baking import RANK, TOP_LOGPROBS, YODA, alone, cpu_name
from gateway.engine import Engine, EngineSettings, Handlers, Reply
from gateway.engine.requests import kinds
from gateway.http.errors import error_event

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of a bake's steps, after which its adapter is kept; the last is the bake."""
STRENGTHS = (0.25, 0.5, 0.75, 1.25, 1.5)
PROMPT = Prompt(messages=[{"role": "system", "content": YODA}])


class Voice(NamedTuple):
    """One who answers."""

    label: str
    adapter: str | None = None
    """The name of its folder; None: the base model."""
    strength: float = 1.0
    is_prompted: bool = False


BASE, PROMPTED = Voice("base"), Voice("prompted", is_prompted=True)
CHECKPOINTS = [Voice(f"baked, {share:g} of the steps", f"baked-{share:g}") for share in SHARES[:-1]]
DIAL = [Voice(f"baked@{strength:g}", "baked-1", strength) for strength in STRENGTHS]
BAKED, REPROMPTED = Voice("baked", "baked-1"), Voice("baked, re-prompted", "baked-1", is_prompted=True)
TWICE = Voice("baked twice", "twice-1")
"""What pursuit is compared with: as many steps more, with answers of the prompted base model again."""
PURSUED = Voice("pursuit", "pursuit-1")
PURSUED_REPROMPTED = Voice("pursuit, re-prompted", "pursuit-1", is_prompted=True)
FIRST = [BASE, *CHECKPOINTS, *DIAL[:3], BAKED, PROMPTED, *DIAL[3:], REPROMPTED]
THEN = [TWICE, PURSUED, PURSUED_REPROMPTED]
VOICES = [*FIRST, *THEN]


class Answer(msgspec.Struct, frozen=True):
    bare_ids: list[int]
    """The question's context without the prompt, and with it."""
    prompted_ids: list[int]
    response_ids: list[int]
    text: str


class Estimate(NamedTuple):
    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.error:.4f}"

    def exceeds(self, other: "Estimate") -> str:
        by = Estimate(self.mean - other.mean, math.hypot(self.error, other.error))
        return f"{'yes' if by.mean > 0 else 'no'}, by {by}"


class Found(NamedTuple):
    kl: Estimate
    log_odds: Estimate


class Study:
    """The engine's part: trajectories for the trainer, and everybody's answers to the unseen questions."""

    def __init__(self, engine: Engine, folder: Path, max_tokens: int) -> None:
        self._engine, self._handlers = engine, Handlers(engine, error_event)
        self._folder, self._max_tokens = folder, max_tokens

    async def roll_out(self, questions: Sequence[str], teacher: str | None) -> list[Trajectory]:
        """Answers of the prompted base model, or of an adapter's, with what is needed to train on them."""
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

        async def keep(rolled: Rolled) -> None:
            rows.append(rolled.trajectory)

        stimuli = [Stimulus(id=number, text=text, generator="hardcoded") for number, text in enumerate(questions)]
        await rollout(stimuli, settings, self._engine.generation, keep)
        return rows

    async def hear(self, voices: Sequence[Voice], questions: Sequence[str]) -> dict[str, list[Answer]]:
        """What each says to each question, at temperature 1."""
        heard = {}
        for voice in voices:
            asked = (self._ask(voice, question, seed) for seed, question in enumerate(questions))
            heard[voice.label] = await asyncio.gather(*asked)
            print(f"  {voice.label}: {heard[voice.label][0].text[:100]!r}", flush=True)
        return heard

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
    """A bake by our trainer of answers by `teacher`, as a service would train it. Returns: its steps.

    Writes the adapter after each of `SHARES` of the steps to `folder`/`name`-<share>.
    """
    from baker.config.bake import bake_config
    from baker.training.model import lora
    from baker.training.model.base import load_base, pick_device
    from baker.training.model.student import Student
    from baker.training.run.loop import Loop
    from baker.training.run.metrics import Metrics

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
        loop = Loop(student, config, rows, {}, metrics, lambda event: None)
        due = {max(1, round(share * loop.total_steps)): share for share in SHARES}
        for step in loop.steps():
            if step in due:
                kept = folder / f"{name}-{due[step]:g}"
                kept.mkdir(exist_ok=True)
                lora.save_adapter(adapter, kept, model.name)
    return loop.total_steps


def measure(model: Path, folder: Path, heard: dict[str, list[Answer]]) -> dict[str, Found]:
    """The numbers of each of `VOICES`, by the weights themselves: no engine, no sampling but the answers'."""
    from baker.training.model.base import load_base, pick_device
    from baker.training.model.losses import full_kl

    base: Any = load_base(model, pick_device()).model.eval()
    reference = heard[PROMPTED.label]
    prompted = [logits(base, answer.prompted_ids, answer) for answer in reference]
    found = {}
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
            for answer in heard[voice.label]
        ]
        found[voice.label] = Found(per_token(distances), per_token(evidence))
        print(f"  {voice.label}: KL {found[voice.label].kl}, log-odds {found[voice.label].log_odds}", flush=True)
    return found


def _context(voice: Voice, answer: Answer) -> list[int]:
    return answer.prompted_ids if voice.is_prompted else answer.bare_ids


def scaled(model: Path, adapter: Path, strength: float) -> Any:
    """The base model with `strength` times the adapter's update, by PEFT's own factor: the engine's is another."""
    from baker.training.model import lora
    from baker.training.model.base import load_base, pick_device

    speaker = lora.attach(load_base(model, pick_device()).model, rank=RANK, alpha=RANK, parent=adapter).model
    for module in speaker.modules():
        if hasattr(module, "lora_A"):
            module.scaling = {name: strength * factor for name, factor in module.scaling.items()}
    return speaker.eval()


def logits(model: Any, context_ids: Sequence[int], answer: Answer) -> Tensor:
    """Those that predict the answer's tokens, (T, V), in the model's own type."""
    ids = torch.tensor([[*context_ids, *answer.response_ids]], device=model.device)
    with torch.no_grad():
        kept: Tensor = model(input_ids=ids, use_cache=False, logits_to_keep=len(answer.response_ids) + 1).logits
    return kept[0, :-1]


def expected_log_odds(speaker_TV: Tensor, prompted_TV: Tensor, base_TV: Tensor) -> Tensor:
    """The speaker's expectation of log P(token | prompt) - log P(token) at each position, in nats, (T,).

    Its mean is that of the sampled tokens' own log-odds, with less noise.
    """
    odds_TV = prompted_TV.float().log_softmax(-1) - base_TV.float().log_softmax(-1)
    return (speaker_TV.float().softmax(-1) * odds_TV).sum(-1)


def per_token(answers: Sequence[Tensor]) -> Estimate:
    """The mean over all tokens; its error takes each answer as one draw, since its tokens hang together."""
    tokens = sum(map(len, answers))
    mean = sum(float(values_T.sum()) for values_T in answers) / tokens
    return Estimate(mean, math.sqrt(sum(float((values_T - mean).sum()) ** 2 for values_T in answers)) / tokens)


def table(found: Mapping[str, Found]) -> str:
    lines = ["| model | KL (prompted ‖ it) | log-odds of its own words |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {label} | {kl} | {log_odds} |" for label, (kl, log_odds) in found.items())])


def verdicts(found: Mapping[str, Found]) -> Iterator[str]:
    """What the paper says, and whether it is so here."""
    base, prompted, baked = (found[voice.label] for voice in (BASE, PROMPTED, BAKED))
    share = (baked.log_odds.mean - base.log_odds.mean) / (prompted.log_odds.mean - base.log_odds.mean)
    yield (
        f"baked is close to prompted: {1 - baked.kl.mean / base.kl.mean:.0%} of the KL is gone, and the log-odds are "
        f"{share:.0%} of the way"
    )
    for name, halves in (("checkpoints", CHECKPOINTS), ("strengths", DIAL[:3])):
        line = [found[voice.label] for voice in (BASE, *halves, BAKED)]
        closer = all(after.kl.mean < before.kl.mean for before, after in itertools.pairwise(line))
        stronger = all(after.log_odds.mean > before.log_odds.mean for before, after in itertools.pairwise(line))
        yield (
            f"{name} lie between in order: by KL {'yes' if closer else 'no'}, by log-odds {'yes' if stronger else 'no'}"
        )
    pairs = (
        (REPROMPTED, PROMPTED),
        (PURSUED, BAKED),
        (PURSUED, TWICE),
        (PURSUED, PROMPTED),
        (PURSUED_REPROMPTED, PURSUED),
    )
    for voice, other in pairs:
        more = found[voice.label].log_odds.exceeds(found[other.label].log_odds)
        yield f"{voice.label} goes beyond {other.label}: {more}"


def draw(found: Mapping[str, Found], folder: Path) -> None:
    """half_baking.png and beyond.png."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    columns = (
        ("share of the training steps", [(0.0, BASE), *zip(SHARES, [*CHECKPOINTS, BAKED], strict=True)]),
        ("strength", sorted([(0.0, BASE), (1.0, BAKED), *zip(STRENGTHS, DIAL, strict=True)])),
    )
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, (name, points) in enumerate(columns):
        for row, what in enumerate(("kl", "log_odds")):
            values = [getattr(found[voice.label], what) for _, voice in points]
            axes = grid[row][column]
            axes.errorbar([at for at, _ in points], [v.mean for v in values], [v.error for v in values], marker="o")
            for voice, style in ((BASE, ":"), (PROMPTED, "--")):
                axes.axhline(getattr(found[voice.label], what).mean, color="gray", linestyle=style, label=voice.label)
        grid[1][column].set_xlabel(name)
    grid[0][0].set_ylabel("KL from the prompted model")
    grid[1][0].set_ylabel("log-odds of its own words")
    grid[1][1].legend()
    figure.savefig(folder / "half_baking.png", dpi=80)
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    shown = [BASE, DIAL[1], BAKED, TWICE, PROMPTED, REPROMPTED, PURSUED, PURSUED_REPROMPTED][::-1]
    odds = [found[voice.label].log_odds for voice in shown]
    colors = ["gray" if voice in (BASE, PROMPTED) else "tab:blue" for voice in shown]
    axes.barh([v.label for v in shown], [v.mean for v in odds], xerr=[v.error for v in odds], color=colors)
    axes.axvline(found[PROMPTED.label].log_odds.mean, color="gray", linestyle="--")
    axes.set_xlabel("log-odds of its own words, prompted against base, nats per token")
    figure.savefig(folder / "beyond.png", dpi=80)


async def study(options: argparse.Namespace, model: Path, unseen: list[str], questions: list[str]) -> dict[str, Found]:
    folder = options.out.resolve()
    engine = Engine(EngineSettings(model=model, name=model.name))
    await engine.start()
    try:
        part = Study(engine, folder, options.max_tokens)
        rows = await part.roll_out(questions, None)
        steps = await asyncio.to_thread(alone, train, model, rows, folder, options.overrides, "baked", None, None)
        print(f"baked in {steps} steps; they say, to {unseen[0]!r}:", flush=True)
        heard = await part.hear(FIRST, unseen)
        for name, teacher in (("twice", None), ("pursuit", BAKED.adapter)):
            rows = await part.roll_out(questions, teacher)
            work = (model, rows, folder, options.overrides, name, teacher, BAKED.adapter)
            await asyncio.to_thread(alone, train, *work)
        heard |= await part.hear(THEN, unseen)
    finally:
        await engine.stop()
    (folder / "answers.json").write_bytes(msgspec.json.encode(heard))
    print("measuring:", flush=True)
    found: dict[str, Found] = alone(measure, model, folder, heard)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=128, help="questions of a bake, with one answer each (128)")
    parser.add_argument("--questions", type=int, default=20, help="unseen ones, to measure on (20)")
    parser.add_argument("--max-tokens", type=int, default=48, help="of an answer (48)")
    parser.add_argument("--overrides", type=json.loads, default={}, help="of the bakes, as JSON; absent: all defaults")
    _models.add_options(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for plots, results.json, answers.json, adapters"
    )
    options = parser.parse_args()
    openmp.prepare()
    options.out.mkdir(parents=True, exist_ok=True)
    model = _models.chosen(options)
    drawn = bank.drawn(bank.bank(), seed=1)
    unseen, questions = drawn[: options.questions], drawn[options.questions :][: options.trajectories]
    found = asyncio.run(study(options, model, unseen, questions))
    (options.out / "results.json").write_text(json.dumps(found, indent=2))
    print(
        f"\n{datetime.date.today()}, {cpu_name()}, {os.cpu_count()} cores, {model.name}, {len(questions)} trajectories "
        f"of up to {options.max_tokens} tokens a bake, {len(unseen)} unseen questions\n\n{table(found)}\n"
    )
    print("\n".join(f"- {verdict}" for verdict in verdicts(found)))
    draw(found, options.out)


if __name__ == "__main__":
    main()
