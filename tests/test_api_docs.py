"""docs/api.md lists exactly the application's operations and the settings of targets and generators."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.config.generator import GeneratorConfig
from baker.config.target import TargetConfig
from baker.model_names import BaseModelNames
from gateway.app import build_app, build_services
from gateway.config import Settings
from tests.fakes import FakeEngine

DOCS = (Path(__file__).parent.parent / "docs" / "api.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Cells of the table under `heading`, without its header."""
    section = DOCS.split(f"## {heading}\n")[1].split("\n## ")[0]
    table = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def fields(heading: str) -> set[str]:
    return {row[0].strip("`") for row in rows(heading)}


def test_every_operation_is_described_and_no_other(tmp_path: Path) -> None:
    engine: Any = FakeEngine()
    app = build_app(build_services(Settings(), tmp_path, "key", engine, BaseModelNames("fake/base", stands_in=True)))
    served = {
        (method, re.sub(r":\w+}", "}", route.path_format))
        for route in app.routes
        for handler in getattr(route, "route_handlers", [])
        for method in handler.http_methods
        if method not in ("HEAD", "OPTIONS") and not route.path_format.startswith("/schema")
    }
    assert {(row[0], row[1]) for row in rows("Operations")} == served
    assert all(row[2] for row in rows("Operations"))


@pytest.mark.parametrize(
    ("heading", "config", "besides"),
    [("Settings of a target", TargetConfig, set()), ("Settings of a generator", GeneratorConfig, {"type"})],
)
def test_every_setting_is_described_and_no_other(heading: str, config: type[msgspec.Struct], besides: set[str]) -> None:
    assert fields(heading) == {*config.__struct_fields__, *besides}
