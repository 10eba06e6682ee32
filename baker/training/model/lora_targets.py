"""Resolves `target_modules` to the names of linear layers."""

import re
from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from baker.adapters.files import FORBIDDEN_TARGETS
from baker.errors import AdapterError, InvalidInputError
from baker.pattern_search import count_matches

ALL_LINEAR = "all-linear"
PATTERN_CPU_SECONDS = 5

_NAMES = re.compile(r"[\w.,\s-]*")


def resolve_targets(model: PreTrainedModel, target_modules: str | list[str]) -> list[str]:
    """The names of the linear layers to adapt, sorted: full names if a regular expression was given, else last parts.

    Args:
        target_modules: `all-linear`; names (a list, or one string with commas); or else a regular expression that must
            match full names of modules, as in PEFT.
    Raises: AdapterError naming the modules that the model lacks, that are not linear, or that are not served
        (embeddings and lm_head).
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
        raise AdapterError(f"target_modules is empty: name modules, or use {ALL_LINEAR!r}")
    refused = [name for name in names if FORBIDDEN_TARGETS.intersection(name.split("."))]
    if refused:
        raise AdapterError(f"target_modules: adapters on {', '.join(refused)} are not served faithfully: remove them")
    missing = [name for name in names if not any(is_named(module, [name]) for module in linear)]
    if missing:
        known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
        raise AdapterError(f"target_modules: the model has no linear layer {', '.join(missing)}; it has {known}")
    return names


def _matching(model: PreTrainedModel, pattern: str, linear: set[str]) -> list[str]:
    """The full names of linear layers that match `pattern`."""
    names = [name for name, _ in model.named_modules()]
    try:
        # PEFT matches it too, in this process: it must not take exponential time.
        counts = count_matches([pattern], names, library="re", method="fullmatch", cpu_seconds=PATTERN_CPU_SECONDS)
    except InvalidInputError as error:
        raise AdapterError(f"target_modules {pattern!r:.200}: {error.message}") from error
    matched = [name for name, count in zip(names, counts, strict=True) if count]
    refused = [name for name in matched if FORBIDDEN_TARGETS.intersection(name.split("."))]
    if refused:
        raise AdapterError(
            f"target_modules {pattern!r} matches {', '.join(refused)}: adapters there are not served faithfully"
        )
    targets = sorted(linear.intersection(matched))
    if not targets:
        raise AdapterError(
            f"target_modules {pattern!r} matches no linear layer: a regular expression must match full names, such "
            f"as {min(linear)}"
        )
    return targets


def is_named(module: str, names: Sequence[str]) -> bool:
    """Whether `module` has one of `names`, each a full name or its last parts."""
    return any(f".{module}".endswith(f".{name}") for name in names)
