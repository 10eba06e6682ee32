"""Settings of targets: types, defaults, ranges; and how overrides are laid over a template, for bakes too.

A field that is not here is refused by name. The settings of bakes are in `bake_config.py`.
"""

from typing import Any, TypeVar

import msgspec

from baker.errors import ConfigError
from baker.generator_config import Generator, given_fields
from baker.ranges import Answers, Positive, Seed, Temperature

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


Config = TypeVar("Config", bound=msgspec.Struct)


def merge(template: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`overrides` laid over `template`: objects key by key and deeply, all else replaced; None is "not given"."""
    merged = dict(template)
    for key, value in overrides.items():
        if value is None:
            continue
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = merge(below, value)
        elif isinstance(value, dict):
            merged[key] = merge({}, value)
        else:
            merged[key] = value
    return merged


def target_config(overrides: dict[str, Any], template: TargetConfig | None = None) -> TargetConfig:
    """The effective settings of a target. Raises: ConfigError naming the field and the value."""
    renamed = dict(overrides)
    for old, new in (("u", "teacher_prompt"), ("v", "student_prompt")):
        value = renamed.pop(old, None)
        if value is not None and renamed.get(new) is None:
            renamed[new] = value
    if isinstance(generators := renamed.get("generators"), list):
        renamed["generators"] = given_fields(generators)
    return convert(renamed, template, TargetConfig)


def convert(overrides: dict[str, Any], template: Config | None, kind: type[Config]) -> Config:
    """`overrides` over `template` as settings of that kind. Raises: ConfigError naming the field and the value."""
    merged = merge({} if template is None else msgspec.to_builtins(template), overrides)
    try:
        return msgspec.convert(merged, kind)
    except msgspec.ValidationError as error:
        raise config_error(error, ("body", "overrides"), merged) from error


def config_error(error: msgspec.ValidationError, root: tuple[str, ...], given: Any) -> ConfigError:
    """msgspec's complaint about `given` with the field's path first, as our clients expect it, and its value last."""
    text, _, path = str(error).partition(" - at `$")
    fields = [part for part in path.rstrip("`").replace("[", ".").replace("]", "").split(".") if part]
    where = ".".join((*root[1:], *fields))
    if text.startswith("Expected `") and (value := _value_at(given, fields)) is not msgspec.UNSET:
        text = with_value(text, value)
    return ConfigError(
        f"{where}: {text}" if where else text,
        detail=[{"loc": [*root, *fields], "msg": text, "type": "value_error"}],
    )


def with_value(complaint: str, value: Any) -> str:
    """A complaint of msgspec's, which tells what was expected and at most the type that was found."""
    return f"{complaint}{':' if ', got ' in complaint else ', got'} {value!r:.80}"


def _value_at(given: Any, fields: list[str]) -> Any:
    """UNSET where the path is not one of plain fields: msgspec does not say which key of a map it means."""
    for field in fields:
        try:
            given = given[int(field) if isinstance(given, list) else field]
        except (LookupError, TypeError, ValueError):
            return msgspec.UNSET
    return given
