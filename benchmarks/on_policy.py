"""Compares on-policy rounds with the same number of extra steps on the teacher's answers.

    python -m benchmarks.on_policy [--questions 128] [--json results.json]

One service runs the real stages: questions are answered once under the Yoda prompt, then baked with and without rounds
in which the student answers and the teacher judges. Each bake is measured on 32 unseen questions with the KL from the
prompted teacher to the baked model over the whole vocabulary, in nats per token: along the teacher's answers (two per
question), and along the baked model's own answers (also two), which it gives when it serves.
"""

import argparse
import datetime
import json
import os
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from aibread import Bread

from baker.questions import bank
from baker.types import Trajectory
from benchmarks import _models
from benchmarks._bread import POLL_SECONDS, roll_out
from benchmarks._servers import Server, gateway
from benchmarks.baking import MAX_TOKENS, YODA, Meter, alone, cpu_name

NAME, REPO = "benchmark/model", "on-policy"
HELD_OUT = 32
ANSWERS = 2


class Measured(NamedTuple):
    """KL in nats per token."""

    on_teachers: float
    on_own: float


def bakes(epochs: int) -> dict[str, dict[str, Any]]:
    """Overrides of each bake. Args: epochs: passes of the first bake; the others make up to two passes' steps more."""

    def rounds(number: int, share: float) -> dict[str, Any]:
        return {"epochs": epochs, "data": {"on_policy": {"rounds": number, "share": share}}}

    return {
        "taught": {"epochs": epochs},
        "taught, one pass more": {"epochs": epochs + 1},
        "taught, two passes more": {"epochs": epochs + 2},
        "one round, own answers alone": rounds(1, 1.0),
        "two rounds, own answers alone": rounds(2, 1.0),
        "one round, half of it the teacher's": rounds(1, 0.5),
    }


def prepare(bread: Bread, folder: Path, questions: list[str], unseen: list[str]) -> list[Trajectory]:
    """Answer both sets of questions. Returns: the trajectories of `unseen`."""
    bread.repo.create(repo_name=REPO)
    bread.prompts.create(repo_name=REPO, prompt_name="u", messages=[{"role": "system", "content": YODA}])
    bread.prompts.create(repo_name=REPO, prompt_name="v", messages=[{"role": "user", "content": ""}])
    for target, asked, answers in (("train", questions, 1), ("unseen", unseen, ANSWERS)):
        overrides = {
            "generators": [{"type": "hardcoded", "numq": len(asked), "questions": asked}],
            "u": "u",
            "v": "v",
            "max_tokens": MAX_TOKENS,
            "num_traj_per_stimulus": answers,
            "max_concurrency": 128,
        }
        rows = roll_out(bread, folder, REPO, target, overrides)
    return rows


def bake(bread: Bread, folder: Path, name: str, overrides: dict[str, Any]) -> tuple[Path, float]:
    """Run a bake. Returns: the adapter's folder, and the seconds that the bake took."""
    of_bake: dict[str, Any] = {"repo_name": REPO, "bake_name": name}
    datasets: Any = {"datasets": [{"target": "train", "weight": 1.0}], **overrides}
    bread.bakes.create(**of_bake, template="default", overrides=datasets)
    begin = time.monotonic()
    bread.bakes.run(**of_bake, poll=False)
    while (status := bread.bakes.get(**of_bake)).status != "complete":
        assert status.status != "failed", status
        time.sleep(POLL_SECONDS)
    seconds = time.monotonic() - begin
    job = max(folder.glob(".bread/jobs/*/result.json"), key=lambda path: int(path.parent.name)).parent
    return max(job.glob("checkpoints/*"), key=lambda path: int(path.name)), seconds


def own_answers(server: Server, name: str, held_out: list[Trajectory]) -> list[Trajectory]:
    """The baked model's answers to the same questions."""
    with ThreadPoolExecutor(len(held_out)) as clients:
        return list(clients.map(partial(_own_answer, server, name), held_out, range(len(held_out))))


def _own_answer(server: Server, name: str, row: Trajectory, seed: int) -> Trajectory:
    body = {
        "model": f"{REPO}/{name}",
        "prompt": row.student_ids.tolist(),
        "max_tokens": MAX_TOKENS,
        "seed": seed,
        "return_token_ids": True,
    }
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}/v1/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as reply:
        ids = json.load(reply)["choices"][0]["token_ids"]
    return msgspec.structs.replace(row, response_ids=np.asarray(ids, np.int32))


def measure(model: Path, adapter: Path, held_out: list[Trajectory], own: list[Trajectory]) -> Measured:
    from baker.training.model import lora
    from baker.training.model.base import load_base, pick_device

    base = load_base(model, pick_device()).model
    config = json.loads((adapter / "adapter_config.json").read_text())
    baked = lora.attach(base, rank=config["r"], alpha=config["lora_alpha"], parent=adapter).model.eval()
    return Measured(Meter(baked, held_out).kl(), Meter(baked, own).kl())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.on_policy", description=__doc__)
    parser.add_argument("--questions", type=int, default=128, help="training questions, with one answer each (128)")
    parser.add_argument("--epochs", type=int, default=4, help="passes over the teacher's answers (4)")
    parser.add_argument("--json", type=Path, help="file to write the results to as well")
    _models.add_options(parser)
    options = parser.parse_args()
    model = _models.chosen(options)
    drawn = bank.balanced_order(bank.bank(), seed=1)
    unseen, questions = drawn[:HELD_OUT], drawn[HELD_OUT:][: options.questions]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bread-benchmark-") as name:
        folder = Path(name)
        with gateway(folder, model, NAME) as server, Bread(api_key=server.key, base_url=server.url) as bread:
            held_out = prepare(bread, folder, questions, unseen)
            print(
                f"{datetime.date.today()}, {cpu_name()}, {os.cpu_count()} cores, {model.name}, {len(questions)} "
                f"answers, measured on {len(held_out)}\n\n| | KL on the teacher's answers | on its own | seconds |\n"
                "| --- | --- | --- | --- |",
                flush=True,
            )
            for number, (label, overrides) in enumerate(bakes(options.epochs).items()):
                adapter, seconds = bake(bread, folder, f"bake{number}", overrides)
                own = own_answers(server, f"bake{number}", held_out)
                kl = alone(measure, model, adapter, held_out, own)
                results[label] = {**kl._asdict(), "seconds": seconds}
                print(f"| {label} | {kl.on_teachers:.4f} | {kl.on_own:.4f} | {seconds:.0f} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
