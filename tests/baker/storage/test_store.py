"""The SQLite file: what was committed stays, what failed is undone."""

from pathlib import Path

import pytest

from baker.repos import prompts, targets
from baker.repos.catalog import Catalog
from baker.status import Stage
from baker.types import Prompt
from tests.baker.repos.filled import LOUD, USER, checkpoint, filled, finish, put_target, start

__all__ = ["filled"]  # a fixture


def test_committed_rows_are_read_after_opening_the_file_again(tmp_path: Path, filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target")
    filled.store.checkpoints.add(checkpoint(filled, 8, 1))
    again = Catalog(tmp_path, filled.base)
    assert again.store.jobs.find(job.id) == filled.store.jobs.find(job.id)
    assert again.store.checkpoints.all() == filled.store.checkpoints.all()
    assert targets.get(again, USER, "repo", "target") == targets.get(filled, USER, "repo", "target")


def test_a_refused_change_rolls_back(filled: Catalog) -> None:
    with pytest.raises(RuntimeError), filled.store.transaction():
        filled.store.put_prompt(USER, "repo", "loud", Prompt())
        raise RuntimeError
    assert prompts.get(filled, USER, "repo", "loud") == LOUD


def test_a_job_number_is_never_used_twice(filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target")
    finish(filled, job)
    targets.delete(filled, USER, "repo", "target")
    put_target(filled)
    assert start(filled, Stage.STIM, "target").id > job.id
