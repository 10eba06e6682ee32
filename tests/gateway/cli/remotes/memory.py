"""A place in memory, with commits whose ids are real."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from gateway.cli.client import Unreachable
from gateway.cli.remotes.copying import Move, Node, Record, Ref
from tests.baker.transfer.versions import foreign_commit


class Memory:
    """See `copying.Place`."""

    label = "memory"

    def __init__(self) -> None:
        self.commits: dict[str, Record] = {}
        self.blobs: dict[str, bytes] = {}
        self.names: dict[str, Ref] = {}
        self.parts: dict[str, bytes] = {}
        self.events: list[str] = []
        self.breaks_after: int | None = None
        """Bytes after which the connection breaks, once."""
        self.received = 0

    def add(self, text: str, *parents: str, content: bytes | None = None, **fields: Any) -> str:
        """Add a commit. Returns: its id."""
        content = text.encode() * 100 if content is None else content
        sha256 = hashlib.sha256(content).hexdigest()
        commit = foreign_commit(sha256, "b" * 64, *parents, message=text, **fields)
        self.blobs[sha256] = content
        self.commits[commit.id] = {
            "id": commit.id,
            "description": msgspec.json.decode(msgspec.json.encode(commit)),
            "notes": {"evaluation": {"eval_kl": 0.5}},
            "has_weights": True,
            "data": {"recipe": {"secret": text}, "rows": {}},
        }
        return commit.id

    def exists(self) -> bool:
        return True

    def create(self) -> None:
        raise AssertionError

    def refs(self) -> dict[str, Ref]:
        return dict(self.names)

    def head(self) -> str | None:
        return next(iter(self.names), None)

    def history(self) -> dict[str, Node]:
        return {
            commit: Node(
                record["description"]["adapter"], tuple(parent["id"] for parent in record["description"]["parents"])
            )
            for commit, record in self.commits.items()
        }

    def record(self, commit: str, *, with_data: bool) -> Record:
        return {**self.commits[commit], "data": self.commits[commit]["data"] if with_data else None}

    def blob_size(self, sha256: str) -> int:
        return len(self.blobs[sha256])

    def read_blob(self, sha256: str, offset: int) -> Iterator[bytes]:
        content = self.blobs[sha256]
        for start in range(offset, len(content), 64):
            yield content[start : start + 64]

    def missing(self, commits: list[str], blobs: list[str]) -> tuple[set[str], set[str]]:
        return {*commits} - self.commits.keys(), {*blobs} - self.blobs.keys()

    def offer_blob(self, sha256: str, size: int) -> int:
        if len(self.parts.get(sha256, b"")) == size:
            self.blobs[sha256] = self.parts[sha256]
        return size if sha256 in self.blobs else len(self.parts.get(sha256, b""))

    def write_blob(self, sha256: str, size: int, offset: int, chunks: Iterable[bytes]) -> None:
        part = self.parts.get(sha256, b"")[:offset]
        for chunk in chunks:
            part += chunk
            self.parts[sha256] = part
            self.received += len(chunk)
            if self.breaks_after is not None and self.received >= self.breaks_after:
                self.breaks_after = None
                raise Unreachable("the connection broke")
        assert hashlib.sha256(part).hexdigest() == sha256
        self.blobs[sha256] = part
        self.events.append(f"blob {sha256}")

    def write_commit(self, record: Record) -> None:
        assert all(parent["id"] in self.commits for parent in record["description"]["parents"]), "parents first"
        assert not record["has_weights"] or record["description"]["adapter"] in self.blobs, "blobs first"
        self.commits[record["id"]] = record
        self.events.append(f"commit {record['id']}")

    def move(self, moves: list[Move], *, force: bool) -> None:
        for name, ref, before in moves:
            assert (self.names[name].commit if name in self.names else None) == before
            assert ref.commit in self.commits
            self.names[name] = Ref(ref.kind, ref.commit)
