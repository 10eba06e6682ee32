import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baker.storage.files import (
    PRIVATE,
    append_line,
    append_lines,
    new_file,
    new_folder,
    publish_folder,
    read_lines,
    repair_lines,
    write_bytes,
    write_json,
)

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"version": 1})

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"version": 2})
    assert path.read_bytes() == b'{\n  "version": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


@same_folder
@given(rows=st.lists(st.dictionaries(st.text(), st.integers(-(2**53), 2**53) | st.text()), min_size=1), cut=st.data())
def test_a_torn_file_is_repaired_to_its_complete_rows(tmp_path: Path, rows: list[object], cut: st.DataObject) -> None:
    path = tmp_path / "rows.jsonl"
    path.unlink(missing_ok=True)
    append_lines(path, rows[:1])
    append_lines(path, rows[1:])
    whole = path.read_bytes()
    size = cut.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:size] + cut.draw(st.sampled_from([b"", b"\0\0\0"])))
    kept = whole[:size].count(b"\n")
    assert read_lines(path) == rows[:kept]
    repair_lines(path)
    append_line(path, {"after": "repair"})
    assert read_lines(path) == [*rows[:kept], {"after": "repair"}]
    assert repair_lines(path) == 0


def test_lines_are_read_by_offset_and_limit(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_lines(path) == [] and repair_lines(path) == 0
    for number in range(5):
        append_line(path, number)
    assert read_lines(path, 1, 2) == [1, 2]
    assert read_lines(path, 3) == [3, 4]
    assert read_lines(path, 9, 1) == [] == read_lines(path, 0, 0)


def test_a_folder_appears_when_it_is_finished_and_is_never_overwritten(tmp_path: Path) -> None:
    final = tmp_path / "checkpoints" / "7"
    with new_folder(final) as temporary:
        (temporary / "weights").write_bytes(b"1")
        assert not final.exists()
    assert (final / "weights").read_bytes() == b"1"
    with pytest.raises(FileExistsError, match="never overwritten"), new_folder(final) as temporary:
        (temporary / "weights").write_bytes(b"2")
    assert (final / "weights").read_bytes() == b"1"
    assert list(final.parent.iterdir()) == [final]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_folder(tmp_path / "7") as temporary:
        (temporary / "weights").write_bytes(b"1")
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_the_server_s_imports_load_no_torch() -> None:
    code = (
        "import sys, baker.storage.files, baker.adapters.files, baker.training.events, baker.training.spec;"
        "print(*{'torch', 'peft', 'transformers', 'vllm'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout == b"\n"


def test_a_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with new_file(path, PRIVATE) as file:
        (temporary,) = tmp_path.iterdir()
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600, "already while it is written"
        file.write(b"secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write_bytes(path, b"other", PRIVATE)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"other", 0o600)


def test_a_published_tree_is_synced_in_full_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, final, synced = tmp_path / "tree", tmp_path / "final", []
    (tree / "inner").mkdir(parents=True)
    (tree / "inner" / "file").write_bytes(b"1")

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", fsync)
    publish_folder(tree, final)
    assert synced == [tree / "inner", tree / "inner" / "file", tree, tmp_path]
    assert (final / "inner" / "file").read_bytes() == b"1"
