import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from baker.training.model import losses
from baker.training.model.divergences import FORWARD_KL, Measure
from baker.training.model.losses import (
    compare,
    divergence,
    forward_kl,
    full_divergence,
    full_head_divergence,
    full_kl,
    head_compare,
    head_divergence,
)
from tests.baker.training.model.divergence_reference import (
    by_loops,
    logits_pair,
    plain_divergence,
    plain_kl,
    top_of,
)

no_deadline = settings(deadline=None, max_examples=60)

measures = st.builds(
    Measure,
    beta=st.sampled_from([0.0, 1e-6, 0.1, 0.5, 0.9, 1.0]),
    temperature=st.sampled_from([0.5, 1.0, 2.0, 7.0]),
)
shapes = st.tuples(
    st.integers(1, 4), st.integers(2, 12), st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 10.0, 40.0])
)


@no_deadline
@given(shapes, st.data())
def test_forward_kl_is_what_loops_compute(shape: tuple[int, int, int, float], data: st.DataObject) -> None:
    student, teacher = logits_pair(*shape)
    ids, logprobs = top_of(teacher, data.draw(st.integers(1, shape[1])))
    nats = forward_kl(student, ids, logprobs)
    assert nats.dtype == torch.float32
    assert nats.tolist() == pytest.approx(by_loops(student, teacher, ids), rel=1e-4, abs=1e-5)


@no_deadline
@given(shapes)
def test_forward_kl_of_all_tokens_is_the_full_kl(shape: tuple[int, int, int, float]) -> None:
    student, teacher = logits_pair(*shape)
    ids, logprobs = top_of(teacher, shape[1])
    assert forward_kl(student, ids, logprobs).tolist() == pytest.approx(
        full_kl(student, teacher).tolist(), rel=1e-4, abs=1e-5
    )


@no_deadline
@given(shapes)
def test_forward_kl_grows_with_the_kept_tokens_up_to_the_full_kl(shape: tuple[int, int, int, float]) -> None:
    student, teacher = logits_pair(*shape)
    values = [forward_kl(student, *top_of(teacher, kept)) for kept in range(1, shape[1] + 1)]
    values.append(full_kl(student, teacher))
    for smaller, larger in itertools.pairwise(values):
        assert (smaller <= larger + 1e-5 * (1 + larger)).all()
    assert (values[0] >= -1e-6).all()


@no_deadline
@given(shapes, st.data())
def test_forward_kl_is_zero_when_student_is_teacher(shape: tuple[int, int, int, float], data: st.DataObject) -> None:
    _, teacher = logits_pair(*shape)
    student = teacher.clone().requires_grad_()
    nats = forward_kl(student + 3.0, *top_of(teacher, data.draw(st.integers(1, shape[1]))))
    assert nats.tolist() == pytest.approx([0.0] * shape[0], abs=1e-5)
    nats.sum().backward()
    assert student.grad is not None and student.grad.abs().max() < 1e-5


@pytest.mark.parametrize("positions_at_once", [1, 3, 100])
def test_a_comparison_counts_where_both_have_the_same_likeliest_token(
    monkeypatch: pytest.MonkeyPatch, positions_at_once: int
) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden, head = torch.randn(7, 5, generator=generator), torch.randn(11, 5, generator=generator)
    student = hidden @ head.T
    teacher = student + torch.randn(7, 11, generator=generator)
    ids, logprobs = top_of(teacher, 4)
    order = torch.tensor([2, 0, 3, 1])
    ids, logprobs = ids[:, order], logprobs[:, order]  # the likeliest is not the first
    rows = list(zip(student.tolist(), teacher.tolist(), strict=True))
    agreed = sum(z.index(max(z)) == t.index(max(t)) for z, t in rows)
    assert 0 < agreed < 7
    monkeypatch.setattr(losses, "CHUNK_BYTES", positions_at_once * 4 * 11)
    for compared in (compare(student, ids, logprobs), head_compare(hidden, head, ids, logprobs)):
        assert int(compared.agreed) == agreed
        assert float(compared.nats) == pytest.approx(sum(by_loops(student, teacher, ids)), rel=1e-4)
    assert torch.equal(student, hidden @ head.T), "the logits are not changed"


