"""A teacher over the whole vocabulary, which the trainer computes with the student's own base model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor

from baker.config.bake import bake_config
from baker.training import events
from baker.training import state as training_state
from baker.training.data.batches import length_of, make_batch, teacher_view
from baker.training.devices.ranks import ALONE
from baker.training.model import lora
from baker.training.model.divergences import FORWARD_KL, Measure
from baker.training.model.student import Student
from baker.training.run.run_context import Stopped
from baker.training.run.train import train
from baker.training.setup import memory
from baker.training.setup.builder import build_student
from baker.trajectories.files import load_trajectory
from baker.types import Trajectory
from tests.baker.tiny import VOCABULARY, make_model, make_trajectories, save_model, with_teacher
from tests.baker.training.model.divergence_reference import plain_divergence
from tests.baker.training.model.models import ScaledLlama, gradient_of, shaken
from tests.baker.training.run.test_train import run, warnings_of, write_spec

FULL = {"data": {"teacher": "full"}}
ROWS = make_trajectories(5)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On such a small model, more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def logits_of(model: Any, row: Trajectory, context: Any) -> Tensor:
    """The response's logits of a row alone, without packing."""
    ids = torch.tensor([[*context.tolist(), *row.response_ids.tolist()]])
    logits: Tensor = model(input_ids=ids).logits[0, len(context) - 1 : -1]
    return logits


