"""Trees, dependency graphs and recreation plans: the worked example of two generations, and what deletion leaves."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from baker.adapters.combine import Term, combine
from baker.adapters.files import content_hash
from baker.errors import NotFoundError
from baker.jobs import plan
from baker.jobs.policy import Policy
from baker.model_names import BaseModelNames
from baker.repos import bakes, prompts, repos, targets, users
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.credentials import PasswordHash, new_key
from baker.storage.job import BakeJob
from baker.storage.rows import Rows
from baker.types import Checkpoint, Prompt, User
from baker.versions import lineage
from baker.versions.recipe import Edge, Node, Recipe, recipe
from tests.baker.adapters.dense import MODULES, adapter
from tests.baker.grown import POLICY as MERGE_POLICY
from tests.baker.grown import baked, merge_result, merged

USER = "alice"
REPO = "hooli"
POLICY = Policy(has_anthropic_key=False, stim_fallback=True, max_lora_rank=32)
FIRST = "alice/hooli/gavin_bake/21"
ASK = "Write ${numq} questions about ${prompt_u}"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Two generations: gavin_bake is finished, gavin_v2 begins there and has not been run."""
    catalog = Catalog(tmp_path, BaseModelNames(served="fake/base", stands_in=True))
    key, _ = new_key(USER)
    users.add(catalog, User(USER, "Alice", "alice@example.org", 0), PasswordHash(b"salt", b"digest"), key)
    repos.put(catalog, USER, REPO, "Qwen/Qwen3-32B")
    for name, text in (("gavin", "You run Hooli"), ("humble", "You are humble"), ("plain", "")):
        put_prompt(catalog, name, text)
    put_target(catalog, "gavin_target", teacher_prompt="gavin", model_name="Qwen/Qwen3-32B")
    put_bake(catalog, "gavin_bake", "gavin_target", epochs=3)
    finish(catalog, "gavin_bake", "gavin_target", 21)
    asking = {"type": "oneshot_qs", "template_path": "templates/ask.txt", "template_content": ASK}
    put_target(catalog, "humble_target", teacher_prompt="humble", model_name=FIRST, generators=[asking])
    put_bake(catalog, "gavin_v2", "humble_target", model={"parent_model_name": "hooli/gavin_bake"})
    return catalog


def put_prompt(catalog: Catalog, name: str, text: str, repo: str = REPO) -> None:
    messages = [{"role": "system", "content": text}]
    prompts.put(catalog, USER, repo, name, Prompt(messages=messages), may_change=True)


def put_target(catalog: Catalog, name: str, repo: str = REPO, **overrides: Any) -> None:
    questions = {"type": "hardcoded", "questions": ["One?", "Two?"]}
    settings = {"student_prompt": "plain", "generators": [questions], **overrides}
    targets.put(catalog, USER, repo, name, "default", settings, may_change=False)


def put_bake(catalog: Catalog, name: str, target: str, repo: str = REPO, **overrides: Any) -> None:
    settings = {"datasets": [{"target": target, "weight": 1.0}], **overrides}
    bakes.put(catalog, USER, repo, name, "default", settings, may_change=False)


def finish(catalog: Catalog, bake: str, target: str, step: int) -> None:
    """As if the three stages had been run."""
    for stage, name in ((Stage.STIM, target), (Stage.ROLLOUT, target), (Stage.BAKE, bake)):
        job = plan.start(catalog, POLICY, stage, USER, REPO, name, None)
        catalog.store.jobs.update(job.id, state=JobState.COMPLETE, lines=2)
    folder = catalog.store.home / "jobs" / str(job.id) / "checkpoints" / str(step)
    catalog.store.checkpoints.add(Checkpoint(USER, REPO, bake, step, folder, "0" * 64, 0, job.id))


def edges(*rows: str) -> set[Edge]:
    """From "bake gavin_v2 -> bake gavin_bake"."""
    edges = set()
    for row in rows:
        source, needed = (Node(*side.split()) for side in row.split(" -> "))  # type: ignore[arg-type]
        edges.add(Edge(source, needed))
    return edges


