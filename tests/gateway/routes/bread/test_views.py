from pathlib import Path
from typing import Any

import msgspec
from aibread.types import BakeResponse

from baker.config.bake import BakeConfig
from baker.config.target import target_config
from baker.repos.bakes import LiveFirst
from baker.status import Collation, JobState, KLChange, Loss, MemoryPlan, MemoryWay, Progress, Standing, TargetShare
from baker.storage.job import BakeJob, RolloutJob, StimJob
from baker.storage.job_inputs import BakeInputs, RolloutInputs, StimInputs
from baker.types import Checkpoint, Prompt
from gateway.protocol import responses
from gateway.routes.bread import views

COLLATION = Collation(
    total=8,
    held_out=3,
    targets={
        "a": TargetShare(weight=3, share=0.75, trajectories=6, available=18, held_out=2),
        "b": TargetShare(weight=1, share=0.25, trajectories=2, available=1, held_out=1),
    },
)
MEASURED = {"latest_loss": 0.1, "final_loss": 0.1, "min_loss": 0.1, "max_loss": 0.4, "eval_kl": 0.1}
LOSS = msgspec.structs.replace(msgspec.convert(MEASURED, Loss), eval_kl_by_target={"a": KLChange(0.5, 0.1)})
JOB = BakeJob(
    id=14,
    user="alice",
    repo="repo",
    name="bake",
    state=JobState.COMPLETE,
    config=BakeConfig(),
    inputs=BakeInputs({}, None),
    loss=LOSS,
    collation=COLLATION,
    memory=MemoryPlan(
        MemoryWay.BESIDE, {"weights": 300, "runtime": 100}, 400, 1000, devices=2, in_parts=True, recomputes=False
    ),
)


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        user="alice", repo="repo", bake="bake", step=step, path=Path(), sha256="", created=0, job_id=JOB.id
    )


def test_a_bake_s_answer_names_all_its_checkpoints_and_says_how_its_targets_were_mixed() -> None:
    body = msgspec.to_builtins(
        views.bake(
            "bake", BakeConfig(), JOB, LiveFirst(checkpoint(21), [checkpoint(21), checkpoint(14)]), {}, Standing()
        )
    )
    assert body["model_name"] == ["alice/repo/bake/21", "alice/repo/bake/14"]
    assert (body["live_checkpoint"], body["checkpoint"], body["checkpoints"]) == (21, 21, [21, 14])
    assert body["collation"] == {
        "total": 8,
        "held_out": 3,
        "targets": {
            "a": {"weight": 3, "share": 0.75, "trajectories": 6, "available": 18, "held_out": 2},
            "b": {"weight": 1, "share": 0.25, "trajectories": 2, "available": 1, "held_out": 1},
        },
    }
    assert body["loss"] == MEASURED
    assert body["eval_kl_by_target"] == {"a": {"before": 0.5, "after": 0.1}}
    assert body["memory"] == {
        "way": "beside",
        "needed": {"weights": 300, "runtime": 100},
        "total": 400,
        "free": 1000,
        "devices": 2,
        "in_parts": True,
        "recomputes": False,
        "is_lent": False,
    }


def test_a_bake_that_was_held_back_still_lists_its_checkpoints() -> None:
    """bgit continues from the first name of a complete bake."""
    job = msgspec.structs.replace(JOB, held_back="drift 0.5 nats per token, publish_if.max_drift 0.1")
    body = msgspec.to_builtins(views.bake("bake", BakeConfig(), job, LiveFirst(None, [checkpoint(21)]), {}, Standing()))
    assert (body["status"], body["live_checkpoint"], body["held_back"]) == ("complete", None, job.held_back)
    assert (body["model_name"], body["checkpoint"]) == (["alice/repo/bake/21"], 21)


def test_the_published_client_reads_a_bake_s_answer() -> None:
    checkpoints = LiveFirst(checkpoint(21), [checkpoint(21)])
    body = msgspec.json.decode(msgspec.json.encode(views.bake("bake", BakeConfig(), JOB, checkpoints, {}, Standing())))
    read: Any = BakeResponse.model_validate(body)
    assert read.api_model_name == ["alice/repo/bake/21"] and read.loss is not None and read.loss["min_loss"] == 0.1
    assert read.collation["targets"]["b"]["share"] == 0.25
    assert read.eval_kl_by_target["a"]["after"] == 0.1


def test_every_field_of_a_loss_is_in_the_answer() -> None:
    """A field that the baker adds must also reach the clients."""
    shown = {*responses.Loss.__struct_fields__, *responses.Bake.__struct_fields__}
    assert set(Loss.__struct_fields__) <= shown


def test_every_metrics_row_has_what_scripts_index() -> None:
    """Scripts draw `loss` over `iter` without checking which rows are evaluations."""
    steps = [{"iter": number, "epoch": 0.5, "loss": 1.0 / number, "lr": 0.1 * number} for number in (1, 2, 3)]
    before, after = ({"iter": number, "epoch": 0.0, "eval_loss": 0.5} for number in (0, 3))
    shown = views.metrics([before, *steps, after])
    assert shown == [{**before, "loss": 1.0, "lr": 0.1}, *steps, {**after, "loss": 1.0 / 3, "lr": 0.1 * 3}]
    assert views.metrics([before]) == views.metrics([]) == []


