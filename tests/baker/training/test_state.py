"""Training states on disk."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from baker.errors import StageError
from baker.status import Loss
from baker.training import state as training_state
from baker.training.events import Evaluated
from baker.training.state import Standing, TrainingState, find, read, step_of, write

SAME, OTHER = "a" * 64, "b" * 64


def state(step: int) -> TrainingState:
    standing = Standing(
        step, step + 1, Loss(latest_loss=0.1 + 0.2), [0.1 + 0.2] * step, [Evaluated(0, 1 / 3, {"a": 1.0})]
    )
    chance = np.random.default_rng(step)
    arrays = {"weight.0": chance.normal(size=(3, 5)).astype(np.float32), "random.cpu": chance.bytes(7)}
    return TrainingState(standing, {**arrays, "random.cpu": np.frombuffer(arrays["random.cpu"], np.uint8)})


def test_a_state_is_read_back_to_the_bit(tmp_path: Path) -> None:
    assert find(tmp_path / "none", SAME) is None
    assert write(tmp_path, state(7), SAME) > 60
    path = find(tmp_path, SAME)
    assert path is not None and step_of(path) == 7
    again = read(path)
    assert again.standing == state(7).standing
    assert {name: array.tobytes() for name, array in again.arrays.items()} == {
        name: array.tobytes() for name, array in state(7).arrays.items()
    }


def test_the_newest_counts_and_the_one_before_stays_in_reserve(tmp_path: Path) -> None:
    for step in (2, 9, 10, 11):
        write(tmp_path, state(step), SAME)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "11"]
    assert find(tmp_path, SAME) == tmp_path / "11"


def test_a_state_of_an_older_version_without_the_newer_measurements_is_resumed(tmp_path: Path) -> None:
    write(tmp_path, state(7), SAME)
    file = tmp_path / "7" / "state.json"
    fields = msgspec.json.decode(file.read_bytes())
    del fields["standing"]["drifts"]
    for evaluation in fields["standing"]["evaluations"]:
        del evaluation["agreement"], evaluation["agreement_by_target"]
    file.write_bytes(msgspec.json.encode(fields))
    assert find(tmp_path, SAME) == tmp_path / "7"
    assert read(tmp_path / "7").standing == state(7).standing


@pytest.mark.parametrize("file", ["state.json", "arrays.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "zeros", "gone", "empty"])
def test_a_damaged_state_is_removed_and_the_one_before_is_used(tmp_path: Path, file: str, damage: str) -> None:
    for step in (10, 11):
        write(tmp_path, state(step), SAME)
    damaged = tmp_path / "11" / file
    data = damaged.read_bytes()
    match damage:
        case "gone":
            damaged.unlink()
        case _:
            damaged.write_bytes({"cut": data[:-1], "zeros": bytes(len(data)), "empty": b""}[damage])
    with pytest.raises(StageError, match="incomplete or damaged"):
        read(tmp_path / "11")
    assert find(tmp_path, SAME) == tmp_path / "10"
    assert not (tmp_path / "11").exists(), "the training repeats that step"


def test_a_state_of_another_training_is_not_found(tmp_path: Path) -> None:
    write(tmp_path, state(3), OTHER)
    write(tmp_path, state(4), SAME)
    assert find(tmp_path, OTHER) == tmp_path / "3"
    assert find(tmp_path, SAME) is None


def test_an_unfinished_state_is_removed(tmp_path: Path) -> None:
    write(tmp_path, state(3), SAME)
    (tmp_path / ".4.0123.tmp").mkdir()
    (tmp_path / ".4.0123.tmp" / "arrays.safetensors").write_bytes(b"half")
    assert find(tmp_path, SAME) == tmp_path / "3"
    assert list(tmp_path.iterdir()) == [tmp_path / "3"]


def test_a_write_that_fails_leaves_the_last_state_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, state(3), SAME)

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training_state.Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, state(4), SAME)
    assert list(tmp_path.iterdir()) == [tmp_path / "3"]
    assert find(tmp_path, SAME) == tmp_path / "3"
