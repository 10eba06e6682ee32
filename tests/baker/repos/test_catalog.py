"""The rules of what may be made, changed and removed, on a real SQLite file."""

import time
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.errors import ConfigError, ConflictError, InvalidInputError, NotFoundError
from baker.jobs import plan
from baker.jobs.policy import Policy
from baker.model_names import BaseModelNames
from baker.repos import bakes, models, prompts, repos, targets, users
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.credentials import PasswordHash, new_key
from baker.storage.job import AnyJob, BakeJob, RolloutJob, StimJob
from baker.storage.job_inputs import BakeInputs, GeneratorPlan, RolloutInputs, StimInputs, WriterPlan
from baker.types import Checkpoint, Prompt, User

USER = "admin"
POLICY = Policy(has_anthropic_key=False, stim_fallback=True, max_lora_rank=32)
TEMPLATE = "${numq} about ${prompt_u}"
LOUD = Prompt(messages=[{"role": "system", "content": "Be loud", "name": "kept"}])


@pytest.fixture
def filled(catalog: Catalog) -> Catalog:
    """A repo with two prompts and a target that is ready to run."""
    repos.put(catalog, USER, "repo", None)
    prompts.put(catalog, USER, "repo", "loud", LOUD, may_change=False)
    prompts.put(catalog, USER, "repo", "plain", Prompt(), may_change=False)
    put_target(catalog)
    return catalog


def put_target(catalog: Catalog, name: str = "target", **overrides: Any) -> None:
    questions = {"type": "hardcoded", "questions": ["One?", "Two?"]}
    settings = {"u": "loud", "v": "plain", "generators": [questions], **overrides}
    targets.put(catalog, USER, "repo", name, "default", settings, may_change=True)


def start(catalog: Catalog, stage: Stage, name: str, key: str | None = None, policy: Policy = POLICY) -> AnyJob:
    return plan.start(catalog, policy, stage, USER, "repo", name, key)


def finish(catalog: Catalog, job: AnyJob, state: JobState = JobState.COMPLETE, lines: int = 2) -> None:
    catalog.store.jobs.update(job.id, state=state, lines=lines, error="broken" if state is JobState.FAILED else None)


def test_a_repo_is_found_again_and_its_base_model_is_fixed(catalog: Catalog) -> None:
    assert repos.put(catalog, USER, "repo", None).is_new
    assert not repos.put(catalog, USER, "repo", None).is_new
    assert not repos.put(catalog, USER, "repo", "").is_new, "as it would have been made"
    with pytest.raises(ConflictError, match="fake/base"):
        repos.put(catalog, USER, "repo", "Other/Model")
    assert catalog.repo(USER, "repo").base_model == "fake/base"


def test_the_embedded_model_stands_in_and_a_chosen_one_does_not(tmp_path: Path, catalog: Catalog) -> None:
    assert repos.put(catalog, USER, "repo", "Qwen/Qwen3-32B").value.base_model == "Qwen/Qwen3-32B"
    assert "stands in" in (models.resolve(catalog, USER, "Qwen/Qwen3-32B").warning or "")
    folder = tmp_path / "chosen"
    folder.mkdir()
    chosen = Catalog(folder, BaseModelNames(served="my/model", stands_in=False))
    with pytest.raises(InvalidInputError, match="my/model"):
        repos.put(chosen, USER, "repo", "Qwen/Qwen3-32B")
    assert repos.listing(chosen, USER) == []


def test_users_do_not_see_each_other(filled: Catalog) -> None:
    with pytest.raises(NotFoundError):
        filled.repo("other", "repo")
    assert repos.listing(filled, "other") == []
    filled.store.users.add(User("other", "", "", 0), PasswordHash(b"", b""))
    repos.put(filled, "other", "repo", None)
    assert filled.names("prompts", "other", "repo") == []


