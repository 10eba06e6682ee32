"""What the fingerprint of a training depends on."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from baker.config.bake import bake_config
from baker.config.checkpoint import PublishConfig
from baker.storage.files import write_bytes
from baker.training.spec import Round, TrainSpec


def spec(folder: Path, **changes: Any) -> TrainSpec:
    plain = TrainSpec(
        name="repo/bake",
        base_model=str(folder / "model"),
        base_model_name="org/base",
        parent_adapter=None,
        train=[str(folder / "data/target/1-0.safetensors"), str(folder / "data/target/2-0.safetensors")],
        held_out={"target": [str(folder / "data/target/3-0.safetensors")]},
        output=str(folder / "checkpoints"),
        metrics=str(folder / "metrics.jsonl"),
        config=bake_config({"epochs": 3}),
    )
    return msgspec.structs.replace(plain, **changes)


def test_it_stays_the_same_when_folders_move_and_in_every_round_and_on_other_hardware(tmp_path: Path) -> None:
    fingerprint = spec(tmp_path / "a").fingerprint()
    assert fingerprint == spec(tmp_path / "b").fingerprint()
    same: dict[str, Any] = {"round": Round(2, 9, 5), "resume": "state/9", "threads": 3, "devices": 2}
    assert fingerprint == spec(tmp_path / "a", **same).fingerprint()
    config = msgspec.structs.replace(spec(tmp_path).config, publish_if=PublishConfig(max_drift=0.1))
    assert fingerprint == spec(tmp_path / "a", config=config).fingerprint()


@pytest.mark.parametrize("field", ["train", "held_out", "config", "base_model_name", "parent_adapter"])
def test_it_changes_with_everything_that_decides_the_result(tmp_path: Path, field: str) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        write_bytes(parent / name, b"1")
    changes = {
        "train": spec(tmp_path).train[::-1],
        "held_out": {"other": spec(tmp_path).held_out["target"]},
        "config": bake_config({"seed": 1}, spec(tmp_path).config),
        "base_model_name": "org/other",
        "parent_adapter": str(parent),
    }
    changed = spec(tmp_path, **{field: changes[field]}).fingerprint()
    assert changed != spec(tmp_path).fingerprint()
    if field == "parent_adapter":
        write_bytes(parent / "adapter_model.safetensors", b"2")
        assert spec(tmp_path, parent_adapter=str(parent)).fingerprint() != changed
