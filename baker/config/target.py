"""Settings of targets: types, defaults and ranges. Unknown fields are refused by name."""

from typing import Any

import msgspec

from baker.config.generator import Generator, without_nulls
from baker.config.overrides import convert
from baker.config.ranges import Answers, Positive, Seed, Temperature

RESERVED_KWARGS = ("model", "messages", "stream")


class TargetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bake teaches: the prompts, the questions, and how the teacher answers them."""

    teacher_prompt: str | None = None
    """Name of the prompt to bake in; "" is no prompt at all."""
    student_prompt: str | None = None
    """Name of the prompt that the baked model will be used with; "" is no prompt at all."""
    generators: list[Generator] = []
    """Generators of the questions."""
    model_name: str | None = None
    """Model that answers the questions; absent: the repo's base model."""
    num_traj_per_stimulus: Answers = 1
    """Number of answers to each question."""
    temperature: Temperature = 1.0
    """Sampling temperature of the answers."""
    max_tokens: Positive | None = None
    """Longest answer in tokens, within what the context window leaves; absent: the operator's rollout_max_tokens."""
    max_concurrency: Positive = 10
    """Number of answers that may be sampled at the same time."""
    extra_kwargs: dict[str, Any] = {}
    """Further sampling settings under OpenAI's names."""

    def __post_init__(self) -> None:
        for key in RESERVED_KWARGS:
            if key in self.extra_kwargs:
                raise ValueError(f"extra_kwargs must not set {key!r}")
        _check_kwarg(self.extra_kwargs, "seed", Seed)
        _check_kwarg(self.extra_kwargs, "extra_body", dict[str, Any])


def _check_kwarg(kwargs: dict[str, Any], name: str, kind: Any) -> None:
    try:
        msgspec.convert(kwargs.get(name), kind | None)
    except msgspec.ValidationError as error:
        raise ValueError(f"extra_kwargs.{name}: {error}") from error


def target_config(overrides: dict[str, Any], template: TargetConfig | None = None) -> TargetConfig:
    """The effective settings of a target. Raises: ConfigError naming the field and the value."""
    renamed = dict(overrides)
    for old, new in (("u", "teacher_prompt"), ("v", "student_prompt")):
        value = renamed.pop(old, None)
        if value is not None and renamed.get(new) is None:
            renamed[new] = value
    if isinstance(generators := renamed.get("generators"), list):
        renamed["generators"] = without_nulls(generators)
    return convert(renamed, template, TargetConfig)
