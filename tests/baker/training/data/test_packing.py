"""Packed rows, with shared beginnings or without, against the same rows alone: tree, hidden states, gradients."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from baker.training.data import packing
from baker.training.data.batches import make_batch
from baker.training.data.packing import Packing, pack
from baker.training.model import lora
from baker.training.model.student import Student
from baker.types import Trajectory
from tests.baker.tiny import VOCABULARY, make_model, make_trajectories, with_teacher

PREFIX = list(range(20, 32))

tails = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=30), min_size=1, max_size=6)


def seen(line: Packing) -> list[list[int]]:
    """For each place of the line, the places that it attends to: from the first token of its row to itself."""
    visible: list[list[int]] = []
    for segment in line.segments:
        before = [place for begin, end in segment.before for place in range(begin, end)]
        visible += [[*before, *range(segment.begin, place + 1)] for place in range(segment.begin, segment.end)]
    return visible


@given(tails, st.sampled_from([[], PREFIX]), st.booleans())
def test_each_response_is_predicted_from_exactly_its_own_row(
    tails: list[list[int]], prefix: list[int], is_shared: bool
) -> None:
    rows = [np.array([*prefix, *tail]) for tail in tails]
    line = pack(rows, [1] * len(rows), is_shared)
    table = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    ids = torch.from_numpy(table).flatten()[line.source_T]
    visible = seen(line)
    assert len(visible) == len(ids) == line.segments[-1].end
    assert all(earlier.end == later.begin for earlier, later in pairwise(line.segments))
    places = line.responses_N.tolist()
    for row in rows:
        for length in range(1, len(row) + 1):
            place = places.pop(0)
            assert ids[visible[place]].tolist() == row[:length].tolist()
            assert int(line.positions_T[place]) == length - 1
    assert not places
    if not is_shared:
        assert len(ids) == sum(map(len, rows)) and len(line.segments) == len(rows)


def test_shared_beginnings_and_shared_questions_appear_once() -> None:
    question = list(range(40, 50))
    rows = [[*PREFIX, *question, 1, 2], [*PREFIX, 3], [*PREFIX, *question, 4], [*PREFIX, *question]]
    line = pack([np.array(row) for row in rows], [1] * 4)
    lengths = [segment.end - segment.begin for segment in line.segments]
    assert sorted(lengths) == sorted([len(PREFIX), len(question), 2, 1, 1])


def answers() -> list[Trajectory]:
    """Two answers to each of three questions, all with one system prompt."""
    model, generator, rows = make_model(), np.random.default_rng(3), []
    system = np.arange(10, 24)
    for _ in range(3):
        question = generator.integers(3, VOCABULARY, size=9)
        for size in (11, 5):
            response, teacher = generator.integers(3, VOCABULARY, size=size), np.concatenate([[7, 8, 9], question])
            rows.append(with_teacher(model, teacher, np.concatenate([system, question]), response, "q"))
    return rows


@pytest.mark.parametrize("rows", [make_trajectories(5), answers()], ids=["different", "shared"])
def test_packed_shared_and_padded_rows_have_the_same_loss_and_gradients(
    rows: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    student = Student(model)
    adapter = lora.attach(model, rank=4, alpha=8).model
    torch.manual_seed(1)
    weights = [parameter for parameter in adapter.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for weight in weights:
            weight.normal_(std=0.1)

    def outcome() -> tuple[float, Tensor, int]:
        batch = make_batch(rows)
        adapter.zero_grad()
        loss = student.divergence(batch)
        loss.backward()
        return float(loss.detach()), torch.cat([w.grad.flatten() for w in weights]), len(batch.packing.source_T)

    assert student.is_packed
    shared, shared_gradient, shared_size = outcome()
    student.recompute_activations()
    adapter.train()
    again, gradient_again, _ = outcome()
    assert again == shared and torch.equal(gradient_again, shared_gradient)
    model.gradient_checkpointing_disable()
    monkeypatch.setattr(packing, "LEAST_SHARED", 1000)  # unequal rows then share nothing
    packed, packed_gradient, packed_size = outcome()
    student.is_packed = False
    model.set_attn_implementation("sdpa")
    padded, padded_gradient, _ = outcome()
    assert packed_size == sum(len(row.student_ids) + len(row.response_ids) - 1 for row in rows)
    assert shared_size == packed_size - (5 * 14 + 3 * 9 if len(rows) == 6 else 0)
    for loss, gradient in ((shared, shared_gradient), (packed, packed_gradient)):
        assert loss == pytest.approx(padded, rel=1e-5)
        assert (gradient - padded_gradient).norm() < 1e-5 * padded_gradient.norm()
