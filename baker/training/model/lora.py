"""Attaches a LoRA adapter, grows it from a parent's, and saves it. Only this file and `lora_layer.py` import peft.

A child contains its parent's update: one adapter holds the whole lineage. Adapter weights are float32 over a base of
any type. `baker/adapters/files.py` checks which adapters may be served.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from transformers import PreTrainedModel

from baker.adapters.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, AdapterConfig, check_adapter, read_adapter_config
from baker.errors import AdapterError
from baker.storage.files import write_bytes, write_json
from baker.training.devices.parallel import full_tensor
from baker.training.model.lora_layer import ADAPTER_NAME, FastLoraLinear
from baker.training.model.lora_targets import ALL_LINEAR, is_named, resolve_targets

_PREFIX = "base_model.model."  # precedes a module's name in the file


class Attached(NamedTuple):
    model: PeftModel
    warnings: list[str]
    """Settings that the parent overrides, as sentences for the user."""


def attach(
    model: PreTrainedModel,
    *,
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    target_modules: str | list[str] = ALL_LINEAR,
    parent: Path | None = None,
    remembers_parent: bool = False,
) -> Attached:
    """Freezes `model` and attaches a trainable adapter, which at first has the parent's effect, or none.

    New rows of A are random (torch's global generator), their columns of B zero. A parent of another rank or scale
    alpha / rank is rescaled, so that its update is unchanged; its rank and its modules are never reduced.

    Args:
        parent: folder of the parent adapter.
        remembers_parent: whether a copy of its weights is kept, for `as_parent`.
    Raises: AdapterError naming the modules that the model lacks or that are not served, or what is wrong with the
        parent.
    """
    targets = resolve_targets(model, target_modules)
    warnings: list[str] = []
    scale = alpha / rank
    inherited: dict[str, Tensor] = {}
    if parent is not None:
        check_adapter(parent, max_rank=2**31)
        config, inherited = read_adapter_config(parent), load_file(parent / ADAPTER_WEIGHTS)
        if (highest := max(map(config.rank_of, {_module(name) for name in inherited}))) > rank:
            warnings.append(f"rank {rank} is below the parent's: kept {highest}")
            rank = highest
        adapted = {_module(name) for name in inherited}
        if lost := sorted(module for module in adapted if not is_named(module, targets)):
            shown = ", ".join(sorted({module.rpartition(".")[2] for module in lost}))
            warnings.append(f"target_modules lack {shown} of the parent: kept")
        targets = sorted({*targets, *lost})
        inherited = _rescaled(inherited, config, scale)
    peft_config = LoraConfig(
        r=rank,
        lora_alpha=scale * rank,
        lora_dropout=dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    peft_config._register_custom_module({nn.Linear: FastLoraLinear})
    peft_model = get_peft_model(model, peft_config)
    assert isinstance(peft_model, PeftModel)
    _inherit(peft_model, inherited)
    if parent is not None and remembers_parent:
        for layer in _layers(peft_model):
            layer.parent = layer.weights[0].detach().clone(), layer.weights[1].detach().clone()
    return Attached(peft_model, warnings)


@contextlib.contextmanager
def as_parent(model: PeftModel) -> Iterator[None]:
    """Inside it the model computes as its parent does, or as the base if it has none. Needs `remembers_parent`."""
    layers = _layers(model)
    for layer in layers:
        layer.is_parent = True
    try:
        yield
    finally:
        for layer in layers:
            layer.is_parent = False


def move_parent_copy(model: PeftModel, device: torch.device) -> None:
    """Moves the copies of the parent's weights to the device of a sharded model; they are not sharded."""
    for layer in _layers(model):
        if layer.parent is not None:
            layer.parent = layer.parent[0].to(device), layer.parent[1].to(device)


def _layers(model: PeftModel) -> list[FastLoraLinear]:
    return [module for module in model.modules() if isinstance(module, FastLoraLinear)]


def save_adapter(
    model: PeftModel, folder: Path, base_model_name: str, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Writes adapter_config.json and adapter_model.safetensors in PEFT's format. Equal adapters give equal bytes.

    Args: weights: result of `weights_of`; None: computed here.
    """
    weights = weights_of(model) if weights is None else weights
    config = model.peft_config[ADAPTER_NAME]
    assert isinstance(config, LoraConfig) and config.target_modules is not None
    alpha = float(config.lora_alpha)
    write_json(
        folder / ADAPTER_CONFIG,
        {
            "base_model_name_or_path": base_model_name,
            "bias": "none",
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
            "lora_dropout": config.lora_dropout,
            "modules_to_save": None,
            "peft_type": "LORA",
            "r": config.r,
            "target_modules": sorted(config.target_modules),
            "task_type": "CAUSAL_LM",
            "use_dora": False,
            "use_rslora": False,
        },
    )
    write_bytes(folder / ADAPTER_WEIGHTS, to_bytes(weights, metadata={"format": "pt"}))


def weights_of(model: PeftModel) -> dict[str, Tensor]:
    """The adapter's tensors in main memory, by their names in the file. If the model is sharded, every process must
    call it."""
    return {name: full_tensor(tensor).cpu().contiguous() for name, tensor in _named_weights(model)}


def _named_weights(model: PeftModel) -> Iterator[tuple[str, nn.Parameter]]:
    """The adapter's parameters by their names in the file."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield f"{name}.lora_A.weight", module.lora_A[ADAPTER_NAME].weight
            yield f"{name}.lora_B.weight", module.lora_B[ADAPTER_NAME].weight


def _rescaled(tensors: dict[str, Tensor], config: AdapterConfig, scale: float) -> dict[str, Tensor]:
    """The parent's tensors in float32, with B rescaled so that `scale` times B @ A is the parent's update."""
    return {
        name: tensor.float() * (config.scale_of(_module(name)) / scale)
        if name.endswith(".lora_B.weight")
        else tensor.float()
        for name, tensor in tensors.items()
    }


def _module(name: str) -> str:
    """The adapted module's name, from a tensor's name in the file."""
    return name.removeprefix(_PREFIX).partition(".lora_")[0]


def _inherit(model: PeftModel, tensors: dict[str, Tensor]) -> None:
    """Copies the parent's rows of A and columns of B in front of the new ones."""
    left = dict(tensors)
    with torch.no_grad():
        for name, weight in _named_weights(model):
            tensor = left.pop(name, None)
            if tensor is None:
                continue
            front = weight[: len(tensor)] if name.endswith(".lora_A.weight") else weight[:, : tensor.shape[1]]
            if front.shape != tensor.shape:
                raise AdapterError(
                    f"the parent's {name} has shape {tuple(tensor.shape)}, the model needs {tuple(weight.shape)}"
                )
            front.copy_(tensor)
    if left:
        raise AdapterError(f"the parent adapts layers that the model lacks, such as {min(left)}")
