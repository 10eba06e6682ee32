"""The bake stage around a scripted training process. A real one is in tests/behaviour/test_interruptions.py."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from baker.errors import AdapterError, ConflictError, EngineError, InvalidInputError, NeedsRoomError, TrainingError
from baker.history.revisions import RepoView
from baker.jobs import plan
from baker.jobs.queue import Jobs
from baker.jobs.stages import Stages, StageSettings
from baker.ports import LentWeights
from baker.repos import bakes, models, prompts
from baker.status import AgreementChange, JobState, KLChange, Loss, MemoryPlan, MemoryWay, Stage, TargetShare
from baker.storage.home import job_folder
from baker.storage.job import BakeJob
from baker.training import events, launcher
from baker.training.spec import TrainSpec
from baker.trajectories.files import load_trajectory
from baker.types import Checkpoint, MovedBy, Prompt
from baker.versions import promotion
from tests.baker.jobs.test_queue import POLICY, USER, Service, running
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio

OnEvent = Callable[[events.TrainEvent], Awaitable[None]]


class Publisher:
    def __init__(self, *refused: int) -> None:
        self.refused = refused
        self.proved: list[int] = []
        self.published: list[int] = []
        self.registered: list[int] = []
        """Under their own names alone."""
        self.retired: list[int] = []
        self.is_away = False

    async def prove(self, checkpoint: Checkpoint) -> None:
        assert any(checkpoint.path.iterdir())
        if self.is_away:
            raise EngineError("the engine is away")
        self.proved.append(checkpoint.step)
        if checkpoint.step in self.refused:
            raise AdapterError("the engine's numbers differ")

    def register(self, checkpoint: Checkpoint) -> None:
        self.registered.append(checkpoint.step)

    def publish(self, checkpoint: Checkpoint) -> None:
        self.published.append(checkpoint.step)

    async def retire(self, checkpoint: Checkpoint) -> None:
        assert any(checkpoint.path.iterdir()), "its files stay as long as a request may use it"
        self.retired.append(checkpoint.step)

    def show(self, view: RepoView) -> None:
        self.view = view


class Training:
    """Emits the events of a training process, and writes its checkpoints' folders."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps
        self.specs: list[TrainSpec] = []
        self.began = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.on_last: Callable[[], None] = lambda: None
        self.drift = 0.03

    async def __call__(self, spec: TrainSpec, folder: Path, on_event: OnEvent) -> None:
        self.specs.append(spec)
        loss = Loss()
        await on_event(events.Warned("something is otherwise"))
        for step in range(1, self.steps[-1] + 1):
            by_target = dict.fromkeys(spec.held_out, 0.5 / step)
            loss = loss.after_evaluation(0.5 / step, by_target, 1 - 0.5 / step, by_target)
            await on_event(events.LossUpdated(loss))
            await on_event(events.Evaluated(step, 0.5 / step, by_target, 1 - 0.5 / step, by_target))
            loss = loss.after_step(1.0 / step)
            await on_event(events.LossUpdated(loss))
            await on_event(events.Stepped(step, self.steps[-1], 1.0, 1.0 / step, 0.1, 1.0, 10.0))
            if step in self.steps:
                path = Path(spec.output) / str(step)
                path.mkdir(parents=True)
                (path / "here").touch()
                await on_event(events.Saved(step, "0" * 64, is_last=step == self.steps[-1]))
            self.began.set()
            await self.may_end.wait()
        if spec.neutral:
            for at, drift in ((0, 0.0), (step, self.drift)):
                loss = loss.after_drift(at, drift)
                await on_event(events.LossUpdated(loss))
                await on_event(events.Drifted(at, drift))
        self.on_last()


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> Training:
    training = Training(2, 4, 5)
    monkeypatch.setattr(launcher, "train", training)
    return training


def make_service(home: Path, publisher: Publisher, engine: FakeEngine | None = None, **settings: Any) -> Service:
    service = Service(home, engine or FakeEngine())
    stage_settings = StageSettings(top_logprobs=4, **settings)
    service.stages = Stages(home, service.catalog, service.engine, service.engine, publisher, stage_settings)
    service.jobs = Jobs(service.catalog, service.stages, POLICY)
    return service


async def bake(service: Service, **overrides: Any) -> BakeJob:
    await service.fill()
    settings = {"datasets": [{"target": "target", "weight": 2}], **overrides}
    await service.catalog(bakes.put, USER, "repo", "bake", "default", settings, may_change=True)
    for stage in (Stage.STIM, Stage.ROLLOUT):
        await service.start(stage)
    await service.jobs.start(Stage.BAKE, USER, "repo", "bake")
    return await ended(service)


