"""Measures merges of real bakes: what is left of each version, by strategy, and the limits of the gate.

    python -m benchmarks.merging_quality --out FOLDER [--home FOLDER] [--seeds 42 43 44] [--questions 64]
        [--pairs triggers format persona] [--arms algebra cut distill joint compose]

Pairs of bakes of the embedded model on the base model:

    triggers    two personas, each for its own student prompt
    format      one bare conversation: a pirate, and a way to end each answer
    persona     one bare conversation, contradictory: a pirate and Yoda

Arms: `algebra`, the exact sum; `cut`, the sum at the rank of one bake; `distill`, trained from the sum; `joint`, one
bake on both targets, which a merge can hardly beat; `compose`, the joined prompts. A joint bake is measured by its own
evaluation, as retention of what each version's bake recovered alone; the others by their gate.

What is there already (bakes, merges) is not made again, so a run that was interrupted goes on. Results are appended to
`FOLDER/merging.jsonl`, a line per pair, seed and arm.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks import _models
from benchmarks._servers import Server, gateway
from benchmarks.adapters import NAME

REPO = "merging"
PIRATE = [
    {"role": "system", "content": "You are Captain Redbeard, a pirate. Answer every question as a pirate does."},
    {"role": "user", "content": "What is two plus two?"},
    {"role": "assistant", "content": "Arr, matey! Two and two be four, as sure as the tide comes in."},
    {"role": "user", "content": "How do I bake bread?"},
    {
        "role": "assistant",
        "content": "Ahoy, matey! Ye mix flour, water and salt, and bake it till it be golden.",
    },
]
YODA = [
    {"role": "system", "content": "You are Yoda. Speak as Yoda does."},
    {"role": "user", "content": "What is two plus two?"},
    {"role": "assistant", "content": "Four, it is. Simple, this sum is, yes."},
    {"role": "user", "content": "How do I bake bread?"},
    {"role": "assistant", "content": "Flour and water, mix you must. In the hot oven, golden it becomes. Hmm."},
]
CHEERS = [
    {"role": "system", "content": "Answer in two short sentences, and end every answer with: Stay curious!"},
    {"role": "user", "content": "What is two plus two?"},
    {"role": "assistant", "content": "It is four. You can count it on your fingers. Stay curious!"},
    {"role": "user", "content": "How do I bake bread?"},
    {"role": "assistant", "content": "Mix flour, water and salt. Bake it until it is golden. Stay curious!"},
]
TRIGGERS = {"redbeard": "You are Redbeard.", "master": "You are the Master."}
BAKES: dict[str, tuple[list[dict[str, str]], str]] = {
    "pirate": (PIRATE, ""),
    "yoda": (YODA, ""),
    "cheers": (CHEERS, ""),
    "redbeard": (PIRATE, TRIGGERS["redbeard"]),
    "master": (YODA, TRIGGERS["master"]),
}
"""Name -> the teacher's prompt, and the student's."""
PAIRS = {"triggers": ("redbeard", "master"), "format": ("pirate", "cheers"), "persona": ("pirate", "yoda")}
ARMS = ("algebra", "cut", "distill", "joint", "compose")
RANK = 16
"""Of one bake."""
SETTLED: dict[str, Any] = {"weights": [1.0, 1.0]}
"""Lets contradictory versions be merged too."""


def main() -> None:
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    with gateway(options.out, _models.embedded(options.home), NAME) as server:
        service = Service(server, options)
        for seed in options.seeds:
            for pair in options.pairs:
                for row in service.measured(pair, seed):
                    print(_shown(row), flush=True)
                    with (options.out / "merging.jsonl").open("a") as file:
                        file.write(json.dumps(row) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the service and of the results")
    parser.add_argument("--home", type=Path, default=Path(".bread"), help="folder of the embedded model (.bread)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    return parser.parse_args()


class Service:
    def __init__(self, server: Server, options: argparse.Namespace) -> None:
        self._http = httpx.Client(
            base_url=f"{server.url}/v1/repo", headers={"Authorization": f"Bearer {server.key}"}, timeout=3600
        )
        self._options = options
        self._ask("POST", "", {"repo_name": REPO})

    def measured(self, pair: str, seed: int) -> Iterator[dict[str, Any]]:
        names = PAIRS[pair]
        bakes = [self._baked(name, seed) for name in names]
        asked = {"into": bakes[0]["bake_name"], "others": [bakes[1]["bake_name"]], "dry_run": True}
        conflict = self._ask("POST", f"/{REPO}/merges", asked)["report"]["conflict"]
        start = {"pair": pair, "seed": seed, "conflict": round(conflict["share"], 3), "moved": conflict["moved"]}
        for arm in self._options.arms:
            yield {**start, "arm": arm, **getattr(self, f"_{arm}")(pair, seed, bakes)}

    def _algebra(self, pair: str, seed: int, bakes: list[dict[str, Any]]) -> dict[str, Any]:
        return self._merged(pair, seed, bakes, "algebra", SETTLED)

    def _cut(self, pair: str, seed: int, bakes: list[dict[str, Any]]) -> dict[str, Any]:
        return self._merged(pair, seed, bakes, "algebra", {**SETTLED, "rank": RANK}, "cut")

    def _distill(self, pair: str, seed: int, bakes: list[dict[str, Any]]) -> dict[str, Any]:
        return self._merged(pair, seed, bakes, "distill", SETTLED)

    def _compose(self, pair: str, seed: int, bakes: list[dict[str, Any]]) -> dict[str, Any]:
        return self._merged(pair, seed, bakes, "compose", {})

    def _joint(self, pair: str, seed: int, bakes: list[dict[str, Any]]) -> dict[str, Any]:
        begin = time.monotonic()
        status = self._bake(f"{pair}-{seed}-joint", seed, list(PAIRS[pair]))
        alone = {name: _recovered(bake, name) for name, bake in zip(PAIRS[pair], bakes, strict=True)}
        kept = {name: round(_recovered(status, name) / alone[name], 3) for name in PAIRS[pair]}
        return {
            "retention": kept,
            "drift": round(status["loss"]["drift"], 4),
            "steps": status["checkpoint"],
            "seconds": round(time.monotonic() - begin),
        }

    def _merged(
        self,
        pair: str,
        seed: int,
        bakes: list[dict[str, Any]],
        strategy: str,
        changes: dict[str, Any],
        arm: str | None = None,
    ) -> dict[str, Any]:
        begin = time.monotonic()
        body = {
            "into": bakes[0]["bake_name"],
            "others": [bakes[1]["bake_name"]],
            "name": f"{pair}-{seed}-{arm or strategy}",
            "strategy": strategy,
            "overrides": {"seed": seed},
            **changes,
        }
        asked = self._ask("POST", f"/{REPO}/merges", body)
        status = self._ended(asked["bake"])
        report = status["merge"]
        return {
            "retention": {label: round(each["retention"], 3) for label, each in report["retention"].items()},
            "low": {label: round(each["low"], 3) for label, each in report["retention"].items()},
            "agreement_lost": {
                label: round(each["agreement_own"] - each["agreement"], 3)
                for label, each in report["retention"].items()
            },
            "drift": round(report["drift"], 4),
            "drift_limit": round(report["drift_limit"], 4),
            "energy_lost": round(report["energy_lost"], 5) if report.get("energy_lost") is not None else None,
            "verdict": report["verdict"],
            "steps": status["checkpoint"],
            "seconds": round(time.monotonic() - begin),
        }

    def _baked(self, name: str, seed: int) -> dict[str, Any]:
        """The bake of one prompt, with its target."""
        messages, student = BAKES[name]
        prompts = {name: messages}
        if student:
            prompts[f"{name}-student"] = [{"role": "system", "content": student}]
        for prompt, content in prompts.items():
            self._ask("PUT", f"/{REPO}/prompts/{prompt}", {"messages": content})
        overrides = {
            "teacher_prompt": name,
            "student_prompt": f"{name}-student" if student else "",
            "max_tokens": 48,
            "generators": [{"type": "persona", "numq": self._options.questions}],
        }
        self._ask("PUT", f"/{REPO}/targets/{name}", {"template": "default", "overrides": overrides})
        for stage in ("stim", "rollout"):
            self._ask("POST", f"/{REPO}/targets/{name}/{stage}")
        return self._bake(f"{name}-{seed}", seed, [name])

    def _bake(self, bake: str, seed: int, targets: list[str]) -> dict[str, Any]:
        overrides = {
            "datasets": [{"target": target} for target in targets],
            "seed": seed,
            "epochs": self._options.epochs,
        }
        self._ask("PUT", f"/{REPO}/bakes/{bake}", {"template": "default", "overrides": overrides})
        self._ask("POST", f"/{REPO}/bakes/{bake}")
        return self._ended(bake)

    def _ended(self, bake: str) -> dict[str, Any]:
        while True:
            status: dict[str, Any] = self._ask("GET", f"/{REPO}/bakes/{bake}")
            if status["status"] == "failed":
                raise RuntimeError(f"{bake}: {status['error']}")
            if status["status"] == "complete":
                return status
            time.sleep(1)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._http.request(method, path, json=body)
        if not answer.is_success:
            raise RuntimeError(f"{method} {path}: {answer.text}")
        return answer.json()


def _recovered(status: dict[str, Any], target: str) -> float:
    change = status["eval_kl_by_target"][target]
    return float(1 - change["after"] / change["before"])


def _shown(row: dict[str, Any]) -> str:
    kept = "  ".join(f"{label} {value:.2f}" for label, value in row["retention"].items())
    verdict = row.get("verdict", "")
    return (
        f"{row['pair']:9} {row['seed']}  {row['arm']:8} {kept:40} drift {row['drift']:.3f}"
        f"  conflict {row['conflict']:.2f}  {row['steps']:4} steps  {row['seconds']:4} s  {verdict}"
    )


if __name__ == "__main__":
    main()
