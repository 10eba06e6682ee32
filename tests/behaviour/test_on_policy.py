"""On-policy rounds: a training in parts, and a bake that is killed during its rounds."""

import asyncio
import contextlib
import multiprocessing
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import torch

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from baker.config.bake import bake_config
from baker.config.unsupported import refusals
from baker.jobs import bake_stage
from baker.status import JobState, Progress, Stage
from baker.storage.files import read_lines
from baker.storage.job import BakeJob
from baker.training import events
from baker.training import state as training_state
from baker.training.run.run_context import Stopped
from baker.training.run.train import train
from baker.training.spec import Round, TrainSpec
from baker.trajectories.files import load_trajectory, save_trajectory
from baker.trajectories.on_policy import RoundStore
from tests.baker.jobs.test_bake_stage import Publisher, ended, make_service, steps_kept
from tests.baker.jobs.test_queue import Service, running
from tests.baker.tiny import make_model, make_trajectories, save_model
from tests.baker.training.run.test_main import is_running
from tests.baker.training.run.test_train import TIME_DEPENDENT, write_spec
from tests.baker.trajectories.test_on_policy import StudentEngine
from tests.behaviour.test_interruptions import SECONDS, begin, kill_trainer, step_of, until
from tests.behaviour.test_resume import Killed
from tests.fakes import decode

pytestmark = pytest.mark.anyio


# The training in parts, one process's work at a time

PARTS: dict[str, Any] = {
    "epochs": 3,
    "eval_interval": 4,
    "data": {"on_policy": {"rounds": 2, "trajectories": 6, "share": 0.75, "epochs": 2}},
    "model": {"baked_adapter_config": {"lora_dropout": 0.2}},
    "checkpoint": [{"save_every_n_steps": 5, "save_every_n_epochs": 2}],
}
FIRST, ALL = 18, 18 + 2 * 8


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)  # as in the trainings: another number changes the last bits of a teacher
    return save_model(tmp_path_factory.mktemp("base") / "model")


def make(folder: Path, base: Path, **settings: Any) -> TrainSpec:
    spec = write_spec(folder, base, **{**PARTS, **settings})
    for number in (1, 2):
        for index, row in enumerate(make_trajectories(8, seed=number)):
            save_trajectory(folder / "rows" / f"round-{number}-{index}.safetensors", row)
    return msgspec.structs.replace(spec, state=str(folder / "state"))


def train_next_part(spec: TrainSpec, emit: Any, is_stopping: Any = lambda: False) -> None:
    """Train the next part, as the bake stage does."""
    folder = Path(spec.metrics).parent
    assert spec.state is not None
    state = training_state.find(Path(spec.state), spec.fingerprint())
    rounds = RoundStore(folder)
    number = 0 if state is None else rounds.number_at(training_state.step_of(state))
    part = Round()
    if number:
        train_on = [str(folder / "rows" / f"round-{number}-{index}.safetensors") for index in range(8)]
        part = Round(number, rounds.read(number).first_step, rounds.read(1).first_step, train_on)
    spec = msgspec.structs.replace(spec, resume=None if state is None else str(state), round=part)
    last: list[events.Saved] = []

    def hear(event: events.TrainEvent) -> None:
        emit(event)
        if isinstance(event, events.Saved):
            last.append(event)

    train(spec, hear, is_stopping)
    if not last[-1].is_last:
        rounds.begin(number + 1, last[-1].step, None)


def finish(spec: TrainSpec) -> list[events.TrainEvent]:
    heard: list[events.TrainEvent] = []
    while not any(isinstance(event, events.Saved) and event.is_last for event in heard):
        train_next_part(spec, heard.append)
    return heard


def rows_of(spec: TrainSpec) -> list[dict[str, Any]]:
    rows = read_lines(Path(spec.metrics))
    return [{key: value for key, value in row.items() if key not in TIME_DEPENDENT} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base: Path) -> tuple[TrainSpec, list[events.TrainEvent]]:
    spec = make(tmp_path_factory.mktemp("whole"), base)
    return spec, finish(spec)


