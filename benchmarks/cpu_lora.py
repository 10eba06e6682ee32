"""Measures the cost of an adapter on a CPU: SmolLM2's tokens/s with and without, with our LoRA kernels and vLLM's own.

    python -m benchmarks.cpu_lora

Rounds of base, one adapter, four adapters mixed, and four adapters mixed with the base model alternate in one engine
(rank 16 on all linear layers); then the same in an engine with vLLM's own kernels. Prints medians, and how many times
slower the adapters are than the base model.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from baker.types import Checkpoint, SampleRequest
from benchmarks import _models
from gateway.engine import Engine, EngineSettings

ADAPTERS: Final = 4
RANK: Final = 16
PROMPT_TOKENS, LONG_PROMPT_TOKENS = 24, 1200
STOCK = ["--worker-extension-cls", "", "--distributed-executor-backend", "mp"]
"""Arguments that take our code out of the engine."""


async def _main(options: Any, folder: Path) -> None:
    model = _models.embedded(options.home)
    adapters = [_checkpoint(folder, model, number) for number in range(ADAPTERS)]
    everyone: list[Checkpoint | None] = [None, *adapters]
    cases = {"base": everyone[:1], "one adapter": everyone[1:2], "four": everyone[1:], "four and base": everyone}
    for kind, arguments, rounds in (("ours", [], options.rounds), ("stock", STOCK, options.stock_rounds)):
        if not rounds:
            continue
        engine = Engine(
            EngineSettings(model, "benchmark/model", max_lora_rank=RANK, kv_cache_gib=0.5, extra_args=arguments)
        )
        await engine.start()
        try:
            for adapter in adapters:
                await engine.load(adapter.name, adapter.path)
            await _decode(engine, adapters, options.streams, 8)  # warm-up
            decode: dict[str, list[float]] = {name: [] for name in cases}
            prefill: dict[str, list[float]] = {name: [] for name in cases}
            for _ in range(rounds):
                for name, models in cases.items():
                    decode[name].append(await _decode(engine, models, options.streams, options.tokens))
                    prefill[name].append(await _prefill(engine, models))
        finally:
            await engine.stop()
        _show(f"{kind}, {options.streams} streams", decode)
        _show(f"{kind}, {LONG_PROMPT_TOKENS} tokens of prompt", prefill)


def _show(title: str, speeds: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, speed in medians.items():
        ratio = statistics.median(base / own for base, own in zip(speeds["base"], speeds[name], strict=True))
        print(f"| {title} | {name} | {speed:.0f} | {ratio:.2f} |", flush=True)


async def _decode(engine: Engine, models: Sequence[Checkpoint | None], streams: int, tokens: int) -> float:
    """Tokens per second of `streams` answers, distributed over `models`."""
    started = time.perf_counter()
    requests = [_request(PROMPT_TOKENS, models[number % len(models)], tokens) for number in range(streams)]
    await asyncio.gather(*(engine.generation.sample(request) for request in requests))
    return streams * tokens / (time.perf_counter() - started)


async def _prefill(engine: Engine, models: Sequence[Checkpoint | None]) -> float:
    """Prompt tokens per second of one long prompt, split among `models`."""
    started = time.perf_counter()
    requests = [_request(LONG_PROMPT_TOKENS // len(models), model, 1) for model in models]
    await asyncio.gather(*map(engine.generation.sample, requests))
    return LONG_PROMPT_TOKENS / (time.perf_counter() - started)


def _request(prompt_tokens: int, adapter: Checkpoint | None, max_tokens: int) -> SampleRequest:
    """A request with a random prompt, so that no cached prefix helps."""
    ids = [random.randrange(100, 40_000) for _ in range(prompt_tokens)]
    return SampleRequest(ids, adapter=adapter, max_tokens=max_tokens, temperature=0.0, extra={"ignore_eos": True})


def _checkpoint(folder: Path, model: Path, number: int) -> Checkpoint:
    path = _models.adapter(folder / str(number), model, seed=number, rank=RANK)
    return Checkpoint("admin", "repo", f"bake{number}", 1, path, "0" * 64, 0, number)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path(".bread"), help="folder of the embedded model (.bread)")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stock-rounds", type=int, default=1, help="rounds with vLLM's own kernels (1)")
    with tempfile.TemporaryDirectory(prefix="bread-benchmark-") as name:
        asyncio.run(_main(parser.parse_args(), Path(name)))
