"""Measures how much of a prompt a bake with default settings recovers, on questions that it never saw.

    python -m benchmarks.quality [--trajectories 256 768] [--prompt yoda] [--json results.json]

The prompted teacher answers questions of the persona bank, once each. Bakes of the first 256 and of all 768 answers are
then measured on 32 other questions with two answers each. Recovered is 1 - KL after / KL before, over the whole
vocabulary, computed by transformers from the two contexts, not from the tokens that the rollout kept (`baking.Meter`).
"""

import argparse
import datetime
import json
import os
from pathlib import Path
from typing import Any

from baker.questions import bank
from baker.training.devices import openmp
from benchmarks import _models
from benchmarks.baking import YODA, Measured, alone, cpu_name, roll_out, train_ours

PROMPTS = {"yoda": YODA, "gavin": "You are Gavin Belson, the founder of Hooli and its CEO"}
HELD_OUT = 32
ANSWERS = 2
"""Number of answers to each held-out question."""


def line(count: int, run: Measured) -> str:
    after = run.curve[-1][1]
    return (
        f"{count} trajectories of {run.rollout_tokens / count:.0f} tokens: KL {run.kl_before:.4f} -> {after:.4f}, "
        f"recovered {1 - after / run.kl_before:.3f}; {run.train_seconds:.0f} s of training at "
        f"{run.train_tokens / run.train_seconds:.0f} tokens/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument(
        "--trajectories", type=int, nargs="+", default=[256, 768], help="numbers of answers, one bake each (256 768)"
    )
    parser.add_argument("--prompt", choices=PROMPTS, default="yoda", help="the teacher's prompt (yoda)")
    parser.add_argument(
        "--overrides", type=json.loads, default={}, help="overrides of the bake, as JSON; absent: all defaults"
    )
    parser.add_argument("--concurrency", type=int, default=64, help="concurrent answers (64)")
    _models.add_options(parser)
    parser.add_argument("--json", type=Path, help="file to write the results to as well")
    options = parser.parse_args()
    openmp.set_spin_count()
    model = _models.chosen(options)
    drawn = bank.balanced_order(bank.bank(), seed=1)
    unseen, questions = drawn[:HELD_OUT], drawn[HELD_OUT:][: max(options.trajectories)]
    (held_out, _), (rows, seconds) = alone(
        roll_out, model, [unseen * ANSWERS, questions], options.concurrency, PROMPTS[options.prompt]
    )
    print(f"{datetime.date.today()}, {cpu_name()}, {os.cpu_count()} cores, {model.name}, {options.prompt}", flush=True)
    results: dict[str, Any] = {}
    for count in options.trajectories:
        share = seconds * count / len(rows)
        run = alone(train_ours, model, rows[:count], held_out, options.overrides, share, 1)
        print(line(count, run), flush=True)
        results[str(count)] = run._asdict()
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
