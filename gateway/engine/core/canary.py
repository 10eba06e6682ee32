"""Does a new engine answer as the one before it did? Known answers of the base model and of one adapter tell.

An engine can start and be wrong: other weights on the disk, a broken device, memory that was lost in sleep. So the
first healthy engine reads a fixed text and goes on from it, and each later one must come to the same before it serves.

Compared are log-probabilities, not only tokens: they show more, and batches of other sizes round otherwise, so that two
tokens that are as good as equal may change places (in bfloat16 a log-probability moves by up to 0.1).

The answers are kept in memory only. They hold for one model, one vLLM, one dtype and one kind of processor, and a new
service may have others; what an adapter should answer there is said by its parity certificate, which lies beside it.
"""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from baker.errors import AdapterError
from gateway.errors import CanaryError

log = logging.getLogger(__name__)

TEXT = "The quick brown fox jumps over the lazy dog, and 1 + 1 = 2."
NEW_TOKENS = 8
MEAN_TOLERANCE_NATS = 0.1
TOKEN_TOLERANCE_NATS = 0.5
WEIGHTS_FILE = "adapter_model.safetensors"


class Answer(msgspec.Struct, frozen=True):
    read: list[float]
    """Log-probability of each token of the text but the first, in nats."""
    said: list[int]
    """The likeliest tokens after it."""
    said_logprobs: list[float]


class AdapterCanary(msgspec.Struct, frozen=True):
    name: str
    path: Path
    version: tuple[int, int, int]
    """Of its weights' file: inode, size, time of change."""
    answer: Answer


Ask = Callable[[str | None], Awaitable[Answer]]
"""The engine's answer now: of a loaded adapter, or None for the base model. Raises: EngineError."""


class Canary:
    def __init__(self) -> None:
        self._base: Answer | None = None
        self._adapter: AdapterCanary | None = None

    @property
    def wants_adapter(self) -> bool:
        return self._adapter is None

    async def record_adapter(self, name: str, path: Path, ask: Ask) -> None:
        """Remember how this adapter, which is loaded, answers."""
        self._adapter = AdapterCanary(name, path, _version(path), await ask(name))

    async def check(self, ask: Ask, load: Callable[[str, Path], Awaitable[None]]) -> None:
        """See that the engine answers as before; the first one is believed and remembered.

        An adapter whose files have changed or gone says nothing of the engine, and is forgotten.
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
            log.warning("adapter %s can't vouch for the engine any more: %s", known.name, error)
            self._adapter = None
            return
        _compare(f"adapter {known.name!r}", known.answer, await ask(known.name))


def _compare(who: str, before: Answer, now: Answer) -> None:
    error = sum(abs(a - b) for a, b in zip(before.read, now.read, strict=True)) / len(before.read)
    if not error <= MEAN_TOLERANCE_NATS:  # NaN is an error too
        raise CanaryError(
            f"{who} reads a known text with log-probabilities that differ from before by {error:.3f} nats a token, "
            f"and {MEAN_TOLERANCE_NATS} are allowed"
        )
    rows = zip(before.said, before.said_logprobs, now.said, now.said_logprobs, strict=True)
    for place, (token, logprob, token_now, logprob_now) in enumerate(rows):
        if not abs(logprob - logprob_now) <= TOKEN_TOLERANCE_NATS:
            raise CanaryError(
                f"{who} goes on from a known text with token {token_now} ({logprob_now:.3f} nats) at place {place}, "
                f"and before it was {token} ({logprob:.3f})"
            )
        if token != token_now:
            return  # a near tie; what follows is another text


def _version(path: Path) -> tuple[int, int, int]:
    status = (path / WEIGHTS_FILE).stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
