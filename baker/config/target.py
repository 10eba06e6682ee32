"""Settings of targets: types, defaults, ranges; and how overrides are laid over a template, for bakes too.

A field that is not here is refused by name. The settings of bakes are in `bake_config.py`.
"""

from typing import Any

import msgspec

from baker.config.generator import Generator, without_nulls
from baker.config.overrides import convert
from baker.config.ranges import Answers, Positive, Seed, Temperature

RESERVED_KWARGS = ("model", "messages", "stream")


class TargetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is baked: the prompts, the questions, and how the teacher answers them."""

    teacher_prompt: str | None = None
    """Name of the prompt that is baked in; "" is no prompt at all."""
    student_prompt: str | None = None
    """Name of the prompt under which the baked model shall behave so; "" is no prompt at all."""
    generators: list[Generator] = []
    model_name: str | None = None
    """Who answers; absent: the repo's base model."""
    num_traj_per_stimulus: Answers = 1
    temperature: Temperature = 1.0
    max_tokens: Positive | None = None
    """Tokens of an answer, cut down to what the context window leaves; absent: the operator's rollout_max_tokens."""
    max_concurrency: Positive = 10
    extra_kwargs: dict[str, Any] = {}
    """More sampling settings by OpenAI's names."""

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
