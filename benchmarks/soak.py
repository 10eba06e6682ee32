"""Runs mixed traffic for ten minutes: does the service fail, and does its memory grow?

    python -m benchmarks.soak [--minutes 10] [--adapters 50] [--workers 16] [--model FOLDER]

Workers stream answers from the base model and from adapters, disconnect during some, send invalid requests, and give
names new versions. Only unexpected errors count as failures. Memory is read for every process of the service and shown
as the median of each tenth of the time; growth is the last tenth minus the third, since the first two are the warm-up.
"""

import argparse
import asyncio
import collections
import itertools
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import openai
import psutil

from benchmarks import _models
from benchmarks._servers import Server, gateway

NAME = "bench/base"
SAMPLE_SECONDS = 2.0
ANSWER_TOKENS = 24
MIB = 1 << 20
PARTS = 10
WARM = 2  # growth is counted from the part with this index


class Soak:
    def __init__(self, server: Server, imports: Path, model: Path, names: list[str], minutes: float) -> None:
        self.imports, self.model, self.names = imports, model, names
        self.server = server
        self.done: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self.memory: list[list[int]] = []
        """Resident bytes of the service's processes in each sample, oldest process first."""
        self._until = time.monotonic() + 60 * minutes
        self._versions = itertools.count(1000)
        self._client = openai.AsyncOpenAI(api_key=server.key, base_url=f"{server.url}/v1", max_retries=0, timeout=120)
        self._http = httpx.AsyncClient(
            base_url=server.url, headers={"Authorization": f"Bearer {server.key}"}, timeout=120
        )

    async def run(self, workers: int) -> None:
        async with self._client, self._http:
            for seed, name in enumerate(self.names):
                await self._give_version(name, seed, is_new=True)
            await asyncio.gather(self._watch_memory(), *(self._work(number) for number in range(workers)))

    async def _work(self, number: int) -> None:
        chance = random.Random(number)
        tasks: list[tuple[str, int, Callable[[random.Random], Awaitable[None]]]] = [
            ("base", 20, self._ask_base),
            ("adapter", 50, self._ask_adapter),
            ("left", 15, self._leave),
            ("refused", 12, self._ask_nonsense),
            ("swap", 3, self._swap),
        ]
        weights = [weight for _, weight, _ in tasks]
        while time.monotonic() < self._until:
            ((kind, _, task),) = chance.choices(tasks, weights)
            try:
                await task(chance)
                self.done[kind] += 1
            except Exception as error:  # any exception is a failure
                self.failures.append(f"{kind}: {type(error).__name__}: {error}"[:300])

    async def _watch_memory(self) -> None:
        service = psutil.Process(self.server.process.pid)
        while time.monotonic() < self._until:
            processes = [service, *service.children(recursive=True)]
            sizes = []
            for process in sorted(processes, key=lambda process: process.create_time()):
                try:
                    sizes.append(process.memory_info().rss)
                except psutil.NoSuchProcess:
                    continue
            self.memory.append(sizes)
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _ask(self, model: str, chance: random.Random, leave_after: int | None = None) -> None:
        text = f"Question {chance.randrange(10**6)}: " + "why? " * chance.randrange(20)
        stream = await self._client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": text}],
            max_tokens=ANSWER_TOKENS,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        count, reason = 0, None
        async with stream:
            async for chunk in stream:
                count += 1
                reason = chunk.choices[0].finish_reason or reason if chunk.choices else reason
                if leave_after is not None and count > leave_after:
                    return
        if reason != "length":
            raise AssertionError(f"{model} ended with {reason} after {count} chunks")

    async def _ask_base(self, chance: random.Random) -> None:
        await self._ask(NAME, chance)

    async def _ask_adapter(self, chance: random.Random) -> None:
        await self._ask(self._draw_name(chance), chance)

    async def _leave(self, chance: random.Random) -> None:
        await self._ask(self._draw_name(chance), chance, leave_after=chance.randrange(4))

    async def _ask_nonsense(self, chance: random.Random) -> None:
        path, body, status = chance.choice(
            [
                ("/v1/chat/completions", b"{", 400),
                ("/v1/chat/completions", json.dumps({"model": "no/such", "messages": []}).encode(), 404),
                ("/v1/chat/completions", json.dumps({"model": NAME, "messages": "hello"}).encode(), 400),
                ("/v1/completions", json.dumps({"model": NAME, "prompt": "x", "max_tokens": -1}).encode(), 400),
                ("/v1/completions", json.dumps({"model": NAME, "prompt": "x " * 20000}).encode(), 400),
            ]
        )
        answer = await self._http.post(path, content=body, headers={"Content-Type": "application/json"})
        if answer.status_code != status:
            raise AssertionError(f"{path} {body[:60]!r}: {answer.status_code}, not {status}: {answer.text[:200]}")

    async def _swap(self, chance: random.Random) -> None:
        await self._give_version(self._draw_name(chance), next(self._versions), is_new=False)

    async def _give_version(self, name: str, seed: int, *, is_new: bool) -> None:
        folder = self.imports / f"v{seed}"
        await asyncio.to_thread(_models.adapter, folder, self.model, seed)
        body = {"lora_name": name, "lora_path": str(folder), "load_inplace": not is_new}
        answer = await self._http.post("/v1/load_lora_adapter", json=body)
        await asyncio.to_thread(shutil.rmtree, folder)
        if answer.status_code != 200:
            raise AssertionError(f"load {name}: {answer.status_code} {answer.text[:200]}")

    def _draw_name(self, chance: random.Random) -> str:
        """A random name: few names come often, many rarely."""
        return self.names[min(int(chance.paretovariate(0.7)) - 1, len(self.names) - 1)]


def report(soak: Soak) -> bool:
    """Print the results. Returns: whether nothing failed."""
    print(", ".join(f"{count} {kind}" for kind, count in sorted(soak.done.items())))
    part = max(1, len(soak.memory) // PARTS)
    parts = [soak.memory[at * part : (at + 1) * part] for at in range(PARTS)]
    for place in range(min(map(len, soak.memory))):
        sizes = [statistics.median(sample[place] for sample in part) / MIB for part in parts if part]
        print(f"process {place}: {' '.join(f'{size:.0f}' for size in sizes)} MiB ({sizes[-1] - sizes[WARM]:+.1f})")
    print(f"{len(soak.failures)} failures")
    for failure, count in collections.Counter(soak.failures).most_common(10):
        print(f"  {count} x {failure}")
    return not soak.failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--adapters", type=int, default=50)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--model", type=Path, help="a model's folder; absent: a tiny random model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = options.model or _models.tiny(folder / "tiny")
        imports = folder / ".bread" / "import"
        imports.mkdir(parents=True)
        names = [f"soak/a{number}" for number in range(options.adapters)]
        # A small cache is full after the first fifth; a large one would keep touching new pages for the whole soak.
        with gateway(folder, model, NAME, ["--max-loras", "8", "--kv-cache-gib", "0.0625"]) as server:
            soak = Soak(server, imports, model, names, options.minutes)
            asyncio.run(soak.run(options.workers))
            return 0 if report(soak) else 1


if __name__ == "__main__":
    sys.exit(main())
