"""Measures requests/s, chunks/s and time to the first chunk of our gateway and of vLLM's own server.

    python -m benchmarks.serving                  # the embedded model, 1 to 256 streams
    python -m benchmarks.serving --model tiny     # where the front end is the limit

Both start with the same engine arguments, number of threads and environment. Rounds alternate between them while the
other one is stopped; the first round of each is discarded. Prints medians over the rounds, and the median of the ratios
ours / stock of each round (stock / ours if less is better, so that more than 1 always means that ours is better).
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from benchmarks import _load, _models
from benchmarks._servers import Server, gateway, stock

NAME = "benchmark/model"
NUMBERS = (("requests/s", True), ("chunks/s", True), ("TTFT ms", False), ("front end µs/chunk", False))
"""Labels in the order of `Measured`, and whether more is better."""


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="bread-benchmark-") as name, ExitStack() as stack:
        folder = Path(name)
        model = _models.tiny(folder / "tiny") if options.model == "tiny" else _models.embedded(options.home)
        kv_cache = ["--kv-cache-gib", "0.5"]
        ours = stack.enter_context(gateway(folder / "ours", model, NAME, kv_cache))
        with ours.paused():
            theirs = stack.enter_context(
                stock(folder / "stock", model, NAME, ["--kv-cache-memory-bytes", str(1 << 29)])
            )
        print(
            f"{options.model} model; ready after {ours.seconds_to_ready:.0f} s, stock {theirs.seconds_to_ready:.0f} s"
        )
        print(f"{options.tokens} tokens per answer, {options.rounds} rounds\n")
        print("| streams | | ours | stock | ratio |\n| --- | --- | --- | --- | --- |")
        for streams in options.streams:
            _show(streams, list(_rounds(ours, theirs, streams, options)))


class Measured(NamedTuple):
    requests_per_second: float
    chunks_per_second: float
    ttft_ms: float
    front_end_us: float
    """CPU time of the server's own process per chunk: the front end's cost, whatever else runs on the machine."""


Pair: TypeAlias = tuple[Measured, Measured]  # ours, stock


def _rounds(ours: Server, theirs: Server, streams: int, options: argparse.Namespace) -> Iterator[Pair]:
    """The two results of each round, without the warm-up; the servers alternate in going first."""
    for number in range(options.rounds + 1):
        order = [(ours, theirs), (theirs, ours)][number % 2]
        results = {}
        for server, other in (order, order[::-1]):
            with other.paused():
                results[server.name] = _measure(server, number, streams, options)
        if number:
            yield results[ours.name], results[theirs.name]


def _measure(server: Server, number: int, streams: int, options: argparse.Namespace) -> Measured:
    requests = max(4, streams * options.requests_per_stream)
    bodies = (
        _load.chat(NAME, f"{number}.{index} Tell me a story about bread.", max_tokens=options.tokens)
        for index in range(requests)
    )
    before = server.front_end_cpu_seconds()
    load = _load.run(server, bodies, streams=streams)
    if load.failed:
        raise RuntimeError(f"{load.failed} requests failed at {server.name}: {load.error[:300]}")
    front_end_us = 1e6 * (server.front_end_cpu_seconds() - before) / load.chunks
    return Measured(load.requests_per_second, load.chunks_per_second, load.ttft_ms, front_end_us)


def _show(streams: int, rounds: list[Pair]) -> None:
    for place, (label, more_is_better) in enumerate(NUMBERS):
        pairs = [(ours[place], theirs[place]) for ours, theirs in rounds]
        ours, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratios = [own / stock if more_is_better else stock / own for own, stock in pairs]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        print(f"| {streams} | {label} | {ours:.1f} | {theirs:.1f} | {ratio} |", flush=True)


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["embedded", "tiny"], default="embedded")
    parser.add_argument("--home", type=Path, default=Path(".bread"), help="folder of the embedded model (.bread)")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--requests-per-stream", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