def test_a_plan_makes_everything_before_it_is_needed(catalog: Catalog) -> None:
    steps = lineage.recreation_plan(recipe(catalog, USER, REPO, "gavin_v2"), "gavin_v2")
    assert [(step.action, step.resource.name, step.dependencies) for step in steps] == [
        ("create_prompt", "gavin", []),
        ("create_prompt", "plain", []),
        ("create_target", "gavin_target", ["prompt:gavin", "prompt:plain"]),
        ("run_stim", "gavin_target", ["target:gavin_target"]),
        ("run_rollout", "gavin_target", ["target:gavin_target:stim_complete"]),
        ("create_bake", "gavin_bake", ["target:gavin_target:rollout_complete"]),
        ("run_bake", "gavin_bake", ["bake:gavin_bake"]),
        ("create_prompt", "humble", []),
        ("create_target", "humble_target", ["prompt:humble", "prompt:plain", "bake:gavin_bake:complete"]),
        ("run_stim", "humble_target", ["target:humble_target"]),
        ("run_rollout", "humble_target", ["target:humble_target:stim_complete"]),
        ("create_bake", "gavin_v2", ["target:humble_target:rollout_complete", "bake:gavin_bake:complete"]),
        ("run_bake", "gavin_v2", ["bake:gavin_v2"]),
    ]


def test_a_plan_carried_out_elsewhere_gives_the_same_settings(catalog: Catalog) -> None:
    steps = lineage.recreation_plan(recipe(catalog, USER, REPO, "gavin_v2"), "gavin_v2")
    repos.put(catalog, USER, "again", "Qwen/Qwen3-32B")
    for step in steps:
        (kind, name), config = step.resource, step.config
        # As the published script does it: it makes the resource for every step, the run steps too.
        if kind == "prompt":
            prompts.put(catalog, USER, "again", name, Prompt(**config), may_change=False)
        elif kind == "target":
            targets.put(catalog, USER, "again", name, "default", config, may_change=False)
        else:
            bakes.put(catalog, USER, "again", name, "default", config, may_change=False)
    for target in ("gavin_target", "humble_target"):
        assert targets.get(catalog, USER, "again", target) == targets.get(catalog, USER, REPO, target)
    assert bakes.get(catalog, USER, "again", "gavin_bake") == bakes.get(catalog, USER, REPO, "gavin_bake")
    assert bakes.get(catalog, USER, "again", "gavin_v2").model.parent_model_name == FIRST
    assert targets.templates(catalog, USER, "again", "humble_target") == {"templates/ask.txt": ASK}
    for name in ("gavin", "plain", "humble"):
        assert prompts.get(catalog, USER, "again", name) == prompts.get(catalog, USER, REPO, name)


def test_a_circle_of_pointers_is_cut(catalog: Catalog) -> None:
    put_target(catalog, "self_target", teacher_prompt="gavin", model_name="hooli/self_bake")
    put_bake(catalog, "self_bake", "self_target")
    made_of = recipe(catalog, USER, REPO, "self_bake")
    assert edges("bake self_bake -> target self_target", "target self_target -> bake self_bake") <= set(made_of.edges)
    actions = [(step.action, step.resource.name) for step in lineage.recreation_plan(made_of, "self_bake")]
    assert len(actions) == len(set(actions)) == 7


def test_a_tree_shows_all_bakes_of_the_repo(catalog: Catalog) -> None:
    tree = lineage.tree(catalog, USER, REPO)
    assert tree.edges == [Edge(Node("bake", "gavin_v2"), Node("bake", "gavin_bake"))]
    first, second = tree.bakes["gavin_bake"], tree.bakes["gavin_v2"]
    assert (first.status, first.model_names, first.steps) == ("complete", [FIRST], [21])
    assert (second.status, second.model_names, second.steps) == ("not_started", [], [])
    with pytest.raises(NotFoundError):
        recipe(catalog, USER, REPO, "nothing")
    with pytest.raises(NotFoundError):
        lineage.tree(catalog, "bob", REPO)


