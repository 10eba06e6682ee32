"""Measures errors, cold and warm time to the first token, throughput and memory with many adapters, ours and stock.

    python -m benchmarks.adapters                                  # the embedded model, 1,000 adapters
    python -m benchmarks.adapters --model tiny --adapters 5000

Both servers have the same engine arguments, 8 slots and 32 places in host memory, and get the same traffic in
alternating rounds while the other one is stopped. There are 8 different adapters of rank 16 on all linear layers, each
under many names, folders and ids. Their files are hard links, so they stay in the page cache: a disk would add its own
time.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.storage.home import IMPORT_PREFIX, jobs_folder
from baker.versions import imports
from benchmarks import _load, _models
from benchmarks._servers import Server, gateway, stock

NAME = "benchmark/model"
DIFFERENT = 8
PROBES = 16
"""Number of cold and of warm requests per round."""
STREAMS = 16


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="bread-benchmark-") as name, ExitStack() as stack:
        folder = Path(name)
        model = _models.tiny(folder / "tiny") if options.model == "tiny" else _models.embedded(options.home)
        folders = make_adapters(folder / "adapters", model, options.adapters)
        began = time.monotonic()
        names = register_ours(folder / "ours" / ".bread", folders)
        print(f"{options.model} model, {len(names)} adapters; writing their rows took {time.monotonic() - began:.1f} s")
        ours = stack.enter_context(gateway(folder / "ours", model, NAME, ["--kv-cache-gib", "0.25"]))
        print(f"ours: ready after {ours.seconds_to_ready:.1f} s; lists its models in {_listing_ms(ours):.0f} ms")
        with ours.paused():
            theirs = stack.enter_context(
                stock(
                    folder / "stock",
                    model,
                    NAME,
                    ["--kv-cache-memory-bytes", str(1 << 28)],
                    {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
                )
            )
            began = time.monotonic()
            for bake, path in zip(names, folders, strict=True):
                post(theirs, "/v1/load_lora_adapter", {"lora_name": bake, "lora_path": str(path)})
            print(
                f"stock: ready after {theirs.seconds_to_ready:.1f} s; {len(names)} loads took "
                f"{time.monotonic() - began:.1f} s; lists its models in {_listing_ms(theirs):.0f} ms"
            )
        print(f"\n{options.rounds} rounds, {STREAMS} streams, {options.tokens} tokens per answer\n")
        rounds = [
            _round(number, [(ours, theirs), (theirs, ours)][number % 2], names, options)
            for number in range(options.rounds + 1)
        ]
        _show(rounds[1:])


class Measured(NamedTuple):
    cold_ms: float
    warm_ms: float
    round_robin: float
    zipf: float
    failed: float
    memory_mib: float


NUMBERS = ("cold TTFT ms", "warm TTFT ms", "round-robin requests/s", "zipf requests/s", "failed requests", "memory MiB")


def _round(number: int, order: Sequence[Server], names: list[str], options: argparse.Namespace) -> dict[str, Measured]:
    results = {}
    for server, other in (order, order[::-1]):
        with other.paused():
            results[server.name] = _measure(server, number, names, options)
    return results


def _measure(server: Server, number: int, names: list[str], options: argparse.Namespace) -> Measured:
    chance = random.Random(number)
    asked = iter(range(1 << 30))

    def body(model: str) -> dict[str, Any]:
        return _load.chat(model, f"{number}.{next(asked)} Tell me a story about bread.", max_tokens=options.tokens)

    def traffic(pick: Callable[[int], str], count: int, streams: int) -> _load.Load:
        return _load.run(server, [body(pick(index)) for index in range(count)], streams=streams)

    start = 101 * number
    pairs = [names[(start + index // 2) % len(names)] for index in range(2 * PROBES)]
    alone = traffic(lambda index: pairs[index], len(pairs), 1)
    weights = [1 / (rank + 1) for rank in range(len(names))]
    popular = chance.choices(names, weights, k=options.requests)
    turns = traffic(lambda index: names[(start + PROBES + index) % len(names)], options.requests, STREAMS)
    zipf = traffic(lambda index: popular[index], options.requests, STREAMS)
    return Measured(
        cold_ms=1000 * statistics.median(alone.first_chunk_seconds[0::2]),
        warm_ms=1000 * statistics.median(alone.first_chunk_seconds[1::2]),
        round_robin=turns.requests_per_second,
        zipf=zipf.requests_per_second,
        failed=alone.failed + turns.failed + zipf.failed,
        memory_mib=_memory_mib(server),
    )


def _memory_mib(server: Server) -> float:
    """Memory of all its processes; shared pages count once."""
    process = psutil.Process(server.process.pid)
    shares: list[int] = [each.memory_full_info().pss for each in [process, *process.children(recursive=True)]]
    return sum(shares) / 2**20


def _show(rounds: list[dict[str, Measured]]) -> None:
    print("| | ours | stock | ours / stock |\n| --- | --- | --- | --- |")
    for place, label in enumerate(NUMBERS):
        pairs = [(each["ours"][place], each["stock"][place]) for each in rounds]
        ours, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratios = [own / stock for own, stock in pairs if stock]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})" if ratios else "-"
        print(f"| {label} | {ours:.1f} | {theirs:.1f} | {ratio} |")
    for name in ("ours", "stock"):
        print(f"memory of {name} after each round: {', '.join(f'{each[name].memory_mib:.0f}' for each in rounds)} MiB")


def make_adapters(folder: Path, model: Path, count: int) -> list[Path]:
    originals = [_models.adapter(folder / f"original{seed}", model, seed) for seed in range(DIFFERENT)]
    folders = []
    for number in range(count):
        copy = folder / f"a{number:05d}"
        copy.mkdir()
        for file in originals[number % DIFFERENT].iterdir():
            os.link(file, copy / file.name)
        folders.append(copy)
    return folders


def register_ours(home: Path, folders: list[Path]) -> list[str]:
    """Register each adapter as an imported bake, as /v1/load_lora_adapter does, but don't copy it. Returns: names."""
    home.mkdir(parents=True)
    catalog = Catalog(home, BaseModelNames(served=NAME, stands_in=False))
    names = []
    for path in folders:
        files = jobs_folder(home) / f"{IMPORT_PREFIX}{path.name}"
        files.mkdir(parents=True)
        for file in path.iterdir():
            os.link(file, files / file.name)
        imports.keep(catalog, "admin", "many", path.name, files, str(path), [], may_replace=False)
        names.append(f"many/{path.name}")
    catalog.close()
    return names


def post(server: Server, path: str, body: dict[str, Any]) -> bytes:
    headers = {"Authorization": f"Bearer {server.key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=600) as answer:
        content: bytes = answer.read()
    return content


def _listing_ms(server: Server) -> float:
    request = urllib.request.Request(f"{server.url}/v1/models", headers={"Authorization": f"Bearer {server.key}"})
    seconds = []
    for _ in range(5):
        began = time.monotonic()
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()
        seconds.append(time.monotonic() - began)
    return 1000 * statistics.median(seconds)


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["embedded", "tiny"], default="embedded")
    parser.add_argument("--home", type=Path, default=Path(".bread"), help="folder of the embedded model (.bread)")
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=64, help="requests of each kind per round (64)")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
