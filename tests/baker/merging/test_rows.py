"""The rows of a merge: each version's own split, linked and mixed."""

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from baker.config.bake import BakeConfig
from baker.errors import CollateError
from baker.merging.rows import linked_data, merge_data, read_rows
from baker.storage.home import DATA, SPEC, job_folder
from baker.storage.job_inputs import MergeInputs, MergeSide
from baker.trajectories.files import load_trajectory, save_trajectory
from tests.baker.comparison.story import trajectory


def bake(home: Path, job: int, target: str, train: list[str], held_out: list[str]) -> None:
    """Leave what a training leaves: its rows, and the spec that names them."""
    folder = job_folder(home, job)
    names: dict[str, list[str]] = {"train": [], "held_out": []}
    for part, stimuli in (("train", train), ("held_out", held_out)):
        for index, stimulus in enumerate(stimuli):
            file = folder / DATA / target / f"{part}-{index}.safetensors"
            file.parent.mkdir(parents=True, exist_ok=True)
            save_trajectory(file, trajectory(stimulus, f"{target} says"))
            # The home may have been elsewhere.
            names[part].append(str(Path("/elsewhere/jobs") / str(job) / DATA / target / file.name))
    spec = {"train": [*names["train"], *names["train"]], "held_out": {target: names["held_out"]}}
    (folder / SPEC).write_bytes(msgspec.json.encode(spec))


def side(label: str, *jobs: int, weight: float = 1.0) -> MergeSide:
    return MergeSide(label, f"{label} commit", f"admin/repo/{label}/3", weight, list(jobs))


@pytest.fixture
def inputs(tmp_path: Path) -> MergeInputs:
    """pirate was made by two bakes, yoda by one; both were asked "both?"."""
    bake(tmp_path, 1, "talk", ["a?", "both?"], ["c?"])
    bake(tmp_path, 2, "talk", ["d?"], ["e?"])
    bake(tmp_path, 3, "wise", ["c?", "f?", "g?", "h?"], ["both?"])
    return MergeInputs([side("pirate", 2, 1), side("yoda", 3)], None, None)


def test_a_question_that_one_version_held_out_is_trained_on_by_none(tmp_path: Path, inputs: MergeInputs) -> None:
    data = merge_data(tmp_path, inputs)
    assert {label: [stimulus for stimulus, _ in own.train] for label, own in data.sides.items()} == {
        "pirate": ["d?", "a?"],
        "yoda": ["f?", "g?", "h?"],
    }
    assert {label: [stimulus for stimulus, _ in own.held_out] for label, own in data.sides.items()} == {
        "pirate": ["e?", "c?"],
        "yoda": ["both?"],
    }
    assert data.dropped == 2
    (row,) = read_rows(data.sides["yoda"].held_out)
    expected = trajectory("both?", "wise says")
    assert row.context_ids == expected.student_ids.tolist(), "the student's context, not the teacher's"
    assert row.response_ids == expected.response_ids.tolist()
    np.testing.assert_array_equal(row.teacher.top_ids_TK, expected.top_ids_TK)


def test_each_version_has_the_same_part(tmp_path: Path, inputs: MergeInputs) -> None:
    data = merge_data(tmp_path, inputs)
    folder = tmp_path / "jobs" / "9" / DATA
    mix = linked_data(data, folder, BakeConfig(), {"pirate": 1.0, "yoda": 1.0})
    counts = Counter(Path(file).parent.name for file in mix.train)
    assert counts in ({"pirate": 3, "yoda": 2}, {"pirate": 2, "yoda": 3}), "five rows, half of them each"
    stimuli = {load_trajectory(Path(file)).stimulus for file in mix.train}
    assert stimuli <= {"a?", "d?", "f?", "g?", "h?"}
    assert {label: len(files) for label, files in mix.held_out.items()} == {"pirate": 2, "yoda": 1}
    assert mix.collation.held_out == 3 and mix.collation.targets["yoda"].held_out == 1
    again = linked_data(data, folder, BakeConfig(), {"pirate": 1.0, "yoda": 1.0})
    assert again == mix
    assert not [path for path in folder.rglob("*.safetensors") if not path.is_file()]


def test_a_version_that_is_taken_out_is_only_measured(tmp_path: Path, inputs: MergeInputs) -> None:
    data = merge_data(tmp_path, inputs)
    mix = linked_data(data, tmp_path / "links", BakeConfig(), {"pirate": 1.0, "yoda": 0.0})
    assert {Path(file).parent.name for file in mix.train} == {"pirate"}
    assert set(mix.held_out) == {"pirate", "yoda"}


def test_a_version_without_rows_is_named(tmp_path: Path, inputs: MergeInputs) -> None:
    imported = MergeInputs([*inputs.sides[:1], side("imported", 7)], None, None)
    data = merge_data(tmp_path, imported)
    assert data.sides["imported"] == ([], [])
    with pytest.raises(CollateError, match="imported"):
        linked_data(data, tmp_path / "links", BakeConfig(), {"pirate": 1.0, "imported": 1.0})


def test_rows_that_are_gone_or_broken_are_left_out(tmp_path: Path, inputs: MergeInputs) -> None:
    (job_folder(tmp_path, 3) / DATA / "wise" / "train-1.safetensors").write_bytes(b"torn")
    (job_folder(tmp_path, 3) / DATA / "wise" / "train-2.safetensors").unlink()
    assert [stimulus for stimulus, _ in merge_data(tmp_path, inputs).sides["yoda"].train] == ["h?"]
