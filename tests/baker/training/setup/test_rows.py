"""The trajectories of a training: what is read, cut, left out and refused."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from baker.errors import TrainingError
from baker.training import events
from baker.training.setup.rows import check_vocabulary, read_data
from baker.training.spec import Round
from tests.baker.tiny import make_trajectories, save_model
from tests.baker.training.run.test_train import run, warnings_of, write_spec


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base") / "model")


def test_cut_and_dropped_trajectories_are_reported(tmp_path: Path, base: Path) -> None:
    rows = make_trajectories(12)
    sizes = [(len(row.student_ids), len(row.student_ids) + len(row.response_ids)) for row in rows]
    heard = run(write_spec(tmp_path, base, rows, epochs=1, data={"max_length": 7}))
    shortened = sum(context < 7 < whole for context, whole in sizes)
    dropped = sum(context >= 7 for context, _ in sizes)
    assert shortened > 0 and dropped > 0
    assert f"{shortened} responses were cut to data.max_length (7 tokens)" in warnings_of(heard)
    assert any(warning.startswith(f"{dropped} trajectories were left out") for warning in warnings_of(heard))


def test_a_file_that_is_named_twice_is_two_rows_and_a_round_trains_on_its_own_files(tmp_path: Path, base: Path) -> None:
    spec = write_spec(tmp_path, base, held_out=1)
    spec = msgspec.structs.replace(spec, train=[spec.train[0], spec.train[0], spec.train[1]])
    rows, held_out = read_data(spec, lambda event: None)
    assert [row.stimulus for row in rows] == ["question 1", "question 1", "question 2"]
    assert [row.stimulus for row in held_out["target"]] == ["question 0"]
    spec = msgspec.structs.replace(spec, round=Round(1, 4, 4, train=[spec.held_out["target"][0]]))
    assert [row.stimulus for row in read_data(spec, lambda event: None).rows] == ["question 0"]


def test_distributions_of_different_widths_are_warned_of(tmp_path: Path, base: Path) -> None:
    wide, narrow, *_ = make_trajectories(2)
    narrow = msgspec.structs.replace(
        narrow, top_ids_TK=narrow.top_ids_TK[:, :3], top_logprobs_TK=narrow.top_logprobs_TK[:, :3]
    )
    heard: list[events.TrainEvent] = []
    read_data(write_spec(tmp_path, base, [wide, narrow], held_out=0), heard.append)
    assert any("3 to 8 top tokens" in warning for warning in warnings_of(heard))


def test_token_ids_must_be_in_the_vocabulary() -> None:
    row = msgspec.structs.replace(make_trajectories(1)[0], student_ids=np.array([0, 60], np.int32))
    check_vocabulary([row], 61)
    for ids, text in (([0, 61], "from 0 to 61"), ([-1, 5], "from -1 to ")):
        with pytest.raises(TrainingError, match=text):
            check_vocabulary([msgspec.structs.replace(row, student_ids=np.array(ids, np.int32))], 61)
