"""What clients learn of the tokenizer."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.engine import Engine
from gateway.engine.requests.tokenizer import tokenizer_info
from tests.gateway.engines import make_tokenizer

pytestmark = pytest.mark.anyio


async def test_the_special_tokens_and_the_template_are_the_tokenizers(engine: Engine) -> None:
    tokenizer = make_tokenizer()
    info = await tokenizer_info(engine)
    for name in ("bos_token", "eos_token", "pad_token", "unk_token", "chat_template"):
        assert getattr(info, name) == getattr(tokenizer, name)
    assert info.eos_token and info.chat_template
    assert str(engine.path) not in msgspec.json.encode(info).decode()


@pytest.mark.parametrize(
    ("operators", "tokenizers", "expected"),
    [
        ("mine", "its own", "mine"),
        (None, "its own", "its own"),
        (None, {"default": "plain", "tool_use": "tools"}, "plain"),
        (None, {"tool_use": "tools"}, None),
        (None, None, None),
    ],
)
async def test_the_operators_template_goes_before_the_tokenizers(
    operators: str | None, tokenizers: Any, expected: str | None
) -> None:
    async def awake() -> None:
        pass

    tokenizer = SimpleNamespace(chat_template=tokenizers)
    engine: Any = SimpleNamespace(
        awake=awake,
        running=lambda: SimpleNamespace(get_tokenizer=lambda: tokenizer),
        serving=SimpleNamespace(serving_tokenization=SimpleNamespace(chat_template=operators)),
    )
    info = await tokenizer_info(engine)
    assert info.chat_template == expected
    assert (info.tokenizer_class, info.eos_token) == ("SimpleNamespace", None)
