"""The map of BREAD_HOME against the paths that earlier versions wrote."""

from pathlib import Path

import pytest

from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.storage.home import archive_file, checkpoint_folder, job_folder, jobs_folder, output_file
from baker.storage.job import AnyJob, BakeJob, RolloutJob, StimJob
from baker.storage.job_inputs import BakeInputs, RolloutInputs, StimInputs
from baker.types import Prompt

HOME = Path("/home")
STIM = StimInputs(Prompt(), Prompt(), [])
BAKE = BakeInputs({}, None)
ROLLOUT = RolloutInputs(1, Prompt(), Prompt(), "model", None, 8)


@pytest.mark.parametrize(
    ("job", "path"),
    [
        (StimJob(id=7, user="u", repo="r", name="t", config=TargetConfig(), inputs=STIM), "stimuli.jsonl"),
        (RolloutJob(id=7, user="u", repo="r", name="t", config=TargetConfig(), inputs=ROLLOUT), "rows.jsonl"),
        (
            BakeJob(id=7, user="u", repo="r", name="b", config=BakeConfig(), inputs=BakeInputs({}, None)),
            "metrics.jsonl",
        ),
    ],
)
def test_each_stage_has_its_output_file(job: AnyJob, path: str) -> None:
    assert output_file(HOME, job) == HOME / "jobs" / "7" / path


def test_what_a_bake_writes_is_in_its_job_s_folder() -> None:
    folder = job_folder(HOME, 7)
    assert folder == jobs_folder(HOME) / "7" == HOME / "jobs/7"
    assert checkpoint_folder(folder, 21) == HOME / "jobs/7/checkpoints/21"
    assert archive_file(folder, 21) == HOME / "jobs/7/archives/21.tar.gz"
