"""Attach, grow, save and reload a LoRA adapter; the only file that imports peft.

An adapter continues its parent's: one adapter always holds the whole lineage. Weights are float32 over a base of
any type. Which adapter may be served is judged in `adapter_files.py`.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from transformers import PreTrainedModel

from baker.adapters.files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    FORBIDDEN_TARGETS,
    AdapterConfig,
    check_adapter,
    read_adapter_config,
)
from baker.errors import AdapterError
from baker.storage.files import write_bytes, write_json
from baker.training.devices.parallel import whole

ALL_LINEAR = "all-linear"
_ADAPTER = "default"  # PEFT's name for the one adapter
_PREFIX = "base_model.model."  # before a module's name in the file
_NAMES = re.compile(r"[\w.,\s-]*")


class Attached(NamedTuple):
    model: PeftModel
    warnings: list[str]
    """What was done otherwise than asked for, as sentences for the user."""


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
    """Freeze `model` and put a trainable adapter on it that changes nothing yet, or only as `parent` does.

    New rows of A are random (torch's global generator), their columns of B zero. A parent of another rank or scale
    alpha / rank is rescaled, so that its update stays what it was; its rank and its modules are never reduced.

    Args: remembers_parent: keep a copy of its weights, for `as_parent`.
    Raises: AdapterError naming the modules that the model lacks or that are not served, or the parent's fault.
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
        if lost := sorted(module for module in adapted if not _is_named(module, targets)):
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


def _product(
    x: Tensor, z: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """x @ W.T + bias + inner @ B.T, and inner = scale * z @ A.T. Both x and z are (T, in); they may be one."""
    inner = (z @ a.T).mul_(scale)
    return nn.functional.linear(x, weight, bias).addmm_(inner, b.T), inner


def _product_gradient(grad: Tensor, weight: Tensor, grad_inner: Tensor, a: Tensor, is_dropped: bool) -> Tensor:
    """By x, and by z too where they are one."""
    grad_x = grad @ weight
    return grad_x if is_dropped else grad_x.addmm_(grad_inner, a)


# A compiler would take these apart, and copy the wide output to add to it.
_product_whole = torch.library.custom_op("bread::lora_product", _product, mutates_args=())
_product_gradient_whole = torch.library.custom_op("bread::lora_product_gradient", _product_gradient, mutates_args=())


@_product_whole.register_fake  # type: ignore[untyped-decorator]
def _(
    x: Tensor, z: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape[0], weight.shape[0]), x.new_empty(x.shape[0], a.shape[0])


@_product_gradient_whole.register_fake  # type: ignore[untyped-decorator]
def _(grad: Tensor, weight: Tensor, grad_inner: Tensor, a: Tensor, is_dropped: bool) -> Tensor:
    return grad.new_empty(grad.shape[0], weight.shape[1])


class _LoraProduct(torch.autograd.Function):  # type: ignore[misc]  # torch's types are not read
    """x @ W.T + bias + scale * (z @ A.T) @ B.T for frozen W and bias, in x's type; A and B stay float32.

    z is x after dropout, or None for x itself. PEFT's forward walks over the wide output four times more (scale,
    add, and both again backwards) and multiplies in float32 even over a bfloat16 base.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, z: Tensor | None, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float
    ) -> Tensor:
        a, b = a.to(x.dtype), b.to(x.dtype)
        inputs = x.reshape(-1, x.shape[-1])
        dropped = inputs if z is None else z.reshape(-1, z.shape[-1])
        product = _product_whole if torch.compiler.is_compiling() else _product
        output, inner = product(inputs, dropped, weight, bias, a, b, scale)
        ctx.save_for_backward(dropped, weight, inner, a, b)
        ctx.scale, ctx.has_dropout = scale, z is not None
        return output.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dropped, weight, inner, a, b = ctx.saved_tensors
        shape, grad = (*grad.shape[:-1], -1), grad.reshape(-1, grad.shape[-1])
        grad_inner = (grad @ b).mul_(ctx.scale)
        grad_x = grad_z = None
        if ctx.needs_input_grad[0]:
            gradient = _product_gradient_whole if torch.compiler.is_compiling() else _product_gradient
            grad_x = gradient(grad, weight, grad_inner, a, ctx.has_dropout).view(shape)
        if ctx.needs_input_grad[1]:
            grad_z = (grad_inner @ a).view(shape)
        return grad_x, grad_z, None, None, (grad_inner.T @ dropped).float(), (grad.T @ inner).float(), None


class FastLoraLinear(LoraLinear):  # type: ignore[misc]
    """PEFT's layer with `_LoraProduct` in its forward."""

    is_parent = False
    """Whether it computes as before the training."""
    parent: tuple[Tensor, Tensor] | None = None
    """A and B as they were then; None: there was no adapter."""

    @property
    def weights(self) -> tuple[Tensor, Tensor]:
        """A and B."""
        return self.lora_A[_ADAPTER].weight, self.lora_B[_ADAPTER].weight

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters or self.merged or args or kwargs:
            plain: Tensor = super().forward(x, *args, **kwargs)
            return plain
        base, dropout = self.get_base_layer(), self.lora_dropout[_ADAPTER]
        if self.is_parent and self.parent is None:
            alone: Tensor = base(x)
            return alone
        z = dropout(x) if self.training and isinstance(dropout, nn.Dropout) else None
        a, b = self.parent if self.is_parent and self.parent is not None else self.weights
        result: Tensor = _LoraProduct.apply(x, z, base.weight, base.bias, a, b, self.scaling[_ADAPTER])
        return result


@contextlib.contextmanager
def as_parent(model: PeftModel) -> Iterator[None]:
    """Within it the model computes as its parent does, or as the base if it has none; `attach` must remember the
    parent."""
    layers = _layers(model)
    for layer in layers:
        layer.is_parent = True
    try:
        yield
    finally:
        for layer in layers:
            layer.is_parent = False


def bring_parent(model: PeftModel, device: torch.device) -> None:
    """To where a model was brought that lies in parts now; the copy of its parent stays whole."""
    for layer in _layers(model):
        if layer.parent is not None:
            layer.parent = layer.parent[0].to(device), layer.parent[1].to(device)


def _layers(model: PeftModel) -> list[FastLoraLinear]:
    return [module for module in model.modules() if isinstance(module, FastLoraLinear)]


def resolve_targets(model: PreTrainedModel, target_modules: str | list[str]) -> list[str]:
    """The names of linear layers that are meant, sorted: the last parts of their names, or all of them.

    Args:
        target_modules: `all-linear`, names (also as one string, with commas), or else a regular expression that whole
            names of modules match, as PEFT has it.
    Raises: AdapterError naming what the model lacks, what is no linear layer, and embeddings and lm_head.
    """
    head = model.get_output_embeddings()
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head}
    if isinstance(target_modules, str) and target_modules.strip().lower() == ALL_LINEAR:
        return sorted({name.rpartition(".")[2] for name in linear} - FORBIDDEN_TARGETS)
    if isinstance(target_modules, str) and not _NAMES.fullmatch(target_modules):
        return _matching(model, target_modules, linear)
    names = target_modules.split(",") if isinstance(target_modules, str) else target_modules
    names = sorted({name.strip() for name in names} - {""})
    if not names:
        raise AdapterError(f"target_modules is empty: name modules, or say {ALL_LINEAR!r}")
    refused = [name for name in names if FORBIDDEN_TARGETS.intersection(name.split("."))]
    if refused:
        raise AdapterError(f"target_modules: adapters on {', '.join(refused)} are not served faithfully: remove them")
    missing = [name for name in names if not any(_is_named(module, [name]) for module in linear)]
    if missing:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise AdapterError(f"target_modules: the model has no linear layer {', '.join(missing)}; it has {known}")
    return names


def _matching(model: PreTrainedModel, pattern: str, linear: set[str]) -> list[str]:
    """The whole names of linear layers that match `pattern`."""
    try:
        matched = [name for name, _ in model.named_modules() if re.fullmatch(pattern, name)]
    except re.error as error:
        raise AdapterError(f"target_modules {pattern!r} is no regular expression: {error}") from error
    refused = [name for name in matched if FORBIDDEN_TARGETS.intersection(name.split("."))]
    if refused:
        raise AdapterError(
            f"target_modules {pattern!r} matches {', '.join(refused)}: adapters there are not served faithfully"
        )
    targets = sorted(linear.intersection(matched))
    if not targets:
        raise AdapterError(
            f"target_modules {pattern!r} matches no linear layer: a regular expression must match whole names, such "
            f"as {min(linear)}"
        )
    return targets


def _is_named(module: str, names: Sequence[str]) -> bool:
    """Whether `module` is one of `names`, each the whole of its name or the last parts."""
    return any(f".{module}".endswith(f".{name}") for name in names)


def save_adapter(
    model: PeftModel, folder: Path, base_model_name: str, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Write adapter_config.json and adapter_model.safetensors in PEFT's format; the same adapter, the same bytes.

    Args: weights: as `weights_of` gives them, which is asked where they are not given.
    """
    weights = weights_of(model) if weights is None else weights
    config = model.peft_config[_ADAPTER]
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
    """The adapter's tensors in main memory, by their names in the file. Of a model in parts every process must ask."""
    return {name: whole(tensor).cpu().contiguous() for name, tensor in _named_weights(model)}


def _named_weights(model: PeftModel) -> Iterator[tuple[str, nn.Parameter]]:
    """The adapter's parameters by their names in the file."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            yield f"{name}.lora_A.weight", module.lora_A[_ADAPTER].weight
            yield f"{name}.lora_B.weight", module.lora_B[_ADAPTER].weight


def _rescaled(tensors: dict[str, Tensor], config: AdapterConfig, scale: float) -> dict[str, Tensor]:
    """The parent's tensors in float32, B such that `scale` times B @ A is the parent's update."""
    return {
        name: tensor.float() * (config.scale_of(_module(name)) / scale)
        if name.endswith(".lora_B.weight")
        else tensor.float()
        for name, tensor in tensors.items()
    }


def _module(name: str) -> str:
    """The adapted module, of a tensor's name in the file."""
    return name.removeprefix(_PREFIX).partition(".lora_")[0]


def _inherit(model: PeftModel, tensors: dict[str, Tensor]) -> None:
    """Copy the parent's rows of A and columns of B to the front of the new ones."""
    left = dict(tensors)
    with torch.no_grad():
        for name, weight in _named_weights(model):
            tensor = left.pop(name, None)
            if tensor is None:
                continue
            here = weight[: len(tensor)] if name.endswith(".lora_A.weight") else weight[:, : tensor.shape[1]]
            if here.shape != tensor.shape:
                raise AdapterError(
                    f"the parent's {name} has shape {tuple(tensor.shape)}, the model wants {tuple(weight.shape)}"
                )
            here.copy_(tensor)
    if left:
        raise AdapterError(f"the parent adapts layers that the model lacks, such as {min(left)}")
