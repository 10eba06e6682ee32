"""A repo on a Bread gateway as a place to copy from and to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gateway.cli.client import CONNECT_SECONDS, Client
from gateway.cli.failures import CliError
from gateway.cli.remotes.copying import Move, Node, Record, Ref
from gateway.cli.session import path_of

if TYPE_CHECKING:
    import httpx

PAGE = 1000
"""Commits in one request."""
CHUNK_BYTES = 1 << 18
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
        return int(answer.headers["content-length"])

    def read(self, path: str, offset: int) -> Iterator[bytes]:
        """The bytes from `offset` on."""
        import httpx

        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self._client().stream("GET", path, headers=headers, timeout=_timeout()) as answer:
                if answer.status_code != (206 if offset else 200):
                    answer.read()
                    raise self._refusal(answer)
                yield from answer.iter_bytes(CHUNK_BYTES)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def send(self, path: str, chunks: Iterable[bytes] | None, headers: Mapping[str, str]) -> Any:
        """PUT of bytes. Returns: the answer's JSON."""
        import httpx

        try:
            answer = self._client().put(path, content=chunks, headers=dict(headers), timeout=_timeout())
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
        listed = self.client.get(path_of(self.repo, "refs"))["refs"]
        return {
            each["name"]: Ref("tag" if each["kind"] == "tag" else "branch", each["commit"], each["kind"] == "bake")
            for each in listed
            if each["kind"] in {"bake", "branch", "tag"} and each["commit"]
        }

    def head(self) -> str | None:
        branch = self.client.get(path_of(self.repo, "head"))["branch"]
        return None if branch is None else str(branch)

    def history(self, tips: Iterable[str] = ()) -> dict[str, Node]:
        """Args: tips: commits that no name may mean any more, but that are wanted too."""
        nodes = dict(self._log(None))
        for tip in tips:
            if tip not in nodes:
                nodes |= self._log(tip)
        return nodes

    def _log(self, ref: str | None) -> Iterator[tuple[str, Node]]:
        after: str | None = None
        while True:
            page = self.client.get(path_of(self.repo, "commits"), ref=ref, all=True, limit=PAGE, after=after)
            for each in page["commits"]:
                yield each["id"], Node(each["adapter"], tuple(parent["id"] for parent in each["parents"]))
            after = page.get("next")
            if after is None:
                return

    def record(self, commit: str, *, with_data: bool) -> Record:
        described: Record = self.client.get(path_of(self.repo, "commits", commit, "description"), with_data=with_data)
        return described

    def blob_size(self, sha256: str) -> int:
        return self.client.size(self._blob(sha256))

    def read_blob(self, sha256: str, offset: int) -> Iterator[bytes]:
        return self.client.read(self._blob(sha256), offset)

    def missing(self, commits: list[str], blobs: list[str]) -> tuple[set[str], set[str]]:
        missing_commits, missing_blobs = set(), set()
        for start in range(0, max(len(commits), len(blobs)), PAGE):
            part = slice(start, start + PAGE)
            answer = self.client.post(path_of(self.repo, "have"), {"commits": commits[part], "blobs": blobs[part]})
            missing_commits |= {*answer["missing_commits"]}
            missing_blobs |= {*answer["missing_blobs"]}
        return missing_commits, missing_blobs

    def offer_blob(self, sha256: str, size: int) -> int:
        answer = self.client.send(self._blob(sha256), None, {"Content-Range": f"bytes */{size}"})
        return size if answer["is_complete"] else int(answer["size"])

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
