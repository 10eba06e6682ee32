"""A repo on a Bread gateway as a place to copy from and to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from gateway.cli.client import CONNECT_SECONDS, Client
from gateway.cli.failures import CliError
from gateway.cli.remotes import shapes
from gateway.cli.remotes.copying import Move, Node, Record, Ref
from gateway.cli.session import path_of

if TYPE_CHECKING:
    import httpx

Shape = TypeVar("Shape")
PAGE, MOST_COMMITS = 1000, 1_000_000
"""Commits in one request, and in one repo."""
CHUNK_BYTES = 1 << 18
MOST_DIGITS = 16
"""Of a length in bytes."""
IO_SECONDS = 120.0
"""How long either side may be silent while an adapter travels."""
PROVE_SECONDS = 900.0
"""How long a server may take to prove a received version: it waits for a place in the engine."""


class ByteClient(Client):
    """A client that also sends and reads bodies that are not JSON."""

    def size(self, path: str) -> int:
        import httpx

        try:
            answer = self._client().head(path, timeout=httpx.Timeout(IO_SECONDS, connect=CONNECT_SECONDS))
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if answer.status_code != 200:
            raise CliError(f"{self.url} has no {path.rpartition('/')[2][:12]} any more (HTTP {answer.status_code})")
        length = answer.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < MOST_DIGITS):
            raise CliError(f"{self.url} does not say how long {path.rpartition('/')[2][:12]} is")
        return int(length)

    def read(self, path: str, offset: int) -> Iterator[bytes]:
        """The bytes from `offset` on."""
        import httpx

        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self._client().stream("GET", path, headers=headers, timeout=_timeout()) as answer:
                if answer.status_code != (206 if offset else 200):
                    raise self._refusal(self._read(answer))
                yield from answer.iter_bytes(CHUNK_BYTES)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def send(self, path: str, chunks: Iterable[bytes] | None, headers: Mapping[str, str]) -> Any:
        """PUT of bytes. Returns: the answer's JSON."""
        import httpx

        try:
            with self._client().stream(
                "PUT", path, content=chunks, headers=dict(headers), timeout=_timeout()
            ) as opened:
                answer = self._read(opened)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if not answer.is_success:
            raise self._refusal(answer)
        return self._json(answer)

    def put_slowly(self, path: str, body: Any) -> Any:
        """PUT of JSON whose answer may take minutes."""
        return self._request("PUT", path, body, timeout=PROVE_SECONDS)


def _timeout() -> httpx.Timeout:
    import httpx

    return httpx.Timeout(IO_SECONDS, connect=CONNECT_SECONDS)


class ServerRepo:
    """See `copying.Place`."""

    def __init__(self, client: ByteClient, repo: str) -> None:
        self.client, self.repo = client, repo
        self.label = f"{client.url}/{repo}"

    def exists(self) -> bool:
        return self.client.find(path_of(self.repo)) is not None

    def create(self) -> None:
        self.client.post("/v1/repo", {"repo_name": self.repo})

    def refs(self) -> dict[str, Ref]:
        listed = self._checked(self.client.get(path_of(self.repo, "refs")), shapes.RefList).refs
        sent = [{"name": each.name, "kind": each.kind, "commit": each.commit} for each in listed if _travels(each)]
        return {
            each.name: Ref("tag" if each.kind == "tag" else "branch", each.commit, each.kind == "bake")
            for each in self._checked(sent, list[shapes.Travelling])
        }

    def head(self) -> str | None:
        return self._checked(self.client.get(path_of(self.repo, "head")), shapes.Head).branch

    def history(self, tips: Iterable[str] = ()) -> dict[str, Node]:
        """Args: tips: commits that no name may mean any more, but that are wanted too."""
        nodes = dict(self._log(None))
        for tip in tips:
            if tip not in nodes:
                nodes |= self._log(tip)
        return nodes

    def _log(self, ref: str | None) -> Iterator[tuple[str, Node]]:
        after: str | None = None
        known: set[str] = set()
        while True:
            answer = self.client.get(path_of(self.repo, "commits"), ref=ref, all=True, limit=PAGE, after=after)
            page = self._checked(answer, shapes.CommitPage)
            before = len(known)
            for each in page.commits:
                known.add(each.id)
                yield each.id, Node(each.adapter, each.parent_ids)
            after = page.next
            if after is None:
                return
            if len(known) == before or len(known) > MOST_COMMITS:
                raise CliError(f"the history of {self.label} does not end: nothing was copied")

    def record(self, commit: str, *, with_data: bool) -> Record:
        answer = self.client.get(path_of(self.repo, "commits", commit, "description"), with_data=with_data)
        return msgspec.structs.asdict(self._checked(answer, shapes.Record))

    def blob_size(self, sha256: str) -> int:
        return self.client.size(self._blob(sha256))

    def read_blob(self, sha256: str, offset: int) -> Iterator[bytes]:
        return self.client.read(self._blob(sha256), offset)

    def missing(self, commits: list[str], blobs: list[str]) -> tuple[set[str], set[str]]:
        missing_commits, missing_blobs = set(), set()
        for start in range(0, max(len(commits), len(blobs)), PAGE):
            part = slice(start, start + PAGE)
            body = {"commits": commits[part], "blobs": blobs[part]}
            answer = self._checked(self.client.post(path_of(self.repo, "have"), body), shapes.Missing)
            missing_commits |= {*answer.missing_commits}
            missing_blobs |= {*answer.missing_blobs}
        return missing_commits, missing_blobs

    def offer_blob(self, sha256: str, size: int) -> int:
        answer = self.client.send(self._blob(sha256), None, {"Content-Range": f"bytes */{size}"})
        standing = self._checked(answer, shapes.Standing)
        if not 0 <= standing.size <= size:
            raise CliError(f"{self.label} says that it has {standing.size} of the {size} bytes of {sha256[:12]}")
        return size if standing.is_complete else standing.size

    def write_blob(self, sha256: str, size: int, offset: int, chunks: Iterable[bytes]) -> None:
        headers = {"Content-Range": f"bytes {offset}-{size - 1}/{size}", "Content-Length": str(size - offset)}
        self.client.send(self._blob(sha256), chunks, headers)

    def write_commit(self, record: Record) -> None:
        body = {"description": record["description"], "notes": record["notes"], "is_shallow": not record["has_weights"]}
        if record.get("data"):
            body["data"] = record["data"]
        self.client.put_slowly(path_of(self.repo, "commits", record["id"]), body)

    def move(self, moves: list[Move], *, force: bool) -> None:
        for name, ref, before in moves:
            body = {"kind": ref.kind, "to": ref.commit, "from": before, "force": force}
            self.client.put(path_of(self.repo, "refs", name), body)

    def set_head(self, branch: str) -> None:
        self.client.put(path_of(self.repo, "head"), {"branch": branch})

    def _blob(self, sha256: str) -> str:
        return path_of(self.repo, "blobs", sha256)

    def _checked(self, answer: Any, shape: type[Shape]) -> Shape:
        return shapes.checked(answer, shape, f"{self.client.url} does not answer as a Bread gateway does")


def _travels(named: shapes.Named) -> bool:
    return named.kind in {"bake", "branch", "tag"} and bool(named.commit)
