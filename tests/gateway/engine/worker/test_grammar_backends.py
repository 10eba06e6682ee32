"""Grammars of two backends in one engine."""

import json
from typing import Any

import pytest

from baker.types import SampleRequest
from gateway.engine import Engine

pytestmark = pytest.mark.anyio

FIVES = {"type": "array", "items": {"type": "integer", "multipleOf": 5, "minimum": 1}, "minItems": 3, "maxItems": 3}
"""Only guidance can enforce it."""
TAG = {"type": "structural_tag", "format": {"type": "const_string", "value": "<call>"}}
"""Only xgrammar can."""


async def text(engine: Engine, outputs: dict[str, Any]) -> str:
    request = SampleRequest([1, 2, 3], max_tokens=60, temperature=1.0, seed=1, extra={"structured_outputs": outputs})
    return (await engine.generation.sample(request)).text


async def test_each_request_is_held_to_its_grammar_whichever_came_first(engine: Engine) -> None:
    for _ in range(2):
        assert await text(engine, {"structural_tag": json.dumps(TAG)}) == "<call>"
        numbers = json.loads(await text(engine, {"json": {**FIVES, "items": {**FIVES["items"], "maximum": 90}}}))
        assert len(numbers) == 3 and all(number % 5 == 0 for number in numbers)
        assert await text(engine, {"regex": "ab{2}"}) == "abb"
        assert (await text(engine, {"regex": r"\p{Lu}{2}x"}))[:2].isupper(), "xgrammar knows no Unicode classes"
