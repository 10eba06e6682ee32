"""The data of a bake, in its own folder: hard links to the trajectories of its targets' rollouts.

jobs/<number>/data/<target>/<i>-<k>.safetensors
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from baker.config.bake import BakeConfig
from baker.names import path_of
from baker.storage.files import read_lines
from baker.storage.home import ROWS, TRAJECTORIES, job_folder
from baker.trajectories.collate import Mix, Source, collate
from baker.trajectories.rollout import trajectory_name


def linked_mix(home: Path, data: Path, config: BakeConfig, rollouts: Mapping[str, int]) -> Mix[str]:
    """Link the rollouts' files into a new folder `data`, and mix them. The mix holds the paths of the links.

    With its own links a bake keeps its data when a target is deleted. The same rollouts give the same mix. Blocks.

    Args: rollouts: number of each target's rollout job, by target.
    Raises: CollateError if a target has nothing to train on; OSError.
    """
    shutil.rmtree(data, ignore_errors=True)
    sources = {}
    for target, job_id in rollouts.items():
        rollout_folder = job_folder(home, job_id)
        own_folder = path_of(data, target)
        own_folder.mkdir(parents=True)
        items = []
        for row in sorted(read_lines(rollout_folder / ROWS), key=_row_order):
            link = own_folder / trajectory_name(row)
            _link(rollout_folder / TRAJECTORIES / trajectory_name(row), link)
            items.append((row["stimulus"], str(link)))
        sources[target] = Source(weight=config.weights[target], items=items)
    return collate(
        sources,
        held_out_share=config.data.train_eval_split[1],
        total=config.total_trajectories,
        seed=config.seed if config.data.seed is None else config.data.seed,
    )


def _link(source: Path, link: Path) -> None:
    try:
        os.link(source, link)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, link)


def _row_order(row: dict[str, Any]) -> tuple[int, int]:
    # Rows are stored in the order in which they finished, which differs between runs; the mix must not.
    return row["stimulus_id"], row["trajectory_id"]
