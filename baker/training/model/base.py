"""Loads the frozen base model, and chooses the type that it computes in."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from baker.errors import StageError

SDPA = "sdpa"
_FLASH_ATTENTIONS = {
    "flash_attention_2": is_flash_attn_2_available,
    "flash_attention_3": is_flash_attn_3_available,
}


class Base(NamedTuple):
    model: PreTrainedModel
    warnings: list[str]
    """Settings that this machine or model does not support, and what is used instead: sentences for the user."""


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it; float32 where it would be emulated.

    Measured on 2 cores of an Ice Lake server (AVX-512 without its bf16 part): 45 to 55 GFLOP/s in bfloat16, 135 to
    220 in float32.
    """
    if device.type == "cuda":
        return torch.bfloat16
    has = torch.cpu.get_capabilities()
    return torch.bfloat16 if has.get("avx512_bf16") or has.get("amx_bf16") or has.get("bf16") else torch.float32


def dtype_of(device: torch.device, name: str | None) -> torch.dtype:
    """The type that the base computes in; float32 in place of float16 on a CPU.

    Args: name: torch's name of a type; None: `pick_dtype` chooses.
    """
    dtype: torch.dtype = pick_dtype(device) if name is None else getattr(torch, name)
    return torch.float32 if dtype == torch.float16 and device.type == "cpu" else dtype


Weights = Callable[[Path, torch.dtype, str], PreTrainedModel]
"""Loads a model: folder, type and attention -> the model, in main memory or on the device. Its weights must not be
written to. Implementations: `from_files` and `engine_weights.from_engine`."""


def from_files(folder: Path, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """The model in main memory. If the file's type equals `dtype`, the file's pages are mapped and shared with other
    processes that map them: this process then needs almost no memory of its own for the weights.

    Raises: StageError if the folder holds no such model.
    """
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention, local_files_only=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise StageError(f"base model {folder} can't be loaded: {error}") from error
    assert isinstance(model, PreTrainedModel)
    return model


def load_base(
    folder: Path,
    device: torch.device,
    dtype: str | None = None,
    attention: str = SDPA,
    *,
    is_moved: bool = True,
    weights: Weights = from_files,
) -> Base:
    """The base model, frozen.

    Args:
        device: the device that will compute it.
        dtype: torch's name of a type, see `dtype_of`.
        attention: transformers' name of an attention; if it can't be loaded, `sdpa` is used, with a warning.
        is_moved: whether the model is moved to the device; False leaves it in main memory.
        weights: how the model is loaded.
    Raises: StageError if the folder holds no such model.
    """
    warnings: list[str] = []
    computed_in = dtype_of(device, dtype)
    if dtype is not None and computed_in != getattr(torch, dtype):
        warnings.append(f"model.dtype is {dtype}, which CPUs do not compute: float32 is used")
    model = None if attention == SDPA else _load_with(attention, folder, device, computed_in, weights)
    if model is None:
        model = weights(folder, computed_in, SDPA)
        if attention != SDPA:
            warnings.append(f"model.attn_implementation {attention!r} can't be loaded here: {SDPA} is used")
    model.requires_grad_(False)
    return Base(model.to(device) if is_moved else model, warnings)


def _load_with(
    attention: str, folder: Path, device: torch.device, dtype: torch.dtype, weights: Weights
) -> PreTrainedModel | None:
    """The model with another attention than `sdpa`; None if the machine or the model does not support it.

    Only known names are passed on: for others, transformers may download code from the internet and run it.
    """
    if attention != "eager":
        is_installed = _FLASH_ATTENTIONS.get(attention)
        if is_installed is None or device.type != "cuda" or dtype == torch.float32 or not is_installed():
            return None
    try:
        return weights(folder, dtype, attention)
    except (ImportError, StageError):
        return None
