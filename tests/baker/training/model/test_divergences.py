"""One tile: divergences and gradients in place of the logits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from baker.training.model.divergences import (
    FORWARD_KL,
    Measure,
    compare_in_place,
    divergence_in_place,
    full_divergence_in_place,
)
from baker.training.model.losses import divergence, forward_kl
from tests.baker.training.model.divergence_reference import by_loops, logits_pair, plain_divergence, top_of

measures = st.builds(
    Measure,
    beta=st.sampled_from([0.0, 1e-6, 0.1, 0.5, 0.9, 1.0]),
    temperature=st.sampled_from([0.5, 1.0, 2.0, 7.0]),
)


gentle_shapes = st.tuples(
    st.integers(1, 4), st.integers(2, 12), st.integers(0, 10_000), st.sampled_from([0.1, 0.5, 1.0])
)
"""Shapes whose rests are far above the lower limit."""


@pytest.mark.parametrize(("end", "near"), [(0.0, 1e-6), (1.0, 1.0 - 1e-6)])
def test_the_divergence_approaches_the_two_kls(end: float, near: float) -> None:
    student, teacher = logits_pair(5, 12, seed=3, spread=2.0)
    ids, logprobs = top_of(teacher, 4)
    at_the_end, close_to_it = (divergence(student, ids, logprobs, Measure(beta)) for beta in (end, near))
    assert close_to_it.tolist() == pytest.approx(at_the_end.tolist(), rel=1e-4)
    other = divergence(student, ids, logprobs, Measure(1.0 - end))
    assert (other - at_the_end).abs().min() > 0.01


def test_every_beta_has_the_same_curvature_near_the_teacher() -> None:
    """Half of chi squared: a learning rate that fits one beta fits all."""
    _, teacher = logits_pair(5, 12, seed=3, spread=1.0)
    student = teacher + 0.01 * logits_pair(5, 12, seed=4, spread=1.0)[0]
    nats = [divergence(student, *top_of(teacher, 12), Measure(beta)) for beta in (0.0, 0.2, 0.5, 1.0)]
    p, q = teacher.softmax(-1), student.softmax(-1)
    for values in nats:
        assert values.tolist() == pytest.approx((((p - q) ** 2) / p / 2).sum(-1).tolist(), rel=0.05)


@pytest.mark.parametrize("student_scale", [0.0, 1.0, 1e3, 1e5])
@pytest.mark.parametrize("first", [0.0, -1e-7, 1e-6, -5.0])
@pytest.mark.parametrize("others", [-20.0, -1e3, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("measure", [FORWARD_KL, Measure(0.5), Measure(1.0), Measure(0.5, 3.0), Measure(0.0, 0.1)])
def test_extreme_masses_give_finite_losses_and_gradients(
    student_scale: float, first: float, others: float, dtype: torch.dtype, measure: Measure
) -> None:
    """The K tokens may hold all of the mass, or more by rounding; either side may give the rest almost nothing."""
    ids = torch.tensor([[0, 1], [3, 4]])
    logprobs = torch.tensor([[first, others], [first, others]])
    student = (torch.tensor([[5.0, 1, 0, 0, -5], [5, 1, 0, 0, -5]]) * student_scale).to(dtype).requires_grad_()
    nats = divergence(student, ids, logprobs, measure)
    nats.sum().backward()
    assert torch.isfinite(nats).all() and (nats >= -1e-5).all()
    assert student.grad is not None and student.grad.dtype == dtype and torch.isfinite(student.grad).all()


def test_a_tiny_rest_is_resolved() -> None:
    """The student gives the rest 1e-12, the teacher 1e-3: 1 - q would be rounding noise."""
    student = torch.tensor([[0.0, math.log(1e-12)]])
    nats = forward_kl(student, torch.tensor([[0]]), torch.tensor([[math.log(0.999)]]))
    assert nats.item() == pytest.approx(0.999 * math.log(0.999) + 1e-3 * math.log(1e-3 / 1e-12), rel=1e-4)


@settings(deadline=None, max_examples=60)
@given(gentle_shapes, measures, st.data())
def test_a_tile_s_logits_become_the_gradient(
    shape: tuple[int, int, int, float], measure: Measure, data: st.DataObject
) -> None:
    student, teacher = logits_pair(*shape)
    kept = data.draw(st.integers(1, shape[1]))
    ids, logprobs = top_of(teacher, kept)
    leaf = student.clone().requires_grad_()
    plain_divergence(leaf, teacher, ids, measure).sum().backward()
    tile = student.float()
    nats = divergence_in_place(tile, ids, logprobs, measure)
    assert nats.tolist() == pytest.approx(by_loops(student, teacher, ids, measure), rel=2e-3, abs=1e-4)
    assert leaf.grad is not None
    torch.testing.assert_close(tile.double(), leaf.grad, rtol=2e-3, atol=1e-4)
    if kept == shape[1]:
        full = student.float()
        assert full_divergence_in_place(full, teacher.float(), measure).tolist() == pytest.approx(
            nats.tolist(), rel=1e-4, abs=1e-5
        )
        torch.testing.assert_close(full, tile, rtol=1e-3, atol=1e-5)


def test_a_comparison_counts_equal_likeliest_tokens() -> None:
    student = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    teacher = torch.tensor([[0.0, 1.0, 0.5], [0.0, 0.1, 2.0], [0.0, 0.5, 1.0]])
    ids, logprobs = top_of(teacher, 2)
    compared = compare_in_place(student.clone(), ids, logprobs)
    assert int(compared.agreed) == 2
    assert float(compared.nats) == pytest.approx(sum(by_loops(student, teacher, ids)), rel=1e-4)