def test_rounds_are_one_training(whole: tuple[TrainSpec, list[events.TrainEvent]]) -> None:
    spec, heard = whole
    steps = [event for event in heard if isinstance(event, events.Stepped)]
    assert [event.step for event in steps] == list(range(1, ALL + 1))
    assert {event.total_steps for event in steps} == {ALL}
    assert [event.round for event in steps] == [0] * FIRST + [1] * 8 + [2] * 8 and steps[0].rounds == 2
    rates = [event.lr for event in steps]
    assert rates[3] == 0.02 and rates[3:] == sorted(rates[3:], reverse=True), "one curve"
    assert [event.epoch for event in steps][FIRST - 1 :: 4] == [3.0, 4.0, 5.0, 6.0, 7.0]
    rows = rows_of(spec)
    assert [row["iter"] for row in rows] == sorted(row["iter"] for row in rows)
    assert [row["iter"] for row in rows if "grad_norm" in row] == list(range(1, ALL + 1))
    evaluated = [row["iter"] for row in rows if "eval_loss" in row]
    assert evaluated == [0, 4, 8, 12, 16, 18, 20, 24, 26, 28, 32, 34], "every 4, and at each round's end"
    assert all(row["round"] == (row["iter"] > FIRST) + (row["iter"] > FIRST + 8) for row in rows)
    folders = sorted(int(path.name) for path in Path(spec.output).iterdir())
    assert folders == [5, 10, 12, 15, 18, 20, 25, 26, 30, 34], "by steps, by epochs, and at each round's end"
    saved = [event for event in heard if isinstance(event, events.Saved)]
    assert [event.step for event in saved if event.is_last] == [ALL]


@pytest.mark.parametrize("point", range(0, 148, 48))
def test_wherever_rounds_are_interrupted_they_end_the_same(
    tmp_path: Path, base: Path, whole: tuple[TrainSpec, list[events.TrainEvent]], point: int
) -> None:
    """Killed after `point` events over all rounds; then stopped several times, as by SIGTERM."""
    spec = make(tmp_path, base)
    left = point

    def emit(event: events.TrainEvent) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    with contextlib.suppress(Killed):
        while True:
            train_next_part(spec, emit)
    for patience in (2, 5, 6, 11):
        asked = iter(range(10**6))
        try:
            train_next_part(spec, lambda event: None, lambda asked=asked, patience=patience: next(asked) > patience)
        except Stopped:
            continue
    finish(spec)
    for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
        files = [Path(one.output) / str(ALL) / name for one in (spec, whole[0])]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    assert rows_of(spec) == rows_of(whole[0])


def test_without_a_state_no_round_can_begin() -> None:
    config = {"data": {"on_policy": {"rounds": 1}}, "checkpoint": [{"auto_resume": False}]}
    assert ["auto_resume is false" in reason for reason in refusals(bake_config(config))] == [True]


# The whole bake, with real training processes

SETTINGS: dict[str, Any] = {
    "epochs": 4,
    "data": {"on_policy": {"rounds": 2, "trajectories": 6, "share": 0.75, "epochs": 2}},
    "checkpoint": [{"save_every_n_steps": 12}],
}
TAUGHT = 20
LAST = TAUGHT + 2 * 8


@pytest.fixture(scope="module")
def wide_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a token for each character of the fake engine's answers."""
    folder = tmp_path_factory.mktemp("base") / "model"
    make_model(vocab_size=160).save_pretrained(folder)
    return folder


def service_of(home: Path, base: Path, hold_at: int | None = None) -> tuple[Service, StudentEngine]:
    engine = StudentEngine(base)
    engine.hold_at = hold_at
    return make_service(home, Publisher(), engine, trainer_threads=1), engine


