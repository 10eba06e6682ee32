"""The learning rate schedule of a training."""

import math

from baker.config.optimizer import SchedulerConfig


def schedule(config: SchedulerConfig, step: int, total_steps: int) -> float:
    """The factor on the learning rate at `step`, from 1: a linear warmup, then `config.curve`."""
    warmup = min(config.warmup_steps, total_steps - 1)
    if step <= warmup:
        return step / (warmup + 1)
    done = (step - warmup - 1) / (total_steps - warmup)
    match config.curve:
        case "constant":
            return 1.0
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
        case "linear":
            return 1.0 - done
