"""`bread clone`: from a gateway, a folder, and after a break."""

from pathlib import Path

import httpx
import pytest

from gateway.cli.remotes import copying
from tests.gateway.cli.conftest import Bread
from tests.gateway.cli.remotes.conftest import OTHER, Pair


def test_a_clone_has_all_versions_branches_and_tags(pair: Pair) -> None:
    root = pair.there.add("root", 1)
    tip = pair.there.add("tip", 2, root)
    pair.there.put_ref("main", "tip")
    pair.there.put_ref("v1", "root", "tag")
    assert pair.there.client.put("/v1/repo/repo/head", json={"branch": "main"}).is_success
    cloned = pair.run("clone", f"{OTHER}/repo", "mine")
    assert cloned["commits"] == 2
    assert pair.here.commits("mine") == pair.there.commits()
    refs = pair.here.refs("mine")
    assert {name: refs[name] for name in ("root", "tip", "main", "v1", "origin/main")} == {
        "root": ("branch", root.commit_id),
        "tip": ("branch", tip.commit_id),
        "main": ("branch", tip.commit_id),
        "v1": ("tag", root.commit_id),
        "origin/main": ("remote", tip.commit_id),
    }
    assert pair.here.client.get("/v1/repo/mine/head").json()["branch"] == "main"
    assert pair.run("clone", f"{OTHER}/repo", "mine")["moves"] == [], "it goes on, and there is nothing left to do"
    pair.here.client.post("/v1/repo", json={"repo_name": "taken"})
    assert "there is a repo taken already" in pair.run("clone", f"{OTHER}/repo", "taken", code=3)
    assert "is not there" in pair.run("clone", f"{OTHER}/nothing", code=4)


def test_a_clone_that_breaks_goes_on_with_the_next_run(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(copying, "TRIES", 1)
    root = pair.there.add("root", 1)
    tip = pair.there.add("tip", 2, root)
    inner = pair.bread.session().transport
    assert inner is not None
    sent = 0

    def breaks(request: httpx.Request) -> httpx.Response:
        nonlocal sent
        content = request.read()
        if request.method == "PUT" and tip.sha256 in request.url.path and len(content) > 250:
            # Half of the bytes arrive, then the connection is gone.
            half, size = content[: len(content) // 2], len(content)
            headers = {
                "Authorization": request.headers["authorization"],
                "Content-Range": f"bytes 0-{len(half) - 1}/{size}",
            }
            inner.handle_request(httpx.Request("PUT", request.url, headers=headers, content=half))
            raise httpx.WriteError("broken pipe")
        sent += len(content) if "/blobs/" in request.url.path else 0
        return inner.handle_request(request)

    broken = Bread(pair.bread.folder, capsys, httpx.MockTransport(breaks))("clone", f"{OTHER}/repo", "mine")
    assert broken.code == 5 and "the same command goes on" in broken.err
    assert set(pair.here.commits("mine")) == {root.commit_id}
    pair.requests.clear()
    cloned = pair.run("clone", f"{OTHER}/repo", "mine")
    assert (cloned["commits"], cloned["adapters"]) == (1, 1)
    size = pair.there.client.head(f"/v1/repo/repo/blobs/{tip.sha256}").headers["content-length"]
    assert cloned["bytes"] == int(size) - int(size) // 2, "only the rest was sent"
    assert pair.here.refs("mine")["tip"] == ("branch", tip.commit_id)


def test_a_repo_goes_through_a_folder(pair: Pair, tmp_path: Path) -> None:
    tip = pair.here.add("tip", 2, pair.here.add("root", 1))
    url = f"file:{tmp_path}/backup"
    pushed = pair.run("push", url, "--all", "--repo", "repo")
    assert (pushed["url"], pushed["commits"]) == (url, 2)
    assert pair.run("clone", url, "restored")["commits"] == 2
    assert pair.here.commits("restored") == pair.here.commits()
    assert pair.here.refs("restored")["tip"] == ("branch", tip.commit_id)
