"""Reads the JSON bodies of our own routes, and reports every mistake of one at once."""

from functools import partial
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.exceptions import SerializationException

from baker.config.bake import BakeConfig, bake_config
from baker.config.mistakes import MISSING, Mistake, find_mistakes, mistakes_error, mistakes_of, refusal
from baker.config.prompt import prompt_mistakes
from baker.config.target import TargetConfig, target_config
from baker.errors import ConfigError
from baker.names import check_name
from gateway.protocol import requests

Body = TypeVar("Body", bound=msgspec.Struct)

OVERRIDES: dict[type[requests.ConfigSet], type[TargetConfig | BakeConfig]] = {
    requests.TargetSet: TargetConfig,
    requests.TargetCreate: TargetConfig,
    requests.BakeSet: BakeConfig,
    requests.BakeCreate: BakeConfig,
}
"""Body -> type of its `overrides`."""
WITHOUT_TEMPLATE = ": send 'default', or the name of another one in the repo whose settings to copy"
NAMES = ("repo", "prompt", "target", "bake")


async def check_body(request: Request[Any, Any, Any]) -> None:
    """Litestar's `before_request` hook. Litestar itself would report only the first mistake of a body.

    Raises: ConfigError. A body that is absent or not JSON is left to Litestar.
    """
    field = request.route_handler.parsed_data_field
    if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, msgspec.Struct)):
        return
    try:
        body = await request.json()
    except (SerializationException, UnicodeDecodeError, RecursionError):
        return
    if body is not None:
        # Litestar converts in this way.
        read_body(body, field.annotation, strict=False)


def read_body(body: Any, kind: type[Body], *, strict: bool = True) -> Body:
    """Raises: ConfigError with every mistake, if the body does not have the form of `kind`."""
    try:
        return msgspec.convert(body, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise mistakes_error(_mistakes(body, kind, strict)) from error


def _mistakes(body: Any, kind: type[msgspec.Struct], strict: bool) -> list[Mistake]:
    """The mistakes of a wrong body, with those that would only be found when its parts are read."""
    settings = next((OVERRIDES[each] for each in OVERRIDES if issubclass(kind, each)), None)
    parts = {} if settings is None else {"overrides": settings}
    mistakes = [
        Mistake(path, text + WITHOUT_TEMPLATE) if (path, text) == (("template",), MISSING) else Mistake(path, text)
        for path, text in find_mistakes(body, kind, strict=strict, parts=parts)
    ]
    if not isinstance(body, dict):
        return mistakes
    for what in NAMES:
        if isinstance(name := body.get(f"{what}_name"), str):
            wrong = refusal(f"{what}_name", partial(check_name, name, what))
            mistakes += [] if wrong is None else [wrong]
    overrides = body.get("overrides")
    if settings is not None and isinstance(overrides, dict):
        try:
            target_config(overrides) if settings is TargetConfig else bake_config(overrides)
        except ConfigError as error:
            mistakes += mistakes_of(error, "overrides")
    if issubclass(kind, requests.PromptSet):
        messages, tools = body.get("messages"), body.get("tools")
        mistakes += prompt_mistakes(
            messages if isinstance(messages, list) else [], tools if isinstance(tools, list) else []
        )
    return mistakes
