"""The README's table of settings matches the code."""

import re
from pathlib import Path

import msgspec
import pytest

from gateway.config import Settings, environment_name

README = (Path(__file__).parent.parent / "README.md").read_text()
ROWS = dict(re.findall(r"^\| `--([a-z-]+)` \| (.*) \|$", README, re.MULTILINE))


@pytest.mark.parametrize("field", msgspec.structs.fields(Settings), ids=lambda field: field.name)
def test_every_setting_is_in_the_table(field: msgspec.structs.FieldInfo) -> None:
    description = next(note.description for note in field.type.__metadata__ if getattr(note, "description", None))
    default = "" if field.default == "" else f"`{field.default}`"
    assert ROWS[field.name.replace("_", "-")] == f"`{environment_name(field.name)}` | {default} | {description}"


def test_the_table_has_no_setting_that_is_gone() -> None:
    assert len(ROWS) == len(Settings.__struct_fields__)
