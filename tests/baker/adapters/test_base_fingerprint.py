"""A base model's fingerprint follows its weights, its tokenizer and its chat template, and nothing else."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from baker.adapters.base_fingerprint import SAMPLE_BYTES, base_fingerprint

WEIGHTS = {"a.weight": torch.arange(SAMPLE_BYTES, dtype=torch.bfloat16), "b.weight": torch.ones(2, 3)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    return tmp_path


def test_it_does_not_depend_on_how_tensors_are_spread_over_files(folder: Path) -> None:
    before = base_fingerprint(folder)
    (folder / "model.safetensors").unlink()
    for number, name in enumerate(reversed(WEIGHTS)):
        save_file({name: WEIGHTS[name]}, folder / f"model-{number}.safetensors")
    (folder / "README.md").write_text("any other file")
    assert base_fingerprint(folder) == before


@pytest.mark.parametrize(
    "changed",
    [
        {"a.weight": WEIGHTS["a.weight"] + 1},
        {"a.weight": WEIGHTS["a.weight"].view(torch.float16)},
        {"b.weight": torch.ones(3, 2)},
        {"c.weight": torch.zeros(1)},
    ],
    ids=["values", "type", "shape", "another tensor"],
)
def test_other_weights_have_another_one(folder: Path, changed: dict[str, torch.Tensor]) -> None:
    before = base_fingerprint(folder)
    save_file({**WEIGHTS, **changed}, folder / "model.safetensors")
    assert base_fingerprint(folder) != before


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_another_tokenizer_or_chat_template_has_another_one(folder: Path, file: str) -> None:
    before = base_fingerprint(folder)
    (folder / file).write_text("other")
    assert base_fingerprint(folder) != before
