"""Measures sums of adapters: their time and memory, and what a cut of their rank costs for real bakes.

    python -m benchmarks.merging arithmetic
    python -m benchmarks.merging bakes FOLDER FOLDER --seeds 42 42 [--home .bread]

`arithmetic` adds up random adapters of the size of Llama-3-8B and of SmolLM2-135M, each sum in a new process without
torch, as the server computes it.

`bakes` takes the folders of the adapters of two bakes of the embedded model (`jobs/*/checkpoints/*` of a home), and the
seeds they were trained with. It says how far their factors A moved from their start and are from each other, what a cut
of their sum to the rank of one loses, and how good the sum of the factors themselves is.
"""

import argparse
import math
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from baker.adapters.combine import Combination, Term, combine
from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_adapter_config
from baker.adapters.updates import Update, norm, read_updates
from baker.storage.files import write_json

Shapes = dict[str, tuple[int, int]]


def shapes(layers: int, hidden: int, key: int, inner: int) -> Shapes:
    """Shapes (out, in) of a Llama's linear layers."""
    attention = {"self_attn.q_proj": (hidden, hidden), "self_attn.o_proj": (hidden, hidden)}
    attention |= {"self_attn.k_proj": (key, hidden), "self_attn.v_proj": (key, hidden)}
    mlp = {"mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
    return {f"model.layers.{i}.{name}": shape for i in range(layers) for name, shape in (attention | mlp).items()}


LLAMA_3_8B = shapes(layers=32, hidden=4096, key=1024, inner=14336)
SMOLLM2_135M = shapes(layers=30, hidden=576, key=192, inner=1536)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    arithmetic = commands.add_parser("arithmetic")
    arithmetic.set_defaults(run=_arithmetic)
    bakes = commands.add_parser("bakes")
    bakes.add_argument("folders", nargs=2, type=Path)
    bakes.add_argument("--seeds", nargs=2, type=int, default=[42, 42])
    bakes.add_argument("--home", type=Path, default=Path(".bread"), help="folder of the embedded model (.bread)")
    bakes.set_defaults(run=_bakes)
    options = parser.parse_args()
    run: Callable[[argparse.Namespace], None] = options.run
    run(options)


def _arithmetic(_: argparse.Namespace) -> None:
    for name, model, count, rank, highest in (
        ("SmolLM2-135M", SMOLLM2_135M, 2, 16, 32),
        ("SmolLM2-135M", SMOLLM2_135M, 2, 16, 16),
        ("Llama-3-8B", LLAMA_3_8B, 3, 32, 64),
        ("Llama-3-8B", LLAMA_3_8B, 3, 32, 32),
    ):
        with tempfile.TemporaryDirectory(prefix="bread-benchmark-") as folder:
            terms = [Term(_random_adapter(Path(folder, str(seed)), model, rank, seed), 0.5) for seed in range(count)]
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                seconds, cpu, mib = process.submit(_timed, terms, Path(folder, "sum"), highest).result()
        print(f"{name}: {count} x rank {rank} -> {highest}: {seconds:.1f} s, {cpu:.1f} s of CPU, peak {mib:.0f} MiB")


def _timed(terms: list[Term], folder: Path, max_rank: int) -> tuple[float, float, float]:
    """Seconds, seconds of CPU time, and the process's highest memory in MiB."""
    begin, cpu = time.perf_counter(), time.process_time()
    combine(terms, folder, max_rank=max_rank)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter() - begin, time.process_time() - cpu, used.ru_maxrss / 1024


def _random_adapter(folder: Path, model: Shapes, rank: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    tensors = {}
    for module, (out, width) in model.items():
        for side, shape in (("A", (rank, width)), ("B", (out, rank))):
            tensors[f"base_model.model.{module}.lora_{side}.weight"] = rng.standard_normal(shape, np.float32) * 0.02
    folder.mkdir()
    save_file(tensors, folder / ADAPTER_WEIGHTS)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": sorted(model)}
    write_json(folder / ADAPTER_CONFIG, config)
    return folder


def _bakes(options: argparse.Namespace) -> None:
    from benchmarks import _models

    model = _models.embedded(options.home)
    rank = read_adapter_config(options.folders[0]).r
    first, second = (read_updates(folder) for folder in options.folders)
    starts = [_start(model, rank, seed) for seed in options.seeds]
    print(f"|A1 - A2| / |A1|        {_spread({m: _distance(first[m].a, second[m].a) for m in first})}")
    for name, updates, start in zip(("A1", "A2"), (first, second), starts, strict=True):
        moved = {module: _distance(start[module].a, updates[module].a) for module in updates}
        print(f"|{name} - start| / |start|  {_spread(moved)}")
    cosines = {module: _inner(first[module], second[module]) for module in first}
    print(f"cosine of the updates    {_spread(cosines)}")
    exact = {module: _stacked(first[module], second[module]) for module in first}
    with tempfile.TemporaryDirectory(prefix="bread-benchmark-") as folder:
        terms = [Term(each, 1.0) for each in options.folders]
        for highest in (2 * rank, rank + rank // 2, rank):
            result: Combination = combine(terms, Path(folder, str(highest)), max_rank=highest)
            error = _error(read_updates(Path(folder, str(highest))), exact)
            print(f"sum at rank {result.rank}: energy lost {result.energy_lost:.2%}, relative error {error:.4f}")
    linear = {
        module: Update(first[module].b + second[module].b, first[module].a + second[module].a - starts[0][module].a)
        for module in first
    }
    print(f"(A1 + A2 - start, B1 + B2) at rank {rank}: relative error {_error(linear, exact):.4f}")
    alone = _error(first, exact), _error(second, exact)
    print(f"one of the two instead of the sum: relative error {alone[0]:.4f} or {alone[1]:.4f}")


def _start(model: Path, rank: int, seed: int) -> Mapping[str, Update]:
    """What a bake of the base model starts from; `baker/training/run/train.py` makes it in the same way."""
    import torch
    from transformers import AutoModelForCausalLM

    from baker.training.model import lora

    base = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(seed)
    attached = lora.attach(base, rank=rank, alpha=rank)
    with tempfile.TemporaryDirectory(prefix="bread-benchmark-") as folder:
        lora.save_adapter(attached.model, Path(folder), model.name)
        return read_updates(Path(folder))


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(first - second) / np.linalg.norm(first))


def _inner(first: Update, second: Update) -> float:
    product = float(((first.b.T @ second.b) * (first.a @ second.a.T)).sum())
    return product / (norm(first) * norm(second))


def _stacked(first: Update, second: Update, sign: float = 1.0) -> Update:
    """The factors of first + sign * second."""
    return Update(np.hstack([first.b, sign * second.b]), np.vstack([first.a, second.a]))


def _error(updates: Mapping[str, Update], exact: Mapping[str, Update]) -> float:
    """Norm of the difference, over all modules, relative to that of `exact`."""
    wrong = sum(norm(_stacked(updates[module], exact[module], -1.0)) ** 2 for module in exact)
    return math.sqrt(wrong / sum(norm(update) ** 2 for update in exact.values()))


def _spread(values: Mapping[str, float]) -> str:
    low, middle, high = np.quantile(list(values.values()), [0.0, 0.5, 1.0])
    return f"median {middle:.3f}, from {low:.3f} to {high:.3f} over {len(values)} modules"


if __name__ == "__main__":
    main()
