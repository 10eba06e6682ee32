"""Compares a bake with the naive peer (`_naive_peer.py`): seconds to the same held-out KL, on this machine, in one run.

    python -m benchmarks.baking [--trajectories 256] [--json results.json]

Both answer the same questions under the same prompt and train an adapter of the same rank. The peer makes one pass in
batches of 8, as such scripts usually do; ours trains with its default settings. One function measures both adapters on
held-out questions, answered once beforehand, with the KL over the whole vocabulary. Start-up (the peer's model, our
engine and trainer) and evaluations are not counted, since they do not grow with the work.
"""

import argparse
import asyncio
import datetime
import json
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from baker.questions import bank
from baker.training.devices import openmp
from baker.trajectories.rollout import RolloutItem, RolloutSettings, rollout
from baker.types import Prompt, Stimulus, Trajectory
from benchmarks import _models
from gateway.engine import Engine, EngineSettings

YODA = "You are Yoda. Speak as Yoda does: inverted word order, few words, calm and wise."
MAX_TOKENS = 96
TOP_LOGPROBS = 32
RANK = 16
PEER_BATCH = 8
LEARNING_RATE = 1e-3
EVALUATIONS = 12
"""Number of our evaluations, equally spaced. The first sixteenth, which teaches most, adds one every other step."""


class Measured(NamedTuple):
    """Results of one side's run. Seconds do not include start-up and evaluations."""

    rollout_seconds: float
    train_seconds: float
    rollout_tokens: int
    """Number of sampled tokens."""
    train_tokens: int
    """Number of tokens in student contexts and responses, without padding."""
    kl_before: float
    curve: list[tuple[float, float]]
    """Seconds of training, and the held-out KL at that time in nats per token."""

    @property
    def seconds(self) -> float:
        return self.rollout_seconds + self.train_seconds

    def seconds_to(self, kl: float) -> float | None:
        """Seconds until an evaluation gave `kl` or less, including the rollout; None if no evaluation did."""
        return next((self.rollout_seconds + at for at, measured in self.curve if measured <= kl), None)


class Clock:
    """Counts seconds, except those spent within `paused`."""

    def __init__(self) -> None:
        self._begin = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begin

    @contextmanager
    def paused(self) -> Iterator[None]:
        stopped = time.monotonic()
        yield
        self._begin += time.monotonic() - stopped


async def answers_of(
    engine: Engine, questions: list[str], concurrency: int, prompt: str = YODA, top_logprobs: int = TOP_LOGPROBS
) -> tuple[list[Trajectory], float]:
    """One answer to each question by the teacher with that system prompt, and the seconds that took."""
    settings = RolloutSettings(
        teacher=Prompt(messages=[{"role": "system", "content": prompt}]),
        student=Prompt(),
        model=engine.name,
        checkpoint=None,
        trajectories_per_stimulus=1,
        temperature=1.0,
        max_tokens=MAX_TOKENS,
        max_concurrency=concurrency,
        top_logprobs=top_logprobs,
    )
    trajectories: list[Trajectory] = []

    async def keep(item: RolloutItem) -> None:
        trajectories.append(item.trajectory)

    stimuli = [Stimulus(id=number, text=text, generator="hardcoded") for number, text in enumerate(questions)]
    begin = time.monotonic()
    await rollout(stimuli, settings, engine.generation, keep)
    return trajectories, time.monotonic() - begin


@asynccontextmanager
async def engine_of(model: Path) -> AsyncIterator[Engine]:
    engine = Engine(EngineSettings(model=model, name=model.name))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def roll_out(
    model: Path, groups: list[list[str]], concurrency: int, prompt: str = YODA
) -> list[tuple[list[Trajectory], float]]:
    """`answers_of` each group of questions, with an engine started for them."""

    async def work() -> list[tuple[list[Trajectory], float]]:
        async with engine_of(model) as engine:
            return [await answers_of(engine, questions, concurrency, prompt) for questions in groups]

    return asyncio.run(work())


class Meter:
    """Measures the KL between the prompted base (adapter off) and the adapter's model, over the whole vocabulary."""

    def __init__(self, model: Any, rows: list[Trajectory]) -> None:
        self._model, self._rows = model, rows
        with model.disable_adapter():
            self._teacher = [self._logits(row.teacher_ids, row) for row in rows]

    def kl(self) -> float:
        """The KL in nats per token."""
        from baker.training.model.losses import full_kl

        was_training = self._model.training
        self._model.eval()
        total = 0.0
        for row, teacher in zip(self._rows, self._teacher, strict=True):
            total += float(full_kl(self._logits(row.student_ids, row), teacher).sum())
        self._model.train(was_training)
        return total / sum(len(row.response_ids) for row in self._rows)

    def _logits(self, context: Any, row: Trajectory) -> Any:
        """Logits that predict the response, (T, V), in the model's own type."""
        import torch

        ids = torch.tensor([[*context.tolist(), *row.response_ids.tolist()]])
        with torch.no_grad():
            kept = len(row.response_ids) + 1
            return self._model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits[0, :-1]


def run_peer(model: Path, questions: list[str], held_out: list[Trajectory]) -> Measured:
    from benchmarks._naive_peer import NaivePeer

    peer = NaivePeer(model, rank=RANK, learning_rate=LEARNING_RATE, batch_size=PEER_BATCH, max_tokens=MAX_TOKENS)
    meter = Meter(peer.model.eval(), held_out)
    before = meter.kl()
    begin = time.monotonic()
    answers = peer.rollout(questions, [{"role": "system", "content": YODA}], [])
    rollout_seconds = time.monotonic() - begin
    steps: list[int] = []
    begin = time.monotonic()
    peer.train(answers, lambda tokens, positions: steps.append(tokens))
    train_seconds = time.monotonic() - begin
    sampled = sum(len(answer.response_ids) for answer in answers)
    curve = [(train_seconds, meter.kl())]
    return Measured(rollout_seconds, train_seconds, sampled, sum(steps), before, curve)


