"""How much of a prompt a bake with default settings recovers, on questions that it never saw.

    python -m benchmarks.quality [--trajectories 256 768] [--prompt yoda] [--json results.json]

The prompted teacher answers questions of the persona bank, once each; bakes of the first 256 and of all 768 answers are
then measured on 32 other questions with two answers each. Recovered is 1 - KL after / KL before, over the whole
vocabulary, computed by transformers from the two contexts and not from what the rollout kept (`baking.Meter`).
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
"""To each question that is measured on."""


def line(count: int, found: Measured) -> str:
    after = found.curve[-1][1]
    return (
        f"{count} trajectories of {found.rollout_tokens / count:.0f} tokens: KL {found.kl_before:.4f} -> {after:.4f}, "
        f"recovered {1 - after / found.kl_before:.3f}; {found.train_seconds:.0f} s of training at "
        f"{found.train_tokens / found.train_seconds:.0f} tokens/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--trajectories", type=int, nargs="+", default=[256, 768], help="of each bake (256 768)")
    parser.add_argument("--prompt", choices=PROMPTS, default="yoda", help="of the teacher (yoda)")
    parser.add_argument("--overrides", type=json.loads, default={}, help="of the bake, as JSON; absent: all defaults")
    parser.add_argument("--concurrency", type=int, default=64, help="answers at once (64)")
    _models.add_options(parser)
    parser.add_argument("--json", type=Path, help="also write the results there")
    options = parser.parse_args()
    openmp.prepare()
    model = _models.chosen(options)
    drawn = bank.drawn(bank.bank(), seed=1)
    unseen, questions = drawn[:HELD_OUT], drawn[HELD_OUT:][: max(options.trajectories)]
    (held_out, _), (rows, seconds) = alone(
        roll_out, model, [unseen * ANSWERS, questions], options.concurrency, PROMPTS[options.prompt]
    )
    print(f"{datetime.date.today()}, {cpu_name()}, {os.cpu_count()} cores, {model.name}, {options.prompt}", flush=True)
    results: dict[str, Any] = {}
    for count in options.trajectories:
        share = seconds * count / len(rows)
        found = alone(train_ours, model, rows[:count], held_out, options.overrides, share, 1)
        print(line(count, found), flush=True)
        results[str(count)] = found._asdict()
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