def by_hand(model: Any, measure: Measure, teachers: list[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for row, teacher in zip(ROWS, teachers, strict=True):
        student = logits_of(model, row, row.student_ids).double()
        everything = torch.arange(VOCABULARY).expand(len(student), -1)
        total = total + plain_divergence(student, teacher.double(), everything, measure).sum()
    return total


@pytest.mark.parametrize("measure", [FORWARD_KL, Measure(0.4, 2.0), Measure(1.0)])
@pytest.mark.parametrize("kind", ["plain", "scaled head", "padded", "recomputed"])
def test_the_loss_and_its_gradient_are_the_divergence_from_the_base_over_the_whole_vocabulary(
    kind: str, measure: Measure
) -> None:
    model, other = make_model(), make_model()
    if kind == "scaled head":
        model.__class__ = other.__class__ = ScaledLlama
    if kind == "padded":
        model.set_attn_implementation("eager")
    student = Student(model.requires_grad_(False))
    assert student.is_packed == (kind != "padded")
    adapter = lora.attach(model, rank=4, alpha=8).model
    student.as_teacher = lambda: lora.as_parent(adapter)
    weights = shaken(adapter)
    adapter.train()
    if kind == "recomputed":
        student.recompute_activations()
    loss = student.divergence(make_batch(ROWS, has_teacher=True), measure)
    gradient = gradient_of(loss, weights)
    assert adapter.training and not any(layer.is_parent for layer in lora._layers(adapter))
    if kind == "recomputed":
        model.gradient_checkpointing_disable()
    with torch.no_grad():
        teachers = [logits_of(other, row, row.teacher_ids) for row in ROWS]
    expected = by_hand(model, measure, teachers)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    expected_gradient = gradient_of(expected, weights)
    assert (gradient - expected_gradient).norm() < 1e-4 * expected_gradient.norm()


def test_it_equals_the_loss_of_the_top_tokens_if_all_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.baker.tiny.TOP", VOCABULARY)
    model = make_model()
    rows = [with_teacher(model, row.teacher_ids, row.student_ids, row.response_ids, row.stimulus) for row in ROWS]
    student = Student(model.requires_grad_(False))
    adapter = lora.attach(model, rank=4, alpha=8).model
    student.as_teacher = lambda: lora.as_parent(adapter)
    weights = shaken(adapter)
    for measure in (FORWARD_KL, Measure(0.5, 3.0)):
        full, kept = (student.divergence(make_batch(rows, has_teacher=has), measure) for has in (True, False))
        assert float(full.detach()) == pytest.approx(float(kept.detach()), rel=1e-4)
        one, other = gradient_of(full, weights), gradient_of(kept, weights)
        assert (one - other).norm() < 1e-3 * other.norm()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base") / "model")


def saved_by(heard: list[events.TrainEvent]) -> events.Saved:
    return next(event for event in reversed(heard) if isinstance(event, events.Saved))


def test_with_a_parent_the_teacher_is_and_stays_the_parent(tmp_path: Path, base: Path) -> None:
    """The child has a larger rank and another scale. The teacher is neither the base nor the trained child."""
    parent_spec = write_spec(tmp_path / "parent", base)
    parent = Path(parent_spec.output) / str(saved_by(run(parent_spec)).step)
    lora_of_child = {"model": {"baked_adapter_config": {"r": 6, "lora_alpha": 3}}}
    spec = write_spec(tmp_path / "child", base, parent=parent, **lora_of_child, **FULL)
    student, attached = build_student(spec, ROWS, ALONE, lambda event: None)
    plain, _ = build_student(write_spec(tmp_path / "other", base, parent=parent), ROWS, ALONE, lambda event: None)
    with torch.no_grad():
        teachers = [logits_of(plain.model, row, row.teacher_ids) for row in ROWS]
        unbaked = [logits_of(make_model().to(torch.bfloat16).float(), row, row.teacher_ids) for row in ROWS]
    weights = shaken(attached.model)
    batch = make_batch(ROWS, has_teacher=True)
    loss = student.divergence(batch)
    expected = by_hand(student.model, FORWARD_KL, teachers)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-3)
    assert float(by_hand(student.model, FORWARD_KL, unbaked).detach()) != pytest.approx(
        float(expected.detach()), rel=0.01
    )
    one, other = gradient_of(loss, weights), gradient_of(expected, weights)
    assert (one - other).norm() < 1e-3 * other.norm()


def test_a_bake_learns_from_it_and_eval_kl_is_over_the_top_tokens(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gentle = {"optimizer": {"learning_rate": 0.005}}
    full = run(write_spec(tmp_path / "full", base, **gentle, **FULL))
    kept = run(write_spec(tmp_path / "kept", base, **gentle))
    firsts, lasts = [], []
    for heard in (full, kept):
        kls = [event.eval_kl for event in heard if isinstance(event, events.Evaluated)]
        firsts.append(kls[0])
        lasts.append(kls[-1])
    assert firsts[0] == firsts[1], "the same measure"
    assert lasts[0] < 0.9 * firsts[0]
    losses = [next(event.loss for event in heard if isinstance(event, events.Stepped)) for heard in (full, kept)]
    assert losses[0] > losses[1], "the top tokens give a lower bound"
    spec = write_spec(tmp_path / "recomputed", base, **gentle, **FULL)
    rows = [load_trajectory(Path(file)) for file in spec.train]
    monkeypatch.setattr(memory, "READ_TOKENS", 1)
    need = memory.estimate(
        memory.read_shape(base),
        spec.config,
        [length_of(row) for row in rows],
        dtype="float32",
        recomputes=True,
        teacher_lengths=[length_of(teacher_view(row)) for row in rows],
    )
    monkeypatch.setattr("baker.training.setup.placement.free_bytes", lambda: need.to_allocate)
    again = run(spec)
    assert any("computed again" in warning for warning in warnings_of(again))
    assert saved_by(again).sha256 == saved_by(full).sha256, "with activations computed again"


@pytest.mark.parametrize("data", [FULL["data"], {"teacher": "FULL", "beta": 0.5, "temperature": 1.5}])
def test_an_interrupted_bake_ends_with_the_same_bytes(tmp_path: Path, base: Path, data: dict[str, Any]) -> None:
    settings = {"data": data, "model": {"baked_adapter_config": {"lora_dropout": 0.2}}, "epochs": 2}
    whole = saved_by(run(write_spec(tmp_path / "whole", base, **settings)))
    spec = msgspec.structs.replace(
        write_spec(tmp_path / "cut", base, **settings), state=str(tmp_path / "cut" / "state")
    )
    asked = iter(range(10**6))
    with pytest.raises(Stopped):
        train(spec, lambda event: None, lambda: next(asked) > 7)
    state = training_state.find(tmp_path / "cut" / "state", spec.fingerprint())
    assert state is not None
    assert saved_by(run(msgspec.structs.replace(spec, resume=str(state)))).sha256 == whole.sha256


def test_the_teacher_reads_each_row_once_in_a_bake(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = Student.teacher_states

    def counted(self: Student, rows: Any, layers: Any = ()) -> list[Tensor]:
        read.extend(map(id, rows))
        return plain(self, rows, layers)

    monkeypatch.setattr(Student, "teacher_states", counted)
    kept = run(write_spec(tmp_path / "kept", base, epochs=3, **FULL))
    assert len(read) == len(set(read)) > 0
    read.clear()
    monkeypatch.setattr("baker.training.model.teacher_states.TEACHER_BYTES", 0)
    recomputed = run(write_spec(tmp_path / "recomputed_states", base, epochs=3, **FULL))
    assert not read, "they do not fit, so none are kept"
    lasts = [
        [event.eval_kl for event in heard if isinstance(event, events.Evaluated)][-1] for heard in (kept, recomputed)
    ]
    assert lasts[0] == pytest.approx(lasts[1], rel=0.05)


def test_other_names_of_teachers_are_refused() -> None:
    with pytest.raises(ValueError, match="teacher: 'all' is not supported; allowed: top_k, full"):
        bake_config({"data": {"teacher": "all"}})
