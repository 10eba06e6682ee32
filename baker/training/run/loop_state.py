"""The tensors of a training loop that its state on disk holds: adapter weights, optimizer moments, random generators.

Names of the arrays: `weight.<index>`, `optimizer.<index>.<name>`, and `random.<device>` (process 0) or
`random<rank>.<device>`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baker.training.devices.parallel import distribute_like, full_tensor
from baker.training.devices.ranks import ALONE, Ranks


class LoopState:
    """Copies a loop's tensors out and back in. Works across numbers of devices: arrays hold full tensors."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> None:
        """Seeds the dropout of each process but the first."""
        self._parameters, self._optimizer = parameters, optimizer
        self._device, self._seed, self._ranks = device, seed, ranks
        self._seed_process(step=0)
        self._random = self._random_state()

    def keep_random(self) -> None:
        """Keeps the state of the random generators. Call it after each whole step: a step that is broken off has drawn
        dropout too, which a continued training draws again."""
        self._random = self._random_state()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state after the last whole step; arrays may share memory with the weights. Every process must call it."""
        tensors = {f"weight.{index}": full_tensor(weight) for index, weight in enumerate(self._parameters)}
        # Sorted: after a restore the optimizer's dict has the order of the state's file, which is arbitrary.
        for index, values in sorted(self._optimizer.state_dict()["state"].items()):
            tensors |= {f"optimizer.{index}.{name}": full_tensor(value) for name, value in sorted(values.items())}
        for rank, random in enumerate(self._ranks.gather(self._random)):
            tensors |= {f"random{rank or ''}.{name}": value for name, value in random.items()}
        return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]], step: int) -> None:
        """Args: step: number of steps done; it seeds a process that the state holds no generator of."""
        optimizer: dict[int, dict[str, Tensor]] = {}
        random: dict[str, Tensor] = {}
        for name, array in arrays.items():
            kind, _, rest = name.partition(".")
            tensor = torch.tensor(array)  # a copy: torch must not own the buffer that the file was read into
            match kind:
                case "weight":
                    parameter = self._parameters[int(rest)]
                    with torch.no_grad():
                        parameter.copy_(distribute_like(tensor, parameter))
                case "optimizer":
                    index, _, key = rest.partition(".")
                    parameter = self._parameters[int(index)]
                    is_moment = tensor.shape == parameter.shape
                    value = distribute_like(tensor, parameter) if is_moment else tensor
                    optimizer.setdefault(int(index), {})[key] = value
                case _ if kind == f"random{self._ranks.rank or ''}":
                    random[rest] = tensor
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": optimizer, "param_groups": groups})
        if not random:  # the state was written by fewer processes
            self._seed_process(step)
            random = self._random_state()
        self._random |= random
        torch.set_rng_state(self._random["cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(self._random["cuda"], self._device)

    def _seed_process(self, step: int) -> None:
        """Gives each process its own dropout; the first one keeps that of a training on one device."""
        if self._ranks.rank:
            torch.manual_seed(hash((self._seed, self._ranks.rank, step)) % 2**63)

    def _random_state(self) -> dict[str, Tensor]:
        state = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self._device)
        return state
