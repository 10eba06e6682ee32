"""The arrows between modules, read from the syntax trees."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ONLY_IN: dict[str, tuple[str, ...]] = {
    # One third-party giant, one place: an upgrade is then a diff of that place.
    "vllm": ("gateway/engine/",),
    "peft": ("baker/lora.py",),
    "sqlite_utils": ("baker/store.py", "baker/migrations.py"),
    "anthropic": ("baker/askers.py",),
    "datasets": ("baker/question_sets.py",),
    "pyarrow": ("baker/question_files.py",),
    "wandb": ("baker/metrics.py",),
    "matplotlib": ("baker/curves.py",),
    "litestar": (
        "gateway/app.py",
        "gateway/http_errors.py",
        "gateway/openapi.py",
        "gateway/streaming.py",
        "gateway/delivery.py",
        "gateway/traffic.py",
        "gateway/file_reply.py",
        "gateway/routes/",
    ),
    "uvicorn": ("gateway/server.py", "gateway/connections.py"),
    "transformers": (
        "baker/attention.py",
        "baker/engine_weights.py",
        "baker/student.py",
        "baker/lora.py",
        "baker/spread.py",
        "gateway/embedded_model.py",
    ),
    "torch": (
        "baker/attention.py",
        "baker/batches.py",
        "baker/engine_weights.py",
        "baker/loop.py",
        "baker/losses.py",
        "baker/lora.py",
        "baker/packing.py",
        "baker/placement.py",
        "baker/ranks.py",
        "baker/spread.py",
        "baker/student.py",
        "baker/teacher_states.py",
        "baker/train.py",
        "baker/waiting.py",
        "gateway/embedded_model.py",
        "gateway/engine/",
    ),
    "prompt_toolkit": ("chat_with_model.py",),
}
NEVER: dict[str, tuple[str, ...]] = {
    "baker/": ("gateway",),
    "gateway/protocol/": ("gateway.routes", "gateway.engine", "gateway.app"),
    "chat_with_model.py": ("gateway", "baker"),
    "example_bake_gavin_belson.py": ("gateway", "baker"),
}
LIGHT = (
    "gateway.cli.users",
    "gateway.protocol.requests",
    "gateway.protocol.responses",
    "gateway.config",
    "baker.jobs.queue",
    "baker.jobs.stages",
)
HEAVY = ("torch", "vllm", "transformers", "peft", "datasets")


def sources() -> list[str]:
    found = [*ROOT.glob("baker/**/*.py"), *ROOT.glob("gateway/**/*.py"), *ROOT.glob("*.py")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_of(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("source", sources())
def test_imports_follow_the_arrows(source: str) -> None:
    for module in imported(source):
        for package, places in ONLY_IN.items():
            if is_of(module, package):
                assert source.startswith(places), f"{source} imports {module}, which belongs in {places}"
        for place, forbidden in NEVER.items():
            if source.startswith(place):
                assert not any(is_of(module, package) for package in forbidden), f"{source} imports {module}"


@pytest.mark.parametrize("module", LIGHT)
def test_importing_it_loads_no_model_code(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
