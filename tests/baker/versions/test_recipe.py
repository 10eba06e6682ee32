"""What a bake is made of, and what stays of that when its parts are changed or deleted."""

from baker.jobs import plan
from baker.repos import bakes, prompts, repos, targets
from baker.repos.catalog import Catalog
from baker.status import Stage
from baker.versions import lineage
from baker.versions.recipe import recipe
from tests.baker.versions.test_lineage import (
    FIRST,
    POLICY,
    REPO,
    USER,
    catalog,
    edges,
    finish,
    put_bake,
    put_prompt,
    put_target,
)

__all__ = ["catalog"]  # a fixture


def test_a_recipe_holds_the_bake_and_all_that_it_depends_on(catalog: Catalog) -> None:
    made_of = recipe(catalog, USER, REPO, "gavin_v2")
    assert made_of.base_model == "Qwen/Qwen3-32B"
    assert list(made_of.bakes) == ["gavin_v2", "gavin_bake"]
    assert list(made_of.targets) == ["humble_target", "gavin_target"]
    assert set(made_of.prompts) == {"humble", "plain", "gavin"}
    assert set(made_of.edges) == edges(
        "bake gavin_v2 -> bake gavin_bake",
        "bake gavin_v2 -> target humble_target",
        "bake gavin_bake -> target gavin_target",
        "target humble_target -> prompt humble",
        "target humble_target -> prompt plain",
        "target gavin_target -> prompt gavin",
        "target gavin_target -> prompt plain",
        "target humble_target -> bake gavin_bake",
    )
    assert made_of.model_names == {"gavin_v2": [], "gavin_bake": [FIRST]}
    assert made_of.bakes["gavin_v2"]["model"]["parent_model_name"] == FIRST, "a pointer is written as what it meant"
    assert made_of.bakes["gavin_bake"]["epochs"] == 3


def test_a_bake_that_waits_for_its_parent_does_not_name_the_parent_s_earlier_result(catalog: Catalog) -> None:
    before = catalog.store.jobs.latest_bake(USER, REPO, "gavin_bake")
    assert before is not None
    catalog.store.jobs.fail(before.id, "broken", "STAGE_FAILED")
    for stage, name in (
        (Stage.BAKE, "gavin_bake"),
        (Stage.STIM, "humble_target"),
        (Stage.ROLLOUT, "humble_target"),
        (Stage.BAKE, "gavin_v2"),
    ):
        plan.start(catalog, POLICY, stage, USER, REPO, name, None)
    made_of = recipe(catalog, USER, REPO, "gavin_v2")
    assert made_of.model_names["gavin_bake"] == [FIRST], "it is still served"
    assert made_of.bakes["gavin_v2"]["model"]["parent_model_name"] == "hooli/gavin_bake"
    assert edges("bake gavin_v2 -> bake gavin_bake") <= set(made_of.edges)


def test_a_recipe_stays_true_when_its_parts_change(catalog: Catalog) -> None:
    before = recipe(catalog, USER, REPO, "gavin_bake")
    put_prompt(catalog, "gavin", "You run Pied Piper")
    targets.delete(catalog, USER, REPO, "gavin_target")
    prompts.delete(catalog, USER, REPO, "plain")
    assert recipe(catalog, USER, REPO, "gavin_bake") == before


def test_what_was_deleted_before_it_was_run_is_named_without_content(catalog: Catalog) -> None:
    prompts.delete(catalog, USER, REPO, "humble")
    made_of = recipe(catalog, USER, REPO, "gavin_v2")
    assert made_of.prompts["humble"] is None
    assert "humble" not in [step.resource.name for step in lineage.recreation_plan(made_of, "gavin_v2")]
    targets.delete(catalog, USER, REPO, "humble_target")
    made_of = recipe(catalog, USER, REPO, "gavin_v2")
    assert made_of.targets["humble_target"] is None
    assert edges("bake gavin_v2 -> target humble_target") <= set(made_of.edges)


def test_a_parent_in_another_repo_is_named_and_not_followed(catalog: Catalog) -> None:
    repos.put(catalog, USER, "other", None)
    put_prompt(catalog, "plain", "", repo="other")
    put_target(catalog, "target", repo="other", teacher_prompt="plain")
    put_bake(catalog, "child", "target", repo="other", model={"parent_model_name": FIRST})
    made_of = recipe(catalog, USER, "other", "child")
    assert set(made_of.edges) == edges("bake child -> target target", "target target -> prompt plain")
    assert made_of.bakes["child"]["model"]["parent_model_name"] == FIRST
    assert lineage.tree(catalog, USER, "other").edges == []


def test_a_third_generation_knows_all_before_it(catalog: Catalog) -> None:
    """It names its parent in the older place, by the shortest spelling."""
    finish(catalog, "gavin_v2", "humble_target", 9)
    put_target(catalog, "loud_target", teacher_prompt="humble", model_name="hooli/gavin_v2")
    put_bake(catalog, "gavin_v3", "loud_target", model_name="hooli/gavin_v2")
    made_of = recipe(catalog, USER, REPO, "gavin_v3")
    assert list(made_of.bakes) == ["gavin_v3", "gavin_v2", "gavin_bake"]
    assert made_of.bakes["gavin_v3"]["model"]["parent_model_name"] == "alice/hooli/gavin_v2/9"
    assert "model_name" not in made_of.bakes["gavin_v3"], "a second name would be warned of when it is made again"
    descent = edges("bake gavin_v3 -> bake gavin_v2", "bake gavin_v2 -> bake gavin_bake")
    assert descent <= set(made_of.edges)
    rebaked = [step.resource.name for step in lineage.recreation_plan(made_of, "gavin_v3") if step.action == "run_bake"]
    assert rebaked == ["gavin_bake", "gavin_v2", "gavin_v3"]
    assert set(lineage.tree(catalog, USER, REPO).edges) == descent