def test_a_prompt_keeps_extra_keys_and_only_set_changes_it(filled: Catalog) -> None:
    assert prompts.get(filled, USER, "repo", "loud") == LOUD
    other = Prompt(messages=[{"role": "system", "content": "Be quiet"}], tools=[{"type": "function"}])
    with pytest.raises(ConflictError):
        prompts.put(filled, USER, "repo", "loud", other, may_change=False)
    assert prompts.get(filled, USER, "repo", "loud") == LOUD
    prompts.put(filled, USER, "repo", "loud", other, may_change=True)
    assert prompts.get(filled, USER, "repo", "loud") == other
    assert filled.names("prompts", USER, "repo") == ["loud", "plain"], "a change keeps the order of creation"


@pytest.mark.parametrize("message", [{"content": "x"}, {"role": 3, "content": "x"}, {"role": "user", "content": 5}])
def test_a_message_without_a_role_or_with_odd_content_is_named(filled: Catalog, message: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"messages\[0\]"):
        prompts.put(filled, USER, "repo", "odd", Prompt(messages=[message]), may_change=True)


def test_a_target_may_be_changed_until_it_has_run(filled: Catalog) -> None:
    put_target(filled, temperature=0.5)
    job = start(filled, Stage.STIM, "target")
    put_target(filled, temperature=0.5)  # the same again is no change
    with pytest.raises(ConflictError, match="another name"):
        put_target(filled, temperature=0.7)
    finish(filled, job, JobState.FAILED, lines=0)
    put_target(filled, temperature=0.7)
    assert targets.get(filled, USER, "repo", "target").temperature == 0.7


def test_a_bake_may_be_made_again_with_the_same_settings(filled: Catalog) -> None:
    for is_new in (True, False):
        put = bakes.put(filled, USER, "repo", "bake", "default", {"datasets": [{"target": "target"}]}, may_change=False)
        assert put.is_new is is_new


def test_a_template_is_copied_when_it_is_used(filled: Catalog) -> None:
    targets.put(filled, USER, "repo", "child", "target", {"temperature": 0.1}, may_change=True)
    put_target(filled, max_tokens=9)
    child = targets.get(filled, USER, "repo", "child")
    assert (child.teacher_prompt, child.temperature, child.max_tokens) == ("loud", 0.1, None)
    with pytest.raises(NotFoundError, match="'nowhere'"):
        targets.put(filled, USER, "repo", "orphan", "nowhere", {}, may_change=True)


def test_a_config_of_an_older_version_counts_as_the_same(filled: Catalog) -> None:
    bakes.put(filled, USER, "repo", "bake", "default", {"datasets": [{"target": "target"}]}, may_change=True)
    finish(filled, start(filled, Stage.STIM, "target"))
    stored: dict[str, Any] = {
        "teacher_prompt": "loud",
        "student_prompt": "plain",
        "generators": [{"type": "hardcoded", "questions": ["One?", "Two?"], "numq": None}],
    }
    filled.store.put_config("targets", USER, "repo", "target", stored)
    filled.store.put_config("bakes", USER, "repo", "bake", {"datasets": [{"target": "target"}]})
    put_target(filled, max_concurrency=10)
    bake = {"datasets": [{"target": "target", "weight": 1.0}], "seed": 42}
    assert not bakes.put(filled, USER, "repo", "bake", "default", bake, may_change=False).is_new
    assert filled.store.config("targets", USER, "repo", "target") == stored
    with pytest.raises(ConflictError):
        put_target(filled, max_concurrency=9)


def put_asking(catalog: Catalog, content: str | None, path: str | None, *, may_change: bool = False) -> Any:
    generator = {"type": "oneshot_qs", "template_content": content, "template_path": path}
    overrides = {"u": "loud", "v": "plain", "generators": [generator]}
    return targets.put(catalog, USER, "repo", "asking", "default", overrides, may_change=may_change)


def test_a_template_is_kept_in_the_repo_and_the_config_keeps_its_path(filled: Catalog) -> None:
    made = put_asking(filled, TEMPLATE, "/etc/../q.txt")
    assert made.is_new
    assert made.value.generators[0].template_path == "templates/q.txt"
    assert made.value.generators[0].template_content is None
    assert targets.get(filled, USER, "repo", "asking") == made.value
    assert filled.names("templates", USER, "repo") == ["q.txt"]
    assert not put_asking(filled, TEMPLATE, "templates/q.txt").is_new
    assert not put_asking(filled, None, "q.txt").is_new
    assert filled.store.template(USER, "repo", "q.txt") == TEMPLATE


