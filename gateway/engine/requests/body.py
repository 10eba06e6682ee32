"""The bytes of a request -> its fields, without keeping others waiting for it. Knows no vLLM."""

import contextlib
import json
import re
from typing import Any

import msgspec

from baker.errors import InvalidInputError
from gateway.errors import FieldRefusedError

MAX_NESTED = 200_000
"""Lists and objects in a body. Millions fit into its bytes, and reading them would keep everybody waiting."""
MAX_VALUES = 4_000_000
"""Values in a body."""
MAX_SEARCHED = 1 << 20
"""Bytes of a broken body that are searched for what broke it."""
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(body: bytes) -> dict[str, Any]:
    """The fields of a request, those of a nested `extra_body` among them.

    OpenAI's library flattens `extra_body` before it sends it; scripts that post JSON by themselves don't.
    Raises: InvalidInputError; FieldRefusedError, which is one, where it is a field that is wrong.
    """
    if body.count(b"[") + body.count(b"{") > MAX_NESTED or body.count(b",") > MAX_VALUES:
        raise InvalidInputError(f"the body has more than {MAX_NESTED} lists and objects, or {MAX_VALUES} values")
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FieldRefusedError(_halved(body), f"the body is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidInputError("the body must be a JSON object")
    extra = fields.pop("extra_body", None)
    if extra is not None and not isinstance(extra, dict):
        raise FieldRefusedError("extra_body", "extra_body must be an object")
    return {**(extra or {}), **fields}


def _halved(body: bytes) -> str | None:
    """The field with half of a surrogate pair, as clients send that cut a text within an emoji; None if none has."""
    if len(body) > MAX_SEARCHED or SURROGATE.search(body) is None:
        return None
    with contextlib.suppress(ValueError, AttributeError, RecursionError):  # json takes halves for characters
        for name, value in json.loads(body).items():
            if any("\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False)):
                return str(name)
    return None


def model_of(fields: dict[str, Any]) -> str:
    """The model that the client named. Raises: InvalidInputError if it named none."""
    name = fields.get("model")
    if not isinstance(name, str) or not name:
        raise FieldRefusedError("model", "model must be the name of a model, as GET /v1/models lists them")
    return name
