"""The data of a bake: links to its targets' rollouts, in an order that does not depend on the rollouts' timing."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from baker.config.bake import BakeConfig, bake_config
from baker.trajectories.mix import linked_mix

CONFIG = bake_config({"datasets": [{"target": "loud"}, {"target": "calm", "weight": 3}], "seed": 7})
ROLLOUTS = {"loud": 1, "calm": 2}


def write_rollout(home: Path, job: int, pairs: Iterable[tuple[int, int]]) -> None:
    """A rollout's rows and files in the given order of (stimulus id, trajectory id)."""
    folder = home / "jobs" / str(job)
    (folder / "trajectories").mkdir(parents=True)
    rows = []
    for stimulus, trajectory in pairs:
        (folder / "trajectories" / f"{stimulus:06d}-{trajectory:04d}.safetensors").write_text(f"{job} {stimulus}")
        rows.append({"stimulus_id": stimulus, "trajectory_id": trajectory, "stimulus": f"{job} question {stimulus}"})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_rollout(tmp_path, 1, [(stimulus, 0) for stimulus in range(10)])
    write_rollout(tmp_path, 2, [(stimulus, trajectory) for stimulus in range(6) for trajectory in range(2)])
    return tmp_path


def names_of(home: Path, data: Path, config: BakeConfig = CONFIG) -> tuple[list[str], dict[str, list[str]]]:
    """The training rows and the held-out ones, as paths relative to `data`."""
    mix = linked_mix(home, data, config, ROLLOUTS)

    def relative(files: list[str]) -> list[str]:
        return [str(Path(file).relative_to(data)) for file in files]

    return relative(mix.train), {target: relative(files) for target, files in mix.held_out.items()}


def test_every_trajectory_is_linked_and_stays_when_the_rollout_is_deleted(home: Path) -> None:
    data = home / "data"
    train, held_out = names_of(home, data)
    links = {str(path.relative_to(data)) for path in data.rglob("*.safetensors")}
    assert len(links) == 10 + 12
    assert {*train, *held_out["loud"], *held_out["calm"]} <= links
    assert (data / "loud" / "000003-0000.safetensors").stat().st_nlink == 2
    shutil.rmtree(home / "jobs")
    assert (data / "calm" / "000005-0001.safetensors").read_text() == "2 5"


def test_a_file_system_without_links_gets_copies(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, link: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    names_of(home, home / "data")
    copy = home / "data" / "loud" / "000003-0000.safetensors"
    assert copy.read_text() == "1 3"
    assert copy.stat().st_nlink == 1


def test_the_mix_does_not_depend_on_the_order_in_which_answers_finished(home: Path) -> None:
    first = names_of(home, home / "data")
    shutil.rmtree(home / "jobs" / "2")
    write_rollout(home, 2, [(stimulus, trajectory) for trajectory in (1, 0) for stimulus in (5, 0, 4, 1, 3, 2)])
    assert names_of(home, home / "data") == first


def test_the_data_s_seed_decides_before_the_bake_s(home: Path) -> None:
    def config(seed: int, data_seed: int | None) -> BakeConfig:
        return bake_config({"data": {"seed": data_seed}, "seed": seed}, CONFIG)

    mixes = [names_of(home, home / "data", config(*seeds)) for seeds in ((7, None), (8, 7), (8, None))]
    assert mixes[0] == mixes[1] != mixes[2]


def test_leftovers_of_an_earlier_try_are_removed(home: Path) -> None:
    leftover = home / "data" / "gone" / "000000-0000.safetensors"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("old")
    names_of(home, home / "data")
    assert not leftover.exists()
