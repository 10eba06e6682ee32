"""docs/architecture.md names files, definitions and rooms that exist, and leaves no room out."""

import ast
import re

import pytest

from tests.test_imports import ARROWS, ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
FILES = sorted(set(re.findall(r"`((?:baker|gateway|tests)/[\w/]+\.py)`", PAGE)))
DEFINITIONS = sorted(set(re.findall(r"`((?:baker|gateway)/[\w/]+\.py)`\s+`(\w+)`", PAGE)))
ROOMS = set(re.findall(r"^\| `((?:baker|gateway)/[\w/]*)`", PAGE, re.MULTILINE))
JOURNEYS = re.split(r"^## ", PAGE, flags=re.MULTILINE)[2:]


def test_there_are_two_journeys_and_each_step_names_a_file_or_follows_one_that_does() -> None:
    assert [journey.partition("\n")[0] for journey in JOURNEYS] == ["A chat request", "A bake"]
    for journey in JOURNEYS:
        steps = re.split(r"^\d+\. ", journey, flags=re.MULTILINE)[1:]
        assert len(steps) == 10
        assert all(re.search(r"`[\w/]+\.py`", step) for step in steps)


@pytest.mark.parametrize("file", FILES)
def test_each_file_exists(file: str) -> None:
    assert (ROOT / file).is_file()


@pytest.mark.parametrize(("file", "name"), DEFINITIONS)
def test_each_file_defines_what_the_page_says_it_does(file: str, name: str) -> None:
    defined: set[str] = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                defined.add(node.name)
            case ast.Assign():
                defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    assert name in defined


def test_the_page_describes_each_room_once() -> None:
    assert {room.rstrip("/").replace("/", ".") for room in ROOMS} == set(ARROWS)
    assert len(ROOMS) == len(re.findall(r"^\| `(?:baker|gateway)/", PAGE, re.MULTILINE))
