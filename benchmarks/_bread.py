"""Runs stages of a service that a benchmark has started."""

import time
from pathlib import Path
from typing import Any

from aibread import Bread

from baker.trajectories.files import load_trajectory
from baker.types import Trajectory

POLL_SECONDS = 1.0


def roll_out(bread: Bread, folder: Path, repo: str, target: str, overrides: dict[str, Any]) -> list[Trajectory]:
    """Create the target and run its stim and rollout. Args: folder: where the service runs. Returns: the answers."""
    of_target: dict[str, Any] = {"repo_name": repo, "target_name": target}
    settings: Any = overrides
    bread.targets.create(**of_target, template="default", overrides=settings)
    bread.targets.stim.run(**of_target, poll=False)
    bread.targets.rollout.run(**of_target, poll=False)
    while (status := bread.targets.rollout.get(**of_target)).status != "complete":
        assert status.status != "failed", status
        time.sleep(POLL_SECONDS)
    rolled = max(folder.glob(".bread/jobs/*/trajectories"), key=lambda path: int(path.parent.name))
    return [load_trajectory(file) for file in sorted(rolled.glob("*.safetensors"))]
