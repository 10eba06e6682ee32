"""Measures the history of weights: reading 1,000 versions, comparing two, and what a comparison costs live traffic.

    python -m benchmarks.history [--versions 1000] [--rows 8 32 64] [--streams 4]

The home is filled before the service starts: a chain of bakes, each of which continues the one before, and two adapters
of rank 16 with random weights and held-out rows of 48 tokens. What an adapter has learned does not change the time.

Beside each time is the CPU time of all the service's processes, which other work on the machine hardly changes: a
comparison computes on all cores.

Each diff is a new one (`max_rows` is part of what it depends on), with the neutral questions answered before. Live
traffic are streams of chat with the base model; windows of the same length alternate between idle and beside a diff.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
from transformers import AutoTokenizer

from baker.adapters.base_fingerprint import base_fingerprint
from baker.config.bake import BakeConfig
from baker.model_names import BaseModelNames
from baker.questions import bank
from baker.repos import bakes, repos
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.home import DATA, SPEC, checkpoint_folder, job_folder
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.trajectories.files import save_trajectory
from baker.types import Checkpoint, Trajectory
from baker.versions import checkpoints
from benchmarks import _load, _models
from benchmarks._servers import Server, gateway
from benchmarks.adapters import NAME, post

LONG, PAIR = "long", "pair"
"""Repos: of the chain of versions, and of the two that are compared."""
ANSWER_TOKENS = 48
READS = 20


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="bread-benchmark-") as name:
        folder = Path(name)
        model = _models.embedded(options.home)
        bytes_each = _fill(folder / ".bread", model, options)
        print(f"{options.versions} versions, commits and their index: {bytes_each:.0f} bytes each in the database")
        with gateway(folder, model, NAME, ["--kv-cache-gib", "0.5"]) as server:
            _read(server, options.versions)
            _compare(server, options)
            _beside_traffic(server, options)


def _fill(home: Path, model: Path, options: argparse.Namespace) -> float:
    """Returns: bytes of the database that a commit takes."""
    home.mkdir(parents=True)
    catalog = Catalog(home, BaseModelNames(NAME, stands_in=False), base_fingerprint(model))
    repos.put(catalog, "admin", LONG, None)
    parent = None
    for number in range(options.versions):
        parent = _version(catalog, LONG, f"bake{number}", parent)
    used = "select sum(pgsize) from dbstat where name in ('commits', 'sqlite_autoindex_commits_1')"
    size = int(next(iter(catalog.store.rows.all(used)[0].values())))
    repos.put(catalog, "admin", PAIR, None)
    rows = _rows(model, max(options.rows))
    for seed, bake in enumerate("ab"):
        version = _version(catalog, PAIR, bake, None)
        _models.adapter(version.path, model, seed)
        _hold_out(job_folder(home, version.job_id), bake, rows[seed::2])
    catalog.close()
    versions: int = options.versions
    return size / versions


def _version(catalog: Catalog, repo: str, bake: str, parent: Checkpoint | None) -> Checkpoint:
    """A finished bake of one checkpoint."""
    bakes.put(catalog, "admin", repo, bake, "default", {}, may_change=False)
    origin = None if parent is None else parent.name
    inputs, config = BakeInputs({}, origin), BakeConfig()
    job = catalog.store.jobs.add(BakeJob(user="admin", repo=repo, name=bake, config=config, inputs=inputs))
    checkpoint = Checkpoint(
        user="admin",
        repo=repo,
        bake=bake,
        step=100,
        path=checkpoint_folder(job_folder(catalog.store.home, job.id), 100),
        sha256=f"{job.id:064x}",
        created=int(time.time()),
        job_id=job.id,
        parent=origin,
    )
    return checkpoints.keep(catalog, job, [checkpoint], [checkpoint], state=JobState.COMPLETE).checkpoints[0]


def _rows(model: Path, count: int) -> list[Trajectory]:
    """Questions of the bank, with other questions as answers."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = bank.balanced_order(bank.bank(), seed=0)
    filler = np.resize(tokenizer.encode(" ".join(texts), add_special_tokens=False), count * ANSWER_TOKENS)
    rows = []
    for number, text in enumerate(texts[:count]):
        chat = [{"role": "user", "content": text}]
        context = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        answer = filler[number * ANSWER_TOKENS :][:ANSWER_TOKENS].astype(np.int32)
        none_ids, none = np.zeros((ANSWER_TOKENS, 1), np.int32), np.zeros((ANSWER_TOKENS, 1), np.float32)
        ids = np.array(context, np.int32)
        rows.append(Trajectory(ids, ids, answer, none_ids, none, text))
    return rows


def _hold_out(folder: Path, target: str, rows: Sequence[Trajectory]) -> None:
    (folder / DATA / target).mkdir(parents=True)
    files = [folder / DATA / target / f"{number:06d}-0000.safetensors" for number in range(len(rows))]
    for file, row in zip(files, rows, strict=True):
        save_trajectory(file, row)
    (folder / SPEC).write_text(json.dumps({"held_out": {target: [str(file) for file in files]}}))


