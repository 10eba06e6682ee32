"""Asking the engine's worker for its weights. With a real worker: `worker/test_lending.py`."""

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from baker.errors import EngineError, NotLentError
from gateway.engine.core import lending
from gateway.engine.core.lending import lend_weights

pytestmark = pytest.mark.anyio


class Process:
    """An engine's process whose worker answers with `answer`."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.is_dead = False
        self.llm = SimpleNamespace(collective_rpc=self._call)

    async def _call(self, method: str) -> list[Any]:
        assert method == "lend_weights"
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer]

    async def unless_dead(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await work


async def test_a_reason_of_the_worker_and_its_errors_are_not_lent() -> None:
    for answer, reason in (("they are packed", "they are packed"), (RuntimeError("no such method"), "no such method")):
        process: Any = Process(answer)
        with pytest.raises(NotLentError, match=reason):
            await lend_weights(process, lambda: True)


async def test_an_error_of_a_dead_engine_is_its_death() -> None:
    process: Any = Process(RuntimeError("closed"))
    process.is_dead = True
    with pytest.raises(EngineError, match="died"):
        await lend_weights(process, lambda: True)


@pytest.mark.parametrize("ends", ["dies", "is stopped"])
async def test_the_weights_are_gone_with_their_engine(monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    monkeypatch.setattr(lending, "POLL_SECONDS", 0.0)
    process: Any = Process(b"handles")
    is_current = True
    lent = await lend_weights(process, lambda: is_current)
    assert lent.handles == b"handles"
    waiting = asyncio.create_task(lent.gone())
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    if ends == "dies":
        process.is_dead = True
    else:
        is_current = False
    await waiting
