"""The stim stage, run by the queue."""

from pathlib import Path

import pytest

from baker.questions import bank
from baker.questions.effect import MEASURED_TOKENS
from baker.status import JobState, Stage
from baker.storage.files import read_lines
from baker.storage.home import job_folder
from tests.baker.jobs.test_queue import Service, running
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio


async def test_a_stim_warns_while_it_runs_and_continues_where_it_was_stopped(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.csv").write_text("question\nWho?\nWhere?\n")
    engine = FakeEngine(reply=lambda _: "1. Is it one?\n2. Is it two?")
    generators = [{"type": "from_dataset", "dataset": "mine"}, {"type": "oneshot_qs", "numq": 2}]
    engine.gate.clear()
    async with running(Service(tmp_path, engine)) as service:
        await service.fill(generators=generators)
        await service.start(Stage.STIM)
        await engine.asked.wait()
        stopped = await service.until(Stage.STIM, lambda job: job.lines == 2)
        assert "2 distinct questions, fewer than the 10" in stopped.warnings[0]
    engine.gate.set()
    async with running(Service(tmp_path, engine)) as again:
        done = await again.ended(Stage.STIM)
    assert (done.state, done.lines, done.progress_percent) == (JobState.COMPLETE, 4, 100.0)
    assert done.warnings == stopped.warnings, "no warning is repeated"
    rows = read_lines(job_folder(tmp_path, done.id) / "stimuli.jsonl")
    assert [(row["id"], row["generator"], row["source"]) for row in rows] == [
        (0, "from_dataset", 0),
        (1, "from_dataset", 0),
        (2, "oneshot_qs", 1),
        (3, "oneshot_qs", 1),
    ]
    assert {row["text"] for row in rows} == {"Who?", "Where?", "Is it one?", "Is it two?"}


async def test_a_broken_dataset_fails_the_stim_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.jsonl").write_text('{"question": "Who?"}\noops\n')
    async with running(Service(tmp_path, FakeEngine())) as service:
        await service.fill(generators=[{"type": "from_dataset", "dataset": "mine"}])
        await service.start(Stage.STIM)
        job = await service.ended(Stage.STIM)
    assert (job.state, job.lines) == (JobState.FAILED, 0)
    assert "mine.jsonl, line 2" in (job.error or "")


async def test_a_seeded_stim_asks_the_engine_the_same_again(tmp_path: Path) -> None:
    sent = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        engine = FakeEngine(reply=lambda text: f"1. Is it {len(text)} or what?")
        async with running(Service(folder, engine)) as service:
            await service.fill(generators=[{"type": "oneshot_qs", "numq": 2, "seed": 5, "temperature": 0.5}])
            await service.start(Stage.STIM)
            await service.ended(Stage.STIM)
        sent.append(sorted((request.seed, request.temperature) for request in engine.requests))
    assert sent[0] == sent[1]
    assert [seed for seed, _ in sent[0]] == list(range(5, 5 + len(sent[0])))


async def test_without_an_anthropic_key_the_bank_gives_the_questions_that_the_prompt_affects_most(
    tmp_path: Path,
) -> None:
    engine = FakeEngine()
    async with running(Service(tmp_path, engine)) as service:
        await service.fill(generators=[{"type": "oneshot_qs", "model": "claude-sonnet-4-5-20250929", "numq": 4}])
        await service.start(Stage.STIM)
        job = await service.ended(Stage.STIM)
    assert (job.state, job.lines) == (JobState.COMPLETE, 4)
    assert "built-in bank" in job.warnings[0]
    rows = read_lines(job_folder(tmp_path, job.id) / "stimuli.jsonl")
    assert {row["generator"] for row in rows} == {"persona"}
    assert {row["text"] for row in rows} <= {question for each in bank.bank().values() for question in each}
    assert [request.max_tokens for request in engine.requests] == [MEASURED_TOKENS] * 12, "three candidates a question"
