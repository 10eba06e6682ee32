"""`bread fetch` and `bread pull`."""

from tests.gateway.cli.remotes.conftest import OTHER, Pair


def test_fetch_brings_versions_and_moves_no_name(pair: Pair) -> None:
    theirs = pair.there.add("yoda", 1)
    pair.there.put_ref("v1", "yoda", "tag")
    mine = pair.here.add("yoda", 2)
    pair.run("remote", "add", "origin", f"{OTHER}/repo", "--repo", "repo")
    shown = pair.bread("fetch", "--repo", "repo")
    assert shown.code == 0, shown
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert lines[0] == f"From {OTHER}/repo"
    assert "* [new branch] yoda -> origin/yoda" in lines and "* [new tag] v1 -> v1" in lines
    assert pair.here.refs() == {
        "yoda": ("bake", mine.commit_id),
        "origin/yoda": ("remote", theirs.commit_id),
        "v1": ("tag", theirs.commit_id),
    }
    assert pair.run("fetch", "--repo", "repo")["moves"] == []


def test_names_that_are_gone_there_are_forgotten_on_request(pair: Pair) -> None:
    theirs = pair.there.add("yoda", 1)
    pair.there.put_ref("old", "yoda")
    pair.here.client.post("/v1/repo", json={"repo_name": "repo"})
    pair.run("remote", "add", "origin", f"{OTHER}/repo", "--repo", "repo")
    pair.run("fetch", "--repo", "repo")
    assert pair.there.client.delete("/v1/repo/repo/refs/old").is_success
    pair.run("fetch", "--repo", "repo")
    assert set(pair.here.refs()) == {"origin/yoda", "origin/old"}
    pair.run("fetch", "--prune", "--repo", "repo")
    assert pair.here.refs() == {"origin/yoda": ("remote", theirs.commit_id)}
    assert "no bake, branch or tag 'nothing'" in pair.run("fetch", "origin", "nothing", "--repo", "repo", code=4)


def test_a_tag_that_means_something_else_here_stays(pair: Pair) -> None:
    pair.there.add("theirs", 1)
    pair.there.put_ref("v1", "theirs", "tag")
    mine = pair.here.add("mine", 2)
    pair.here.put_ref("v1", "mine", "tag")
    fetched = pair.run("fetch", f"{OTHER}/repo", "--repo", "repo")
    assert fetched["notes"] == [f"tag v1 was not taken: the name means {(mine.commit_id or '')[:7]} here"]
    assert pair.here.refs()["v1"] == ("tag", mine.commit_id)


def test_pull_moves_a_branch_forward_and_refuses_otherwise(pair: Pair) -> None:
    root = pair.there.add("root", 1)
    pair.there.put_ref("main", "root")
    pair.here.client.post("/v1/repo", json={"repo_name": "repo"})
    pair.run("remote", "add", "origin", f"{OTHER}/repo", "--repo", "repo")
    assert "no branch is current" in pair.run("pull", "--repo", "repo", code=2)
    pair.run("pull", "origin", "main", "--repo", "repo")
    assert pair.here.refs()["main"] == ("branch", root.commit_id)
    assert pair.here.client.put("/v1/repo/repo/head", json={"branch": "main"}).is_success
    newer = pair.there.add("newer", 2, root)
    pair.there.put_ref("main", "newer")
    pair.run("pull", "--repo", "repo")
    assert pair.here.refs()["main"] == ("branch", newer.commit_id)
    pair.here.add("mine", 3)
    forced = {"kind": "branch", "to": "mine", "force": True}
    assert pair.here.client.put("/v1/repo/repo/refs/main", json=forced).is_success
    refused = pair.run("pull", "--repo", "repo", code=3)
    assert "non-fast-forward" in refused and "bread branch main-theirs origin/main" in refused
    pair.run("pull", "--force", "--repo", "repo")
    assert pair.here.refs()["main"] == ("branch", newer.commit_id)


def test_pull_does_not_move_a_bake(pair: Pair) -> None:
    pair.there.add("yoda", 1)
    mine = pair.here.add("yoda", 2)
    pair.run("remote", "add", "origin", f"{OTHER}/repo", "--repo", "repo")
    refused = pair.run("pull", "origin", "yoda", "--repo", "repo", code=3)
    assert "is a bake here" in refused and "bread branch NAME origin/yoda" in refused
    assert pair.here.refs()["yoda"] == ("bake", mine.commit_id)
