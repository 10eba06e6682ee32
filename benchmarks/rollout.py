"""Compares a rollout that keeps the teacher's likeliest tokens with one that keeps none.

    python -m benchmarks.rollout [--questions 96] [--rounds 3]

The prompted teacher answers questions of the persona bank, through one engine. Rounds alternate between no
log-probabilities and the default K. Each round has new questions, and both ways answer the same ones.
"""

import argparse
import asyncio
import os
import statistics
from pathlib import Path

from baker.questions import bank
from benchmarks import _models
from benchmarks.baking import TOP_LOGPROBS, answers_of, engine_of

WAYS = (0, TOP_LOGPROBS)


async def measure(model: Path, groups: list[list[str]], concurrency: int) -> dict[int, list[float]]:
    """Tokens per second of each K, one value per round."""
    speeds: dict[int, list[float]] = {k: [] for k in WAYS}
    async with engine_of(model) as engine:
        await answers_of(engine, groups[0], concurrency)  # warm-up
        for number, questions in enumerate(groups[1:]):
            for k in WAYS[:: 1 if number % 2 else -1]:
                rows, seconds = await answers_of(engine, questions, concurrency, top_logprobs=k)
                speeds[k].append(sum(len(row.response_ids) for row in rows) / seconds)
                print(f"round {number + 1}, K = {k}: {speeds[k][-1]:.0f} tokens/s", flush=True)
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=96, help="questions per round (96)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=64, help="concurrent answers (64)")
    _models.add_options(parser)
    options = parser.parse_args()
    model = _models.chosen(options)
    drawn, size = bank.balanced_order(bank.bank(), seed=1), options.questions
    groups = [drawn[at : at + size] for at in range(0, size * (options.rounds + 1), size)]
    speeds = asyncio.run(measure(model, groups, options.concurrency))
    none, kept = (statistics.median(speeds[k]) for k in WAYS)
    print(f"medians, {os.cpu_count()} cores: {none:.0f} tokens/s without, {kept:.0f} with K = {WAYS[1]}")
    print(f"rounds' ratios: {', '.join(f'{b / a:.2f}' for a, b in zip(*speeds.values(), strict=True))}")


if __name__ == "__main__":
    main()
