"""Measures the time until a new version answers, and swaps under load, ours and stock.

    python -m benchmarks.swap                    # the embedded model
    python -m benchmarks.swap --model tiny

"Files to first token" starts when the adapter's files exist and ends with the first token from it, through
/v1/load_lora_adapter with load_inplace and a chat. In that time ours checks, copies, tries and records the adapter, and
moves the name to the new version; stock overwrites the weights in use. Then the same name is replaced repeatedly while
16 streams run. tests/behaviour/engine/test_swap.py proves that no answer mixes versions.
"""

import argparse
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import _load, _models
from benchmarks._servers import Server, gateway, stock
from benchmarks.adapters import NAME, post

BAKE = "swapped/bake"
VERSIONS = 4
STREAMS = 16


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="bread-benchmark-") as name, ExitStack() as stack:
        folder = Path(name)
        model = _models.tiny(folder / "tiny") if options.model == "tiny" else _models.embedded(options.home)
        versions = [_models.adapter(folder / "adapters" / str(seed), model, seed) for seed in range(VERSIONS)]
        arguments = ["--kv-cache-gib", "0.25", "--import-folders", str(folder / "adapters")]
        ours = stack.enter_context(gateway(folder / "ours", model, NAME, arguments))
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
        print(f"{options.model} model\n\n| | ours | stock |\n| --- | --- | --- |")
        idle: dict[str, list[float]] = {"ours": [], "stock": []}
        for number in range(options.rounds + 1):
            for server, other in [(ours, theirs), (theirs, ours)][:: 1 if number % 2 else -1]:
                with other.paused():
                    idle[server.name].append(_files_to_first_token_ms(server, versions[number % VERSIONS], number))
        row = " | ".join(f"{statistics.median(idle[name][1:]):.0f}" for name in ("ours", "stock"))
        print(f"| files to first token, idle, ms | {row} |", flush=True)
        results = []
        for server, other in ((ours, theirs), (theirs, ours)):
            with other.paused():
                results.append(_under_load(server, versions, options))
        for label, *values in zip(("swaps", "ms per swap", "answers", "failed answers"), *results, strict=True):
            print(f"| under load: {label} | {' | '.join(f'{value:.0f}' for value in values)} |")


def _files_to_first_token_ms(server: Server, version: Path, number: int) -> float:
    began = time.perf_counter()
    _swap(server, version)
    answer = _load.run(server, [_load.chat(BAKE, f"{number} Tell me a story about bread.", max_tokens=1)], streams=1)
    if answer.failed:
        raise RuntimeError(f"{server.name}: {answer.error}")
    return 1000 * (time.perf_counter() - began)


def _under_load(server: Server, versions: list[Path], options: argparse.Namespace) -> tuple[float, float, float, float]:
    """Returns: number of swaps, median milliseconds per swap, finished answers, failed answers."""
    is_over = threading.Event()
    loads: list[_load.Load] = []

    def traffic() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            text = f"{number} Tell me a story about bread."
            bodies = [_load.chat(BAKE, f"{index}.{text}", max_tokens=options.tokens) for index in range(2 * STREAMS)]
            loads.append(_load.run(server, bodies, streams=STREAMS))

    thread = threading.Thread(target=traffic)
    thread.start()
    seconds = []
    try:
        for number in range(options.swaps):
            began = time.perf_counter()
            _swap(server, versions[number % VERSIONS])
            seconds.append(time.perf_counter() - began)
    finally:
        is_over.set()
        thread.join()
    finished, failed = sum(load.finished for load in loads), sum(load.failed for load in loads)
    return len(seconds), 1000 * statistics.median(seconds), finished, failed


def _swap(server: Server, version: Path) -> None:
    post(server, "/v1/load_lora_adapter", {"lora_name": BAKE, "lora_path": str(version), "load_inplace": True})


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["embedded", "tiny"], default="embedded")
    parser.add_argument("--home", type=Path, default=Path(".bread"), help="folder of the embedded model (.bread)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=16)
    return parser.parse_args()


if __name__ == "__main__":
    main()
