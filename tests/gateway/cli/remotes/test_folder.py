"""Files of a folder: whole or not there, and continued where a copy broke."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.failures import CliError
from gateway.cli.remotes.folder import Folder

CONTENT = b"adapter" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_a_blob_appears_when_it_is_whole(tmp_path: Path) -> None:
    folder, size = Folder(tmp_path / "new"), len(CONTENT)
    blob = tmp_path / "new/blobs/sha256" / SHA256
    assert folder.part(SHA256, size) == 0
    folder.append(SHA256, size, 0, [CONTENT[:100]])
    assert (folder.part(SHA256, size), blob.exists()) == (100, False)
    folder.append(SHA256, size, 100, [CONTENT[100:500], CONTENT[500:]])
    assert (folder.part(SHA256, size), blob.read_bytes()) == (size, CONTENT)
    assert [path.name for path in blob.parent.iterdir()] == [SHA256]


def test_another_content_is_not_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for chunks in ([CONTENT[:-1] + b"X"], [CONTENT, b"more"]):
        with pytest.raises(CliError, match="another content"):
            folder.append(SHA256, len(CONTENT), 0, chunks)
        assert folder.part(SHA256, len(CONTENT)) == 0


def test_a_source_without_an_end_is_cut_off(tmp_path: Path) -> None:
    folder, asked = Folder(tmp_path), 0

    def endless() -> Iterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield CONTENT

    with pytest.raises(CliError, match="another content"):
        folder.append(SHA256, len(CONTENT), 0, endless())
    assert asked == 2 and not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(CliError, match="the disk has"):
        folder.append(SHA256, 1 << 60, 0, endless())
    assert asked == 2


def test_a_break_keeps_what_came(tmp_path: Path) -> None:
    def breaks() -> object:
        yield CONTENT[:300]
        raise ConnectionError

    folder = Folder(tmp_path)
    with pytest.raises((ConnectionError, CliError)):
        folder.append(SHA256, len(CONTENT), 0, breaks())  # type: ignore[arg-type]
    assert folder.part(SHA256, len(CONTENT)) == 300
    part = tmp_path / "blobs/sha256" / f".{SHA256}.part"
    part.write_bytes(b"x" * len(CONTENT))
    assert folder.part(SHA256, len(CONTENT)) == 0
    part.write_bytes(CONTENT)
    assert folder.part(SHA256, len(CONTENT)) == len(CONTENT), "it broke before it got its name"


def test_the_index_is_replaced_in_one_step(tmp_path: Path) -> None:
    folder, seen = Folder(tmp_path / "new"), []

    def update(content: bytes | None) -> bytes:
        seen.append(content)
        return b"one" if content is None else content + b", two"

    folder.publish(update)
    folder.publish(update)
    assert (seen, (tmp_path / "new/index.json").read_bytes()) == ([None, b"one"], b"one, two")

    def fails(content: bytes | None) -> bytes:
        raise CliError("no")

    with pytest.raises(CliError):
        folder.publish(fails)
    assert (tmp_path / "new/index.json").read_bytes() == b"one, two"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [".lock", "index.json", "oci-layout"]


def test_what_can_not_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = Folder(tmp_path / "file")
    with pytest.raises(CliError, match="cannot write to file:"):
        folder.append(SHA256, len(CONTENT), 0, [CONTENT])
    with pytest.raises(CliError, match="cannot write to file:"):
        folder.publish(lambda content: b"")
