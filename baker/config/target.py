"""Settings of targets: types, defaults and ranges. Unknown fields are refused by name."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from baker.config.generator import Generator, without_nulls
from baker.config.mistakes import Mistake, check, parse_complaint, with_value
from baker.config.overrides import convert
from baker.config.ranges import Answers, Positive, Seed, Temperature

RESERVED_KWARGS = ("model", "messages", "stream")


class TargetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bake teaches: the prompts, the questions, and how the teacher answers them."""

    other_names: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("prompt", "teacher", "system_prompt", "system"), "teacher_prompt"),
        "student": "student_prompt",
        "model": "model_name",
        **dict.fromkeys(("num_questions", "n_questions", "count"), "generators[].numq"),
        **dict.fromkeys(("num_trajectories", "num_traj", "n"), "num_traj_per_stimulus"),
        **dict.fromkeys(("max_new_tokens", "max_completion_tokens"), "max_tokens"),
        **{name: f"extra_kwargs.{name}" for name in ("top_p", "top_k", "min_p", "stop", "logit_bias")},
        **{name: f"extra_kwargs.{name}" for name in ("presence_penalty", "frequency_penalty", "extra_body")},
    }
    """Names that clients use elsewhere for what these fields mean, for hints."""

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
        check(
            *(
                Mistake(("extra_kwargs", key), "must not be set here")
                for key in RESERVED_KWARGS
                if key in self.extra_kwargs
            ),
            _wrong_kwarg(self.extra_kwargs, "seed", Seed),
            _wrong_kwarg(self.extra_kwargs, "extra_body", dict[str, Any]),
        )


def _wrong_kwarg(kwargs: dict[str, Any], name: str, kind: Any) -> Mistake | None:
    value = kwargs.get(name)
    try:
        msgspec.convert(value, kind | None)
    except msgspec.ValidationError as error:
        return Mistake(("extra_kwargs", name), with_value(parse_complaint(error).text, value))
    return None


def target_config(overrides: dict[str, Any], template: TargetConfig | None = None) -> TargetConfig:
    """The effective settings of a target. Raises: ConfigError with every mistake."""
    renamed = dict(overrides)
    old_names: dict[tuple[str, ...], str] = {}
    for old, new in (("u", "teacher_prompt"), ("v", "student_prompt")):
        value = renamed.pop(old, None)
        if value is not None and renamed.get(new) is None:
            renamed[new] = value
            old_names[new,] = old
    if isinstance(generators := renamed.get("generators"), list):
        renamed["generators"] = without_nulls(generators)
    return convert(renamed, template, TargetConfig, old_names=old_names)