@pytest.fixture(scope="module")
async def done(tmp_path_factory: pytest.TempPathFactory, wide_base: Path) -> tuple[Path, BakeJob]:
    """A bake that nothing interrupted."""
    home = tmp_path_factory.mktemp("done")
    service, engine = service_of(home, wide_base)
    async with running(service):
        await begin(service, **SETTINGS)
        job = await ended(service, SECONDS)
        assert (job.state, job.error) == (JobState.COMPLETE, None)
        assert await steps_kept(service) == [LAST, TAUGHT + 8, TAUGHT + 4, TAUGHT, 12]
    held_out = {
        load_trajectory(path).stimulus for path in (home / "jobs" / str(job.id) / "data" / "target").iterdir()
    } - trained_on(home, job)
    assert len(held_out) == 1
    steps = [request.adapter.step for request in engine.students if request.adapter is not None]
    assert sorted(steps) == [TAUGHT] * 6 + [TAUGHT + 8] * 6, "the newest checkpoint answers"
    assert not any(text in decode(request.context_ids) for request in engine.students for text in held_out)
    return home, job


def trained_on(home: Path, job: BakeJob) -> set[str]:
    spec = msgspec.json.decode((home / "jobs" / str(job.id) / "spec.json").read_bytes(), type=TrainSpec)
    return {load_trajectory(Path(name)).stimulus for name in spec.train}


def outcome(home: Path, job: BakeJob) -> dict[str, Any]:
    folder = home / "jobs" / str(job.id)
    rows = read_lines(folder / "metrics.jsonl")
    return {
        "weights": (folder / "checkpoints" / str(LAST) / ADAPTER_WEIGHTS).read_bytes(),
        "rows": [(row["iter"], row["round"], row.get("eval_loss", row.get("drift", row.get("loss")))) for row in rows],
        "answers": {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("rounds/*/*/*")},
        "train": [RoundStore(folder).read(number).train for number in (1, 2)],
    }


def hold_forever(home: Path, base: Path) -> None:
    async def serve() -> None:
        service, _ = service_of(home, base, hold_at=9)
        async with running(service):
            await begin(service, **SETTINGS)
            await asyncio.Event().wait()

    asyncio.run(serve())


async def test_a_bake_that_is_killed_in_its_rounds_continues_at_the_same_answer_and_step(
    tmp_path: Path, wide_base: Path, done: tuple[Path, BakeJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the trainer in round 1, then with SIGKILL the service among the answers of round 2."""
    monkeypatch.setattr(bake_stage, "RETRY_SECONDS", 0.0)
    _, job = done
    answers = tmp_path / "jobs" / str(job.id) / "rounds" / "2" / "trajectories"
    process = multiprocessing.get_context("spawn").Process(target=hold_forever, args=(tmp_path, wide_base))
    process.start()
    await until(lambda: len(list(answers.glob("*.safetensors"))) == 2)
    children = psutil.Process(process.pid).children()
    process.kill()
    process.join()
    await until(lambda: not any(is_running(child.pid) for child in children))
    service, engine = service_of(tmp_path, wide_base)
    async with running(service):
        await until(lambda: step_of(service, job) > TAUGHT + 8)
        killed = kill_trainer()
        job_again = await ended(service, SECONDS)
        assert killed is not None
        assert (job_again.id, job_again.state, job_again.error) == (job.id, JobState.COMPLETE, None)
    assert len(engine.students) == 4, "two of six were kept"
    assert outcome(tmp_path, job) == outcome(*done)


async def test_the_status_shows_the_round_and_a_cancelled_one_is_continued(
    tmp_path: Path, wide_base: Path, done: tuple[Path, BakeJob]
) -> None:
    service, engine = service_of(tmp_path, wide_base, hold_at=3)
    async with running(service):
        job = await begin(service, **SETTINGS)

        def standing() -> Progress:
            return service.jobs.training.get(job.id) or Progress(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)

        await until(lambda: standing().answers == 2)
        assert (standing().step, standing().total_steps) == (TAUGHT, LAST)
        assert (standing().round, standing().rounds) == (1, 2)
        cancelled = await service.jobs.cancel(Stage.BAKE, "admin", "repo", "bake")
        assert cancelled is not None and 50 < cancelled.progress_percent < 60
        assert await steps_kept(service) == [TAUGHT, 12]
        engine.hold_at = None
        again = await service.jobs.start(Stage.BAKE, "admin", "repo", "bake")
        assert again.id > job.id and (await ended(service, SECONDS)).state is JobState.COMPLETE
    assert len(engine.students) == 6 + (6 - 2) + 6, "those in flight are asked again"
    assert outcome(tmp_path, again) == outcome(*done)