def test_a_bake_that_was_never_run_has_no_collation() -> None:
    assert views.bake("bake", BakeConfig(), None, LiveFirst(None, []), {}, Standing()).collation is None


def test_a_bake_that_runs_says_where_its_training_stands_and_which_checkpoints_are_served() -> None:
    progress = Progress(5, 21, 0.5, 0.1, 1e-3, 0.2, 900.0, eta_seconds=12.5, memory_bytes=1 << 30)
    running = msgspec.structs.replace(JOB, state=JobState.RUNNING)
    answer = views.bake("bake", BakeConfig(), running, LiveFirst(None, [checkpoint(4)]), {JOB.id: progress}, Standing())
    body = msgspec.to_builtins(answer)
    assert body["training"]["step"] == 5 and body["training"]["eta_seconds"] == 12.5
    assert (body["checkpoint"], body["checkpoints"]) == (4, [4])
    assert body["model_name"] is None, "clients take a name for the end of the bake"
    assert views.bake("bake", BakeConfig(), running, LiveFirst(None, []), {}, Standing()).training is None


def test_a_job_s_settings_are_shown_with_the_prompts_old_names_beside_the_new_ones() -> None:
    """Published clients read `parameters`, `u` and `v`. A setting that is not given is null."""
    config = target_config({"u": "loud", "v": "", "generators": [{"type": "oneshot_qs"}], "extra_kwargs": {"top_p": 1}})
    place: dict[str, Any] = {"user": "alice", "repo": "repo", "name": "target", "config": config}
    stim = StimJob(**place, inputs=StimInputs(Prompt(), Prompt(), []))
    rollout = RolloutJob(**place, inputs=RolloutInputs(1, Prompt(), Prompt(), "model", None, 8))
    for job in (stim, rollout):
        answer = msgspec.json.decode(msgspec.json.encode(views.job_status(job, Standing())))
        assert answer["config"] == answer["parameters"]
        assert answer["config"] == {
            "teacher_prompt": "loud",
            "student_prompt": "",
            "generators": [{"type": "oneshot_qs", "numq": 10, "temperature": 1.0}],
            "model_name": None,
            "num_traj_per_stimulus": 1,
            "temperature": 1.0,
            "max_tokens": None,
            "max_concurrency": 10,
            "extra_kwargs": {"top_p": 1},
            "u": "loud",
            "v": "",
        }


def test_a_stage_that_was_not_started_has_no_settings() -> None:
    answer = msgspec.to_builtins(views.job_status(None, Standing()))
    assert (answer["status"], answer["lines"], answer["config"]) == ("not_started", 0, None)


def test_a_conditioned_stimulus_is_shown_as_its_student_reads_it() -> None:
    student = Prompt(messages=[{"role": "system", "content": "Be brief."}])
    job = StimJob(user="a", repo="r", name="t", config=target_config({}), inputs=StimInputs(Prompt(), student, []))
    rows = [
        {"id": 0, "text": "One?", "generator": "hardcoded"},
        {"id": 1, "text": "Two?", "generator": "persona", "is_conditioned": True},
    ]
    plain, conditioned = views.stimuli(job, rows)
    assert plain == {"stimulus_id": 0, "question": "One?", "stimulus": "One?", "generator": "hardcoded"}
    assert "Be brief." in conditioned["trajectory_override_stimulus"]
    assert "Two?" in conditioned["trajectory_override_stimulus"]


def test_before_the_first_evaluation_only_the_values_of_before_are_shown() -> None:
    """They are what the model starts from, no result of the training."""
    loss = Loss().after_drift(0, 0.0).after_evaluation(0.5, {"a": 0.5}, 0.25, {"a": 0.25})
    job = msgspec.structs.replace(JOB, state=JobState.RUNNING, loss=loss)
    body = msgspec.to_builtins(views.bake("bake", BakeConfig(), job, LiveFirst(None, []), {}, Standing()))
    assert body["loss"] == {"eval_kl_before": 0.5, "agreement_before": 0.25, "drift_before": 0.0}
    assert body["eval_kl_by_target"] == body["agreement_by_target"] == {}


def test_a_stim_s_status_counts_questions_that_its_pages_do_not_have_yet() -> None:
    config, inputs = target_config({}), StimInputs(Prompt(), Prompt(), [])
    job = StimJob(user="a", repo="r", name="t", state=JobState.RUNNING, config=config, inputs=inputs, lines=3)
    standing = Standing(eta_seconds=4.5, running_seconds=2.0, queued_seconds=1.0, lines=5, progress_percent=50.0)
    status = views.job_status(job, standing)
    assert (status.lines, status.progress_percent, status.eta_seconds) == (5, 50.0, 4.5)
    page = views.output_page(job, standing, [{}, {}, {}], 0, 100)
    assert (page.lines, page.has_more, page.running_seconds) == (3, False, 2.0)
