"""Uploads go on where they stopped, are bounded before they begin, and are seen by nobody else."""

import asyncio
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from baker.errors import ConfigError, ConflictError, InvalidInputError, NotFoundError, TooLargeError
from baker.transfer import uploads
from baker.transfer.uploads import KEPT_SECONDS, LEAST_BYTES, MOST_WAITING, Standing, Uploads
from tests.baker.transfer.versions import stream_of, write_adapter

pytestmark = pytest.mark.anyio

LARGEST = 1 << 20


class Sent(NamedTuple):
    content: bytes
    sha256: str


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    sha256 = write_adapter(tmp_path / "adapter", 1, width=500)
    return Sent(stream_of(tmp_path / "adapter"), sha256)


@pytest.fixture
def incoming(tmp_path: Path) -> Uploads:
    (tmp_path / "home").mkdir()
    return Uploads(tmp_path / "home", LARGEST)


class BrokenError(Exception):
    pass


async def chunks(content: bytes, size: int = 1000, *, breaks: bool = False) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]
    if breaks:
        raise BrokenError


async def send(incoming: Uploads, sent: Sent, start: int = 0, user: str = "alice", repo: str = "repo") -> Standing:
    content = sent.content[start:]
    return await incoming.receive(user, repo, sent.sha256, start, len(sent.content), chunks(content))


async def test_a_whole_upload_is_found_by_its_hash(incoming: Uploads, sent: Sent) -> None:
    assert incoming.find("alice", "repo", sent.sha256) is None
    assert await send(incoming, sent) == Standing(len(sent.content), True)
    file = incoming.find("alice", "repo", sent.sha256)
    assert file is not None and file.read_bytes() == sent.content
    assert await send(incoming, sent) == Standing(len(sent.content), True), "sent twice"


@pytest.mark.parametrize("cut", [1, 999, 1000, 4321])
async def test_a_broken_upload_goes_on_where_it_stopped(incoming: Uploads, sent: Sent, cut: int) -> None:
    total = len(sent.content)
    with pytest.raises(BrokenError):
        await incoming.receive("alice", "repo", sent.sha256, 0, total, chunks(sent.content[:cut], breaks=True))
    assert incoming.standing("alice", "repo", sent.sha256) == Standing(cut, False)
    # As after kill -9: nothing of it is in memory.
    again = Uploads(incoming._root.parent, LARGEST)
    assert await send(again, sent, cut) == Standing(total, True)


async def test_an_upload_that_broke_after_its_last_byte_is_finished_when_it_is_asked_for(
    incoming: Uploads, sent: Sent
) -> None:
    total = len(sent.content)
    part = incoming._root / "alice" / "repo" / f"{sent.sha256}.part"
    for content, standing in ((sent.content, Standing(total, True)), (b"x" * total, None)):
        incoming.discard("alice", "repo")
        part.parent.mkdir(parents=True)
        part.write_bytes(content)
        if standing is None:
            with pytest.raises(InvalidInputError, match="nothing was kept"):
                await incoming.announce("alice", "repo", sent.sha256, total)
        else:
            assert await incoming.announce("alice", "repo", sent.sha256, total) == standing


async def test_it_goes_on_nowhere_else(incoming: Uploads, sent: Sent) -> None:
    total = len(sent.content)
    assert (await incoming.receive("a", "r", sent.sha256, 0, total, chunks(sent.content[:100]))) == (100, False)
    with pytest.raises(ConflictError, match="continues at byte 100, not 50"):
        await send(incoming, sent, 50, "a", "r")
    assert await send(incoming, sent, 0, "a", "r") == Standing(total, True), "it may begin again"


async def test_a_poisoned_upload_leaves_nothing(incoming: Uploads, sent: Sent) -> None:
    poisoned = sent.content[:-1] + bytes([sent.content[-1] ^ 1])
    with pytest.raises(InvalidInputError, match="nothing was kept"):
        await incoming.receive("alice", "repo", sent.sha256, 0, len(poisoned), chunks(poisoned))
    assert incoming.standing("alice", "repo", sent.sha256) == Standing(0, False)
    text = b"no adapter at all"
    with pytest.raises(InvalidInputError, match="not an adapter"):
        await incoming.receive("alice", "repo", hashlib.sha256(text).hexdigest(), 0, len(text), chunks(text))
    with pytest.raises(InvalidInputError, match="longer than the 10 bytes"):
        await incoming.receive("alice", "repo", sent.sha256, 0, 10, chunks(sent.content))


async def test_too_much_is_refused_before_a_byte_is_written(
    incoming: Uploads, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TooLargeError, match="--max-lora-rank"):
        await incoming.receive("alice", "repo", sent.sha256, 0, LARGEST + 1, chunks(sent.content))
    with pytest.raises(TooLargeError, match="--max-lora-rank"):
        await incoming.announce("alice", "repo", sent.sha256, 1 << 50)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 40, 0, 5))
    with pytest.raises(TooLargeError, match="disk has 5 left"):
        await send(incoming, sent)
    assert not [*incoming._root.rglob("*.part")]


