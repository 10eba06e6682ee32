"""Bytes of a request -> fields."""

from typing import Any

import pytest

from baker.errors import InvalidInputError
from gateway.engine.requests.body import model_of, parse


def test_extra_body_is_merged_below_what_is_there() -> None:
    body = b'{"model": "m", "top_p": 0.5, "extra_body": {"top_p": 0.9, "chat_template_kwargs": {"thinking": false}}}'
    assert parse(body) == {"model": "m", "top_p": 0.5, "chat_template_kwargs": {"thinking": False}}
    assert model_of(parse(body)) == "m"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"text"', b'{"extra_body": 3}', b"\xff", b"[" * 100_000, b"[" * 300_000]
)
def test_a_body_that_is_no_object_is_invalid_input(body: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse(body)


@pytest.mark.parametrize("fields", [{}, {"model": ""}, {"model": 3}])
def test_a_request_must_name_a_model(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="model"):
        model_of(fields)