def child_of(catalog: Catalog, name: str = "gavin_v2") -> None:
    """Finish the bake that begins from gavin_bake."""
    finish(catalog, name, "humble_target", 9)


def test_a_deleted_parent_stays_in_the_recipe_and_can_be_made_again(catalog: Catalog) -> None:
    child_of(catalog)
    before = recipe(catalog, USER, REPO, "gavin_v2")
    assert bakes.delete(catalog, USER, REPO, "gavin_bake")
    after = recipe(catalog, USER, REPO, "gavin_v2")
    assert (after.bakes, after.targets, after.edges) == (before.bakes, before.targets, before.edges)
    assert (after.deleted, after.model_names["gavin_bake"]) == ({"gavin_bake": "gavin_bake"}, [])
    steps = lineage.recreation_plan(after, "gavin_v2")
    assert {step.resource.name for step in steps if step.deleted} == {"gavin_bake"}
    actions = [(step.action, step.resource.name) for step in steps]
    assert actions == [(step.action, step.resource.name) for step in lineage.recreation_plan(before, "gavin_v2")]
    child = next(step.config for step in steps if step.action == "run_bake" and step.resource.name == "gavin_v2")
    target = next(step.config for step in steps if step.action == "run_stim" and step.resource.name == "humble_target")
    assert child["model"]["parent_model_name"] == target["model_name"] == "hooli/gavin_bake", "its checkpoint is gone"


def test_a_new_bake_of_a_deleted_parent_s_name_is_not_taken_for_it(catalog: Catalog) -> None:
    child_of(catalog)
    bakes.delete(catalog, USER, REPO, "gavin_bake")
    put_bake(catalog, "gavin_bake", "humble_target", epochs=9)
    (label,) = recipe(catalog, USER, REPO, "gavin_v2").deleted
    assert label.startswith("gavin_bake.deleted-")
    made_of = recipe(catalog, USER, REPO, "gavin_v2")
    assert edges(f"bake gavin_v2 -> bake {label}", f"target humble_target -> bake {label}") <= set(made_of.edges)
    assert "gavin_bake" not in made_of.bakes and made_of.bakes[label]["epochs"] == 3
    tree = lineage.tree(catalog, USER, REPO)
    assert edges(f"bake gavin_v2 -> bake {label}") == set(tree.edges)
    assert (tree.bakes[label].name, tree.bakes[label].deleted, tree.bakes[label].config["epochs"]) == (
        "gavin_bake",
        True,
        3,
    )
    assert (tree.bakes["gavin_bake"].deleted, tree.bakes["gavin_bake"].config["epochs"]) == (False, 9)
    plan = lineage.recreation_plan(made_of, "gavin_v2")
    assert plan[-1].config["model"]["parent_model_name"] == f"hooli/{label}"


def test_what_had_the_same_name_in_another_generation_is_kept_apart(catalog: Catalog) -> None:
    """The child's target and prompt have the names of the parent's, which were deleted in between."""
    targets.delete(catalog, USER, REPO, "gavin_target")
    put_prompt(catalog, "gavin", "You left Hooli")
    put_target(catalog, "gavin_target", teacher_prompt="gavin", num_traj_per_stimulus=2)
    put_bake(catalog, "heir", "gavin_target", model={"parent_model_name": "hooli/gavin_bake"})
    made_of = recipe(catalog, USER, REPO, "heir")
    assert made_of.bakes["heir"]["datasets"][0]["target"] == "gavin_target"
    assert made_of.bakes["gavin_bake"]["datasets"][0]["target"] == "gavin_target.2"
    now, then = made_of.targets["gavin_target"], made_of.targets["gavin_target.2"]
    assert now is not None and then is not None
    assert (now["num_traj_per_stimulus"], then["num_traj_per_stimulus"]) == (2, 1)
    assert (now["teacher_prompt"], then["teacher_prompt"]) == ("gavin", "gavin.2")
    texts = {name: prompt and prompt.messages[0]["content"] for name, prompt in made_of.prompts.items()}
    assert texts == {"gavin": "You left Hooli", "gavin.2": "You run Hooli", "plain": ""}


def test_a_parent_that_an_older_version_deleted_is_not_confused_with_a_newer_bake(catalog: Catalog) -> None:
    child_of(catalog)
    catalog.store.checkpoints.remove(FIRST)
    assert edges("bake gavin_v2 -> bake gavin_bake") <= set(recipe(catalog, USER, REPO, "gavin_v2").edges), "pruned"
    for job in catalog.store.jobs.origins():
        catalog.store.jobs.update(job.job_id, created=1)
    made_of = recipe(catalog, USER, REPO, "gavin_v2")
    assert list(made_of.bakes) == ["gavin_v2"], "the bake of that name is younger than what began from it"
    assert made_of.bakes["gavin_v2"]["model"]["parent_model_name"] == FIRST