async def ended(service: Service, seconds: float = 60) -> BakeJob:
    async with asyncio.timeout(seconds):
        while True:
            job = await service.catalog(plan.latest_job, Stage.BAKE, USER, "repo", "bake")
            assert job is not None
            if not job.state.is_active:
                return job
            await asyncio.sleep(0.01)


async def steps_kept(service: Service) -> list[int]:
    return [checkpoint.step for checkpoint in await service.catalog(bakes.checkpoints, USER, "repo", "bake")]


async def test_every_checkpoint_is_proved_kept_and_served_and_the_last_one_is_the_bake(
    tmp_path: Path, training: Training
) -> None:
    publisher = Publisher()
    async with running(make_service(tmp_path, publisher)) as service:
        job = await bake(service)
        assert (job.state, job.error) == (JobState.COMPLETE, None)
        assert await steps_kept(service) == [5, 4, 2]
        assert publisher.published == [2, 4, 5]
        newest = await service.catalog(models.resolve, USER, "repo/bake")
        assert newest.checkpoint is not None and newest.checkpoint.step == 5


async def test_an_intermediate_checkpoint_that_is_not_proved_is_not_published_and_a_warning_says_so(
    tmp_path: Path, training: Training
) -> None:
    publisher = Publisher(4)
    async with running(make_service(tmp_path, publisher)) as service:
        job = await bake(service)
        assert job.state is JobState.COMPLETE
        assert (await steps_kept(service), publisher.published) == ([5, 2], [2, 5])
        assert job.warnings[-1].startswith("checkpoint 4 was written, but it is not served as it was trained: the eng")


