"""Bakes made again on other versions, against the real application; only the trainings are left out."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest

from baker.jobs import plan
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.home import checkpoint_folder, job_folder
from baker.storage.job import BakeJob
from baker.types import Checkpoint
from baker.versions import checkpoints
from gateway.cli.client import Client
from gateway.cli.failures import Exit
from gateway.cli.merging import rebakes
from gateway.services import Services
from tests.baker.adapters.dense import MODULES, adapter
from tests.baker.grown import POLICY, merged
from tests.gateway.cli.conftest import Bread


class Story:
    """The repo `bread`, in which trainings end at once."""

    def __init__(self, bread: Bread, services: Services) -> None:
        self.bread, self.services = bread, services

    def run_all(self, client: Client, stages: Sequence[Any], bake: str) -> dict[str, Any]:
        repo, name = bake.split("/")
        for stage in stages[:-1]:
            client.post(stage.path)
        deadline = time.monotonic() + 30
        while any(client.get(stage.path)["status"] != "complete" for stage in stages[:-1]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        asyncio.run(self.services.catalog(self._finish, repo, name))
        return {"bake": client.get(stages[-1].path)}

    def _finish(self, catalog: Catalog, repo: str, name: str) -> None:
        job = plan.start(catalog, POLICY, Stage.BAKE, "admin", repo, name, None)
        assert isinstance(job, BakeJob)
        path, parent = checkpoint_folder(job_folder(catalog.store.home, job.id), 5), job.inputs.checkpoint
        adapter(path, seed=job.id, ranks={MODULES[0]: 2})
        row = Checkpoint("admin", repo, name, 5, path, f"{job.id:064}", 100 * job.id, job.id, parent=parent)
        checkpoints.keep(catalog, job, [row], [row], state=JobState.COMPLETE, loss=None, is_result=True)

    def bake(self, name: str, parent: str | None = None) -> None:
        options = [] if parent is None else ["--from", f"bread/{parent}"]
        options += ["-m", "made on purpose"] if name == "json" else []
        made = self.bread("bake", f"You are {name}.", "--name", name, "--questions", "3", "--detach", *options)
        assert made.code == 0, made
        self.run_all(self.bread.session().client, rebakes.stages_of("bread", name, name), f"bread/{name}")

    def commit(self, revision: str) -> Any:
        return self.bread.get(f"/v1/repo/bread/commits/{revision}")

    def names(self) -> list[str]:
        return list(self.bread.get("/v1/repo/bread/bakes")["bakes"])

    def questions(self, target: str) -> list[str]:
        rows = self.bread.get(f"/v1/repo/bread/targets/{target}/stim/output")["output"]
        return [row.get("question") or row["stimulus"] for row in rows]


@pytest.fixture
def story(bread: Bread, app_services: Services, monkeypatch: pytest.MonkeyPatch) -> Story:
    """`tone`, `pirate` on it, `json` on that; `calm` on the base model."""
    story = Story(bread, app_services)
    monkeypatch.setattr(rebakes, "run_all", story.run_all)
    monkeypatch.setattr("gateway.cli.baking.bake.start", lambda client, stages: None)
    for name, parent in (("tone", None), ("pirate", "tone"), ("json", "pirate"), ("calm", None)):
        story.bake(name, parent)
    return story


def test_a_rebase_bakes_a_chain_again_in_order(story: Story) -> None:
    before = story.names()
    dry = json.loads(story.bread("rebase", "bread/json", "--onto", "calm", "--dry-run", "--json").out)
    assert [(each["bake"], each["name"], each["parent"]) for each in dry["plan"]] == [
        ("tone", "tone-onto-calm", "bread/calm"),
        ("pirate", "pirate-onto-calm", "bread/tone-onto-calm"),
        ("json", "json-onto-calm", "bread/pirate-onto-calm"),
    ]
    assert story.names() == before, "a dry run makes nothing"
    shown = story.bread("rebase", "bread/json", "--onto", "calm")
    assert shown.code == 0, shown
    assert [line for line in shown.out.splitlines() if "is served" in line][-1] == "bread/json-onto-calm is served"
    assert story.names() == [*before, "tone-onto-calm", "pirate-onto-calm", "json-onto-calm"]
    new, old = story.commit("json-onto-calm"), story.commit("json")
    assert (old["message"], new["message"]) == ("made on purpose", "made on purpose")
    assert story.commit("pirate-onto-calm")["message"] == "pirate-onto-calm step 5", "not the old bake's name"
    assert [story.commit(f"json-onto-calm~{number}")["id"] for number in (1, 2, 3)] == [
        story.commit(name)["id"] for name in ("pirate-onto-calm", "tone-onto-calm", "calm")
    ]
    (snapshot,) = new["recipe"]["targets"].values()
    (old_snapshot,) = old["recipe"]["targets"].values()
    assert snapshot["checkpoint"] == "admin/bread/pirate-onto-calm/5", "the new parent answered"
    assert snapshot["teacher"] == old_snapshot["teacher"] and snapshot["config"]["teacher_prompt"] == "json"
    assert sorted(story.questions("json-onto-calm")) == sorted(story.questions("json"))
    again = json.loads(story.bread("rebase", "bread/json", "--onto", "calm", "--dry-run", "--json").out)
    assert again["plan"][-1]["name"] == "json-onto-calm-2"


def test_only_what_the_base_lacks_is_rebased_and_a_branch_moves(story: Story) -> None:
    assert story.bread("branch", "work", "bread/json").code == 0
    story.bake("grave", "tone")
    shown = story.bread("rebase", "bread/work", "--onto", "grave", "--name", "new")
    assert shown.code == 0 and "then branch work moves to new" in shown.out, shown
    assert story.commit("work")["id"] == story.commit("new")["id"]
    assert [story.commit(f"work~{number}")["model"] for number in (1, 2, 3)] == [
        "admin/bread/pirate-onto-grave/5", "admin/bread/grave/5", "admin/bread/tone/5",
    ]  # fmt: skip
    assert story.bread("undo").code == 0
    assert story.commit("work")["id"] == story.commit("json")["id"]
    nothing = story.bread("rebase", "bread/tone", "--onto", "json")
    assert (nothing.code, "nothing to rebase" in nothing.err) == (Exit.CONFLICT, True)


def test_a_prompt_that_was_changed_since_is_kept_as_the_recipe_has_it(story: Story) -> None:
    text = story.commit("pirate")["recipe"]["targets"]["pirate"]["teacher"]
    path = "/v1/repo/bread/prompts/pirate"
    story.bread.session().client.put(path, {"messages": [{"role": "system", "content": "You are Tex."}]})
    assert story.bread("rebase", "bread/pirate", "--onto", "base").code == 0
    root = story.commit("pirate-onto-base")
    assert root["parents"][0]["id"] == story.commit("tone-onto-base")["id"]
    assert story.commit("tone-onto-base")["parents"] == []
    (snapshot,) = root["recipe"]["targets"].values()
    assert snapshot["teacher"] == text and snapshot["config"]["teacher_prompt"] == "pirate-onto-base.pirate"


def test_a_revert_by_rebake_bakes_what_came_after_it_again(story: Story) -> None:
    shown = story.bread("revert", "bread/pirate", "--into", "json", "--rebake", "--json")
    assert shown.code == 0, shown
    (made,) = json.loads(shown.out)["plan"]
    assert made["bake"] == "json"
    assert [each["id"] for each in story.commit(made["name"])["parents"]] == [story.commit("tone")["id"]]
    nothing = story.bread("revert", "bread/json", "--into", "json", "--rebake")
    assert (nothing.code, "nothing came after" in nothing.err) == (Exit.CONFLICT, True)
    stranger = story.bread("revert", "bread/calm", "--into", "json", "--rebake")
    assert (stranger.code, "no ancestor" in stranger.err) == (Exit.CONFLICT, True)


def test_a_cascade_bakes_all_children_on_the_improved_version(story: Story) -> None:
    story.bake("sea", "tone")
    nothing = story.bread("cascade", "bread/tone", "--dry-run")
    assert (nothing.code, "nothing began from an earlier version" in nothing.err) == (Exit.CONFLICT, True)
    shown = story.bread("cascade", "bread/tone", "--onto", "calm", "--yes")
    assert shown.code == 0, shown
    parents = {
        name: story.commit(f"{name}~1")["model"].split("/")[2]
        for name in ("pirate-onto-calm", "sea-onto-calm", "json-onto-calm")
    }
    assert parents == {
        "pirate-onto-calm": "calm", "sea-onto-calm": "calm", "json-onto-calm": "pirate-onto-calm",
    }  # fmt: skip


def test_a_cascade_asks_first(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    before, asked = story.names(), []
    monkeypatch.setattr("click.confirm", lambda text, **options: asked.append(text))
    monkeypatch.setattr(rebakes, "run", lambda *arguments: [{}, {}])
    assert story.bread("cascade", "bread/tone", "--onto", "calm").code == 0
    assert asked == ["Bake 2 versions again?"] and story.names() == before


def test_a_merge_is_not_rebased(story: Story) -> None:
    asyncio.run(story.services.catalog(merged, "both", "json", "calm", repo="bread"))
    shown = story.bread("rebase", "bread/both", "--onto", "calm", "--dry-run")
    assert shown.code == Exit.CONFLICT, shown
    asyncio.run(story.services.catalog(merged, "more", "tone", "calm", repo="bread"))
    story.bake("fresh")
    shown = story.bread("rebase", "bread/more", "--onto", "fresh", "--dry-run")
    assert (shown.code, "is a merge, which can't be made again" in shown.err) == (Exit.CONFLICT, True)


def test_a_bake_of_several_targets_gets_a_copy_of_each(story: Story) -> None:
    client = story.bread.session().client
    datasets = [{"target": "tone", "weight": 1.0}, {"target": "calm", "weight": 0.5}]
    client.post(
        "/v1/repo/bread/bakes", {"bake_name": "two", "template": "default", "overrides": {"datasets": datasets}}
    )
    story.run_all(client, rebakes.stages_of("bread", "tone", "two"), "bread/two")
    assert story.bread("rebase", "bread/two", "--onto", "pirate").code == 0
    config = story.commit("two-onto-pirate")["recipe"]["config"]
    assert config["datasets"] == [
        {"target": "two-onto-pirate.tone", "weight": 1.0},
        {"target": "two-onto-pirate.calm", "weight": 0.5},
    ]
    targets = story.commit("two-onto-pirate")["recipe"]["targets"]
    assert {each["checkpoint"] for each in targets.values()} == {"admin/bread/pirate/5"}


def test_a_cascade_leaves_merges_out_and_says_so(story: Story) -> None:
    asyncio.run(story.services.catalog(merged, "both", "tone", "calm", repo="bread", held_back="too little is left"))
    shown = story.bread("cascade", "bread/tone", "--onto", "calm", "--dry-run", "--json")
    assert [each["bake"] for each in json.loads(shown.out)["plan"]] == ["pirate", "json"]
    assert "left out: both is a merge" in shown.err
