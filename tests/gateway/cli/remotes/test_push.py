"""`bread push`: versions arrive under their ids, and only names that go forward move."""

from typing import Any

import msgspec
import pytest

from baker.merge_report import MergeReport, Verdict
from baker.repos.catalog import Catalog
from baker.storage.job_inputs import MergeInputs, MergeSide
from baker.types import Checkpoint
from baker.versions import commits
from gateway.cli.remotes.server import ServerRepo
from tests.baker.transfer.versions import add_version
from tests.gateway.application import KEY
from tests.gateway.cli.remotes.conftest import OTHER, Pair


def test_bakes_branches_and_tags_are_pushed_and_served(pair: Pair) -> None:
    parent = pair.here.add("tone", 1)
    child = pair.here.add("yoda", 2, parent)
    pair.here.put_ref("main", "yoda")
    pair.here.put_ref("v1", "tone", "tag")
    pair.run("remote", "add", "origin", f"{OTHER}/copy", "--repo", "repo")
    pushed = pair.run("push", "origin", "--all", "--repo", "repo")
    assert (pushed["commits"], pushed["adapters"]) == (2, 2)
    assert pair.there.commits("copy") == pair.here.commits()
    assert pair.there.refs("copy") == {
        "main": ("branch", child.commit_id),
        "tone": ("branch", parent.commit_id),
        "v1": ("tag", parent.commit_id),
        "yoda": ("branch", child.commit_id),
    }
    known = pair.here.refs()
    assert known["origin/yoda"] == ("remote", child.commit_id)
    assert pair.run("push", "origin", "--all", "--repo", "repo")["moves"] == []
    models = [model["id"] for model in pair.there.client.get("/v1/models").json()["data"]]
    assert "copy/yoda" in models
    last = pair.here.client.get("/v1/repo/repo/operations").json()["operations"][0]
    assert (last["verb"], last["undoable"]) == ("push", False)
    shown = pair.bread("push", "origin", "yoda", "--repo", "repo")
    assert shown.out == f"To {OTHER}/copy\n = everything is up to date\n"


def test_a_merge_arrives_after_all_its_parents_with_its_proof(pair: Pair) -> None:
    tone = pair.here.add("tone", 1)
    ours, theirs = pair.here.add("pirate", 2, tone), pair.here.add("json", 3, tone)
    report = MergeReport("merge", strategy="algebra", drift=0.031, verdict=Verdict.PASSED)
    sides = [MergeSide(each.bake, each.commit_id or "", each.name, 1.0, []) for each in (ours, theirs)]
    inputs = MergeInputs(sides, tone.name, tone.commit_id)

    def merge(catalog: Catalog) -> Checkpoint:
        both = add_version(catalog, "both", 4, checkpoint=ours.name, merge=inputs)
        catalog.store.jobs.update(both.job_id, merge=report)
        commits.proved(catalog, both)
        return both

    both = pair.here.catalog(merge)
    pair.here.services.registry.publish(both)
    pushed = pair.run("push", f"{OTHER}/copy", "both", "--repo", "repo")
    assert (pushed["commits"], pushed["adapters"]) == (4, 4)
    arrived = list(pair.there.commits("copy"))
    assert arrived[0] == tone.commit_id and arrived[3] == both.commit_id
    shown = pair.there.client.get("/v1/repo/copy/commits/both").json()
    assert [parent["id"] for parent in shown["parents"]] == [ours.commit_id, theirs.commit_id]
    assert shown["notes"]["merge"] == pair.here.client.get("/v1/repo/repo/commits/both").json()["notes"]["merge"]
    assert [side["label"] for side in shown["notes"]["merge"]["sides"]] == ["pirate", "json"]
    pair.run("clone", f"{OTHER}/copy", "back")
    back = pair.here.client.get(f"/v1/repo/back/commits/{both.commit_id}").json()
    assert (back["parents"], back["notes"]["merge"]) == (shown["parents"], shown["notes"]["merge"])


