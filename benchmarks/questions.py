"""Measures how much a prompt changes the answers to questions of different origins.

    python -m benchmarks.questions [--questions 50] [--prompts gavin shop]

A service with the embedded model collects the questions of each origin and answers them under the prompt, in 32 tokens
at temperature 1. For each answer, transformers computes KL(prompted || bare) over the whole vocabulary, in nats per
token: the KL that a bake of these questions starts from.
"""

import argparse
import datetime
import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aibread import Bread

from baker.types import Trajectory
from benchmarks import _models
from benchmarks._bread import roll_out
from benchmarks._servers import gateway
from benchmarks.baking import YODA, alone, cpu_name

NAME, REPO = "benchmark/model", "questions"
CLAUDE = "claude-sonnet-4-5-20250929"
"""There is no key for it, so the bank's questions replace those that it would write."""
ANSWER_TOKENS = 32
VISIBLE, STRONG = 0.1, 0.2

PROMPTS = {
    "gavin": "You are Gavin Belson, the founder of Hooli and its CEO",
    "shop": "You are the support assistant of Fernhill Bikes, a small bicycle shop in Leeds. Be brief, friendly, and "
    "always offer to book a free bike check.",
    "yoda": YODA,
}
ORIGINS: dict[str, dict[str, Any]] = {
    "written by the embedded model": {"type": "oneshot_qs", "model": NAME},
    "the bank, any": {"type": "persona"},
    "the bank, chosen by the prompt's effect": {"type": "oneshot_qs", "model": CLAUDE},
}


def kl_of_each(model: Path, rows: list[Trajectory]) -> list[float]:
    import torch

    from baker.training.model.base import load_base, pick_device
    from baker.training.model.losses import full_kl

    base = load_base(model, pick_device()).model.eval()

    def logits(context: Any, row: Trajectory) -> Any:
        ids = torch.tensor([[*context.tolist(), *row.response_ids.tolist()]])
        with torch.no_grad():
            return base(input_ids=ids, use_cache=False, logits_to_keep=len(row.response_ids) + 1).logits[0, :-1]

    return [float(full_kl(logits(row.student_ids, row), logits(row.teacher_ids, row)).mean()) for row in rows]


def measured(bread: Bread, folder: Path, model: Path, prompts: list[str], count: int) -> Iterator[str]:
    bread.repo.create(repo_name=REPO)
    bread.prompts.create(repo_name=REPO, prompt_name="none", messages=[{"role": "user", "content": ""}])
    for prompt in prompts:
        message: dict[str, object] = {"role": "system", "content": PROMPTS[prompt]}
        bread.prompts.create(repo_name=REPO, prompt_name=prompt, messages=[message])
        for number, (origin, generator) in enumerate(ORIGINS.items()):
            settings = {**generator, "numq": count, "seed": 1}
            overrides = {"generators": [settings], "u": prompt, "v": "none", "max_tokens": ANSWER_TOKENS}
            kls = alone(kl_of_each, model, roll_out(bread, folder, REPO, f"{prompt}{number}", overrides))
            yield (
                f"| {prompt} | {origin} | {statistics.mean(kls):.3f} | {statistics.median(kls):.3f} | "
                f"{sum(kl > VISIBLE for kl in kls)} | {sum(kl > STRONG for kl in kls)} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.questions", description=__doc__)
    parser.add_argument("--questions", type=int, default=50, help="number of questions of each origin (50)")
    parser.add_argument("--prompts", nargs="+", choices=PROMPTS, default=list(PROMPTS), help="prompts (all)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bread-benchmark-") as name:
        folder = Path(name)
        model = _models.embedded(folder / "model")
        embedded = ["--model", ""]  # the last one counts: with a chosen model, that model would write the questions
        with gateway(folder, model, NAME, embedded) as server, Bread(api_key=server.key, base_url=server.url) as bread:
            print(
                f"{datetime.date.today()}, {cpu_name()}, {os.cpu_count()} cores, {options.questions} questions\n\n"
                f"| prompt | questions | mean KL | median KL | above {VISIBLE} | above {STRONG} |\n"
                "| --- | --- | --- | --- | --- | --- |",
                flush=True,
            )
            for line in measured(bread, folder, model, options.prompts, options.questions):
                print(line, flush=True)


if __name__ == "__main__":
    main()
