"""On-policy rounds: which questions are asked, who answers and judges, and what is kept."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from baker.config.data import OnPolicyConfig
from baker.errors import EngineError, InvalidInputError, RolloutError
from baker.status import Progress
from baker.trajectories.files import load_trajectory, save_trajectory
from baker.trajectories.on_policy import AnswerSettings, JudgedAnswers, RoundStore, answer_and_judge, draw_rows
from baker.types import Checkpoint, Distribution, Sample, SampleRequest
from tests.baker.tiny import make_trajectories
from tests.fakes import FakeEngine, decode, encode

pytestmark = pytest.mark.anyio

STUDENT = Checkpoint("admin", "repo", "bake", 7, Path(), "0" * 64, 0, 1)
TEACHER = msgspec.structs.replace(STUDENT, bake="parent")
PROGRESS = Progress(40, 100, 4.0, 0.5, 1e-3, 0.25, 1000.0)


def test_every_row_is_drawn_once_before_any_is_drawn_again() -> None:
    files = [str(index) for index in range(7)]
    rows = draw_rows(files, 17, "seed")
    assert sorted(rows[:7]) == sorted(rows[7:14]) == files and len(set(rows[14:])) == 3
    assert rows == draw_rows(files, 17, "seed") != draw_rows(files, 17, "other") and draw_rows(files, 0, "seed") == []


def test_a_training_is_in_the_last_round_that_began_at_or_before_its_step(tmp_path: Path) -> None:
    rounds = RoundStore(tmp_path)
    assert rounds.number_at(5) == 0
    rounds.begin(1, 40, None)
    rounds.begin(2, 48, None)
    assert [rounds.number_at(step) for step in (0, 39, 40, 47, 48, 60)] == [0, 0, 1, 1, 2, 2]


def test_a_round_is_recorded_once_with_paths_relative_to_the_bake(tmp_path: Path) -> None:
    rounds = RoundStore(tmp_path)
    rounds.begin(1, 40, PROGRESS)
    record = rounds.complete(1, [rounds.answers(1) / "a", tmp_path / "data" / "b"])
    assert record.train == ["rounds/1/trajectories/a", "data/b"]
    rounds.begin(1, 41, None)
    assert rounds.read(1) == record, "a record that exists is kept"
    stored = json.loads((tmp_path / "rounds" / "1" / "round.json").read_bytes())
    assert stored == {"first_step": 40, "before": msgspec.to_builtins(PROGRESS), "train": record.train}


class StudentEngine(FakeEngine):
    """Serves students, and records what they are asked."""

    hold_at: int | None = None
    """Number of the student's request from which on requests never end."""
    fail_at: int | None = None
    """Number of the student's request that raises EngineError."""
    refused = ""
    """Contexts with this text are not judged."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.students: list[SampleRequest] = []

    async def sample(self, request: SampleRequest) -> Sample:
        if request.adapter is not None:
            self.students.append(request)
            if len(self.students) == self.fail_at:
                raise EngineError("the engine is dead")
            if self.hold_at is not None and len(self.students) >= self.hold_at:
                await asyncio.Event().wait()
        return await super().sample(request)

    async def distribution(
        self, context_ids: Sequence[int], response_ids: Sequence[int], top_logprobs: int, adapter: Checkpoint | None
    ) -> Distribution:
        if self.refused and self.refused in decode(context_ids):
            raise InvalidInputError("the window is too small")
        return await super().distribution(context_ids, response_ids, top_logprobs, adapter)


def write_mix(folder: Path, count: int = 4) -> list[str]:
    """Write trajectories with the teacher's context "loud <index>" and the student's "plain <index>"."""
    files = []
    for index, row in enumerate(make_trajectories(count)):
        texts = [f"loud {index}", f"plain {index}"]
        teacher_ids, student_ids = (np.array(encode(text), np.int32) for text in texts)
        row = msgspec.structs.replace(row, teacher_ids=teacher_ids, student_ids=student_ids)
        files.append(str(folder / f"{index}.safetensors"))
        save_trajectory(Path(files[-1]), row)
    return files


async def answers_of(
    files: list[str], folder: Path, engine: StudentEngine, counts: list[int], **config: Any
) -> JudgedAnswers:
    settings = AnswerSettings(OnPolicyConfig(**config), STUDENT, TEACHER, 4, "seed")

    async def report_count(count: int) -> None:
        counts.append(count)

    return await answer_and_judge(files, folder, settings, engine, report_count)


async def test_the_student_answers_under_its_prompt_and_the_teacher_judges_under_its_own(tmp_path: Path) -> None:
    engine, counts, files = StudentEngine(), list[int](), write_mix(tmp_path)
    judged = await answers_of(files, tmp_path / "answers", engine, counts, temperature=0.5, max_tokens=5)
    assert counts == [0, 1, 2, 3, 4] and judged.refused == []
    assert [decode(request.context_ids) for request in engine.students] == [f"plain {index}" for index in range(4)]
    assert {(r.adapter, r.temperature, r.max_tokens, r.top_logprobs) for r in engine.students} == {(STUDENT, 0.5, 5, 0)}
    assert len({request.seed for request in engine.students}) == 4
    assert [decode(context) for context, _ in engine.judged] == [f"loud {index}" for index in range(4)]
    for index, file in enumerate(judged.files):
        row, asked = load_trajectory(file), load_trajectory(Path(files[index]))
        assert row.teacher_ids.tolist() == asked.teacher_ids.tolist() and row.stimulus == asked.stimulus
        assert decode(row.response_ids[:-1]) == "PLAI"
        assert row.top_ids_TK[:, 0].tolist() == row.response_ids.tolist(), "the fake teacher knows the answer"
    again = await answers_of(files, tmp_path / "answers", engine, counts)
    assert again == judged and len(engine.students) == 4, "answers that exist are kept"


async def test_answers_are_by_default_as_long_as_the_teacher_s_longest(tmp_path: Path) -> None:
    engine, files = StudentEngine(), write_mix(tmp_path)
    await answers_of(files, tmp_path / "answers", engine, [])
    longest = max(len(load_trajectory(Path(file)).response_ids) for file in files)
    assert {request.max_tokens for request in engine.students} == {longest}


async def test_an_answer_that_cannot_be_judged_is_left_out_and_reported(tmp_path: Path) -> None:
    engine, files = StudentEngine(), write_mix(tmp_path)
    engine.refused = "loud 2"
    judged = await answers_of(files, tmp_path / "answers", engine, [])
    assert [file.name for file in judged.files] == [f"{index:06d}.safetensors" for index in (0, 1, 3)]
    assert judged.refused == ["'question 2': the window is too small"]
    engine.refused = "loud"
    with pytest.raises(RolloutError, match="could be answered; the first: 'question 0': the window"):
        await answers_of(files, tmp_path / "others", engine, [])


async def test_answers_given_before_an_engine_dies_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baker.trajectories.on_policy.MAX_CONCURRENT", 1)
    engine, files, counts = StudentEngine(), write_mix(tmp_path), list[int]()
    engine.fail_at = 3
    with pytest.raises(EngineError, match="the engine is dead"):
        await answers_of(files, tmp_path / "answers", engine, [])
    judged = await answers_of(files, tmp_path / "answers", engine, counts)
    assert counts == [2, 3, 4] and len(judged.files) == 4 and len(engine.students) == 5