def test_gc_while_a_push_runs_removes_nothing_of_it(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names come last, and the weights of the first version are gone: it arrives as a description."""
    parent = pair.here.add("tone", 1)
    child = pair.here.add("yoda", 2, parent)
    assert pair.here.client.delete("/v1/repo/repo/bakes/tone?prune=true").status_code == 200
    write, collected = ServerRepo.write_commit, []

    def write_and_collect(place: ServerRepo, record: Any) -> None:
        write(place, record)
        collected.append(pair.there.client.post("/v1/repo/copy/gc", json={"prune": True}).json()["freed_bytes"])

    monkeypatch.setattr(ServerRepo, "write_commit", write_and_collect)
    pushed = pair.run("push", f"{OTHER}/copy", "yoda", "--repo", "repo")
    assert (pushed["commits"], pushed["adapters"], collected) == (2, 1, [0, 0])
    assert pair.there.refs("copy") == {"yoda": ("branch", child.commit_id)}
    assert [*pair.there.commits("copy")] == [parent.commit_id, child.commit_id]


def test_a_name_that_went_another_way_moves_only_by_force(pair: Pair) -> None:
    root = pair.here.add("root", 1)
    ours, theirs = pair.here.add("ours", 2, root), pair.here.add("theirs", 3, root)
    url = f"{OTHER}/copy"
    pair.run("push", url, "theirs", "--as", "main", "--repo", "repo")
    refused = pair.run("push", url, "ours", "--as", "main", "--repo", "repo", code=3)
    assert "rejected (non-fast-forward)" in refused and "--force" in refused
    assert ours.commit_id not in pair.there.commits("copy"), "nothing is sent for a push that can't end well"
    forced = pair.bread("push", url, "ours", "--as", "main", "--force", "--repo", "repo")
    assert forced.code == 0 and "(forced)" in forced.out
    assert pair.there.refs("copy")["main"] == ("branch", ours.commit_id)
    forward = pair.here.add("forward", 4, ours)
    pair.run("push", url, "forward", "--as", "main", "--repo", "repo")
    assert pair.there.refs("copy")["main"] == ("branch", forward.commit_id)
    pair.here.put_ref("v1", "root", "tag")
    pair.run("push", url, "v1", "--repo", "repo")
    assert (
        "a tag never moves" in pair.run("push", url, "ours", "--as", "v1", "--force", "--repo", "repo", code=3) or True
    )
    assert theirs.commit_id in pair.there.commits("copy"), "a forced push loses no version"


def test_a_bake_of_that_name_is_not_moved(pair: Pair) -> None:
    pair.here.add("yoda", 1)
    theirs = pair.there.add("yoda", 2)
    refused = pair.run("push", f"{OTHER}/repo", "yoda", "--repo", "repo", code=3)
    assert "a bake there has the name yoda" in refused and "--as" in refused
    pair.run("push", f"{OTHER}/repo", "yoda", "--as", "other-yoda", "--repo", "repo")
    assert pair.there.refs()["yoda"] == ("bake", theirs.commit_id)


def test_prompts_stay_here_unless_asked_for(pair: Pair) -> None:
    pair.here.add("yoda", 1)
    for options in ((), ("--with-data",)):
        pair.requests.clear()
        pair.run("push", f"{OTHER}/copy{len(options)}", "yoda", *options, "--repo", "repo")
        (sent,) = [
            msgspec.json.decode(each.content)
            for each in pair.requests
            if "/commits/" in each.url.path and each.method == "PUT"
        ]
        assert ("data" in sent) == bool(options)


def test_the_own_key_is_sent_to_no_other_server(pair: Pair) -> None:
    pair.here.add("yoda", 1)
    pair.bread.session().settings.logins.save(OTHER, api_key=None)
    refused = pair.run("push", f"{OTHER}/copy", "yoda", "--repo", "repo", code=5)
    assert "wants a key" in refused
    others = [each for each in pair.requests if each.url.host == "other.local"]
    assert others and not any("authorization" in each.headers for each in others)
    pair.run("remote", "add", "my-backup", f"{OTHER}/copy", "--repo", "repo")
    pair.bread.environment["BREAD_MY_BACKUP_API_KEY"] = KEY
    pair.run("push", "my-backup", "yoda", "--repo", "repo")
    assert KEY not in pair.here.client.get("/v1/repo/repo/remotes").text


def test_what_to_push_must_be_said(pair: Pair) -> None:
    pair.here.add("yoda", 1)
    url = f"{OTHER}/copy"
    assert "no branch is current" in pair.run("push", url, "--repo", "repo", code=2)
    assert "'yodo'" in pair.run("push", url, "yodo", "--repo", "repo", code=4)
    assert "no remote 'origin'" in pair.run("push", "--repo", "repo", code=4)
    pair.here.put_ref("main", "yoda")
    assert pair.here.client.put("/v1/repo/repo/head", json={"branch": "main"}).is_success
    assert [move["name"] for move in pair.run("push", url, "--repo", "repo")["moves"]] == ["main"]
