from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from baker.errors import StageError
from baker.training.data.batches import make_batch
from baker.training.model.base import _FLASH_ATTENTIONS, _load_with, dtype_of, from_files, load_base, pick_dtype
from baker.training.model.student import Student
from tests.baker.tiny import make_trajectories, save_model

CPU = torch.device("cpu")


def test_the_base_is_frozen_and_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    model = load_base(save_model(tmp_path / "model"), CPU).model
    assert not any(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(StageError, match="nothing can't be loaded"):
        load_base(tmp_path / "nothing", CPU)


@pytest.mark.parametrize(
    ("name", "dtype", "warning"),
    [
        ("bfloat16", torch.bfloat16, None),
        ("float32", torch.float32, None),
        ("float16", torch.float32, "model.dtype is float16"),
        (None, pick_dtype(CPU), None),
    ],
)
def test_the_base_computes_in_the_requested_type(
    tmp_path: Path, name: str | None, dtype: torch.dtype, warning: str | None
) -> None:
    base = load_base(save_model(tmp_path / "model"), CPU, dtype=name)
    assert {parameter.dtype for parameter in base.model.parameters()} == {dtype}
    assert len(base.warnings) == (warning is not None) and all(warning in text for text in base.warnings if warning)


def test_eager_attention_computes_what_sdpa_does(tmp_path: Path) -> None:
    """No attention mask is needed: rows are padded on the right, and attention is causal."""
    folder, batch, sums = save_model(tmp_path / "model"), make_batch(make_trajectories(5)), []
    for attention in ("sdpa", "eager"):
        base = load_base(folder, CPU, dtype="float32", attention=attention)
        assert base.model.config._attn_implementation == attention and base.warnings == []
        sums.append(float(Student(base.model).divergence(batch)))
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)


@pytest.mark.parametrize("attention", ["flash_attention_2", "flash_attention_3", "flex_attention", "org/kernel"])
def test_an_attention_that_can_t_be_loaded_is_replaced_with_a_warning(tmp_path: Path, attention: str) -> None:
    base = load_base(save_model(tmp_path / "model"), CPU, attention=attention)
    assert base.model.config._attn_implementation == "sdpa"
    assert base.warnings == [f"model.attn_implementation {attention!r} can't be loaded here: sdpa is used"]


def test_a_flash_attention_that_fails_to_load_gives_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_FLASH_ATTENTIONS, "flash_attention_2", lambda: True)
    folder = save_model(tmp_path / "model")
    assert _load_with("flash_attention_2", folder, torch.device("cuda"), torch.bfloat16, from_files) is None


def test_weights_in_the_file_s_own_type_are_mapped_pages_of_it(tmp_path: Path) -> None:
    """Other processes that map the file share them; another type needs a copy."""
    file = save_model(tmp_path / "model") / "model.safetensors"
    for dtype, is_mapped in (("bfloat16", True), ("float32", False)):
        model = load_base(tmp_path / "model", torch.device("cpu"), dtype).model
        mapped = [(begin, end) for begin, end, path in mappings() if path == str(file)]
        for parameter in model.parameters():
            assert any(begin <= parameter.data_ptr() < end for begin, end in mapped) == is_mapped
        del model, parameter


def mappings() -> Iterator[tuple[int, int, str]]:
    """The mapped files of this process: begin, end, path."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, *_, path = line.split(maxsplit=5)
        begin, end = (int(address, 16) for address in addresses.split("-"))
        yield begin, end, path


def test_float16_needs_a_gpu() -> None:
    assert dtype_of(CPU, "float16") == torch.float32
    assert dtype_of(torch.device("cuda"), "float16") == torch.float16
    assert dtype_of(torch.device("cuda"), None) == torch.bfloat16