@no_deadline
@given(shapes, st.data())
def test_the_gradient_is_that_of_autograd(shape: tuple[int, int, int, float], data: st.DataObject) -> None:
    student, teacher = logits_pair(*shape)
    kept = data.draw(st.integers(1, shape[1]))
    ids, logprobs = top_of(teacher, kept)
    weights = torch.rand(shape[0], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mine = student.clone().requires_grad_()
    (forward_kl(mine, ids, logprobs) * weights).sum().backward()
    plain = student.clone().requires_grad_()
    (plain_kl(plain, ids, teacher.log_softmax(-1).gather(-1, ids)) * weights).sum().backward()
    assert mine.grad is not None and plain.grad is not None
    torch.testing.assert_close(mine.grad, plain.grad, rtol=1e-4, atol=1e-5)


gentle_shapes = st.tuples(
    st.integers(1, 4), st.integers(2, 12), st.integers(0, 10_000), st.sampled_from([0.1, 0.5, 1.0])
)
"""Shapes whose rests are far above the lower limit."""


@no_deadline
@given(gentle_shapes, measures, st.data())
def test_any_divergence_is_what_loops_compute(
    shape: tuple[int, int, int, float], measure: Measure, data: st.DataObject
) -> None:
    student, teacher = logits_pair(*shape)
    ids, logprobs = top_of(teacher, data.draw(st.integers(1, shape[1])))
    nats = divergence(student, ids, logprobs, measure)
    assert nats.dtype == torch.float32
    assert nats.tolist() == pytest.approx(by_loops(student, teacher, ids, measure), rel=2e-3, abs=1e-4)


@no_deadline
@given(shapes, measures, st.data())
def test_any_divergence_is_zero_when_student_is_teacher(
    shape: tuple[int, int, int, float], measure: Measure, data: st.DataObject
) -> None:
    _, teacher = logits_pair(*shape)
    student = teacher.clone().requires_grad_()
    nats = divergence(student + 3.0, *top_of(teacher, data.draw(st.integers(1, shape[1]))), measure)
    # The rounding error of the teacher's rest, raised to 1 / 7, is up to a hundredth.
    assert nats.tolist() == pytest.approx([0.0] * shape[0], abs=1e-3 if measure.temperature > 1 else 2e-5)
    nats.sum().backward()
    assert student.grad is not None and student.grad.abs().max() < (1e-2 if measure.temperature > 1 else 1e-4)


@no_deadline
@given(gentle_shapes, measures, st.data())
def test_the_gradient_of_any_divergence_is_that_of_autograd(
    shape: tuple[int, int, int, float], measure: Measure, data: st.DataObject
) -> None:
    student, teacher = logits_pair(*shape)
    ids, logprobs = top_of(teacher, data.draw(st.integers(1, shape[1])))
    weights = torch.rand(shape[0], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mine, plain = student.clone().requires_grad_(), student.clone().requires_grad_()
    (divergence(mine, ids, logprobs, measure) * weights).sum().backward()
    (plain_divergence(plain, teacher, ids, measure) * weights).sum().backward()
    assert mine.grad is not None and plain.grad is not None
    torch.testing.assert_close(mine.grad, plain.grad, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("chunk_rows", [1, 3, 100])
@pytest.mark.parametrize("kept", [4, 9])
@pytest.mark.parametrize("measure", [FORWARD_KL, Measure(0.3, 2.0)])
def test_head_divergence_is_that_of_the_heads_logits(
    chunk_rows: int, kept: int, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_BYTES", chunk_rows * 4 * 9)
    monkeypatch.setattr(losses, "TILE_BYTES", 2 * 4 * 9)
    generator = torch.Generator().manual_seed(0)
    hidden, head, teacher = (torch.randn(*size, generator=generator) for size in ((7, 5), (9, 5), (7, 9)))
    ids, logprobs = top_of(teacher, kept)
    one, two = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    whole = head_divergence(one, head, ids, logprobs, measure)
    parts = divergence(two @ head.T, ids, logprobs, measure).sum()
    assert whole.item() == pytest.approx(parts.item(), rel=1e-5)
    (whole * 0.3).backward()
    (parts * 0.3).backward()
    assert one.grad is not None and two.grad is not None
    torch.testing.assert_close(one.grad, two.grad)


@no_deadline
@given(gentle_shapes, measures)
def test_the_full_divergence_and_its_gradient_are_those_of_the_whole_vocabulary(
    shape: tuple[int, int, int, float], measure: Measure
) -> None:
    student, teacher = logits_pair(*shape)
    everything = torch.arange(shape[1]).expand(shape[0], -1)
    weights = torch.rand(shape[0], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mine, plain, kept = (student.clone().requires_grad_() for _ in range(3))
    nats = full_divergence(mine, teacher, measure)
    assert nats.tolist() == pytest.approx(by_loops(student, teacher, everything, measure), rel=2e-3, abs=1e-4)
    same = divergence(kept, everything, teacher.log_softmax(-1), measure)
    assert nats.tolist() == pytest.approx(same.tolist(), rel=1e-4, abs=1e-5), "as if all tokens were kept"
    (nats * weights).sum().backward()
    (same * weights).sum().backward()
    (plain_divergence(plain, teacher, everything, measure) * weights).sum().backward()
    assert mine.grad is not None and plain.grad is not None and kept.grad is not None
    torch.testing.assert_close(mine.grad, plain.grad, rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(mine.grad, kept.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("chunk_rows", [1, 12, 1000])
@pytest.mark.parametrize("measure", [FORWARD_KL, Measure(0.3, 2.0), Measure(1.0)])
def test_the_full_divergence_of_heads_is_that_of_their_logits(
    chunk_rows: int, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "CHUNK_BYTES", chunk_rows * 4 * 9)
    monkeypatch.setattr(losses, "TILE_BYTES", 2 * 4 * 9)
    generator = torch.Generator().manual_seed(0)
    hidden, taught, head = (torch.randn(*size, generator=generator) for size in ((7, 5), (7, 5), (9, 5)))
    one, two = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    whole = full_head_divergence(one, taught, head, measure)
    parts = full_divergence(two @ head.T, taught @ head.T, measure).sum()
    plain = plain_divergence(hidden.double() @ head.double().T, taught.double() @ head.double().T, ALL_9, measure)
    assert whole.item() == pytest.approx(parts.item(), rel=1e-5) == pytest.approx(float(plain.sum()), rel=1e-4)
    (whole * 0.3).backward()
    (parts * 0.3).backward()
    assert one.grad is not None and two.grad is not None
    torch.testing.assert_close(one.grad, two.grad)


ALL_9 = torch.arange(9).expand(7, -1)


def test_the_full_divergence_never_holds_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No intermediate tensor is larger than a chunk."""
    monkeypatch.setattr(losses, "CHUNK_BYTES", 6 * 4 * 500)
    monkeypatch.setattr(losses, "TILE_BYTES", 2 * 4 * 500)
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    hidden, taught, head = torch.randn(64, 4).requires_grad_(), torch.randn(64, 4), torch.randn(500, 4)
    for measure in (FORWARD_KL, Measure(0.5)):
        largest = 0
        with Watch():
            full_head_divergence(hidden, taught, head, measure).backward()
        assert largest == 6 * 500


def test_head_divergence_multiplies_in_the_heads_type() -> None:
    hidden = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    head = torch.ones(6, 4, dtype=torch.bfloat16)
    head_divergence(hidden, head, torch.tensor([[0], [1], [2]]), torch.full((3, 1), -1.0)).backward()
    assert hidden.grad is not None and hidden.grad.dtype == torch.float32


def test_nothing_to_average_is_refused() -> None:
    with pytest.raises(ValueError, match="no teacher distribution"):
        forward_kl(torch.zeros(0, 5), torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2))
    with pytest.raises(ValueError, match="no teacher distribution"):
        forward_kl(torch.zeros(1, 5), torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, 0))
    with pytest.raises(ValueError, match="3 positions do not fit"):
        forward_kl(torch.zeros(3, 5), torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="does not fit"):
        full_divergence(torch.zeros(2, 5), torch.zeros(3, 5))
    with pytest.raises(ValueError, match="does not fit"):
        full_head_divergence(torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="freeze it"):
        full_head_divergence(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(5, 2).requires_grad_())
    with pytest.raises(ValueError, match="freeze it"):
        head_divergence(
            torch.zeros(1, 2), torch.zeros(5, 2).requires_grad_(), torch.zeros(1, 1).long(), torch.zeros(1, 1)
        )