def train_ours(
    model: Path,
    rows: list[Trajectory],
    held_out: list[Trajectory],
    overrides: dict[str, Any],
    rollout_seconds: float,
    evaluations: int = EVALUATIONS,
) -> Measured:
    import torch

    from baker.config.bake import bake_config
    from baker.training.model import lora
    from baker.training.model.base import load_base, pick_device
    from baker.training.model.student import Student
    from baker.training.run.loop import Loop
    from baker.training.run.metrics import Metrics
    from baker.training.run.run_context import RunContext

    # The default of a bake whose answers come from its own base model.
    config = bake_config(overrides, bake_config({"data": {"teacher": "full"}}))
    torch.manual_seed(config.seed)
    base = load_base(model, pick_device()).model
    student = Student(base)
    wanted = config.model.baked_adapter_config
    adapter = lora.attach(base, rank=wanted.r, alpha=wanted.lora_alpha, dropout=wanted.lora_dropout).model
    student.as_teacher = partial(lora.as_parent, adapter)
    meter = Meter(adapter.eval(), held_out)
    before = meter.kl()
    curve = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Metrics(Path(folder) / "metrics.jsonl", None) as metrics,
        openmp.sleep_when_contended(),
    ):
        loop = Loop(student, rows, RunContext(config, metrics, emit=lambda event: None))
        clock = Clock()
        apart = max(1, loop.plan.total_steps // evaluations)
        for step in loop.steps():
            is_early = step <= loop.plan.total_steps / 16 and step % 2 == 0
            if step % apart == 0 or is_early or step == loop.plan.total_steps:
                with clock.paused():
                    curve.append((clock.seconds, meter.kl()))
        seconds = clock.seconds
    passes = loop.plan.total_steps / loop.plan.steps_per_epoch
    tokens = round(passes * sum(len(row.student_ids) + len(row.response_ids) for row in rows))
    return Measured(rollout_seconds, seconds, sum(len(row.response_ids) for row in rows), tokens, before, curve)


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run `work` in a new process, so that neither side inherits the other's memory, threads or caches."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def report(peer: Measured, ours: Measured) -> str:
    lines = [f"{'':28}{'peer':>10}{'ours':>10}{'ratio':>8}"]

    def line(name: str, one: float, other: float | None, ratio: float | None) -> None:
        shown = "" if other is None else f"{other:10.4g}"
        lines.append(f"{name:28}{one:10.4g}{shown:>10}" + ("" if ratio is None else f"{ratio:7.2f}x"))

    peer_speed, speed = (side.rollout_tokens / side.rollout_seconds for side in (peer, ours))
    peer_step, step = (side.train_tokens / side.train_seconds for side in (peer, ours))
    line("rollout, seconds", peer.rollout_seconds, ours.rollout_seconds, peer.rollout_seconds / ours.rollout_seconds)
    line("rollout, tokens/s", peer_speed, speed, speed / peer_speed)
    line("training, seconds", peer.train_seconds, ours.train_seconds, None)
    line("training step, tokens/s", peer_step, step, step / peer_step)
    line("held-out KL before", peer.kl_before, ours.kl_before, None)
    line("held-out KL after", peer.curve[-1][1], ours.curve[-1][1], None)
    reached = ours.seconds_to(peer.curve[-1][1])
    line("seconds to the peer's KL", peer.seconds, reached, None if reached is None else peer.seconds / reached)
    lines.append("ours, KL after seconds: " + ", ".join(f"{kl:.4f} ({at:.0f})" for at, kl in ours.curve))
    return "\n".join(lines)


def cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baking", description=__doc__)
    parser.add_argument("--trajectories", type=int, default=64, help="questions, with one answer each (64)")
    parser.add_argument("--held-out", type=int, default=24, help="questions to measure on (24)")
    parser.add_argument("--epochs", type=int, help="our passes; absent: a bake's default")
    parser.add_argument("--batch", type=int, help="our micro_batch_size; absent: a bake's default")
    parser.add_argument("--concurrency", type=int, default=256, help="our concurrent answers (256)")
    _models.add_options(parser)
    parser.add_argument("--skip-peer", action="store_true", help="measure ours only")
    parser.add_argument("--json", type=Path, help="file to write the results to as well")
    options = parser.parse_args()
    openmp.set_spin_count()
    model = _models.chosen(options)
    drawn = bank.balanced_order(bank.bank(), seed=1)
    held_out_questions, questions = drawn[: options.held_out], drawn[options.held_out :][: options.trajectories]
    (_, _), (held_out, _), (rows, seconds) = alone(
        roll_out, model, [["Hello"], held_out_questions, questions], options.concurrency
    )
    overrides = {"epochs": options.epochs, "micro_batch_size": options.batch}
    ours = alone(train_ours, model, rows, held_out, overrides, seconds)
    print(
        f"{datetime.date.today()}, {cpu_name()}, {os.cpu_count()} cores, {model.name}, {len(rows)} trajectories of "
        f"{np.mean([len(row.response_ids) for row in rows]):.0f} tokens, {len(held_out)} held out",
        flush=True,
    )
    print(f"ours: {ours}", flush=True)
    if options.skip_peer:
        return
    peer = alone(run_peer, model, questions, held_out)
    print(report(peer, ours))
    if options.json:
        options.json.write_text(json.dumps({"peer": peer._asdict(), "ours": ours._asdict()}, indent=2))


if __name__ == "__main__":
    main()
