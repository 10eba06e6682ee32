"""The archive of a checkpoint: what is in it, that it is the same every time, and that it is made once."""

import asyncio
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from baker.config.bake import BakeConfig
from baker.errors import NotFoundError
from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs
from baker.storage.one_thread import OneThread
from baker.types import Checkpoint
from baker.versions import archive
from baker.versions.archive import Archives, write_archive_sync
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio

WEIGHTS = {"lora_A": np.arange(6, dtype=np.float32)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[OneThread[Catalog]]:
    opened = OneThread(lambda: Catalog(tmp_path, BaseModelNames("fake/base", stands_in=True)), "store")
    yield opened
    opened.close(Catalog.close)


async def make(catalog: OneThread[Catalog], home: Path, base_model: str = "fake/base") -> Checkpoint:
    """A finished bake's rows and files."""

    def rows(on: Catalog) -> int:
        job = BakeJob(user="admin", repo="repo", name="bake", config=BakeConfig(), inputs=BakeInputs({}, None))
        return on.store.jobs.add(job).id

    number = await catalog(rows)
    folder = home / "jobs" / str(number) / "checkpoints" / "21"
    fill(folder, base_model)
    return Checkpoint("admin", "repo", "bake", 21, folder, "0" * 64, 1_790_000_000, number)


def fill(folder: Path, base_model: str) -> None:
    folder.mkdir(parents=True)
    config = {"base_model_name_or_path": base_model, "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_bytes(msgspec.json.encode(config))
    save_file(WEIGHTS, folder / "adapter_model.safetensors")
    (folder / "parity.json").write_text("{}")


def test_an_archive_holds_what_peft_needs_and_what_it_is(tmp_path: Path, base: Path) -> None:
    checkpoint = Checkpoint("alice", "repo", "bake", 21, tmp_path / "21", "0" * 64, 1_790_000_000, 1)
    fill(checkpoint.path, "fake/base")
    path = tmp_path / "archives" / "21.tar.gz"
    write_archive_sync(path, checkpoint, archive._files(tmp_path, checkpoint, base), "# Card é")
    with tarfile.open(path, "r:gz") as packed:
        packed.extractall(tmp_path / "out", filter="data")
        members = packed.getmembers()
    top = "bake_checkpoint_21"
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert [member.name for member in members] == [f"{top}/{name}" for name in names]
    for member in members:
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert (member.mtime, member.mode) == (1_790_000_000, 0o644)
    out = tmp_path / "out" / top
    np.testing.assert_array_equal(load_file(out / "adapter_model.safetensors")["lora_A"], WEIGHTS["lora_A"])
    assert json.loads((out / "adapter_config.json").read_text())["r"] == 2
    assert (out / "README.md").read_text() == "# Card é"
    assert (out / "tokenizer.json").read_text() == "tokenizer.json"


def test_an_archive_is_the_same_to_the_byte(tmp_path: Path, base: Path) -> None:
    archives = []
    for place, when in (("here", 1), ("there", 2_000_000_000)):
        checkpoint = Checkpoint("alice", "repo", "bake", 21, tmp_path / place, "0" * 64, 1_790_000_000, 1)
        fill(checkpoint.path, "fake/base")
        for file in [*checkpoint.path.iterdir(), *base.iterdir()]:
            os.utime(file, (when, when))
            file.chmod(0o600 if when == 1 else 0o640)
        path = tmp_path / f"{place}-archives" / "21.tar.gz"
        write_archive_sync(path, checkpoint, archive._files(tmp_path, checkpoint, base), "card")
        archives.append(path.read_bytes())
    assert archives[0] == archives[1]
    assert archives[0][3:8] == bytes(5), "neither name nor time in the gzip header (RFC 1952)"


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    checkpoint = Checkpoint("alice", "repo", "bake", 21, tmp_path / "21", "0" * 64, 0, 1)
    fill(checkpoint.path, "fake/base")
    (checkpoint.path / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        write_archive_sync(
            tmp_path / "archives" / "21.tar.gz", checkpoint, archive._files(tmp_path, checkpoint, None), "card"
        )
    assert list((tmp_path / "archives").iterdir()) == []


async def test_an_archive_is_made_once_however_many_ask(
    tmp_path: Path, base: Path, catalog: OneThread[Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def counting(path: Path, *rest: object) -> None:
        written.append(path)
        write_archive_sync(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(archive, "write_archive_sync", counting)
    checkpoint = await make(catalog, tmp_path)
    archives = Archives(tmp_path, catalog, FakeEngine(base))
    paths = await asyncio.gather(*(archives.file_of(checkpoint) for _ in range(5)))
    expected = tmp_path / "jobs" / str(checkpoint.job_id) / "archives" / "21.tar.gz"
    assert set(paths) == {expected}
    assert await archives.file_of(checkpoint) == expected
    assert written == [expected]


@pytest.mark.parametrize(("trained_on", "has_tokenizer"), [("fake/base", True), ("Other/Model", False)])
async def test_the_tokenizer_is_that_of_the_model_it_was_trained_on(
    tmp_path: Path, base: Path, catalog: OneThread[Catalog], trained_on: str, has_tokenizer: bool
) -> None:
    checkpoint = await make(catalog, tmp_path, trained_on)
    path = await Archives(tmp_path, catalog, FakeEngine(base)).file_of(checkpoint)
    with tarfile.open(path) as packed:
        names = packed.getnames()
        card = packed.extractfile("bake_checkpoint_21/README.md")
        assert isinstance(card, io.BufferedReader)
        assert f'base_model: "{trained_on}"' in card.read().decode()
    assert ("bake_checkpoint_21/tokenizer.json" in names) is has_tokenizer


@pytest.mark.parametrize("gone", ["checkpoints/21", "."])
async def test_a_checkpoint_whose_files_are_gone_is_not_found(
    tmp_path: Path, base: Path, catalog: OneThread[Catalog], gone: str
) -> None:
    checkpoint = await make(catalog, tmp_path)
    folder = tmp_path / "jobs" / str(checkpoint.job_id)
    (folder / gone).rename(tmp_path / "moved")
    with pytest.raises(NotFoundError, match="admin/repo/bake/21"):
        await Archives(tmp_path, catalog, FakeEngine(base)).file_of(checkpoint)
    assert gone != "." or not folder.exists(), "a removed job's folder does not come back"


async def test_an_archive_has_the_curves_and_quotes_prompts_only_on_request(
    tmp_path: Path, base: Path, catalog: OneThread[Catalog]
) -> None:
    checkpoint = await make(catalog, tmp_path)
    (tmp_path / "jobs" / str(checkpoint.job_id) / "metrics.png").write_bytes(b"picture")
    archives = Archives(tmp_path, catalog, FakeEngine(base))
    paths = [await archives.file_of(checkpoint, with_prompts=asked) for asked in (False, True, False)]
    assert [path.name for path in paths] == ["21.tar.gz", "21.prompts.tar.gz", "21.tar.gz"]
    for path, has_prompts in zip(paths, (False, True, False), strict=True):
        with tarfile.open(path) as packed:
            contents = {
                member.name.rpartition("/")[2]: file.read() for member in packed if (file := packed.extractfile(member))
            }
        card = contents["README.md"].decode()
        assert contents["curves.png"] == b"picture" and "(curves.png)" in card
        assert ("## Prompts" in card) is has_prompts
