"""Every name that the benchmarks take from our code exists. They run by hand, and mypy does not check them."""

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py"))
OURS = ("baker", "gateway", "benchmarks")


def names_used(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(module, name) of each import from our code, inside functions too, and of each `module.name` in use."""
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if importlib.util.find_spec(node.module) and _is_module(submodule):
                    modules[alias.asname or alias.name] = submodule
                else:
                    yield node.module, alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield modules[node.value.id], node.attr


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is a file, not a folder
        return False


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_name_exists(file: Path) -> None:
    missing = {
        f"{module}.{name}"
        for module, name in names_used(ast.parse(file.read_text()))
        if not hasattr(importlib.import_module(module), name)
    }
    assert not missing
