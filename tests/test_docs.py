"""The README's table of settings matches the code, and docs/clients.md the visits."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from gateway.config import Settings, environment_name

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
ROWS = dict(re.findall(r"^\| `--([a-z-]+)` \| (.*) \|$", README, re.MULTILINE))


@pytest.mark.parametrize("field", msgspec.structs.fields(Settings), ids=lambda field: field.name)
def test_every_setting_is_in_the_table(field: msgspec.structs.FieldInfo) -> None:
    description = next(note.description for note in field.type.__metadata__ if getattr(note, "description", None))
    default = "" if field.default == "" else f"`{field.default}`"
    assert ROWS[field.name.replace("_", "-")] == f"`{environment_name(field.name)}` | {default} | {description}"


def test_the_table_has_no_setting_that_is_gone() -> None:
    assert len(ROWS) == len(Settings.__struct_fields__)


def test_the_page_of_clients_has_each_visited_client_with_its_version() -> None:
    visits = tomllib.loads((ROOT / "tests" / "visits" / "clients.toml").read_text())
    pinned = {package for visit in visits.values() for packages in visit.values() for package in packages}
    helpers = {package for package in pinned if package.startswith("zod@")}
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \|", (ROOT / "docs" / "clients.md").read_text(), re.MULTILINE)
    listed = {package for row in rows for package in re.findall(r"`([^`]+)`", row) if re.search(r"(==|@)\d", package)}
    assert listed == pinned - helpers


def test_each_visit_has_a_script() -> None:
    visits = tomllib.loads((ROOT / "tests" / "visits" / "clients.toml").read_text())
    endings = {"python": "py", "node": "mjs"}
    scripts = {f"{visit}.{endings[kind]}" for visit, kinds in visits.items() for kind in kinds}
    present = {path.name for path in (ROOT / "tests" / "visits").glob("*.*") if path.suffix in (".py", ".mjs")}
    assert present - {"__init__.py", "__main__.py", "steps.py", "steps.mjs"} == scripts
