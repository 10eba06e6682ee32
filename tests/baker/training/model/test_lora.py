from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor

from baker.adapters.files import ADAPTER_WEIGHTS, check_adapter, content_hash, read_adapter_config
from baker.errors import AdapterError
from baker.training.model import lora
from tests.baker.tiny import make_model

IDS = torch.arange(3, 15).reshape(2, 6)
LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


def attach(**settings: Any) -> lora.Attached:
    return lora.attach(make_model(), **{"rank": 4, "alpha": 8.0} | settings)


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        output: Tensor = model(input_ids=IDS).logits
    return output


def stir(model: PeftModel, seed: int = 1) -> None:
    """Gives the adapter an effect."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)


def saved(folder: Path, **settings: Any) -> tuple[Path, Tensor]:
    model = attach(**settings).model
    stir(model)
    folder.mkdir()
    lora.save_adapter(model, folder, "org/base")
    return folder, logits(model)


def test_a_new_adapter_has_no_effect_and_only_it_is_trained() -> None:
    attached = attach()
    assert torch.equal(logits(attached.model), logits(make_model()))
    trained = {name for name, parameter in attached.model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 2 * len(LINEAR) and all(".lora_" in name for name in trained)
    assert attached.warnings == []


def test_adapter_weights_are_float32_over_a_bfloat16_base() -> None:
    model = lora.attach(make_model().to(torch.bfloat16), rank=4, alpha=8).model
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert logits(model).dtype == torch.bfloat16


def test_a_saved_adapter_is_peft_s_own_format(tmp_path: Path) -> None:
    folder, expected = saved(tmp_path / "a")
    check_adapter(folder, max_rank=4)
    assert read_adapter_config(folder).base_model_name_or_path == "org/base"
    model = PeftModel.from_pretrained(make_model(), folder)
    torch.testing.assert_close(logits(model), expected)
    assert not torch.allclose(expected, logits(make_model()))


def test_the_same_adapter_is_the_same_bytes(tmp_path: Path) -> None:
    assert content_hash(saved(tmp_path / "a")[0]) == content_hash(saved(tmp_path / "b")[0])
    assert content_hash(saved(tmp_path / "c", alpha=9.0)[0]) != content_hash(tmp_path / "a")


@pytest.mark.parametrize(
    ("parent", "child", "rank", "warnings"),
    [
        ({"rank": 4, "alpha": 8.0}, {"rank": 4, "alpha": 8.0}, 4, []),
        ({"rank": 4, "alpha": 8.0}, {"rank": 6, "alpha": 5.0}, 6, []),
        ({"rank": 4, "alpha": 8.0}, {"rank": 2, "alpha": 3.0}, 4, ["rank 2 is below the parent's: kept 4"]),
        ({"rank": 3, "target_modules": "q_proj"}, {"rank": 5}, 5, []),
        (
            {"rank": 3},
            {"rank": 3, "target_modules": "q_proj,v_proj"},
            3,
            ["target_modules lack down_proj, gate_proj, k_proj, o_proj, up_proj of the parent: kept"],
        ),
    ],
)
def test_a_child_starts_as_its_parent_whatever_its_rank_and_scale(
    tmp_path: Path, parent: dict[str, Any], child: dict[str, Any], rank: int, warnings: list[str]
) -> None:
    folder, expected = saved(tmp_path / "parent", **parent)
    attached = attach(**child, parent=folder)
    torch.testing.assert_close(logits(attached.model), expected, rtol=1e-4, atol=1e-5)
    assert attached.warnings == warnings
    (tmp_path / "child").mkdir()
    lora.save_adapter(attached.model, tmp_path / "child", "org/base")
    config = read_adapter_config(tmp_path / "child")
    assert config.r == rank
    settings = {"rank": 4, "alpha": 8.0} | child
    assert config.scale_of("any") == pytest.approx(settings["alpha"] / settings["rank"])
    check_adapter(tmp_path / "child", max_rank=rank)


@pytest.mark.parametrize("target_modules", ["all-linear", r".*layers\.1.*_proj"])
def test_an_adapter_on_some_layers_alone_is_peft_s_own_format_too(tmp_path: Path, target_modules: str) -> None:
    folder, expected = saved(tmp_path / "a", target_modules=target_modules)
    check_adapter(folder, max_rank=4)
    torch.testing.assert_close(logits(PeftModel.from_pretrained(make_model(), folder)), expected)
    layers = {name.split(".layers.")[1][0] for name in load_file(folder / ADAPTER_WEIGHTS)}
    assert layers == ({"0", "1"} if target_modules == "all-linear" else {"1"})


def test_a_child_keeps_exactly_the_layers_of_its_parent_that_it_does_not_name(tmp_path: Path) -> None:
    folder, expected = saved(tmp_path / "parent", target_modules=r".*layers\.1.*[qv]_proj")
    attached = attach(target_modules="o_proj", parent=folder)
    torch.testing.assert_close(logits(attached.model), expected)
    assert attached.warnings == ["target_modules lack q_proj, v_proj of the parent: kept"]
    adapted = {name.split(".lora_")[0] for name, p in attached.model.named_parameters() if p.requires_grad}
    attention = "base_model.model.model.layers.{}.self_attn.{}_proj"
    assert adapted == {attention.format(*place) for place in ((0, "o"), (1, "o"), (1, "q"), (1, "v"))}


@pytest.mark.parametrize("ranks", [(2, 5, 8), (8, 3, 5), (3, 8, 2), (4, 4, 4)])
def test_three_generations_of_any_ranks_each_start_as_the_last_one_ended(
    tmp_path: Path, ranks: tuple[int, int, int]
) -> None:
    parent, before = None, logits(make_model())
    for generation, rank in enumerate(ranks):
        attached = attach(rank=rank, alpha=3.0 + generation, parent=parent)
        torch.testing.assert_close(logits(attached.model), before, rtol=1e-4, atol=1e-5)
        largest = max(ranks[: generation + 1])
        kept = [f"rank {rank} is below the parent's: kept {largest}"] if rank < largest else []
        assert attached.warnings == kept
        stir(attached.model, seed=generation)
        parent, before = tmp_path / str(generation), logits(attached.model)
        parent.mkdir()
        lora.save_adapter(attached.model, parent, "org/base")
        assert read_adapter_config(parent).r == largest
        check_adapter(parent, max_rank=largest)
        # PEFT, reading the file, computes what was trained.
        torch.testing.assert_close(logits(PeftModel.from_pretrained(make_model(), parent)), before)


def test_a_grown_adapter_learns_in_its_new_rows(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "parent", rank=2)
    model = attach(rank=4, parent=folder).model
    model(input_ids=IDS).logits.square().sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad and "lora_B" in name}
    assert all(gradient is not None and gradient[:, 2:].abs().sum() > 0 for gradient in gradients.values())


def test_a_parent_of_another_model_or_with_broken_files_is_refused(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "parent")
    for change, complaint in (({"hidden_size": 64, "head_dim": 8}, "has shape"), ({"num_hidden_layers": 1}, "lacks")):
        with pytest.raises(AdapterError, match=complaint):
            lora.attach(make_model(**change), rank=4, alpha=8, parent=folder)
    (folder / ADAPTER_WEIGHTS).unlink()
    with pytest.raises(AdapterError, match="is missing"):
        attach(parent=folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 6}, "alpha_pattern": {"layers.1.mlp.up_proj": 20, "k_proj": 3}},
    ],
)
def test_a_child_of_a_foreign_adapter_starts_as_its_parent(tmp_path: Path, settings: dict[str, Any]) -> None:
    """PEFT creates, saves and computes the parent."""
    config = LoraConfig(r=4, lora_alpha=5, target_modules=LINEAR, task_type="CAUSAL_LM", **settings)
    parent = get_peft_model(make_model(), config)
    assert isinstance(parent, PeftModel)
    stir(parent)
    parent.save_pretrained(tmp_path)
    check_adapter(tmp_path, max_rank=8)
    child = attach(rank=8, alpha=8.0, parent=tmp_path)
    assert torch.allclose(logits(child.model), logits(parent), atol=1e-5)
    assert attach(rank=2, alpha=2.0, parent=tmp_path).warnings
