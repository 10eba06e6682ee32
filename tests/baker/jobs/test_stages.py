"""Jobs that can't run because what they need was deleted."""

from pathlib import Path

import pytest

from baker.errors import StageError
from baker.status import Stage
from tests.baker.jobs.test_queue import Service
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio


async def test_a_checkpoint_that_was_deleted_is_named(tmp_path: Path) -> None:
    service = Service(tmp_path, FakeEngine())
    assert await service.stages._find_checkpoint(None) is None
    with pytest.raises(StageError, match="checkpoint 'admin/repo/bake/3' was deleted") as raised:
        await service.stages._find_checkpoint("admin/repo/bake/3")
    assert raised.value.code == "STAGE_FAILED"


async def test_a_full_disk_fails_the_job_with_its_own_code(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("baker.jobs.stim_stage.append_lines", full)
    await service.start(Stage.STIM)
    job = await service.ended(Stage.STIM)
    assert (job.state, job.error_code) == ("failed", "DISK_ERROR")
    assert job.error == "disk error (No space left on device): free some space, then run it again"
