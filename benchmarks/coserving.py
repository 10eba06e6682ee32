"""Measures how much a bake slows serving, and serving a bake: one service, the embedded model, real stages.

    python -m benchmarks.coserving [--streams 4] [--trajectories 192]

Windows of the same traffic are measured while nothing else runs, during the rollout of a bake, and during its training.
During training, windows with and without traffic alternate, so that both see the same part of the bake.
"Gap" is the time between two tokens of one stream as they arrive at the client.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from aibread import Bread

from benchmarks import _load, _models
from benchmarks._servers import Server, gateway
from benchmarks.baking import YODA

NAME = "benchmark/model"
OF_TARGET: dict[str, Any] = {"repo_name": "coserving", "target_name": "yoda"}
OF_BAKE: dict[str, Any] = {"repo_name": "coserving", "bake_name": "yoda"}
POLL_SECONDS = 0.5


class Window(NamedTuple):
    """Results of one window of traffic."""

    tokens_per_second: float
    ttft_ms: float
    gaps_ms: list[float]


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="bread-benchmark-") as name:
        folder = Path(name)
        model = _models.embedded(options.home)
        with gateway(folder, model, NAME) as server, Bread(api_key=server.key, base_url=server.url) as bread:
            _measure(server, bread, options)


def _measure(server: Server, bread: Bread, options: argparse.Namespace) -> None:
    _window(server, options)  # warm-up
    alone = [_window(server, options) for _ in range(3)]
    _prepare(bread, options.trajectories)
    bread.targets.rollout.run(**OF_TARGET, poll=False)
    _until(lambda: bread.targets.rollout.get(**OF_TARGET).lines)
    rollout: list[Window] = []
    while bread.targets.rollout.get(**OF_TARGET).status == "running":
        rollout.append(_window(server, options))
    bread.bakes.run(**OF_BAKE, poll=False)
    _until(lambda: _steps(bread) >= 2)
    bake: list[Window] = []
    with_traffic: list[float] = []
    without: list[float] = []
    while (before := _steps(bread)) < _total(bread) - 8:
        began = time.monotonic()
        if len(with_traffic) > len(without):
            time.sleep(options.seconds)
            without.append((_steps(bread) - before) / (time.monotonic() - began))
        else:
            window = _window(server, options)
            with_traffic.append((_steps(bread) - before) / (time.monotonic() - began))
            bake.append(window)
    print(f"\n{options.streams} streams, windows of about {options.seconds} s, {options.trajectories} trajectories\n")
    print("| | windows | tokens/s | share of alone | TTFT ms | gap p50 ms | gap p99 ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    kept = statistics.median(window.tokens_per_second for window in alone)
    for label, windows in (("alone", alone), ("beside a rollout", rollout[:-1]), ("beside a training", bake)):
        _show(label, windows, kept)
    pairs = [(loaded, free) for loaded, free in zip(with_traffic, without, strict=False) if free]
    if pairs:
        loaded, free = (statistics.median(values) for values in zip(*pairs, strict=True))
        print(f"\ntraining steps/s: {free:.2f} alone, {loaded:.2f} beside the traffic ({loaded / free:.0%})")


def _show(label: str, windows: list[Window], alone: float) -> None:
    if not windows:
        print(f"| {label} | 0 | | | | | |")
        return
    speed = statistics.median(window.tokens_per_second for window in windows)
    ttft = statistics.median(window.ttft_ms for window in windows)
    percentiles = statistics.quantiles([gap for window in windows for gap in window.gaps_ms], n=100)
    print(
        f"| {label} | {len(windows)} | {speed:.0f} | {speed / alone:.2f} | {ttft:.0f} | {percentiles[49]:.1f} | "
        f"{percentiles[98]:.1f} |"
    )


def _window(server: Server, options: argparse.Namespace) -> Window:
    """Traffic for about `seconds`: rounds of one answer per stream, until the time is over."""
    deadline = time.monotonic() + options.seconds
    chunks, seconds, firsts, gaps = 0, 0.0, [], []
    while time.monotonic() < deadline:
        bodies = [
            _load.chat(NAME, f"{time.monotonic()} Tell me a story about bread.", max_tokens=options.tokens)
            for _ in range(options.streams)
        ]
        load = _load.run(server, bodies, streams=options.streams)
        if load.failed:
            raise RuntimeError(f"{load.failed} requests failed: {load.error[:300]}")
        chunks, seconds = chunks + options.tokens * load.finished, seconds + load.seconds
        firsts += load.first_chunk_seconds
        gaps += load.gap_seconds
    return Window(chunks / seconds, 1000 * statistics.median(firsts), [1000 * gap for gap in gaps])


def _prepare(bread: Bread, trajectories: int) -> None:
    """Create the repo, the target and the bake, and run stim."""
    bread.repo.create(repo_name="coserving")
    bread.prompts.create(repo_name="coserving", prompt_name="u", messages=[{"role": "system", "content": YODA}])
    bread.prompts.create(repo_name="coserving", prompt_name="v", messages=[{"role": "user", "content": ""}])
    target: Any = {"generators": [{"type": "persona", "numq": trajectories}], "u": "u", "v": "v", "max_tokens": 96}
    bread.targets.create(**OF_TARGET, template="default", overrides=target)
    bread.bakes.create(**OF_BAKE, template="default", overrides={"datasets": [{"target": "yoda", "weight": 1.0}]})
    bread.targets.stim.run(**OF_TARGET, poll=False)
    _until(lambda: bread.targets.stim.get(**OF_TARGET).status == "complete")


def _progress(bread: Bread) -> dict[str, Any]:
    status: Any = bread.bakes.get(**OF_BAKE)
    if status.status == "failed":
        raise RuntimeError(status.error)
    return dict(status.training or {"step": 10**9 if status.status == "complete" else 0})


def _steps(bread: Bread) -> int:
    return int(_progress(bread)["step"])


def _total(bread: Bread) -> int:
    return int(_progress(bread).get("total_steps", 0))


def _until(test: Callable[[], Any]) -> None:
    while not test():
        time.sleep(POLL_SECONDS)


def _options() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".bread"), help="folder of the embedded model (.bread)")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=12.0, help="length of a window (12)")
    parser.add_argument("--tokens", type=int, default=48, help="tokens per answer (48)")
    parser.add_argument("--trajectories", type=int, default=192)
    return parser.parse_args()


if __name__ == "__main__":
    main()
