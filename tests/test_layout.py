"""The size of files and functions, and tests that mirror the rooms."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_imports import ROOT, modules, room_of, sources

MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_FILES_OF_A_ROOM = 300, 60, 15

LONG_FILES = {
    "baker/storage/migrations.py": "migrations are appended, in one order, and never edited",
    "chat_with_model.py": "one file by its interface: users copy it and run it alone",
    "gateway/engine/adapters/slots.py": "slots, copies and the queue are one state that every method keeps consistent",
    "gateway/engine/core/engine.py": "the engine's one face for the registry, the supervisor and the baker",
    "gateway/engine/worker/cpu_lora.py": "one kernel, whose parts are used nowhere else",
    "gateway/protocol/responses.py": "a flat list of wire shapes",
}
"""File of more than MOST_LINES -> why it is not split."""
LONG_FUNCTIONS: dict[str, str] = {}
"""`file: function` of more than MOST_LINES_OF_A_FUNCTION -> why it is not split."""
TESTED_ELSEWHERE = {
    "baker/config/ranges.py": "constants",
    "baker/errors.py": "tests/gateway/http/test_errors.py walks the tree",
    "baker/history/history.py": "tables by name; the tests of the tables",
    "baker/jobs/policy.py": "one struct",
    "baker/merge_report.py": "structs; tests/baker/merging fills them",
    "baker/merging/merge.py": "tests/baker/merging/test_merger.py opens and runs them",
    "baker/pattern_process.py": "tests/baker/test_pattern_search.py runs it",
    "baker/repos/pointers.py": "tests/baker/versions/test_undo.py moves names and takes the moves back",
    "baker/repos/recycle_bin.py": "tests/baker/versions/test_undo.py deletes, brings back, prunes and sweeps",
    "baker/storage/bin_table.py": "tests/baker/versions/test_undo.py",
    "baker/versions/inverses.py": "tests/baker/versions/test_undo.py inverts each kind of change",
    "baker/ports.py": "protocols",
    "baker/storage/job_inputs.py": "structs; tests/baker/storage/test_job.py stores and reads them",
    "baker/storage/rows.py": "the tests of the tables",
    "baker/types.py": "structs",
    "gateway/__main__.py": "every test with a service starts it (tests/service.py)",
    "gateway/engine/worker/extension.py": "every test with the fixture `engine` loads it",
    "gateway/cli/failures.py": "constants; the tests of the verbs check their exit codes",
    "gateway/cli/history/commits.py": "tests/gateway/cli/history/test_log.py",
    "gateway/cli/options.py": "the tests of the verbs that have them",
    "gateway/cli/merging/rebakes.py": "tests/gateway/cli/merging/test_rebase.py plans and makes them",
    "gateway/errors.py": "tests/gateway/http/test_errors.py walks the tree",
    "gateway/protocol/comparison.py": "structs; the tests of tests/gateway/routes/history fill them",
    "gateway/protocol/history.py": "structs; tests/gateway/routes/history fills them",
    "gateway/protocol/merging.py": "structs; tests/gateway/routes/history/test_merges.py sends them",
    "gateway/protocol/replies.py": "one struct",
    "gateway/protocol/responses.py": "structs; tests/gateway/routes/bread/test_views.py fills them",
    "gateway/protocol/transfer.py": "structs; tests/gateway/routes/history/test_transfer.py sends them",
    "gateway/routes/anthropic.py": "tests/clients/test_anthropic.py",
    "gateway/routes/dependencies.py": "two names for types",
    "gateway/routes/history/comparison_views.py": "the tests of the routes that use it",
    "gateway/routes/history/views.py": "the tests of the routes beside it",
    "gateway/routes/names.py": "one call; tests/gateway/routes/history/test_refs.py",
    "gateway/services.py": "one struct",
    "gateway/serving/undo.py": "tests/gateway/routes/history/test_operations.py",
}
"""Module without a test file of its own name -> what tests it, or why nothing needs to."""


def functions(source: str) -> Iterator[tuple[str, int]]:
    """(name, lines) of each function, decorators and docstring included."""
    for node in ast.walk(ast.parse((ROOT / source).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            yield node.name, node.end_lineno - min([node.lineno, *(line.lineno for line in node.decorator_list)]) + 1


def test_long_files_have_a_reason() -> None:
    lengths = {source: len((ROOT / source).read_text().splitlines()) for source in sources()}
    long = {source for source, length in lengths.items() if length > MOST_LINES}
    assert long == set(LONG_FILES), "split the file at its noun, or give the reason here"


def test_long_functions_have_a_reason() -> None:
    long = {
        f"{source}: {name}"
        for source in sources()
        for name, lines in functions(source)
        if lines > MOST_LINES_OF_A_FUNCTION
    }
    assert long == set(LONG_FUNCTIONS), "split the function, or give the reason here"


def test_rooms_are_small() -> None:
    sizes = Counter(room_of(module) for module, source in modules().items() if not source.endswith("__init__.py"))
    assert [room for room, size in sizes.items() if size > MOST_FILES_OF_A_ROOM] == [], "split the room at its noun"


def mirror_of(test: Path) -> Path:
    """The module that a test file is named after: tests/baker/jobs/test_queue.py -> baker/jobs/queue.py."""
    name = test.name.removeprefix("test_")
    folder = ROOT / test.parent.relative_to(ROOT / "tests")
    return folder / ("__main__.py" if name == "main.py" else name)


@pytest.mark.parametrize("package", ["baker", "gateway"])
def test_each_test_file_is_named_after_a_module_of_its_room(package: str) -> None:
    tests = sorted((ROOT / "tests" / package).rglob("test_*.py"))
    assert tests
    strangers = [test.relative_to(ROOT).as_posix() for test in tests if not mirror_of(test).is_file()]
    assert not strangers, "name it after a module, or move it to tests/behaviour/"


def test_each_module_has_a_test_of_its_own_name() -> None:
    mirrored = {
        mirror_of(test) for package in ("baker", "gateway") for test in (ROOT / "tests" / package).rglob("test_*.py")
    }
    without = {
        source
        for source in modules().values()
        if not source.endswith("__init__.py") and ROOT / source not in mirrored and (ROOT / source).read_text().strip()
    }
    assert without == set(TESTED_ELSEWHERE), "write its test, or say here what tests it"