async def test_a_training_on_the_engine_s_weights_waits_for_the_next_engine_and_is_lent_those(
    tmp_path: Path, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[bytes] = []

    async def gone() -> None:
        service.engine.ready.clear()

    async def lend_weights(self: FakeEngine) -> LentWeights:
        return LentWeights(b"handles %d" % len(lent), gone)

    async def train(
        spec: TrainSpec, folder: Path, on_event: OnEvent, lender_gone: Callable[[], Awaitable[None]]
    ) -> None:
        assert spec.engine_weights is not None
        lent.append(await asyncio.to_thread(Path(spec.engine_weights).read_bytes))
        if len(lent) == 1:
            await lender_gone()
            asyncio.get_running_loop().call_later(0.05, service.engine.ready.set)
            raise EngineError("the engine that lent its weights to the training ended")
        await training(spec, folder, on_event)

    monkeypatch.setattr("baker.jobs.queue.RETRY_SECONDS", 0.0)
    monkeypatch.setattr(launcher, "train", train)
    monkeypatch.setattr(FakeEngine, "lends_weights", True)
    monkeypatch.setattr(FakeEngine, "lend_weights", lend_weights)
    async with running(make_service(tmp_path, Publisher())) as service:
        job = await bake(service)
        assert (job.state, lent) == (JobState.COMPLETE, [b"handles 0", b"handles 1"])
        assert not (job_folder(tmp_path, job.id) / "engine-weights.pickle").exists()


async def test_an_engine_that_has_no_weights_to_lend_is_trained_beside_with_a_warning(
    tmp_path: Path, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeEngine, "lends_weights", True)
    async with running(make_service(tmp_path, Publisher())) as service:
        job = await bake(service)
        assert job.state is JobState.COMPLETE
        assert "the engine's weights can't be shared, so training loads its own copy: there are none" in job.warnings
        assert training.specs[0].engine_weights is None


async def test_a_training_on_several_gpus_does_not_borrow_the_weights_of_one(
    tmp_path: Path, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeEngine, "lends_weights", True)
    async with running(make_service(tmp_path, Publisher(), trainer_devices=2)) as service:
        job = await bake(service)
        assert job.state is JobState.COMPLETE and training.specs[0].devices == 2
        assert training.specs[0].engine_weights is None
        assert not [warning for warning in job.warnings if "copy" in warning]


@pytest.mark.parametrize("fails", [False, True])
async def test_what_does_not_fit_beside_the_engine_trains_while_it_sleeps(
    tmp_path: Path, training: Training, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    is_ready: list[bool] = []

    async def train(spec: TrainSpec, folder: Path, on_event: OnEvent) -> None:
        is_ready.append(service.engine.is_ready)
        way = MemoryWay.ASLEEP
        await on_event(
            events.Planned(MemoryPlan(way, {"weights": 8}, 8, 4, devices=1, in_parts=False, recomputes=True))
        )
        if not spec.is_engine_asleep:
            assert spec.engine_share == 0.5
            raise NeedsRoomError("it fits while the engine sleeps")
        assert spec.engine_share == 0.0
        if fails:
            raise TrainingError("the loss did not fall")
        await training(spec, folder, on_event)

    monkeypatch.setattr(launcher, "train", train)
    monkeypatch.setattr(FakeEngine, "sleep_share", 0.5)
    async with running(make_service(tmp_path, publisher := Publisher())) as service:
        job = await bake(service)
        assert is_ready == [True, False], "tried beside it first"
        assert service.engine.is_ready, "awake again"
        assert job.state is (JobState.FAILED if fails else JobState.COMPLETE)
        assert job.memory is not None and job.memory.way is MemoryWay.ASLEEP and job.memory.needed == {"weights": 8}
        assert publisher.published == ([] if fails else [2, 4, 5])


async def test_a_last_checkpoint_that_is_not_proved_fails_the_bake_and_none_is_served(
    tmp_path: Path, training: Training
) -> None:
    publisher = Publisher(5)
    async with running(make_service(tmp_path, publisher)) as service:
        job = await bake(service)
        assert job.state is JobState.FAILED and "checkpoint 5 was written, but" in (job.error or "")
        assert (await steps_kept(service), publisher.retired) == ([], [4, 2])
        assert job.progress_percent == 0.0, "nothing of it is left"


async def test_the_status_shows_the_mix_of_the_targets_and_the_result_of_each(
    tmp_path: Path, training: Training
) -> None:
    async with running(make_service(tmp_path, Publisher())) as service:
        job = await bake(service)
        assert job.collation is not None
        assert job.collation.targets == {
            "target": TargetShare(weight=2, share=1.0, trajectories=10, available=10, held_out=2)
        }
        assert job.loss == Loss(
            latest_loss=0.2,
            final_loss=0.2,
            min_loss=0.2,
            max_loss=1.0,
            eval_kl_before=0.5,
            eval_kl=0.1,
            recovered=0.8,
            eval_kl_by_target={"target": KLChange(0.5, 0.1)},
            agreement_before=0.5,
            agreement=0.9,
            agreement_by_target={"target": AgreementChange(0.5, 0.1)},
            drift_before=0.0,
            drift=0.03,
        )
        (spec,) = training.specs
        assert [len(spec.train), {target: len(files) for target, files in spec.held_out.items()}] == [10, {"target": 2}]
        assert all(load_trajectory(Path(file)) for file in spec.train)
        assert spec.name == "repo/bake"


async def test_the_neutral_answers_are_made_for_the_first_bake_and_used_by_all(
    tmp_path: Path, training: Training
) -> None:
    async with running(make_service(tmp_path, Publisher())) as service:
        await bake(service)
        asked = len(service.engine.requests)
        settings = {"datasets": [{"target": "target"}]}
        await service.catalog(bakes.put, USER, "repo", "other", "default", settings, may_change=True)
        job = await service.jobs.start(Stage.BAKE, USER, "repo", "other")
        await service.jobs.wait(job, 60)
        first, second = training.specs
        assert len(first.neutral) == 24 and first.neutral == second.neutral
        assert all(load_trajectory(Path(file)) for file in first.neutral)
        assert len(service.engine.requests) == asked


async def test_a_bake_waits_for_an_engine_that_dies_during_the_neutral_answers(
    tmp_path: Path, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baker.jobs.queue.RETRY_SECONDS", 0.0)
    async with running(make_service(tmp_path, Publisher())) as service:
        service.engine.fail_after = 12 + 5  # the rollout's, and some neutral ones
        task = asyncio.create_task(bake(service))
        while service.engine.ready.is_set():  # noqa: ASYNC110 - no event marks the engine's death
            await asyncio.sleep(0.01)
        service.engine.fail_after = None
        service.engine.ready.set()
        job = await task
        assert (job.state, len(training.specs)) == (JobState.COMPLETE, 1)
        assert job.loss is not None and job.loss.drift == 0.03


async def test_a_base_that_can_t_answer_the_neutral_questions_is_baked_on_without_its_drift(
    tmp_path: Path, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baker.trajectories.neutral.questions", lambda: ["UNRENDERABLE"])
    async with running(make_service(tmp_path, Publisher())) as service:
        job = await bake(service)
        assert job.state is JobState.COMPLETE and training.specs[0].neutral == []
        assert job.loss is not None and job.loss.drift is None
        assert any("the drift is not measured" in warning for warning in job.warnings)


async def test_intermediate_checkpoints_are_served_while_the_training_continues(
    tmp_path: Path, training: Training
) -> None:
    publisher = Publisher()
    training.may_end.clear()
    async with running(make_service(tmp_path, publisher)) as service:
        task = asyncio.create_task(bake(service))
        for step in (2, 4):
            while step not in publisher.published:
                training.may_end.set()
                await asyncio.sleep(0)
                training.may_end.clear()
        job = await service.catalog(plan.latest_job, Stage.BAKE, USER, "repo", "bake")
        assert job is not None and job.state is JobState.RUNNING
        assert await steps_kept(service) == [4, 2]
        assert 4 <= service.jobs.training[job.id].step <= 5
        settings = {"datasets": [{"target": "target"}], "model": {"parent_model_name": "repo/bake/4"}}
        await service.catalog(bakes.put, USER, "repo", "child", "default", settings, may_change=True)
        child = await service.jobs.start(Stage.BAKE, USER, "repo", "child")
        assert any("'admin/repo/bake/4' is not its bake's last checkpoint" in warning for warning in child.warnings)
        await service.jobs.cancel(Stage.BAKE, USER, "repo", "child")
        training.may_end.set()
        await task
        assert not service.jobs.training


async def test_a_checkpoint_that_finds_the_engine_away_is_proved_at_the_end(
    tmp_path: Path, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baker.jobs.queue.RETRY_SECONDS", 0.0)
    publisher = Publisher()
    publisher.is_away = True
    training.on_last = lambda: setattr(publisher, "is_away", False)
    async with running(make_service(tmp_path, publisher)) as service:
        job = await bake(service)
        assert job.state is JobState.COMPLETE
        assert publisher.proved[0] == 5, "the last one decides, and goes first"
        assert (await steps_kept(service), publisher.published) == ([5, 4, 2], [2, 4, 5])


async def test_save_total_limit_keeps_the_newest_checkpoints(tmp_path: Path, training: Training) -> None:
    training.steps = (1, 2, 3, 4, 5)
    publisher = Publisher()
    async with running(make_service(tmp_path, publisher)) as service:
        job = await bake(service, checkpoint=[{"save_every_n_steps": 1, "save_total_limit": 2}])
        assert job.state is JobState.COMPLETE
        assert await steps_kept(service) == [5, 4]
        await asyncio.gather(*service.stages._bakes.checkpoints._retiring)
        assert publisher.retired == [1, 2, 3]
        folder = tmp_path / "jobs" / str(job.id) / "checkpoints"
        assert sorted(path.name for path in folder.iterdir()) == ["4", "5"]


async def test_a_cancelled_bake_that_is_changed_starts_over_and_replaces_its_old_checkpoints(
    tmp_path: Path, training: Training
) -> None:
    publisher = Publisher()
    training.may_end.clear()
    async with running(make_service(tmp_path, publisher)) as service:
        task = asyncio.create_task(bake(service))
        while 4 not in publisher.published:
            training.may_end.set()
            await asyncio.sleep(0)
            training.may_end.clear()
        cancelled = await service.jobs.cancel(Stage.BAKE, USER, "repo", "bake")
        assert cancelled is not None and (await task).error == "cancelled"
        assert await steps_kept(service) == [4, 2]
        state = tmp_path / "jobs" / str(cancelled.id) / "state"
        (state / "4").mkdir(parents=True)
        training.may_end.set()
        training.steps = (2, 3)
        changed = {"datasets": [{"target": "target"}], "epochs": 3}
        await service.catalog(bakes.put, USER, "repo", "bake", "default", changed, may_change=True)
        again = await service.jobs.start(Stage.BAKE, USER, "repo", "bake")
        assert again.id != cancelled.id and (await ended(service)).state is JobState.COMPLETE
        assert await steps_kept(service) == [3, 2]
        await asyncio.gather(*service.stages._bakes.checkpoints._retiring)
    assert publisher.retired == [2, 4], "one whose name is given again goes first, the others when the bake is complete"
    assert not state.exists() and training.specs[1].resume is None


async def test_auto_resume_false_starts_over_and_repeats_no_warning(tmp_path: Path, training: Training) -> None:
    training.may_end.clear()
    async with running(make_service(tmp_path, Publisher())) as service:
        await service.fill()
        settings = {"datasets": [{"target": "target"}], "checkpoint": [{"auto_resume": False}]}
        await service.catalog(bakes.put, USER, "repo", "bake", "default", settings, may_change=True)
        for stage in (Stage.STIM, Stage.ROLLOUT):
            await service.start(stage)
        await service.jobs.start(Stage.BAKE, USER, "repo", "bake")
        await asyncio.wait_for(training.began.wait(), 10)
    training.may_end.set()
    async with running(make_service(tmp_path, Publisher())) as again:
        job = await ended(again)
        assert job.state is JobState.COMPLETE and len(training.specs) == 2
        assert [(spec.state, spec.resume) for spec in training.specs] == [(None, None)] * 2
        assert job.warnings == ["something is otherwise"]


@pytest.mark.parametrize("allows", [False, True])
async def test_the_operator_s_setting_for_weights_and_biases_reaches_the_training(
    tmp_path: Path, training: Training, allows: bool
) -> None:
    async with running(make_service(tmp_path, Publisher(), allows_wandb=allows)) as service:
        await bake(service)
        assert training.specs[0].allows_wandb is allows


async def test_the_model_that_answered_is_its_own_teacher(tmp_path: Path, training: Training) -> None:
    async with running(make_service(tmp_path, Publisher())) as service:
        await bake(service)
        assert training.specs[0].config.data.has_full_teacher


def held_back_job(job: BakeJob) -> str:
    """The reason; it is in the status and among the warnings."""
    assert (job.state, job.error) == (JobState.COMPLETE, None) and job.held_back is not None
    assert any(job.held_back in warning for warning in job.warnings)
    return job.held_back


async def live_step(service: Service) -> int | None:
    live = await service.catalog(bakes.find_checkpoint, USER, "repo", "bake", None)
    return None if live is None else live.step


# The script recovers 1 - 0.1 / 0.5 and drifts by 0.03 nats.
GOOD = {"min_recovered": 0.79, "max_drift": 0.031}


async def test_with_publish_if_only_the_result_moves_the_name(tmp_path: Path, training: Training) -> None:
    publisher = Publisher()
    async with running(make_service(tmp_path, publisher)) as service:
        job = await bake(service, publish_if=GOOD)
        assert (job.state, job.held_back) == (JobState.COMPLETE, None)
        assert (publisher.registered, publisher.published) == ([2, 4], [5])
        assert await live_step(service) == 5


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"min_recovered": 0.81}, "recovered 0.8, publish_if.min_recovered 0.81"),
        ({"max_drift": 0.029}, "drift 0.03 nats per token, publish_if.max_drift 0.029"),
        ({"min_recovered": 0.9, "max_drift": 0.0}, "recovered 0.8, publish_if.min_recovered 0.9; drift 0.03 nats"),
    ],
)
async def test_a_result_that_does_not_meet_publish_if_keeps_its_own_name_and_the_status_says_why(
    tmp_path: Path, training: Training, asked: dict[str, float], reason: str
) -> None:
    publisher = Publisher()
    async with running(make_service(tmp_path, publisher)) as service:
        job = await bake(service, publish_if=asked)
        assert held_back_job(job).startswith(reason)
        assert (publisher.registered, publisher.published) == ([2, 4, 5], [])
        assert await steps_kept(service) == [5, 4, 2]
        with pytest.raises(InvalidInputError, match=r"publish_if holds them back.* promote one"):
            await service.catalog(models.resolve, USER, "repo/bake")
        own = await service.catalog(models.resolve, USER, "repo/bake/5")
        assert own.checkpoint is not None and own.checkpoint.step == 5


async def test_a_result_whose_drift_was_not_measured_does_not_meet_publish_if(
    tmp_path: Path, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baker.trajectories.neutral.questions", lambda: ["UNRENDERABLE"])
    async with running(make_service(tmp_path, Publisher())) as service:
        assert (
            held_back_job(await bake(service, publish_if=GOOD)) == "drift was not measured, publish_if.max_drift 0.031"
        )


async def test_the_old_version_serves_on_beside_a_bad_one_of_the_same_number(
    tmp_path: Path, training: Training
) -> None:
    publisher = Publisher()
    training.may_end.clear()
    async with running(make_service(tmp_path, publisher)) as service:
        task = asyncio.create_task(bake(service))
        while 4 not in publisher.published:
            training.may_end.set()
            await asyncio.sleep(0)
            training.may_end.clear()
        await service.jobs.cancel(Stage.BAKE, USER, "repo", "bake")
        await task
        training.may_end.set()
        training.steps = (4,)

        async def again(**settings: Any) -> BakeJob:
            changed = {"datasets": [{"target": "target"}], **settings}
            await service.catalog(bakes.put, USER, "repo", "bake", "default", changed, may_change=True)
            await service.jobs.start(Stage.BAKE, USER, "repo", "bake")
            return await ended(service)

        bad = await again(publish_if={"max_drift": 0.0})
        held_back_job(bad)
        assert await live_step(service) == 4 and await steps_kept(service) == [5, 4, 2]
        assert (publisher.published, publisher.registered, publisher.retired) == ([2, 4], [5], [])
        same = await service.jobs.start(Stage.BAKE, USER, "repo", "bake")
        assert same.id == bad.id, "the same config would come to the same end"

        good = await again(publish_if={"max_drift": 0.031})
        assert good.id != bad.id and good.held_back is None
        assert await live_step(service) == 5, "4 is taken, and the bad one's number is free"
        assert await steps_kept(service) == [5, 4], "the one before stays, for a rollback"
        await asyncio.gather(*service.stages._bakes.checkpoints._retiring)
        assert publisher.retired == [5, 2]
        with pytest.raises(ConflictError, match="has been run with another config"):
            await again(epochs=3)


async def test_the_live_checkpoint_is_never_pruned(tmp_path: Path, training: Training) -> None:
    training.steps = (1, 2, 3, 4, 5)
    publisher = Publisher()
    training.may_end.clear()
    async with running(make_service(tmp_path, publisher)) as service:
        limits = [{"save_every_n_steps": 1, "save_total_limit": 1}]
        task = asyncio.create_task(bake(service, checkpoint=limits, publish_if={"max_drift": 0.0}))
        while 1 not in publisher.registered:
            training.may_end.set()
            await asyncio.sleep(0)
            training.may_end.clear()
        choice = await service.catalog(promotion.named, USER, "repo", "bake", 1)
        await service.catalog(promotion.move, choice.checkpoint, MovedBy.PROMOTE)
        training.may_end.set()
        held_back_job(await task)
        assert await steps_kept(service) == [5, 1] and await live_step(service) == 1
        await asyncio.gather(*service.stages._bakes.checkpoints._retiring)
        assert publisher.retired == [2, 3, 4]


async def test_a_bake_that_finishes_again_after_a_crash_does_not_move_a_name_that_a_client_moved(
    tmp_path: Path, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Publisher()
    service = make_service(tmp_path, publisher)
    crashed = asyncio.Event()

    async def crash(*_: Any) -> None:
        crashed.set()
        await asyncio.Event().wait()

    async with running(service):
        monkeypatch.setattr(service.stages._bakes.checkpoints, "_prune", crash)
        training.steps = (4, 5)
        monkeypatch.setattr(service.stages._bakes.checkpoints, "serve", lambda *_: asyncio.sleep(0, False))
        task = asyncio.create_task(bake(service))
        await asyncio.wait_for(crashed.wait(), 60)
        choice = await service.catalog(promotion.before, USER, "repo", "bake")
        await service.catalog(promotion.move, choice.checkpoint, MovedBy.ROLLBACK)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with running(make_service(tmp_path, publisher)) as again:
        assert (await ended(again)).state is JobState.COMPLETE
        assert await live_step(again) == 4 and await steps_kept(again) == [5, 4]
    assert publisher.published == [4, 5] and publisher.registered == [4, 5]


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize("renders_tools", [True, False])
async def test_a_bake_of_a_target_whose_tools_had_no_effect_says_so(tmp_path: Path, renders_tools: bool) -> None:
    engine = FakeEngine()
    engine.renders_tools = renders_tools
    async with running(make_service(tmp_path, Publisher(), engine)) as service:
        await service.fill(v="tooled")
        tools = [{"type": "function", "function": {"name": "look"}}]
        await service.catalog(prompts.put, USER, "repo", "tooled", Prompt(tools=tools), may_change=True)
        await service.catalog(
            bakes.put, USER, "repo", "bake", "default", {"datasets": [{"target": "target"}]}, may_change=True
        )
        for stage in (Stage.STIM, Stage.ROLLOUT):
            await service.start(stage)
        await service.jobs.start(Stage.BAKE, USER, "repo", "bake")
        job = await ended(service)
    named = [warning for warning in job.warnings if warning.startswith("target 'target': the chat template of")]
    assert bool(named) is not renders_tools
