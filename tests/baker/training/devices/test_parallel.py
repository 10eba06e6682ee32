"""A model in DDP or FSDP with one process gives the results of the plain model. Several: test_devices.py."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from baker.training.data.batches import make_batch
from baker.training.devices.parallel import ONE_DEVICE, Parallel, distribute_like, full_tensor, replicated, sharded
from baker.training.devices.ranks import Ranks
from baker.training.model import lora
from baker.training.model.student import Student
from tests.baker.tiny import make_model, make_trajectories

CPU = torch.device("cpu")
LAYOUTS: dict[str, Callable[..., Parallel]] = {
    "replicated": lambda model: replicated(model, Ranks()),
    "sharded": lambda model: sharded(model, CPU, Ranks()),
}


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def gradients(
    parallel: Callable[..., Parallel], *, recomputes: bool = False, has_teacher: bool = False
) -> tuple[Student, list[Tensor]]:
    """The gradients of three batches, all but the last inside `no_sync`."""
    model = make_model().requires_grad_(False)
    torch.manual_seed(0)
    attached = lora.attach(model, rank=4, alpha=4.0)
    with torch.no_grad():
        for weight in (p for p in attached.model.parameters() if p.requires_grad):
            weight.normal_(std=0.1)
    student = Student(model, parallel(model))
    student.as_teacher = partial(lora.as_parent, attached.model)
    if recomputes:
        student.recompute_activations()
    student.model.train()
    for rows in (make_trajectories(3, seed=1), make_trajectories(3, seed=2)):
        with student.parallel.no_sync():
            student.divergence(make_batch(rows, has_teacher=has_teacher)).backward()
    student.divergence(make_batch(make_trajectories(2), has_teacher=has_teacher)).backward()
    return student, [full_tensor(p.grad) for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize(("recomputes", "has_teacher"), [(False, False), (True, True)])
def test_packed_lines_and_the_head_s_own_loss_work_in_it(kind: str, recomputes: bool, has_teacher: bool) -> None:
    student, wrapped = gradients(LAYOUTS[kind], recomputes=recomputes, has_teacher=has_teacher)
    assert student.is_packed and student._has_plain_head
    alone, expected = gradients(lambda model: ONE_DEVICE, has_teacher=has_teacher)
    for one, other in zip(wrapped, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)
    batch = make_batch(make_trajectories(4))
    assert student.compare(batch) == pytest.approx(alone.compare(batch), rel=1e-6)
    assert student.response_logprobs(batch) == pytest.approx(alone.response_logprobs(batch), abs=1e-5)


def test_a_sharded_adapter_is_gathered_unchanged() -> None:
    model = make_model().requires_grad_(False)
    attached = lora.attach(model, rank=4, alpha=4.0)
    before = lora.weights_of(attached.model)
    sharded(model, CPU, Ranks())
    after = lora.weights_of(attached.model)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    parameter = next(p for p in model.parameters() if p.requires_grad)
    assert type(distribute_like(torch.ones(parameter.shape), parameter)) is type(parameter.data)
    assert torch.equal(full_tensor(distribute_like(full_tensor(parameter), parameter)), full_tensor(parameter))
