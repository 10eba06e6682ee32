"""Reads and checks the files of a LoRA adapter, without torch or peft, because the server's process imports this.

Whether the engine computes the same as the trainer is checked after it has loaded the adapter (`parity.py`).
"""

import hashlib
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from baker.errors import AdapterError, InvalidInputError
from baker.pattern_search import count_matches

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

FORBIDDEN_TARGETS = frozenset({"lm_head", "embed_tokens", "embed_out", "wte", "wpe", "word_embeddings", "embed_in"})
"""Modules whose adapters the engine has served with silently wrong outputs (vllm-project/vllm issues 10798, 48019)."""

TENSOR_NAME = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")
"""Name of a tensor in the weights file: the module that it adapts, and which of the two factors it is."""
MAX_PATTERN = 1000
"""Characters of a key of rank_pattern or alpha_pattern; PEFT writes names of modules."""
PATTERN_CPU_SECONDS = 5
"""Longest match of all of them with all modules."""
_DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_BF16_EXPONENT = 0x7F80  # all ones means infinite or not a number
_MAX_HEADER_BYTES = 100_000_000  # the limit of safetensors itself


class AdapterConfig(msgspec.Struct, frozen=True):
    """The fields of adapter_config.json that we read; PEFT writes more."""

    r: int
    lora_alpha: float
    target_modules: list[str] | str
    base_model_name_or_path: str | None = None
    peft_type: str = "LORA"
    bias: str = "none"
    use_dora: bool = False
    use_rslora: bool = False
    modules_to_save: list[str] | None = None
    rank_pattern: dict[str, int] | None = None
    """Rank by pattern, for modules whose names end with it."""
    alpha_pattern: dict[str, float] | None = None
    """lora_alpha by pattern, for modules whose names end with it."""
    init_lora_weights: Any = True
    alora_invocation_tokens: Any = None
    layer_replication: Any = None
    lora_bias: bool = False
    target_parameters: Any = None
    trainable_token_indices: Any = None
    use_bdlora: Any = None
    use_qalora: bool = False

    def rank_of(self, module: str) -> int:
        return int(_match_pattern(self.rank_pattern, module, self.r))

    def scale_of(self, module: str) -> float:
        """The factor that B @ A is multiplied by."""
        rank, alpha = self.rank_of(module), _match_pattern(self.alpha_pattern, module, self.lora_alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def _match_pattern(patterns: dict[str, Any] | None, module: str, default: float) -> float:
    """The value of the first pattern that matches the end of the module's name, in whole parts, as PEFT reads it."""
    return next((value for key, value in (patterns or {}).items() if re.match(_whole(key), module)), default)


def _whole(key: str) -> str:
    """The pattern that PEFT and vLLM make of a key of rank_pattern or alpha_pattern."""
    return rf"(.*\.)?({key})$"


class Tensor(msgspec.Struct, frozen=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Raises: AdapterError if the file is missing, is not JSON, or uses a feature that the engine lacks."""
    path = folder / ADAPTER_CONFIG
    try:
        config = msgspec.json.decode(path.read_bytes(), type=AdapterConfig)
    except OSError as error:
        raise AdapterError(f"{path} can't be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AdapterError(f"{path} is not a LoRA configuration: {error}") from error
    if complaints := _complaints(config):
        raise AdapterError(f"{path}: {'; '.join(complaints)}")
    return config


def check_adapter(folder: Path, *, max_rank: int, base: Path | None = None) -> None:
    """Check that the engine can serve an adapter as it was trained.

    Args: base: folder of the base model that the adapter's shapes must fit; None: don't check that.
    Raises: AdapterError naming the file and the tensor: a missing or broken file, a rank above `max_rank`, a feature
    that the engine lacks, an A without its B, shapes that do not fit, values that are not finite.
    """
    config = read_adapter_config(folder)
    rank = max(config.r, *(config.rank_pattern or {}).values(), 0)
    if rank > max_rank:
        raise AdapterError(f"{folder}: rank {rank} is above the engine's maximum of {max_rank}")
    path = folder / ADAPTER_WEIGHTS
    tensors, data = open_weights(path)
    sides: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = TENSOR_NAME.match(name)
        if match is None:
            raise AdapterError(f"{path}: tensor {name!r} is not part of a LoRA adapter")
        if forbidden := FORBIDDEN_TARGETS.intersection(match["module"].split(".")):
            raise AdapterError(f"{path}: {name!r} adapts {min(forbidden)}, which the engine does not serve correctly")
        sides.setdefault(match["module"], {})[match["side"]] = tensor
    if not sides:
        raise AdapterError(f"{path} contains no tensors")
    _check_patterns(folder, config, list(sides))
    for module, pair in sides.items():
        _check_pair(path, module, pair, config.rank_of(module))
    if base is not None:
        _check_fits(path, sides, _base_shapes(base))
    for name, tensor in tensors.items():
        if not _is_finite(data, tensor):
            raise AdapterError(f"{path}: {name!r} contains values that are not finite")


def _complaints(config: AdapterConfig) -> list[str]:
    targets = [config.target_modules] if isinstance(config.target_modules, str) else config.target_modules
    forbidden = FORBIDDEN_TARGETS.intersection(part for target in targets for part in target.split("."))
    checks = [
        (config.peft_type == "LORA", f"peft_type must be LORA, got {config.peft_type}"),
        (config.r >= 1, f"r must be at least 1, got {config.r}"),
        (math.isfinite(config.lora_alpha), f"lora_alpha must be finite, got {config.lora_alpha}"),
        (config.bias == "none", f"bias must be none, got {config.bias}"),
        (not config.use_dora, "use_dora is not served"),
        (not config.modules_to_save, f"modules_to_save is not served: {config.modules_to_save}"),
        *(
            (not getattr(config, feature), f"{feature} is not served")
            for feature in (
                "alora_invocation_tokens",
                "layer_replication",
                "lora_bias",
                "target_parameters",
                "trainable_token_indices",
                "use_bdlora",
                "use_qalora",
            )
        ),
        (
            _leaves_base_alone(config.init_lora_weights),
            f"init_lora_weights {config.init_lora_weights!r} {_CHANGES_BASE}",
        ),
        (not (bad := _bad_patterns(config)), f"rank_pattern or alpha_pattern: {', '.join(bad)}"),
        (not forbidden, f"adapters on {', '.join(sorted(forbidden))} are not served correctly"),
    ]
    return [complaint for is_valid, complaint in checks if not is_valid]


_CHANGES_BASE = "changes the base model's own weights: have PEFT convert it to a plain LoRA adapter"


def _leaves_base_alone(init: Any) -> bool:
    """False for PiSSA, OLoRA, CorDA, LoftQ and the like, which move part of the base's weights into the adapter."""
    return not isinstance(init, str) or init.lower() in ("gaussian", "eva", "orthogonal", "mica", "lora_ga")


def _bad_patterns(config: AdapterConfig) -> list[str]:
    bad = [f"{key!r} has {rank}" for key, rank in (config.rank_pattern or {}).items() if rank < 1]
    bad += [f"{key!r} has {alpha}" for key, alpha in (config.alpha_pattern or {}).items() if not math.isfinite(alpha)]
    for key in [*(config.rank_pattern or {}), *(config.alpha_pattern or {})]:
        if len(key) > MAX_PATTERN:
            bad.append(f"a pattern has {len(key)} characters, at most {MAX_PATTERN} are allowed")
            continue
        try:
            re.compile(_whole(key))
        except (re.error, OverflowError, RecursionError) as error:
            bad.append(f"{key!r:.200} is not a regular expression ({error})")
    return bad


def _check_patterns(folder: Path, config: AdapterConfig, modules: list[str]) -> None:
    """Raises: AdapterError if it takes too long to match the patterns, in which the engine would hang."""
    patterns = [*(config.rank_pattern or {}), *(config.alpha_pattern or {})]
    if not patterns:
        return
    try:
        count_matches(
            list(map(_whole, patterns)), modules, library="re", method="match", cpu_seconds=PATTERN_CPU_SECONDS
        )
    except InvalidInputError as error:
        raise AdapterError(f"{folder}: rank_pattern or alpha_pattern: {error.message}") from error


@lru_cache(maxsize=2)
def _base_shapes(folder: Path) -> dict[str, list[int]]:
    """Shapes of the base model's tensors by name."""
    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors, _ = open_weights(path, any_type=True)
        shapes |= {name: tensor.shape for name, tensor in tensors.items()}
    return shapes


def _check_fits(path: Path, sides: dict[str, dict[str, Tensor]], base: dict[str, list[int]]) -> None:
    """Raises: AdapterError unless every adapted module is a layer of the base model, with the same shape."""
    layers = {name.rpartition(".")[0] for name in base}
    if layers.isdisjoint(sides):
        names = sorted({module.rpartition(".")[2] for module in sides})
        if any(name.rpartition(".")[2] in names for name in layers):
            raise AdapterError(f"{path} adapts {min(sides)}, and the base model has no such layer")
        return  # the base model's files use other names for layers (fused, or of another library)
    for module, pair in sides.items():
        if module not in layers:
            raise AdapterError(f"{path} adapts {module}, and the base model has no such layer")
        base_shape, shape = base.get(f"{module}.weight"), [pair["B"].shape[0], pair["A"].shape[1]]
        if base_shape is not None and base_shape != shape:
            raise AdapterError(f"{path}: {module} is for a layer of shape {shape}, the base model's has {base_shape}")


def _check_pair(path: Path, module: str, pair: dict[str, Tensor], rank: int) -> None:
    if set(pair) != {"A", "B"}:
        raise AdapterError(f"{path}: {module} has only lora_{min(pair)}")
    shape_a, shape_b = pair["A"].shape, pair["B"].shape
    if len(shape_a) != 2 or len(shape_b) != 2 or shape_a[0] != rank or shape_b[1] != rank:
        raise AdapterError(f"{path}: {module} has A of shape {shape_a} and B of shape {shape_b}, but r is {rank}")


def open_weights(path: Path, *, any_type: bool = False) -> tuple[dict[str, Tensor], NDArray[np.uint8]]:
    """The tensors of a safetensors file, and its data as a memory map. Parsed here, since numpy has no bfloat16.

    Raises: AdapterError if the file is missing or broken, or, unless `any_type`, for a type that adapters can't have.
    """
    try:
        file = np.memmap(path, dtype=np.uint8, mode="r")
    except FileNotFoundError as error:
        raise AdapterError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path} can't be read: {error}") from error
    size = int.from_bytes(file[:8].tobytes(), "little")
    if len(file) < 8 or size > min(len(file) - 8, _MAX_HEADER_BYTES):
        raise AdapterError(f"{path} is not a complete safetensors file")
    data = file[8 + size :]
    try:
        header: dict[str, Any] = msgspec.json.decode(file[8 : 8 + size].tobytes(), type=dict[str, Any])
        header.pop("__metadata__", None)
        tensors = msgspec.convert(header, dict[str, Tensor])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AdapterError(f"{path} is not a safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if any_type:
            continue
        if tensor.dtype not in _DTYPES:
            raise AdapterError(f"{path}: {name!r} has type {tensor.dtype}, allowed are {', '.join(_DTYPES)}")
        begin, end = tensor.data_offsets
        expected = math.prod(tensor.shape) * np.dtype(_DTYPES[tensor.dtype]).itemsize
        if min(tensor.shape, default=0) < 1 or not 0 <= begin <= end <= len(data) or end - begin != expected:
            raise AdapterError(f"{path}: {name!r} is cut off or has a wrong shape {tensor.shape}")
    return tensors, data


def _is_finite(data: NDArray[np.uint8], tensor: Tensor) -> bool:
    values = np.frombuffer(data[slice(*tensor.data_offsets)].tobytes(), dtype=_DTYPES[tensor.dtype])
    if tensor.dtype == "BF16":
        return bool(((values & _BF16_EXPONENT) != _BF16_EXPONENT).all())
    return bool(np.isfinite(values).all())


def content_hash(folder: Path) -> str:
    """SHA-256 (hex) of the names, sizes and bytes of the adapter's two files. Raises: OSError if one is missing."""
    digest = hashlib.sha256()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        path = folder / name
        digest.update(f"{name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