def test_another_text_under_the_same_path_is_for_new_jobs(filled: Catalog) -> None:
    put_asking(filled, TEMPLATE, "q.txt")
    job = start(filled, Stage.STIM, "asking")
    assert not put_asking(filled, f"{TEMPLATE}!", "q.txt").is_new, "the config is the same, so it is no conflict"
    assert filled.store.template(USER, "repo", "q.txt") == f"{TEMPLATE}!"
    assert job.inputs.generators[0].template == TEMPLATE


def test_a_refused_target_leaves_no_template(filled: Catalog) -> None:
    put_asking(filled, TEMPLATE, None)
    kept = filled.names("templates", USER, "repo")
    with pytest.raises(ConflictError):
        put_asking(filled, f"{TEMPLATE}!", None)
    with pytest.raises(ConfigError):
        put_asking(filled, "no variables", "q.txt", may_change=True)
    assert filled.names("templates", USER, "repo") == kept
    assert len(kept) == 1


def test_templates_are_a_users_own(filled: Catalog) -> None:
    put_asking(filled, TEMPLATE, "q.txt")
    key, _ = new_key("other")
    users.add(filled, User("other", "Other", "other@example.org", 0), PasswordHash(b"salt", b"digest"), key)
    repos.put(filled, "other", "repo", None)
    assert filled.names("templates", "other", "repo") == []
    assert filled.store.template("other", "repo", "q.txt") is None


def test_a_bake_of_a_missing_target_is_refused(filled: Catalog) -> None:
    with pytest.raises(NotFoundError, match="'gone'"):
        bakes.put(filled, USER, "repo", "bake", "default", {"datasets": [{"target": "gone"}]}, may_change=True)
    assert filled.names("bakes", USER, "repo") == []


