"""Checks that a new engine answers as the one before it did, with known answers of the base model and one adapter.

An engine can start and be wrong: other weights on disk, a broken device, memory lost in sleep. So the first healthy
engine reads a fixed text and continues it, and each later one must get the same result before it serves.

The check compares log-probabilities, not only tokens: they show more, and batches of other sizes round differently, so
that two tokens that are nearly equally likely may change places (in bfloat16 a log-probability moves by up to 0.1).

The answers are kept in memory only. They hold for one model, one vLLM, one dtype and one kind of processor, and a new
service may have others; there, an adapter's parity certificate, a file beside it, says what it should answer.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from baker.adapters.files import ADAPTER_WEIGHTS
from baker.errors import AdapterError
from gateway.errors import CanaryError

log = logging.getLogger(__name__)

TEXT = "The quick brown fox jumps over the lazy dog, and 1 + 1 = 2."
NEW_TOKENS = 8
MEAN_TOLERANCE_NATS = 0.1
TOKEN_TOLERANCE_NATS = 0.5


class Answer(msgspec.Struct, frozen=True):
    text_logprobs: list[float]
    """Log-probability of each token of the text but the first, in nats."""
    next_ids: list[int]
    """The likeliest tokens after the text."""
    next_logprobs: list[float]
    """Log-probability of each of `next_ids`, in nats."""


class AdapterCanary(msgspec.Struct, frozen=True):
    name: str
    path: Path
    version: tuple[int, int, int]
    """Inode, size and time of change (ns) of the weights file."""
    answer: Answer


Ask = Callable[[str | None], Awaitable[Answer]]
"""Gives the engine's present answer for a loaded adapter, or with None for the base model. Raises: EngineError."""


class Canary:
    def __init__(self) -> None:
        self._base: Answer | None = None
        self._adapter: AdapterCanary | None = None

    @property
    def wants_adapter(self) -> bool:
        return self._adapter is None

    async def record_adapter(self, name: str, path: Path, ask: Ask) -> None:
        """Record how this adapter answers; it must be loaded."""
        self._adapter = AdapterCanary(name, path, _version(path), await ask(name))

    async def check(self, ask: Ask, load: Callable[[str, Path], Awaitable[None]]) -> None:
        """Check that the engine answers as before; records the answer of the first engine.

        If the recorded adapter's files were changed or removed, it can't be used for the check, and is forgotten.
        Raises: CanaryError; EngineError.
        """
        base = await ask(None)
        if self._base is None:
            self._base = base
        _compare("the base model", self._base, base)
        known = self._adapter
        if known is None:
            return
        try:
            if _version(known.path) != known.version:
                raise AdapterError(f"the files of {known.name!r} have changed")
            await load(known.name, known.path)
        except (AdapterError, OSError) as error:
            log.warning("adapter %s can't be used to check the engine any more: %s", known.name, error)
            self._adapter = None
            return
        _compare(f"adapter {known.name!r}", known.answer, await ask(known.name))


def _compare(model: str, before: Answer, now: Answer) -> None:
    pairs = zip(before.text_logprobs, now.text_logprobs, strict=True)
    error = sum(abs(a - b) for a, b in pairs) / len(before.text_logprobs)
    if not error <= MEAN_TOLERANCE_NATS:  # true for NaN too
        raise CanaryError(
            f"{model} reads a known text with log-probabilities that differ from before by {error:.3f} nats a token; "
            f"at most {MEAN_TOLERANCE_NATS} are allowed"
        )
    rows = zip(before.next_ids, before.next_logprobs, now.next_ids, now.next_logprobs, strict=True)
    for position, (token, logprob, token_now, logprob_now) in enumerate(rows):
        if not abs(logprob - logprob_now) <= TOKEN_TOLERANCE_NATS:
            raise CanaryError(
                f"{model} continues a known text with token {token_now} ({logprob_now:.3f} nats) at position "
                f"{position}; before it was {token} ({logprob:.3f})"
            )
        if token != token_now:
            return  # nearly equally likely tokens; from here on the texts differ


def _version(path: Path) -> tuple[int, int, int]:
    status = (path / ADAPTER_WEIGHTS).stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
