from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from baker.training import state as training_state
from baker.training.devices.ranks import Ranks
from baker.training.run.loop_state import LoopState
from tests.baker.training.run.loops import make_loop

CPU = torch.device("cpu")


class SecondOfTwo(Ranks):
    """The second of two processes, which both have the same random state."""

    def __init__(self) -> None:
        super().__init__(1, 2)

    def gather(self, value: Any) -> list[Any]:
        return [value, value]


def make(seed: int, ranks: Ranks | None = None) -> tuple[LoopState, list[nn.Parameter], torch.optim.AdamW]:
    torch.manual_seed(seed)
    parameters = [nn.Parameter(torch.randn(size)) for size in (3, 5)]
    optimizer = torch.optim.AdamW(parameters, lr=0.1)
    return LoopState(parameters, optimizer, CPU, 7, ranks or Ranks()), parameters, optimizer


def train(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> list[float]:
    """One step with random gradients. Returns: the weights after it."""
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape)
    optimizer.step()
    return [float(value) for parameter in parameters for value in parameter.detach()]


def test_a_restored_loop_takes_the_same_next_step() -> None:
    state, *loop = make(seed=0)
    for _ in range(3):
        train(*loop)
    state.keep_random()
    arrays = {name: array.copy() for name, array in state.arrays().items()}
    expected = train(*loop)
    other, *other_loop = make(seed=1)
    other.restore(arrays, step=3)
    assert train(*other_loop) == expected


def test_the_random_state_is_that_of_the_last_whole_step() -> None:
    state, *_ = make(seed=0)
    state.keep_random()
    expected = torch.get_rng_state().numpy().copy()
    torch.rand(5)  # dropout of a step that is broken off
    assert np.array_equal(state.arrays()["random.cpu"], expected)


def test_arrays_are_named_by_weight_optimizer_value_and_process() -> None:
    state, *loop = make(seed=0, ranks=SecondOfTwo())
    train(*loop)
    values = [f"optimizer.{index}.{name}" for index in (0, 1) for name in ("exp_avg", "exp_avg_sq", "step")]
    assert list(state.arrays()) == ["weight.0", "weight.1", *values, "random.cpu", "random1.cpu"]


def test_a_process_that_the_state_does_not_hold_is_seeded_by_its_rank_and_step() -> None:
    arrays = make(seed=0)[0].arrays()
    draws = []
    for step in (4, 4, 5):
        state, *_ = make(seed=1, ranks=SecondOfTwo())
        state.restore(arrays, step)
        draws.append(float(torch.rand(1)))
    assert draws[0] == draws[1] != draws[2]
    first, *_ = make(seed=1)
    first.restore(arrays, 4)
    assert float(torch.rand(1)) not in draws


def test_a_loop_that_continues_from_a_state_ends_with_the_same_weights(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"micro_batch_size": 2, "dropout": 0.3}
    whole, _ = make_loop(tmp_path, **settings)
    steps = whole.steps()
    for _ in range(4):
        next(steps)
    training_state.write(tmp_path / "state", whole.state(), "fingerprint")
    list(steps)
    other, _ = make_loop(tmp_path, **settings)
    other.restore(training_state.read(tmp_path / "state/4"))
    assert other.step == 4
    assert list(other.steps()) == [5, 6]
    assert all(torch.equal(one, two) for one, two in zip(whole.parameters, other.parameters, strict=True))
    assert other.history.losses == whole.history.losses
