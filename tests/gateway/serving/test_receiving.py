"""Receiving versions: nothing is served that was not proved, and a failure leaves what was sent."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from baker.errors import AdapterError, ConflictError, InvalidInputError, NotFoundError
from baker.history.commit import Commit
from baker.model_names import BaseModelNames
from baker.repos import repos
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread
from baker.transfer.receiving import Arrival, Data
from baker.transfer.uploads import Uploads
from baker.versions import gc
from gateway.serving.receiving import Receiving
from gateway.serving.recycle_bin import RecycleBin
from gateway.serving.registry import Registry
from gateway.serving.undo import Undo
from tests.baker.transfer.test_uploads import chunks
from tests.baker.transfer.versions import PARITY, foreign_commit, stream_of, write_adapter
from tests.gateway.serving.engine import LoraEngine

pytestmark = pytest.mark.anyio

BASE = BaseModelNames("Org/Base", stands_in=False)
FINGERPRINT = "b" * 64
SERVED_PARITY = {
    **PARITY,
    "sequences": [{"context_ids": [1], "response_ids": [2], "logprobs": [-1.0], "base_logprobs": [-2.0]}],
}
"""What `LoraEngine` computes."""


class Opened(NamedTuple):
    receiving: Receiving
    registry: Registry
    uploads: Uploads
    engine: LoraEngine
    home: Path
    catalog: OneThread[Catalog]

    @property
    def bin(self) -> RecycleBin:
        return RecycleBin(self.home, self.catalog, self.registry, self.uploads)

    async def send(self, seed: int, *parents: str) -> Commit:
        """Send an adapter. Returns: its commit, not sent yet."""
        sha256 = write_adapter(self.home / "elsewhere" / str(seed), seed)
        content = stream_of(self.home / "elsewhere" / str(seed))
        await self.uploads.receive("admin", "repo", sha256, 0, len(content), chunks(content))
        return foreign_commit(sha256, FINGERPRINT, *parents)

    async def commit(self, commit: Commit, **fields: Any) -> bool:
        parts = {"notes": {}, "data": Data(), "is_shallow": False, **fields}
        return await self.receiving.receive("admin", "repo", Arrival(commit, **parts))

    def left(self) -> list[str]:
        """What is in the folder of jobs, and what waits."""
        folders = [self.home / "jobs", self.home / "incoming/admin/repo"]
        return sorted(path.name for folder in folders if folder.exists() for path in folder.iterdir())


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    engine = LoraEngine()
    catalog = OneThread(lambda: Catalog(tmp_path, BASE, FINGERPRINT), "store")
    registry, uploads = Registry(engine, BASE), Uploads(tmp_path, 1 << 20)
    await catalog(repos.put, "admin", "repo", None)
    yield Opened(Receiving(tmp_path, catalog, registry, uploads, 100), registry, uploads, engine, tmp_path, catalog)
    catalog.close(Catalog.close)


async def test_a_received_version_is_proved_served_and_its_stream_removed(opened: Opened) -> None:
    commit = await opened.send(1)
    assert await opened.commit(commit, notes={"parity": SERVED_PARITY})
    served = opened.registry.resolve(f"repo/{commit.id[:12]}/0", "admin").checkpoint
    assert served is not None and served.commit_id == commit.id
    assert opened.engine.loaded == {served.name: served.path}
    assert (served.path / "parity.json").exists(), "it travels on"
    assert opened.left() == [str(served.job_id)]
    assert not await opened.commit(commit), "known"


async def test_a_version_that_is_not_served_as_it_was_trained_is_refused(opened: Opened) -> None:
    commit = await opened.send(1)
    opened.engine.logprob = -1.9
    with pytest.raises(AdapterError, match=f"Commit {commit.id[:12]} can't be served here: the engine's") as raised:
        await opened.commit(commit, notes={"parity": SERVED_PARITY})
    assert str(opened.home) not in raised.value.message and ".probe" not in raised.value.message
    assert opened.engine.loaded == {}
    assert opened.left() == [commit.adapter], "the stream waits for the next attempt"
    assert await opened.catalog(lambda catalog: catalog.history.commits.of_repo("admin", "repo")) == {}
    opened.engine.logprob = -1.0
    assert await opened.commit(commit, notes={"parity": SERVED_PARITY})


async def test_without_a_certificate_it_must_still_answer_with_finite_numbers(opened: Opened) -> None:
    commit = await opened.send(1)
    opened.engine.logprob = float("nan")
    with pytest.raises(AdapterError, match="not finite"):
        await opened.commit(commit)
    opened.engine.logprob = -1.0
    assert await opened.commit(commit)
    (checkpoint,) = await opened.catalog(lambda catalog: catalog.store.checkpoints.all())
    job = await opened.catalog(lambda catalog: catalog.store.jobs.find_bake(checkpoint.job_id))
    assert job is not None and any("without a parity certificate" in text for text in job.warnings)


async def test_files_that_are_no_adapter_of_this_model_are_refused(opened: Opened) -> None:
    folder = opened.home / "elsewhere" / "broken"
    write_adapter(folder, 1)
    (folder / "adapter_config.json").write_text('{"r": 99, "lora_alpha": 1, "target_modules": ["q_proj"]}')
    from baker.adapters.files import content_hash

    content, sha256 = stream_of(folder), content_hash(folder)
    await opened.uploads.receive("admin", "repo", sha256, 0, len(content), chunks(content))
    with pytest.raises(AdapterError, match=r": rank 99 is above"):
        await opened.commit(foreign_commit(sha256, FINGERPRINT))
    assert opened.engine.loaded == {}


async def test_weights_that_did_not_come_are_asked_for(opened: Opened) -> None:
    commit = foreign_commit("a" * 64, FINGERPRINT)
    with pytest.raises(ConflictError, match="send the blob first"):
        await opened.commit(commit)
    assert await opened.commit(commit, is_shallow=True)
    assert opened.left() == []
    with pytest.raises(ConflictError, match="send the blob first"):
        await opened.commit(commit)


async def test_another_commit_with_the_same_weights_needs_no_second_upload(opened: Opened) -> None:
    first = await opened.send(1)
    await opened.commit(first)
    second = foreign_commit(first.adapter, FINGERPRINT, message="the same weights, another message")
    assert await opened.commit(second)
    one, two = (opened.registry.resolve(f"repo/{each.id[:12]}/0", "admin").checkpoint for each in (first, second))
    assert one is not None and two is not None and one.path != two.path
    assert (one.path / "adapter_config.json").read_bytes() == (two.path / "adapter_config.json").read_bytes()


async def test_what_is_wrong_is_refused_before_the_engine_is_asked(opened: Opened) -> None:
    commit = await opened.send(1)
    for fields in ({"notes": {"parity": {}}}, {"data": Data({"a": "recipe"})}):
        with pytest.raises(InvalidInputError):
            await opened.commit(commit, **fields)
    with pytest.raises(ConflictError, match="fingerprint"):
        await opened.commit(foreign_commit(commit.adapter, "c" * 64))
    assert opened.engine.loaded == {}


async def test_garbage_collection_its_undo_and_its_redo_are_served_at_once(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "ARRIVAL_SECONDS", -1)
    commit = await opened.send(1)
    await opened.commit(commit)
    names = [f"repo/{commit.id[:12]}/0", f"repo/{commit.id[:10]}"]
    undo = Undo(opened.catalog, opened.registry)
    await opened.bin.collect("admin", "repo", prune=False)
    for name in names:
        with pytest.raises(NotFoundError):
            opened.registry.resolve(name, "admin")
    await undo.step("admin", "repo", "undo")
    for name in names:
        served = opened.registry.resolve(name, "admin").checkpoint
        assert served is not None and served.commit_id == commit.id
    await undo.step("admin", "repo", "redo")
    for name in names:
        with pytest.raises(NotFoundError):
            opened.registry.resolve(name, "admin")


async def test_a_collected_version_that_was_sent_again_stays_when_the_collection_is_undone(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "ARRIVAL_SECONDS", -1)
    commit = await opened.send(1)
    await opened.commit(commit, notes={"review": "old"})
    await opened.bin.collect("admin", "repo", prune=False)
    await opened.send(1)
    await opened.commit(commit, notes={"review": "new"})
    again = opened.registry.resolve(f"repo/{commit.id[:12]}/0", "admin").checkpoint
    await Undo(opened.catalog, opened.registry).step("admin", "repo", "undo")
    assert opened.registry.resolve(f"repo/{commit.id[:12]}/0", "admin").checkpoint == again is not None
    notes = await opened.catalog(lambda catalog: catalog.history.commits.notes("admin", "repo", commit.id))
    assert notes == {"review": "new"}
