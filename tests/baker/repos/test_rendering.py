"""Prompts against chat templates. With a real template: tests/gateway/engine/core/test_generation.py."""

from collections.abc import Sequence
from typing import Any

import pytest

from baker.errors import EngineError, InvalidInputError
from baker.repos.rendering import IGNORED_TOOLS, MAX_CHARACTERS, MAX_ROLES, rendering_warnings
from baker.types import Message, Prompt
from tests.fakes import FakeEngine

pytestmark = pytest.mark.anyio

TOOLS = [{"type": "function", "function": {"name": "look"}}]


class Dropping(FakeEngine):
    """Its template shows only some roles, like Qwen's, and can't answer while `ready` is cleared."""

    shown = ("system", "user", "assistant")

    def __init__(self) -> None:
        super().__init__()
        self.renderings = 0

    async def tokenise(self, messages: Sequence[Message], tools: list[dict[str, Any]] | None = None) -> list[int]:
        self.renderings += 1
        if not self.ready.is_set():
            raise EngineError("starting")
        return await super().tokenise([message for message in messages if message["role"] in self.shown])


def said_by(*roles: str) -> Prompt:
    return Prompt(messages=[{"role": role, "content": f"I am {role}"} for role in roles])


@pytest.mark.parametrize(
    ("roles", "words"),
    [
        (["system", "user", "assistant"], []),
        (["wizard"], ["of the role 'wizard': they have no effect"]),
        (["system", "tool", "wizard"], ["role 'tool'", "role 'wizard'"]),
    ],
)
async def test_roles_that_the_template_drops_are_named(roles: list[str], words: list[str]) -> None:
    warnings = await rendering_warnings(Dropping(), said_by(*roles))
    assert len(warnings) == len(words)
    assert all(word in warning for word, warning in zip(words, warnings, strict=True))


@pytest.mark.parametrize(("role", "hint"), [("usr", "; did you mean 'user'?"), ("wizard", ""), ("Assistant", "?")])
async def test_roles_that_the_template_passes_on_unknown_are_named(role: str, hint: str) -> None:
    (warning,) = await rendering_warnings(FakeEngine(), said_by("system", role))
    assert warning.startswith(f"{role!r} is not a role that chat models know") and warning.endswith(hint)


async def test_tools_that_the_template_does_not_show_are_named() -> None:
    engine = FakeEngine()
    prompt = Prompt(messages=[{"role": "system", "content": "Hi"}], tools=TOOLS)
    assert await rendering_warnings(engine, prompt) == [IGNORED_TOOLS]
    engine.renders_tools = True
    assert await rendering_warnings(engine, prompt) == []


async def test_what_the_template_refuses_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="the chat template refuses this"):
        await rendering_warnings(FakeEngine(), Prompt(messages=[{"role": "system", "content": "UNRENDERABLE"}]))


async def test_nothing_is_judged_while_the_engine_can_t_answer() -> None:
    engine = Dropping()
    engine.ready.clear()
    assert await rendering_warnings(engine, said_by("wizard")) == []


async def test_a_hostile_prompt_costs_few_renderings() -> None:
    engine = Dropping()
    warnings = await rendering_warnings(engine, said_by(*(f"role{i}" for i in range(500))))
    assert len(warnings) == MAX_ROLES and engine.renderings == MAX_ROLES + 1
    engine = Dropping()
    assert await rendering_warnings(engine, Prompt([{"role": "x", "content": "y" * MAX_CHARACTERS}])) == []
    assert engine.renderings == 0
