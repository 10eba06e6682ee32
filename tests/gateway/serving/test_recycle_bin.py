"""The bin is swept when the service starts and every day; errors of the disk are clear and lose nothing."""

import errno
import os
import shutil
import time
from pathlib import Path

import anyio
import pytest

from baker.errors import DiskError
from baker.repos import recycle_bin
from gateway.services import Services
from gateway.serving.recycle_bin import size_of
from tests.gateway.application import Client, client_of, finish_bake, make_bake, services_in
from tests.gateway.serving.test_promotion import make_versions

pytestmark = pytest.mark.anyio

BAKE = "/v1/repo/repo/bakes/bake"


async def test_what_expired_goes_at_the_next_start_and_what_did_not_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_in(tmp_path)
    async with client_of(services) as client:
        await make_versions(client, services, "admin", 3)
        await client.delete(BAKE)
    folder = tmp_path / "jobs" / "1"
    services = services_in(tmp_path)
    async with client_of(services):
        await services.bin.sweep()
    assert (folder / "checkpoints" / "3" / "adapter_model.safetensors").exists()
    monkeypatch.setattr(recycle_bin, "KEPT_SECONDS", -1)
    async with client_of(services_in(tmp_path)) as client:
        for _ in range(1000):
            if folder.exists():
                await anyio.sleep(0.01)
        assert not folder.exists()
        refused = await client.post("/v1/repo/repo/undo", json={})
        assert refused.status_code == 409 and "removed for good" in refused.text


async def test_a_bake_that_others_began_from_leaves_its_record_when_it_expires(
    client: Client, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bake", "child"):
        await make_bake(client, "admin", name)
    folder = await finish_bake(services, "admin")
    (folder / "metrics.jsonl").write_text("{}\n")
    await finish_bake(services, "admin", bake="child", parent="admin/repo/bake/3")
    await client.delete(BAKE)
    tree = (await client.get("/v1/repo/repo/tree")).json()
    assert tree["bakes"]["bake"]["deleted"], "also while it is in the bin"
    monkeypatch.setattr(recycle_bin, "KEPT_SECONDS", -1)
    await services.bin.sweep()
    assert [path.name for path in folder.iterdir()] == ["metrics.jsonl"]
    assert (await client.get("/v1/repo/repo/tree")).json() == tree


async def test_uploads_that_no_commit_took_go_while_the_service_runs(services: Services) -> None:
    folder = services.home / "incoming" / "bob" / "repo"
    folder.mkdir(parents=True)
    for name, age in (("a" * 64, 8), ("b" * 64, 6)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age * 24 * 3600,) * 2)
    await services.bin.sweep()
    assert [path.name for path in folder.iterdir()] == ["b" * 64]


async def test_a_disk_that_fails_is_a_clear_error_and_the_rest_goes_at_the_next_start(
    client: Client, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_versions(client, services, "admin", 3)
    (folder,) = services.home.glob("jobs/*")
    await client.delete(BAKE)

    def full(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", full)
        with pytest.raises(DiskError, match="Read-only file system"):
            await services.bin.collect("admin", "repo", prune=True)
    assert folder.exists()
    async with client_of(services_in(services.home)):
        assert not folder.exists()


def test_files_with_another_name_free_nothing(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "own").write_bytes(b"x" * 10)
    (tmp_path / "one" / "shared").write_bytes(b"x" * 5)
    (tmp_path / "other").hardlink_to(tmp_path / "one" / "shared")
    assert size_of(tmp_path / "one") == 10
    assert size_of(tmp_path / "missing") == 0