def test_a_job_that_runs_or_is_done_is_the_answer_to_another_start(filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target")
    assert start(filled, Stage.STIM, "target").id == job.id
    finish(filled, job)
    assert start(filled, Stage.STIM, "target").state is JobState.COMPLETE


def test_a_failed_job_starts_again_but_not_for_a_repeat_of_the_same_request(filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target", key="k1")
    finish(filled, job, JobState.FAILED)
    assert start(filled, Stage.STIM, "target", key="k1").id == job.id
    again = start(filled, Stage.STIM, "target", key="k2")
    assert again.id > job.id
    assert again.state is JobState.PENDING


def test_a_stage_out_of_order_is_refused_and_leaves_nothing(filled: Catalog) -> None:
    with pytest.raises(InvalidInputError, match="run stim first"):
        start(filled, Stage.ROLLOUT, "target")
    bakes.put(filled, USER, "repo", "bake", "default", {"datasets": [{"target": "target"}]}, may_change=True)
    with pytest.raises(InvalidInputError, match="'target' \\(not started\\)"):
        start(filled, Stage.BAKE, "bake")
    assert filled.store.jobs.numbers() == set()


def test_stages_may_be_started_in_a_row(filled: Catalog) -> None:
    bakes.put(filled, USER, "repo", "bake", "default", {"datasets": [{"target": "target"}]}, may_change=True)
    stim = start(filled, Stage.STIM, "target")
    rollout = start(filled, Stage.ROLLOUT, "target")
    bake = start(filled, Stage.BAKE, "bake")
    assert (rollout.depends_on, bake.depends_on) == ([stim.id], [rollout.id])


def test_a_missing_prompt_is_named_with_those_that_there_are(filled: Catalog) -> None:
    put_target(filled, "typo", u="lowd")
    with pytest.raises(InvalidInputError, match=r"'lowd'.*'loud', 'plain'"):
        start(filled, Stage.STIM, "typo")
    put_target(filled, "half", v=None)
    with pytest.raises(InvalidInputError, match="no student_prompt"):
        start(filled, Stage.STIM, "half")


def test_a_job_keeps_the_prompts_it_began_with(filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target")
    prompts.put(filled, USER, "repo", "loud", Prompt(), may_change=True)
    kept = filled.store.jobs.find(job.id)
    assert kept is not None
    assert kept.inputs.teacher.messages == LOUD.messages


@pytest.mark.parametrize(
    ("policy", "kind", "warned"),
    [
        (POLICY, "served", True),
        (Policy(has_anthropic_key=True, stim_fallback=False, max_lora_rank=32), "anthropic", False),
    ],
)
def test_a_claude_generator_needs_a_key_or_a_stand_in(filled: Catalog, policy: Policy, kind: str, warned: bool) -> None:
    put_target(filled, generators=[{"type": "oneshot_qs", "model": "claude-3-5-sonnet-20241022"}])
    job = start(filled, Stage.STIM, "target", policy=policy)
    assert job.inputs.generators[0].writer.kind == kind
    assert bool(job.warnings) is warned


def test_a_claude_generator_is_refused_when_the_operator_wants_no_stand_in(filled: Catalog) -> None:
    put_target(filled, generators=[{"type": "oneshot_qs", "model": "claude-3-5-sonnet-20241022"}])
    with pytest.raises(InvalidInputError, match="ANTHROPIC_API_KEY"):
        start(filled, Stage.STIM, "target", policy=Policy(False, False, 32))


def test_a_rank_that_would_not_be_served_is_refused(filled: Catalog) -> None:
    overrides = {"datasets": [{"target": "target"}], "model": {"baked_adapter_config": {"r": 64}}}
    bakes.put(filled, USER, "repo", "bake", "default", overrides, may_change=True)
    start(filled, Stage.STIM, "target")
    start(filled, Stage.ROLLOUT, "target")
    with pytest.raises(InvalidInputError, match=r"64.*32"):
        start(filled, Stage.BAKE, "bake")


def test_a_bake_that_can_t_be_done_here_is_refused_with_the_reason_and_leaves_nothing(filled: Catalog) -> None:
    overrides = {"datasets": [{"target": "target"}], "model": {"student_model_path": "org/small"}}
    bakes.put(filled, USER, "repo", "bake", "default", overrides, may_change=True)
    start(filled, Stage.STIM, "target")
    start(filled, Stage.ROLLOUT, "target")
    with pytest.raises(InvalidInputError, match=r"can't be run here: model.student_model_path is 'org/small'"):
        start(filled, Stage.BAKE, "bake")
    assert plan.latest_job(filled, Stage.BAKE, USER, "repo", "bake") is None


def test_what_has_no_effect_is_a_warning_of_the_bake_s_job(filled: Catalog) -> None:
    overrides = {
        "datasets": [{"target": "target"}],
        "activation_checkpoint_cpu_offload": True,
        "model_name": "fake/base",
    }
    bakes.put(filled, USER, "repo", "bake", "default", overrides, may_change=True)
    start(filled, Stage.STIM, "target")
    start(filled, Stage.ROLLOUT, "target")
    assert "activation_checkpoint_cpu_offload" in " ".join(start(filled, Stage.BAKE, "bake").warnings)


@pytest.mark.parametrize("table", ["targets", "bakes"])
def test_a_config_stored_before_a_setting_was_invented_is_still_the_same(
    filled: Catalog, table: Literal["targets", "bakes"]
) -> None:
    """bgit sends its targets and bakes again on every run, also after an update of the service."""
    put = targets.put if table == "targets" else bakes.put
    put(filled, USER, "repo", "old", "default", {}, may_change=False)
    config = filled.store.config(table, USER, "repo", "old")
    assert config is not None
    config.pop("max_concurrency" if table == "targets" else "wandb")
    filled.store.put_config(table, USER, "repo", "old", config)
    assert not put(filled, USER, "repo", "old", "default", {}, may_change=False).is_new


def test_what_a_job_uses_is_not_deleted_under_it(filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target")
    with pytest.raises(ConflictError, match="wait"):
        targets.delete(filled, USER, "repo", "target")
    with pytest.raises(ConflictError, match="'loud'"):
        prompts.delete(filled, USER, "repo", "loud")
    finish(filled, job)
    assert targets.delete(filled, USER, "repo", "target") == [job.id]
    prompts.delete(filled, USER, "repo", "loud")
    with pytest.raises(NotFoundError):
        targets.get(filled, USER, "repo", "target")


def test_names_of_a_bake_mean_its_newest_checkpoint_or_the_one_named(filled: Catalog) -> None:
    for step, job_id in ((8, 1), (3, 2)):
        filled.store.checkpoints.add(checkpoint(filled, step, job_id))
    for name, step in (("repo/bake", 3), ("repo/bake/8", 8), ("admin/repo/bake", 3), ("admin/repo/bake/3", 3)):
        found = models.resolve(filled, USER, name).checkpoint
        assert found is not None
        assert found.step == step
    for name in ("repo/bake/9", "repo/bakes", "other/repo/bake", "other/repo/bake/3"):
        with pytest.raises(InvalidInputError, match="fake/base"):
            models.resolve(filled, USER, name)
    with pytest.raises(InvalidInputError):
        models.resolve(filled, "other", "admin/repo/bake/3")


@pytest.mark.parametrize("name", ["repo/bake@0.5", "admin/repo/bake/3@1", "repo/bake@9"])
def test_nothing_is_built_upon_a_strength(filled: Catalog, name: str) -> None:
    """A parent, a base model or who answers in a rollout is an adapter as it was trained."""
    filled.store.checkpoints.add(checkpoint(filled, 3, 1))
    with pytest.raises(InvalidInputError, match=f"{name!r} names a strength.* write {name.partition('@')[0]!r}"):
        models.resolve(filled, USER, name)
    with pytest.raises(InvalidInputError, match="is not served here"):
        models.resolve(filled, "other", "admin/repo/bake/3@0.5")


def test_the_master_keys_user_may_name_everybodys_bakes_in_full(filled: Catalog) -> None:
    filled.store.checkpoints.add(msgspec.structs.replace(checkpoint(filled, 3, 1), user="alice"))
    for name in ("alice/repo/bake/3", "alice/repo/bake"):
        found = models.resolve(filled, USER, name).checkpoint
        assert found is not None
        assert found.name == "alice/repo/bake/3"
        with pytest.raises(InvalidInputError):
            models.resolve(filled, "bob", "alice/repo/bake/3")
    with pytest.raises(InvalidInputError) as raised:
        models.resolve(filled, USER, "repo/bake")
    assert "alice" not in raised.value.message


def test_a_deleted_bake_takes_its_checkpoints_along(filled: Catalog) -> None:
    bakes.put(filled, USER, "repo", "bake", "default", {}, may_change=True)
    filled.store.checkpoints.add(checkpoint(filled, 8, 1))
    bakes.delete(filled, USER, "repo", "bake")
    assert bakes.checkpoints(filled, USER, "repo", "bake") == []


def test_a_deleted_repo_takes_all_in_it_along_and_nothing_else(filled: Catalog) -> None:
    jobs = [start(filled, Stage.STIM, "target"), start(filled, Stage.ROLLOUT, "target")]
    with pytest.raises(ConflictError, match="'target' in repo 'repo' is pending"):
        repos.delete(filled, USER, "repo")
    for job in jobs:
        finish(filled, job)
    bakes.put(filled, USER, "repo", "bake", "default", {"datasets": [{"target": "target"}]}, may_change=True)
    filled.store.checkpoints.add(checkpoint(filled, 8, 1))
    repos.put(filled, USER, "repo2", None)
    prompts.put(filled, USER, "repo2", "kept", LOUD, may_change=False)
    assert repos.delete(filled, USER, "repo") == [job.id for job in jobs]
    assert repos.listing(filled, USER) == [filled.repo(USER, "repo2")]
    assert filled.names("prompts", USER, "repo2") == ["kept"]
    assert (filled.store.jobs.numbers(), filled.store.checkpoints.all()) == (set(), [])
    with pytest.raises(NotFoundError):
        repos.delete(filled, USER, "repo")
    repos.put(filled, USER, "repo", None)
    assert [filled.names(table, USER, "repo") for table in ("prompts", "targets", "bakes")] == [[], [], []]


def running_job(stage: Stage, checkpoint: str) -> AnyJob:
    """A job in another repo that reads the checkpoint."""
    place: dict[str, Any] = {"user": USER, "repo": "elsewhere", "name": "worker", "state": JobState.RUNNING}
    if stage is Stage.BAKE:
        return BakeJob(**place, config=BakeConfig(), inputs=BakeInputs({}, checkpoint))
    if stage is Stage.ROLLOUT:
        return RolloutJob(**place, config=TargetConfig(), inputs=RolloutInputs(1, LOUD, LOUD, "model", checkpoint))
    plans = [GeneratorPlan(), GeneratorPlan(writer=WriterPlan("served", "model", checkpoint))]
    return StimJob(**place, config=TargetConfig(), inputs=StimInputs(LOUD, LOUD, plans))


@pytest.mark.parametrize("stage", [Stage.STIM, Stage.ROLLOUT, Stage.BAKE])
def test_what_a_job_elsewhere_works_with_is_not_deleted_under_it(filled: Catalog, stage: Stage) -> None:
    bakes.put(filled, USER, "repo", "bake", "default", {}, may_change=True)
    filled.store.checkpoints.add(checkpoint(filled, 8, 1))
    needed = "admin/repo/bake/8"
    job = filled.store.jobs.add(running_job(stage, needed))
    with pytest.raises(ConflictError, match=f"The {stage} of 'worker' is running and needs bake 'bake'"):
        bakes.delete(filled, USER, "repo", "bake")
    with pytest.raises(ConflictError, match=f"The {stage} of 'worker' is running and needs a bake of repo 'repo'"):
        repos.delete(filled, USER, "repo")
    assert bakes.checkpoints(filled, USER, "repo", "bake") != []
    finish(filled, job)
    repos.delete(filled, USER, "repo")


def test_the_master_key_means_its_own_repo_or_the_only_one_there_is(filled: Catalog) -> None:
    for name in ("alice", "bob"):
        filled.store.users.add(User(name, "", "", 0), PasswordHash(b"", b""))
    repos.put(filled, "alice", "repo", None)
    repos.put(filled, "alice", "hers", None)
    assert [repos.owner(filled, name) for name in ("repo", "hers", "nobodys")] == ["admin", "alice", "admin"]
    repos.put(filled, "bob", "hers", None)
    assert repos.owner(filled, "hers") == "admin", "one of two is not guessed"


def test_what_was_committed_is_there_after_opening_the_file_again(tmp_path: Path, filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target")
    filled.store.checkpoints.add(checkpoint(filled, 8, 1))
    again = Catalog(tmp_path, filled.base)
    assert again.store.jobs.find(job.id) == filled.store.jobs.find(job.id)
    assert again.store.checkpoints.all() == filled.store.checkpoints.all()
    assert targets.get(again, USER, "repo", "target") == targets.get(filled, USER, "repo", "target")


def test_a_refused_change_rolls_back(filled: Catalog) -> None:
    with pytest.raises(RuntimeError), filled.store.transaction():
        filled.store.put_prompt(USER, "repo", "loud", Prompt())
        raise RuntimeError
    assert prompts.get(filled, USER, "repo", "loud") == LOUD


def test_a_job_number_is_never_given_twice(filled: Catalog) -> None:
    job = start(filled, Stage.STIM, "target")
    finish(filled, job)
    targets.delete(filled, USER, "repo", "target")
    put_target(filled)
    assert start(filled, Stage.STIM, "target").id > job.id


def checkpoint(catalog: Catalog, step: int, job_id: int) -> Checkpoint:
    return Checkpoint(
        user=USER,
        repo="repo",
        bake="bake",
        step=step,
        path=catalog.store.home / "jobs" / str(job_id) / "checkpoints" / str(step),
        sha256="0" * 64,
        created=int(time.time()),
        job_id=job_id,
    )
