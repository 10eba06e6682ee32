import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from baker import losses
from baker.losses import forward_kl, full_kl, head_kl

no_deadline = settings(deadline=None, max_examples=60)

shapes = st.tuples(
    st.integers(1, 4), st.integers(2, 12), st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 10.0, 40.0])
)


def logits_pair(positions: int, vocabulary: int, seed: int, spread: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    make = lambda: torch.randn(positions, vocabulary, generator=generator, dtype=torch.float64) * spread  # noqa: E731
    return make(), make()


def top_of(teacher: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    top = teacher.double().log_softmax(-1).topk(kept)
    return top.indices, top.values.float()


def by_loops(student: Tensor, teacher: Tensor, ids: Tensor) -> list[float]:
    """KL over kept tokens and the rest, in Python floats."""
    result = []
    for z, t, kept in zip(student.tolist(), teacher.tolist(), ids.tolist(), strict=True):
        q = [math.exp(value - max(z)) for value in z]
        p = [math.exp(value - max(t)) for value in t]
        q = [value / math.fsum(q) for value in q]
        p = [value / math.fsum(p) for value in p]
        rest = [token for token in range(len(p)) if token not in kept]
        pairs = [(p[token], q[token]) for token in kept] + [
            (math.fsum(p[i] for i in rest), math.fsum(q[i] for i in rest))
        ]
        result.append(math.fsum(a * (math.log(a) - math.log(b)) for a, b in pairs if a > 0))
    return result


@no_deadline
@given(shapes, st.data())
def test_forward_kl_is_what_loops_compute(shape: tuple[int, int, int, float], data: st.DataObject) -> None:
    student, teacher = logits_pair(*shape)
    ids, logprobs = top_of(teacher, data.draw(st.integers(1, shape[1])))
    found = forward_kl(student, ids, logprobs)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(by_loops(student, teacher, ids), rel=1e-4, abs=1e-5)


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
    found = forward_kl(student + 3.0, *top_of(teacher, data.draw(st.integers(1, shape[1]))))
    assert found.tolist() == pytest.approx([0.0] * shape[0], abs=1e-5)
    found.sum().backward()
    assert student.grad is not None and student.grad.abs().max() < 1e-5


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


def plain_kl(logits: Tensor, ids: Tensor, logprobs: Tensor) -> Tensor:
    """In float64 by the book; its rest is a difference, which float64 can afford."""
    q = logits.log_softmax(-1)
    result = (logprobs.exp() * (logprobs - q.gather(-1, ids))).sum(-1)
    if ids.shape[-1] == logits.shape[-1]:
        return result
    rest = torch.ones_like(logits).scatter(-1, ids, 0.0).bool()
    log_rest = q.masked_fill(~rest, -torch.inf).logsumexp(-1)
    mass = 1.0 - logprobs.exp().sum(-1)
    return result + torch.xlogy(mass.clamp(min=0), mass.clamp(min=0)) - mass.clamp(min=0) * log_rest


@pytest.mark.parametrize("student_scale", [0.0, 1.0, 1e3, 1e5])
@pytest.mark.parametrize("first", [0.0, -1e-7, 1e-6, -5.0])
@pytest.mark.parametrize("others", [-20.0, -1e3, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_masses_give_finite_losses_and_gradients(
    student_scale: float, first: float, others: float, dtype: torch.dtype
) -> None:
    """The K tokens may hold all of the mass, by rounding even more; either side may give the rest nearly nothing."""
    ids = torch.tensor([[0, 1], [3, 4]])
    logprobs = torch.tensor([[first, others], [first, others]])
    student = (torch.tensor([[5.0, 1, 0, 0, -5], [5, 1, 0, 0, -5]]) * student_scale).to(dtype).requires_grad_()
    found = forward_kl(student, ids, logprobs)
    found.sum().backward()
    assert torch.isfinite(found).all() and (found >= -1e-5).all()
    assert student.grad is not None and student.grad.dtype == dtype and torch.isfinite(student.grad).all()


def test_a_tiny_rest_is_resolved() -> None:
    """1 - q would be rounding noise: the student leaves 1e-12 to the rest, the teacher 1e-3."""
    student = torch.tensor([[0.0, math.log(1e-12)]])
    found = forward_kl(student, torch.tensor([[0]]), torch.tensor([[math.log(0.999)]]))
    assert found.item() == pytest.approx(0.999 * math.log(0.999) + 1e-3 * math.log(1e-3 / 1e-12), rel=1e-4)


@pytest.mark.parametrize("chunk_rows", [1, 3, 100])
@pytest.mark.parametrize("kept", [4, 9])
def test_head_kl_is_forward_kl_of_the_heads_logits(chunk_rows: int, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "CHUNK_BYTES", chunk_rows * 4 * 9)
    generator = torch.Generator().manual_seed(0)
    hidden, head, teacher = (torch.randn(*size, generator=generator) for size in ((7, 5), (9, 5), (7, 9)))
    ids, logprobs = top_of(teacher, kept)
    one, two = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    whole = head_kl(one, head, ids, logprobs)
    parts = forward_kl(two @ head.T, ids, logprobs).sum()
    assert whole.item() == pytest.approx(parts.item(), rel=1e-5)
    (whole * 0.3).backward()
    (parts * 0.3).backward()
    assert one.grad is not None and two.grad is not None
    torch.testing.assert_close(one.grad, two.grad)


def test_head_kl_multiplies_in_the_heads_type() -> None:
    hidden = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    head = torch.ones(6, 4, dtype=torch.bfloat16)
    head_kl(hidden, head, torch.tensor([[0], [1], [2]]), torch.full((3, 1), -1.0)).backward()
    assert hidden.grad is not None and hidden.grad.dtype == torch.float32


def test_nothing_to_average_is_refused() -> None:
    with pytest.raises(ValueError, match="no teacher distribution"):
        forward_kl(torch.zeros(0, 5), torch.zeros(0, 2, dtype=torch.long), torch.zeros(0, 2))
    with pytest.raises(ValueError, match="no teacher distribution"):
        forward_kl(torch.zeros(1, 5), torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, 0))
    with pytest.raises(ValueError, match="3 positions do not fit"):
        forward_kl(torch.zeros(3, 5), torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="freeze it"):
        head_kl(torch.zeros(1, 2), torch.zeros(5, 2).requires_grad_(), torch.zeros(1, 1).long(), torch.zeros(1, 1))
