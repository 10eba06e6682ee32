from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from baker.errors import StageError
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
def test_a_trajectory_is_read_back_unchanged(
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


def test_a_trajectory_whose_arrays_do_not_fit_together_is_not_written(tmp_path: Path) -> None:
    wrong = Trajectory(
        *(getattr(trajectory(), name) for name in ("teacher_ids", "student_ids", "response_ids")),
        top_ids_TK=np.zeros((2, 2), np.int32),
        top_logprobs_TK=np.zeros((2, 2), np.float32),
        stimulus="",
    )
    with pytest.raises(ValueError, match="response of 3 tokens"):
        save_trajectory(tmp_path / "t", wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_missing_cut_or_of_another_format_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(StageError, match=r"t\.safetensors is missing"):
        load_trajectory(path)
    save_trajectory(path, trajectory())
    whole = path.read_bytes()
    for content in (b"", b"not safetensors at all", whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(StageError, match=r"t\.safetensors can't be read"):
            load_trajectory(path)
