import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, content_hash
from baker.errors import StageError
from baker.storage.files import append_line, append_lines, new_folder, read_lines, repair_lines, write_json
from baker.trajectories.files import load_trajectory, save_trajectory
from baker.types import Trajectory

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)


def trajectory(length: int = 3, width: int = 2, stimulus: str = "why?") -> Trajectory:
    return Trajectory(
        teacher_ids=np.arange(5, dtype=np.int32),
        student_ids=np.arange(2, dtype=np.int32),
        response_ids=np.arange(length, dtype=np.int32),
        top_ids_TK=np.arange(length * width, dtype=np.int32).reshape(length, width),
        top_logprobs_TK=-np.ones((length, width), dtype=np.float32),
        stimulus=stimulus,
    )


@same_folder
@given(data=st.data(), length=st.integers(0, 6), width=st.integers(0, 4), stimulus=st.text())
def test_trajectory_comes_back_as_it_was(
    tmp_path: Path, data: st.DataObject, length: int, width: int, stimulus: str
) -> None:
    ids = st.integers(0, 2**31 - 1)
    written = Trajectory(
        teacher_ids=data.draw(arrays.arrays(np.int32, st.integers(0, 5), elements=ids)),
        student_ids=data.draw(arrays.arrays(np.int32, st.integers(0, 5), elements=ids)),
        response_ids=data.draw(arrays.arrays(np.int32, length, elements=ids)),
        top_ids_TK=data.draw(arrays.arrays(np.int32, (length, width), elements=ids)),
        top_logprobs_TK=data.draw(arrays.arrays(np.float32, (length, width))),
        stimulus=stimulus,
    )
    save_trajectory(tmp_path / "t.safetensors", written)
    read = load_trajectory(tmp_path / "t.safetensors")
    assert read.stimulus == stimulus
    for name in ("teacher_ids", "student_ids", "response_ids", "top_ids_TK", "top_logprobs_TK"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name), strict=True)


def test_a_trajectory_that_does_not_fit_itself_is_not_written(tmp_path: Path) -> None:
    wrong = Trajectory(
        *(getattr(trajectory(), name) for name in ("teacher_ids", "student_ids", "response_ids")),
        top_ids_TK=np.zeros((2, 2), np.int32),
        top_logprobs_TK=np.zeros((2, 2), np.float32),
        stimulus="",
    )
    with pytest.raises(ValueError, match="response of 3 tokens"):
        save_trajectory(tmp_path / "t", wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_a_cut_and_a_foreign_trajectory_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(StageError, match=r"t\.safetensors is missing"):
        load_trajectory(path)
    save_trajectory(path, trajectory())
    whole = path.read_bytes()
    for content in (b"", b"not safetensors at all", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(StageError, match=r"t\.safetensors can't be read"):
            load_trajectory(path)


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
def test_a_torn_file_is_repaired_to_its_whole_rows(tmp_path: Path, rows: list[object], cut: st.DataObject) -> None:
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


def test_content_hash_depends_on_both_files_and_their_border(tmp_path: Path) -> None:
    hashes = set()
    for config, weights in ((b"ab", b"c"), (b"a", b"bc"), (b"ab", b"d"), (b"ab", b"c")):
        (tmp_path / ADAPTER_CONFIG).write_bytes(config)
        (tmp_path / ADAPTER_WEIGHTS).write_bytes(weights)
        (tmp_path / "parity.json").write_bytes(os.urandom(4))
        hashes.add(content_hash(tmp_path))
    assert len(hashes) == 3


def test_what_the_server_imports_brings_no_torch() -> None:
    code = (
        "import sys, baker.storage.files, baker.adapters.files, baker.training.events, baker.training.spec;"
        "print(*{'torch', 'peft', 'transformers', 'vllm'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout == b"\n"
