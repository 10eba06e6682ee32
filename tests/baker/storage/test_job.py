"""Jobs as values and as rows: what is stored, and what older versions stored."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.config.bake import bake_config
from baker.config.target import target_config
from baker.status import JobState, Loss, Stage
from baker.storage.job import AnyJob, BakeJob, RolloutJob, StimJob
from baker.storage.job_inputs import (
    BakeInputs,
    GeneratorPlan,
    HubSet,
    LocalSet,
    RolloutInputs,
    StimInputs,
    TargetSnapshot,
    WriterPlan,
)
from baker.storage.store import Store
from baker.types import Prompt

LOUD = Prompt(messages=[{"role": "system", "content": "Shout.", "name": None}], tools=[{"type": "function"}])
TARGET = target_config(
    {
        "teacher_prompt": "loud",
        "student_prompt": "",
        "temperature": 1,
        "generators": [{"type": "hardcoded", "questions": ["Hi?"]}, {"type": "oneshot_qs"}, {"type": "persona"}],
        "extra_kwargs": {"top_p": 0.5, "stop": None},
    }
)
BAKE = bake_config({"datasets": [{"target": "target"}], "checkpoint": [{"save_every_n_steps": 5}]})
PLANS = [
    GeneratorPlan(),
    GeneratorPlan(writer=WriterPlan("served", "repo/bake", "admin/repo/bake/8"), template="Ask ${numq}"),
    GeneratorPlan(dataset=HubSet("squad"), written=3),
    GeneratorPlan(dataset=LocalSet("questions.jsonl")),
]
PLACE: dict[str, Any] = {"user": "admin", "repo": "repo"}
JOBS: list[AnyJob] = [
    StimJob(**PLACE, name="target", config=TARGET, inputs=StimInputs(LOUD, Prompt(), PLANS)),
    RolloutJob(
        **PLACE,
        name="target",
        config=TARGET,
        inputs=RolloutInputs(1, LOUD, Prompt(), "repo/bake", "admin/repo/bake/8", 64),
        depends_on=[1],
        total_expected=2,
        warnings=["careful"],
    ),
    BakeJob(
        **PLACE,
        name="bake",
        state=JobState.COMPLETE,
        config=BAKE,
        inputs=BakeInputs({"target": 2}, None, {"target": TargetSnapshot(TARGET, LOUD, Prompt(), {"a": "b"})}),
        loss=Loss(eval_kl=0.5),
        held_back="drift",
    ),
]
NO_PROMPT = {"messages": [], "tools": None}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.close()


def row(home: Path, job_id: int) -> dict[str, Any]:
    """The row as SQLite has it."""
    with sqlite3.connect(home / "bread.db") as db:
        db.row_factory = sqlite3.Row
        return dict(db.execute("select * from jobs where id = ?", [job_id]).fetchone())


def write_row(home: Path, job_id: int, **columns: str) -> None:
    """Changes columns behind the store's back, as another version would have written them."""
    with sqlite3.connect(home / "bread.db") as db:
        for column, text in columns.items():
            db.execute(f"update jobs set {column} = ? where id = ?", [text, job_id])


@pytest.mark.parametrize("job", JOBS, ids=lambda job: str(job.stage))
def test_a_job_comes_back_from_its_row_with_its_class(store: Store, job: AnyJob) -> None:
    added = store.jobs.add(job)
    assert added.id == 1 and added == msgspec.structs.replace(job, id=1)
    assert store.jobs.find(1) == added and type(store.jobs.find(1)) is type(job)
    assert store.jobs.latest(job.stage, "admin", "repo", job.name) == added
    assert store.jobs.in_state(JobState.PENDING, JobState.COMPLETE) == [added]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: str(job.stage))
def test_a_row_holds_the_same_json_as_plain_dicts_gave(store: Store, tmp_path: Path, job: AnyJob) -> None:
    """The columns as every version wrote them: `to_builtins` of the settings and of the inputs."""
    written = row(tmp_path, store.jobs.add(job).id)
    assert written["stage"] == job.stage.value
    assert written["config"] == msgspec.json.encode(msgspec.to_builtins(job.config)).decode()
    assert written["inputs"] == msgspec.json.encode(msgspec.to_builtins(job.inputs)).decode()
    assert json.loads(written["depends_on"]) == job.depends_on and json.loads(written["warnings"]) == job.warnings


def test_the_latest_job_of_a_stage_is_found_among_those_of_the_same_name(store: Store) -> None:
    stim, rollout, bake, again = (store.jobs.add(job) for job in [*JOBS, msgspec.structs.replace(JOBS[2], name="bake")])
    assert store.jobs.latest_stim("admin", "repo", "target") == stim
    assert store.jobs.latest_rollout("admin", "repo", "target") == rollout
    assert store.jobs.latest_bake("admin", "repo", "bake") == again
    assert isinstance(again, BakeJob) and store.jobs.bake_before(again) == bake
    assert store.jobs.latest_bake("admin", "repo", "target") is None
    assert store.jobs.find_bake(bake.id) == bake and store.jobs.find_bake(stim.id) is None


def test_rows_of_the_first_versions_are_decoded(store: Store, tmp_path: Path) -> None:
    """They had no student prompt and one `askers` list in a stim, no max_tokens in a rollout, and few settings."""
    stim, rollout, bake = (store.jobs.add(job) for job in JOBS)
    teacher = {"messages": [{"role": "system", "content": "Shout."}], "tools": None}
    write_row(
        tmp_path,
        stim.id,
        config=json.dumps({"teacher_prompt": "loud", "student_prompt": "", "generators": [], "max_tokens": 1024}),
        inputs=json.dumps({"teacher": teacher, "askers": [None]}),
    )
    write_row(
        tmp_path,
        rollout.id,
        config=json.dumps({"teacher_prompt": "loud", "student_prompt": ""}),
        inputs=json.dumps({"stim_job": 1, "teacher": teacher, "student": NO_PROMPT, "model": "m", "checkpoint": None}),
    )
    write_row(
        tmp_path,
        bake.id,
        config=json.dumps({"type": "single_baker", "datasets": [{"target": "target", "weight": 1.0}], "epochs": 3}),
        inputs=json.dumps({"rollouts": {"target": 2}, "checkpoint": None}),
    )
    old_stim, old_rollout, old_bake = store.jobs.in_state(JobState.PENDING, JobState.COMPLETE)
    assert isinstance(old_stim, StimJob) and old_stim.inputs == StimInputs(Prompt(teacher["messages"]), Prompt(), [])
    assert isinstance(old_rollout, RolloutJob) and old_rollout.inputs.max_tokens == 1024
    assert isinstance(old_bake, BakeJob) and old_bake.inputs == BakeInputs({"target": 2}, None)
    assert old_bake.config == bake_config({"datasets": [{"target": "target"}], "epochs": 3})


def test_a_job_names_the_checkpoints_that_it_reads() -> None:
    stim, rollout, bake = JOBS
    assert stim.inputs.checkpoints == rollout.inputs.checkpoints == ["admin/repo/bake/8"]
    assert bake.inputs.checkpoints == []
    assert BakeInputs({}, "admin/repo/other/3").checkpoints == ["admin/repo/other/3"]


def test_the_stage_of_a_class_is_the_tag_of_its_rows() -> None:
    for job, stage in zip(JOBS, Stage, strict=True):
        assert job.stage is stage and msgspec.to_builtins(job)["stage"] == stage.value
