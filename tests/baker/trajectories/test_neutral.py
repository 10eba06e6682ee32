"""The base model's answers to neutral questions: given once, stored all or none, given again by another base."""

from pathlib import Path

import pytest

from baker.errors import EngineError, InvalidInputError
from baker.trajectories import neutral
from baker.trajectories.files import load_trajectory
from baker.trajectories.neutral import NeutralAnswers, questions
from baker.types import Message
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio


def make_engine(folder: Path) -> FakeEngine:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    return FakeEngine(folder)


def answers(home: Path, engine: FakeEngine, top_logprobs: int = 4) -> NeutralAnswers:
    return NeutralAnswers(home, engine, engine, top_logprobs)


async def test_the_base_is_asked_in_a_bare_conversation_and_its_distribution_is_kept(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "model")
    files = await answers(tmp_path, engine).files()
    assert len(files) == len(questions()) == len(set(questions())) == 24
    for file, question in zip(files, questions(), strict=True):
        row = load_trajectory(file)
        context = await engine.tokenise([{"role": "user", "content": question}])
        assert row.stimulus == question and row.student_ids.tolist() == row.teacher_ids.tolist() == context
        assert 0 < len(row.response_ids) <= 48 and row.top_ids_TK.shape == (len(row.response_ids), 4)
    assert {(request.adapter, request.temperature) for request in engine.requests} == {(None, 1.0)}
    assert len({request.seed for request in engine.requests}) == 24, "each answer has its own seed"


async def test_the_answers_are_given_once(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "model")
    first = await answers(tmp_path, engine).files()
    assert await answers(tmp_path, engine).files() == first and len(engine.requests) == 24


@pytest.mark.parametrize("change", ["weights", "name", "template", "top_logprobs"])
async def test_another_base_model_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    engine, width = make_engine(tmp_path / "model"), 4
    first = await answers(tmp_path, engine).files()
    match change:
        case "weights":
            (engine.path / "model.safetensors").write_bytes(b"WEIGHTS")
        case "name":
            engine.name = "fake/other"
        case "template":
            plain = engine.tokenise

            async def tokenise(messages: list[Message], tools: None = None) -> list[int]:
                return [10, *await plain(messages)]

            monkeypatch.setattr(engine, "tokenise", tokenise)
        case "top_logprobs":
            width = 5
    second = await answers(tmp_path, engine, width).files()
    assert first[0].parent != second[0].parent and len(engine.requests) == 48
    assert all(path.exists() for path in first)


@pytest.mark.parametrize("damage", ["cut", "gone"])
async def test_damaged_answers_are_replaced(tmp_path: Path, damage: str) -> None:
    engine = make_engine(tmp_path / "model")
    files = await answers(tmp_path, engine).files()
    if damage == "cut":
        files[3].write_bytes(files[3].read_bytes()[:-1])
    else:
        files[3].unlink()
    assert await answers(tmp_path, engine).files() == files and len(engine.requests) == 48
    assert load_trajectory(files[3]).stimulus == questions()[3]


async def test_an_engine_that_dies_leaves_no_incomplete_folder(tmp_path: Path) -> None:
    engine = make_engine(tmp_path / "model")
    engine.fail_after = 10
    with pytest.raises(EngineError):
        await answers(tmp_path, engine).files()
    assert not (tmp_path / "neutral").exists()
    engine.fail_after = None
    (tmp_path / "neutral" / ".left.tmp").mkdir(parents=True)
    files = await answers(tmp_path, engine).files()
    assert [path.name for path in (tmp_path / "neutral").iterdir()] == [files[0].parent.name]


async def test_a_model_that_refuses_the_bare_conversation_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neutral, "questions", lambda: ["UNRENDERABLE"])
    with pytest.raises(InvalidInputError):
        await answers(tmp_path, make_engine(tmp_path / "model")).files()
