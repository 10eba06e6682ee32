"""The frozen base model: which type it computes in, and how it is loaded."""

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
    """What was done otherwise than asked for, as sentences for the user."""


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


def dtype_of(device: torch.device, wanted: str | None) -> torch.dtype:
    """What the base computes in. Args: wanted: torch's name; None: as `pick_dtype` says. float16 needs a GPU."""
    dtype: torch.dtype = pick_dtype(device) if wanted is None else getattr(torch, wanted)
    return torch.float32 if dtype == torch.float16 and device.type == "cpu" else dtype


Weights = Callable[[Path, torch.dtype, str], PreTrainedModel]
"""Where the base model comes from: its folder, the type it computes in and its attention -> the model in main memory or
on the device. Its weights are read only. There are `from_files` and `engine_weights.from_engine`."""


def from_files(folder: Path, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """In main memory. Where the file's type is the one that is computed in, its pages are mapped and shared with
    whoever maps them too: the process itself takes next to nothing for them."""
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
        device: that will compute it.
        dtype: as in `dtype_of`.
        attention: transformers' name; where it can't be loaded, `sdpa` takes its place.
        is_moved: to the device; False leaves it in main memory.
    Raises: StageError if the folder holds no such model.
    """
    warnings: list[str] = []
    computed_in = dtype_of(device, dtype)
    if dtype is not None and computed_in != getattr(torch, dtype):
        warnings.append(f"model.dtype is {dtype}, which this machine's CPU does not compute: float32 is used")
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
    """The model with another attention than `sdpa`; None if machine or model lack it.

    Only names that are known here are passed on: for others, transformers may fetch code from the internet and run it.
    """
    if attention != "eager":
        is_installed = _FLASH_ATTENTIONS.get(attention)
        if is_installed is None or device.type != "cuda" or dtype == torch.float32 or not is_installed():
            return None
    try:
        return weights(folder, dtype, attention)
    except (ImportError, StageError):
        return None
