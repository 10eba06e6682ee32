"""The bytes of a request -> its fields, without blocking the event loop for long. Imports no vLLM."""

import contextlib
import json
import re
from typing import Any

import msgspec

from baker.errors import InvalidInputError
from gateway.errors import FieldRefusedError

MAX_NESTED = 200_000
"""Most lists and objects in a body. Millions fit into its bytes, and parsing them would block all other requests."""
MAX_VALUES = 4_000_000
"""Most values in a body."""
MAX_SEARCHED = 1 << 20
"""Most bytes of a broken body that are searched for the field at fault."""
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(body: bytes) -> dict[str, Any]:
    """The fields of a request, those of a nested `extra_body` among them.

    OpenAI's library flattens `extra_body` before it sends it; scripts that post JSON directly don't.
    Raises: InvalidInputError; its subclass FieldRefusedError if one field is at fault.
    """
    if body.count(b"[") + body.count(b"{") > MAX_NESTED or body.count(b",") > MAX_VALUES:
        raise InvalidInputError(f"the body has more than {MAX_NESTED} lists and objects, or {MAX_VALUES} values")
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FieldRefusedError(_field_with_half_pair(body), f"the body is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidInputError("the body must be a JSON object")
    extra = fields.pop("extra_body", None)
    if extra is not None and not isinstance(extra, dict):
        raise FieldRefusedError("extra_body", "extra_body must be an object")
    return {**(extra or {}), **fields}


def _field_with_half_pair(body: bytes) -> str | None:
    """The field that holds half of a surrogate pair, which clients send if they cut a text within an emoji; or None."""
    if len(body) > MAX_SEARCHED or SURROGATE.search(body) is None:
        return None
    with contextlib.suppress(ValueError, AttributeError, RecursionError):  # json accepts halves as characters
        for name, value in json.loads(body).items():
            if any("\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False)):
                return str(name)
    return None


def model_of(fields: dict[str, Any]) -> str:
    """The model that the client named. Raises: FieldRefusedError if it named none."""
    name = fields.get("model")
    if not isinstance(name, str) or not name:
        raise FieldRefusedError("model", "model must be the name of a model; GET /v1/models lists them")
    return name
