"""A local stand-in of the hub's HTTP API: repos, commits with LFS uploads, and downloads. It keeps all in memory."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_test"


class Hub:
    def __init__(self) -> None:
        self.url = ""
        self.private: dict[str, bool] = {}
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        """Repo -> its files after each commit, oldest first."""
        self.large: dict[str, bytes] = {}
        self.messages: list[str] = []
        self.uploads = 0
        """Large files that were sent."""

    def sha(self, repo: str, number: int | None = None) -> str:
        number = len(self.commits[repo]) if number is None else number
        return hashlib.sha1(f"{repo} {number}".encode()).hexdigest()

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        states = self.commits[repo]
        for number, state in enumerate(states, start=1):
            if self.sha(repo, number) == revision:
                return state
        return states[-1] if states else {}

    def commit(self, repo: str, lines: list[dict[str, Any]]) -> str | None:
        """Returns: the new commit; None if the repo changed since the parent."""
        header = next(line["value"] for line in lines if line["key"] == "header")
        parent = header.get("parentCommit")
        if parent is not None and parent != self.sha(repo):
            return None
        files = dict(self.files(repo))
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
        self.commits[repo].append(files)
        self.messages.append(header["summary"])
        return self.sha(repo)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        path, repo, rest = self._parts()
        if path.startswith("/api/models/"):
            if repo not in self.hub.commits:
                return self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            siblings = [{"rfilename": name} for name in sorted(self.hub.files(repo))]
            return self._answer(200, {"id": repo, "sha": self.hub.sha(repo), "siblings": siblings, "tags": []})
        _, revision, name = rest.split("/", 2)  # resolve/<revision>/<name>
        content = self.hub.files(repo, revision)[name]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        headers = {"X-Repo-Commit": revision, "ETag": etag, "Content-Length": str(len(content))}
        self.send_response(200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
        return None

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"error": "Invalid credentials"})
        path, repo, rest = self._parts()
        if path == "/api/repos/create":
            fields = json.loads(body)
            name = f"{fields['organization']}/{fields['name']}" if fields.get("organization") else fields["name"]
            self.hub.private[name] = fields.get("private", fields.get("visibility") == "private")
            self.hub.commits.setdefault(name, [])
            return self._answer(200, {"url": f"{self.hub.url}/{name}"})
        if rest.startswith("preupload"):
            files = [
                {"path": each["path"], "uploadMode": "lfs" if each["size"] > 200 else "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": files})
        if rest.startswith("commit"):
            oid = self.hub.commit(repo, [json.loads(line) for line in body.splitlines() if line])
            if oid is None:
                return self._answer(412, {"error": "The expected parent commit does not match"})
            return self._answer(
                200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{oid}"}
            )
        objects = []  # the LFS batch
        for each in json.loads(body)["objects"]:
            upload = {"href": f"{self.hub.url}/upload/{each['oid']}"}
            objects.append(each if each["oid"] in self.hub.large else {**each, "actions": {"upload": upload}})
        return self._answer(200, {"transfer": "basic", "objects": objects})

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        self.hub.large[self.path.rpartition("/")[2]] = content
        self.hub.uploads += 1
        self._answer(200, {})

    def _parts(self) -> tuple[str, str, str]:
        """Path, repo, and what follows the repo."""
        path = self.path.partition("?")[0]
        parts = path.removeprefix("/api/models/").lstrip("/").split("/", 2)
        return path, "/".join(parts[:2]).removesuffix(".git"), parts[2] if len(parts) > 2 else ""

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {
            "content-type": "application/json",
            "content-length": str(len(content)),
            **(headers or {}),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def served_hub() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