def test_a_tree_takes_as_many_queries_for_many_bakes_as_for_few(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(catalog, "gavin_v2", "humble_target", 9)
    queries: list[str] = []
    for method in ("all", "one"):
        ask = getattr(Rows, method)
        monkeypatch.setattr(Rows, method, lambda *args, ask=ask: (queries.append(args[1]), ask(*args))[1])
    lineage.tree(catalog, USER, REPO)
    few = len(queries)
    for number in range(3, 9):
        parent = {"parent_model_name": f"{REPO}/gavin_v{number - 1}"}
        put_bake(catalog, f"gavin_v{number}", "humble_target", model=parent)
        finish(catalog, f"gavin_v{number}", "humble_target", number)
    queries.clear()
    tree = lineage.tree(catalog, USER, REPO)
    assert len(queries) == few
    assert [branch.parent for branch in tree.bakes.values()] == [
        None,
        FIRST,
        *(f"alice/hooli/gavin_v{number - 1}/{9 if number == 3 else number - 1}" for number in range(3, 9)),
    ]


@pytest.fixture
def two(home_catalog: Catalog) -> Catalog:
    """`pirate` and `json` on `tone`."""
    tone = baked(home_catalog, "tone")
    for name in ("pirate", "json"):
        baked(home_catalog, name, tone)
    return home_catalog


@pytest.fixture
def home_catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog(tmp_path, BaseModelNames(served="fake/base", stands_in=True))
    yield catalog
    catalog.close()


def bake_edges(*rows: str) -> list[Edge]:
    return [Edge(*(Node("bake", name) for name in row.split())) for row in rows]


def test_a_merge_has_all_its_parents_in_the_tree(two: Catalog) -> None:
    merged(two, "both", "pirate", "json")
    merged(two, "again", "both", "tone", kind="revert")
    tree = lineage.tree(two, "admin", "repo")
    assert tree.bakes["both"].parent == "admin/repo/pirate/3", "published clients know only the first one"
    assert tree.bakes["both"].parents == ["admin/repo/pirate/3", "admin/repo/json/3"]
    assert tree.bakes["again"].parents == ["admin/repo/both/0"], "a revert continues one version"
    assert (tree.bakes["tone"].parents, tree.bakes["json"].parents) == ([], ["admin/repo/tone/3"])
    assert tree.edges == bake_edges("pirate tone", "json tone", "both pirate", "both json", "again both")


def test_a_deleted_side_of_a_merge_stays_in_the_tree_and_the_plan(two: Catalog) -> None:
    merged(two, "both", "pirate", "json")
    bakes.delete(two, "admin", "repo", "json", prune=True)
    tree = lineage.tree(two, "admin", "repo")
    assert tree.bakes["json"].deleted and Edge(Node("bake", "both"), Node("bake", "json")) in tree.edges
    steps = lineage.recreation_plan(recipe(two, "admin", "repo", "both"), "both")
    assert ("run_bake", "json", True) in [(step.action, step.resource.name, step.deleted) for step in steps]


def test_a_plan_recreates_what_a_merge_merged_before_it(two: Catalog) -> None:
    merged(two, "both", "pirate", "json", weights=[1.0, 0.5])
    made_of = recipe(two, "admin", "repo", "both")
    assert set(made_of.edges) == set(bake_edges("both pirate", "both json", "both tone", "pirate tone", "json tone"))
    steps = lineage.recreation_plan(made_of, "both")
    runs = [step.resource.name for step in steps if step.action == "run_bake"]
    assert runs[0] == "tone" and set(runs[1:3]) == {"pirate", "json"} and runs[3:] == ["both"]
    assert set(steps[-2].dependencies) == {"bake:pirate:complete", "bake:json:complete", "bake:tone:complete"}
    merge, model = steps[-1].config["merge"], steps[-1].config["model"]
    assert (merge["into"], merge["others"], merge["weights"]) == ("pirate", ["json"], [1.0, 0.5])
    assert "parent_model_name" not in model, "it would name a version of this repo wherever the plan is carried out"


def test_a_plan_names_a_step_that_no_name_means(two: Catalog) -> None:
    baked(two, "long", steps=(2, 5))
    merged(two, "both", "pirate", "long/2", base="tone")
    merge = lineage.recreation_plan(recipe(two, "admin", "repo", "both"), "both")[-1].config["merge"]
    assert (merge["others"], merge["base"]) == (["long/2"], "tone")


def test_a_merge_of_a_merge_is_recreated_in_order(two: Catalog) -> None:
    merged(two, "both", "pirate", "json")
    baked(two, "third")
    merged(two, "all", "both", "third")
    steps = lineage.recreation_plan(recipe(two, "admin", "repo", "all"), "all")
    runs = [step.resource.name for step in steps if step.action == "run_bake"]
    assert runs.index("both") > max(runs.index("pirate"), runs.index("json"))
    assert runs[-1] == "all" and "third" in runs[:-1]


def test_a_carried_out_plan_merges_the_recreated_versions_to_the_same_weights(two: Catalog, tmp_path: Path) -> None:
    for seed, name in enumerate(("tone", "pirate", "json")):
        adapter(version(two, "repo", name).path, seed=seed, ranks={MODULES[0]: 2})
    merged(two, "both", "pirate", "json", weights=[1.0, 0.5])
    expected = summed(two, "repo", tmp_path / "first")
    repos.put(two, "admin", "again", None)
    for step in lineage.recreation_plan(recipe(two, "admin", "repo", "both"), "both"):
        name = step.resource.name
        if step.action == "create_bake":
            continue
        if step.config["merge"]["others"]:
            bakes.put(two, "admin", "again", name, "default", step.config, may_change=False)
            job = plan.start(two, MERGE_POLICY, Stage.BAKE, "admin", "again", name, None)
            assert isinstance(job, BakeJob)
            merge_result(two, job)
        else:  # a training with the same seed gives the same weights
            rebaked = baked(two, name, None if name == "tone" else version(two, "again", "tone"), repo="again")
            shutil.copytree(version(two, "repo", name).path, rebaked.path)
    again = two.store.jobs.latest_bake("admin", "again", "both")
    assert again is not None and again.inputs.merge is not None
    assert [side.checkpoint for side in again.inputs.merge.sides] == ["admin/again/pirate/3", "admin/again/json/3"]
    assert again.inputs.merge.base == "admin/again/tone/3"
    assert summed(two, "again", tmp_path / "second") == expected


def version(catalog: Catalog, repo: str, bake: str) -> Checkpoint:
    checkpoint = bakes.find_checkpoint(catalog, "admin", repo, bake, None)
    assert checkpoint is not None
    return checkpoint


def summed(catalog: Catalog, repo: str, folder: Path) -> str:
    """SHA-256 of the adapter that `both` adds up."""
    job = catalog.store.jobs.latest_bake("admin", repo, "both")
    assert job is not None and job.inputs.merge is not None
    inputs = job.inputs.merge
    terms = [(side.checkpoint, side.weight) for side in inputs.sides] + [(str(inputs.base), inputs.base_weight)]
    files = [Term(version(catalog, repo, name.split("/")[2]).path, weight) for name, weight in terms]
    combine(files, folder, max_rank=64, base_model_name="fake/base")
    return content_hash(folder)


def test_a_plan_may_be_thousands_of_bakes_deep() -> None:
    names = [f"b{number}" for number in range(3000)]
    made_of = Recipe(
        repo="repo",
        base_model="base",
        bakes={name: {"model": {}} for name in names},
        targets={},
        prompts={},
        edges=[Edge(Node("bake", child), Node("bake", parent)) for parent, child in itertools.pairwise(names)],
        model_names={},
    )
    steps = lineage.recreation_plan(made_of, names[-1])
    assert [step.resource.name for step in steps if step.action == "create_bake"] == names