async def test_the_bytes_that_wait_for_one_user_are_bounded(incoming: Uploads, sent: Sent) -> None:
    names = [hashlib.sha256(bytes([number])).hexdigest() for number in range(5)]
    for name in names[:4]:
        await incoming.receive("alice", f"repo{name[0]}", name, 0, LARGEST, chunks(b"x" * (LARGEST - 1)))
    with pytest.raises(TooLargeError, match="wait for their commits"):
        await incoming.receive("alice", "another", names[4], 0, LARGEST, chunks(b"x"))
    assert await send(incoming, sent, user="bob") == Standing(len(sent.content), True), "not bob's"
    incoming.discard("alice", f"repo{names[0][0]}")
    await incoming.announce("alice", "another", names[4], LARGEST)


async def test_many_small_uploads_are_bounded_too(incoming: Uploads) -> None:
    folder = incoming._root / "alice" / "repo"
    folder.mkdir(parents=True)
    for number in range(MOST_WAITING * LARGEST // LEAST_BYTES):
        (folder / f"{number:064x}.part").touch()
    with pytest.raises(TooLargeError, match="wait for their commits"):
        await incoming.announce("alice", "repo", "f" * 64, 1)


async def test_announced_bytes_count_before_they_come(incoming: Uploads) -> None:
    gate = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await gate.wait()

    names = [hashlib.sha256(bytes([number])).hexdigest() for number in range(5)]
    running = [asyncio.create_task(incoming.receive("alice", "repo", name, 0, LARGEST, slow())) for name in names[:4]]
    while len([*incoming._root.rglob("*.part")]) < 4:  # noqa: ASYNC110 - files raise no event
        await asyncio.sleep(0)
    with pytest.raises(TooLargeError, match="wait for their commits"):
        await incoming.announce("alice", "repo", names[4], LARGEST)
    gate.set()
    await asyncio.gather(*running)


async def test_the_newest_request_writes_and_the_older_one_ends(incoming: Uploads, sent: Sent) -> None:
    """As after a connection that broke without the server's notice."""
    gate, total = asyncio.Event(), len(sent.content)

    async def stuck() -> AsyncIterator[bytes]:
        yield sent.content[:1000]
        await gate.wait()
        yield b"late bytes" * 200_000

    older = asyncio.create_task(incoming.receive("alice", "repo", sent.sha256, 0, 1 << 20, stuck()))
    await asyncio.sleep(0.01)
    assert await send(incoming, sent) == Standing(total, True)
    gate.set()
    with pytest.raises((ConflictError, InvalidInputError)):
        await older
    file = incoming.find("alice", "repo", sent.sha256)
    assert file is not None and file.read_bytes() == sent.content


async def test_an_upload_that_stalls_ends_and_keeps_what_came(
    incoming: Uploads, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "STALL_SECONDS", 0.01)

    async def stalls() -> AsyncIterator[bytes]:
        yield sent.content[:77]
        await asyncio.Event().wait()

    with pytest.raises(InvalidInputError, match="Nothing came"):
        await incoming.receive("alice", "repo", sent.sha256, 0, len(sent.content), stalls())
    assert incoming.standing("alice", "repo", sent.sha256) == Standing(77, False)


async def test_uploads_are_apart_by_user_and_repo(incoming: Uploads, sent: Sent) -> None:
    await send(incoming, sent)
    for place in (("bob", "repo"), ("alice", "other")):
        assert incoming.find(*place, sent.sha256) is None
        assert incoming.standing(*place, sent.sha256) == Standing(0, False)
    for place in (("..", "alice"), ("alice", "../alice/repo"), ("alice", ""), ("", "repo")):
        with pytest.raises(ConfigError):
            incoming.find(*place, sent.sha256)
    with pytest.raises(InvalidInputError):
        incoming.find("alice", "repo", f"../repo/{sent.sha256}")


async def test_a_repo_that_is_removed_during_an_upload_stays_removed(incoming: Uploads, sent: Sent) -> None:
    async def removed() -> AsyncIterator[bytes]:
        incoming.discard("alice", "repo")
        yield sent.content

    with pytest.raises(NotFoundError, match="removed during the upload"):
        await incoming.receive("alice", "repo", sent.sha256, 0, len(sent.content), removed())
    assert not (incoming._root / "alice" / "repo").exists()


async def test_what_no_commit_took_for_a_week_is_swept(incoming: Uploads, sent: Sent) -> None:
    await send(incoming, sent)
    await incoming.receive("bob", "repo", sent.sha256, 0, len(sent.content), chunks(b"part"))
    fresh, old = sorted(incoming._root.glob("*/*/*"))
    os.utime(old, (0, time.time() - KEPT_SECONDS - 5))
    incoming.sweep()
    assert fresh.exists() and not old.exists()
    incoming.discard("alice", "repo", sent.sha256)
    assert not fresh.exists()
