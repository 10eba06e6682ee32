"""The map of BREAD_HOME: which folder and file holds what."""

from pathlib import Path

from baker.status import Stage
from baker.storage.job import AnyJob

PICTURE_SUFFIX = ".png"


def job_folder(home: Path, job_id: int) -> Path:
    return home / "jobs" / str(job_id)


def output_file(home: Path, job: AnyJob) -> Path:
    """The rows that a client may page through."""
    names = {Stage.STIM: "stimuli.jsonl", Stage.ROLLOUT: "rows.jsonl", Stage.BAKE: "metrics.jsonl"}
    return job_folder(home, job.id) / names[job.stage]
