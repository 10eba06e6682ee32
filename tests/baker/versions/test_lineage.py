"""Trees, dependency graphs and recreation plans: the worked example of two generations, and what deletion leaves."""

from pathlib import Path
from typing import Any

import pytest

from baker.errors import NotFoundError
from baker.jobs import plan
from baker.jobs.policy import Policy
from baker.model_names import BaseModelNames
from baker.repos import bakes, prompts, repos, targets, users
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.credentials import PasswordHash, new_key
from baker.storage.rows import Rows
from baker.types import Checkpoint, Prompt, User
from baker.versions import lineage
from baker.versions.recipe import Edge, Node, recipe

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
