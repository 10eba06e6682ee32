"""What jobs came from."""

import msgspec
import pytest

from baker.config.target import TargetConfig
from baker.status import JobState
from baker.storage.job_inputs import BakeInputs, MergeInputs, MergeSide, RolloutInputs, TargetSnapshot
from baker.storage.job_origins import bake_start, checkpoints_in
from baker.types import Prompt

SIDES = [MergeSide("a", "1" * 64, "u/r/a/1", 1.0, []), MergeSide("b", "2" * 64, "u/r/b/2", 1.0, [])]
MERGE = MergeInputs(SIDES, "u/r/tone/9", "9" * 64)
TARGETS = {name: TargetSnapshot(TargetConfig(), Prompt(), Prompt(), {}, name) for name in ("u/r/t/1", "u/r/t/2")}


@pytest.mark.parametrize(
    "inputs, names",
    [
        (BakeInputs({}, None), []),
        (BakeInputs({}, "u/r/a/1"), ["u/r/a/1"]),
        (BakeInputs({}, "u/r/a/1", targets=TARGETS), ["u/r/a/1", "u/r/t/1", "u/r/t/2"]),
        (BakeInputs({}, "u/r/a/1", merge=MERGE), ["u/r/a/1", "u/r/tone/9", "u/r/b/2"]),
        (BakeInputs({}, None, merge=MergeInputs(SIDES, None, None)), ["u/r/a/1", "u/r/b/2"]),
        (RolloutInputs(1, Prompt(), Prompt(), "m", "u/r/a/1"), ["u/r/a/1"]),
    ],
)
def test_all_checkpoints_that_a_job_came_from_are_named_once(
    inputs: BakeInputs | RolloutInputs, names: list[str]
) -> None:
    assert checkpoints_in(msgspec.json.encode(inputs).decode()) == names


@pytest.mark.parametrize("merge", [None, MERGE])
def test_a_start_says_what_a_merge_adds_up(merge: MergeInputs | None) -> None:
    text = None if merge is None else msgspec.json.encode(merge).decode()
    row = {"id": 3, "name": "a", "state": "complete", "created": 5, "checkpoint": None, "is_waiting": 0, "merge": text}
    assert bake_start(row) == (3, "a", JobState.COMPLETE, 5, None, False, merge)