def _read(server: Server, versions: int) -> None:
    for path in (f"commits?limit={min(versions, 1000)}", "commits", "tree", "refs", "status"):
        costs = [_cost(server, partial(_get, server, f"/v1/repo/{LONG}/{path}")) for _ in range(READS)]
        seconds, cpu = (statistics.median(values) for values in zip(*costs, strict=True))
        print(f"GET {path}: {1000 * seconds:.0f} ms, {1000 * cpu:.0f} ms of CPU", flush=True)


class Cost(NamedTuple):
    seconds: float
    cpu_seconds: float
    """Of the service and its child processes."""

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, {self.cpu_seconds:.2f} s of CPU"


def _cost(server: Server, work: Callable[[], object]) -> Cost:
    service = psutil.Process(server.process.pid)
    processes = [service, *service.children(recursive=True)]

    def cpu() -> float:
        return float(sum(sum(process.cpu_times()[:2]) for process in processes))

    began, before = time.perf_counter(), cpu()
    work()
    return Cost(time.perf_counter() - began, cpu() - before)


def _get(server: Server, path: str) -> bytes:
    request = urllib.request.Request(f"{server.url}{path}", headers={"Authorization": f"Bearer {server.key}"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        content: bytes = answer.read()
    return content


def _compare(server: Server, options: argparse.Namespace) -> None:
    def cost(verb: str, **body: Any) -> Cost:
        return _cost(server, lambda: post(server, f"/v1/repo/{PAIR}/{verb}", body))

    def diff(rows: int, part: str = "stat") -> Cost:
        return cost("diff", a="a", b="b", include=[part], max_rows=rows)

    cost("diff", a="base", b="a", include=["stat"], max_rows=1)  # warm-up, and the base model's neutral answers
    print(f"diff --stat, 1 row and the neutral questions: {diff(1)}", flush=True)
    for rows in options.rows:
        print(f"diff --stat, {rows} more rows: {diff(rows)}; again: {diff(rows)}", flush=True)
    print(f"diff --weights: {diff(1, 'weights')}", flush=True)
    print(f"diff --patch, 5 questions: {diff(options.rows[0], 'patch')}", flush=True)
    who = {"question": "Who are you?"}
    print(f"blame of 9 words: {cost('blame', model='b', answer='I am what you made of me, and no more.', **who)}")
    print(f"bisect of 2 versions by a text: {cost('bisect', good='base', bad='b', expect='I am what you made', **who)}")
    print(f"bisect of 2 versions by their answers: {cost('bisect', good='base', bad='b', **who)}", flush=True)


class Window(NamedTuple):
    tokens_per_second: float
    gaps_ms: list[float]


def _beside_traffic(server: Server, options: argparse.Namespace) -> None:
    _window(server, options)  # warm-up
    idle, beside = [], []
    for number in range(options.rounds):
        idle.append(_window(server, options))
        is_over = threading.Event()
        thread = threading.Thread(target=_diffs_until, args=(server, is_over, number, options))
        thread.start()
        beside.append(_window(server, options))
        is_over.set()
        thread.join()
    print(f"\n{options.streams} streams | tokens/s | median gap ms | 95 % | 99 %")
    for name, windows in (("alone", idle), ("beside diffs", beside)):
        gaps = [gap for window in windows for gap in window.gaps_ms]
        speed = statistics.median(window.tokens_per_second for window in windows)
        shares = " | ".join(f"{np.quantile(gaps, share):.0f}" for share in (0.5, 0.95, 0.99))
        print(f"{name} | {speed:.0f} | {shares}", flush=True)


def _diffs_until(server: Server, is_over: threading.Event, number: int, options: argparse.Namespace) -> None:
    """New diffs, one after the other: each on other questions. Args: number: of the window."""
    texts, at = bank.balanced_order(bank.bank(), seed=1), 0
    while not is_over.is_set():
        questions = [f"{text} ({number})" for text in texts[at : at + 4]]
        at += 4
        body: dict[str, Any] = {"a": "a", "b": "b", "include": ["stat"], "questions": questions}
        post(server, f"/v1/repo/{PAIR}/diff", body)


def _window(server: Server, options: argparse.Namespace) -> Window:
    bodies = [
        _load.chat(NAME, f"{number} Tell me a story about bread.", max_tokens=options.tokens)
        for number in range(2 * options.streams)
    ]
    load = _load.run(server, bodies, streams=options.streams)
    if load.failed:
        raise RuntimeError(load.error)
    return Window(load.chunks / load.seconds, [1000 * gap for gap in load.gap_seconds])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".bread"), help="folder of the embedded model (.bread)")
    parser.add_argument("--versions", type=int, default=1000)
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 32, 64])
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64, help="of each streamed answer (64)")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
