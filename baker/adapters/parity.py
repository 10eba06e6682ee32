"""Whether the engine serves an adapter as it was trained: its log-probabilities beside those of the parity certificate.
Pure.

Two questions, since each alone misses something. How far apart are they, a token on average? That finds what is wrong
with large effects, and at single tokens. And how strong does the adapter arrive? With d = log p(with) - log p(without)
at each token, as trained and as served, the slope of the least squares line through the origin,

    strength = sum(d_served * d_trained) / sum(d_trained ** 2),

is 1 if all of it does, 0 if the engine answers as its base, 0.5 with half of the adapter: of small effects too, which
the first question can't tell from rounding. How far rounding can move it is known, since the base model has no
adapter: e, what engine and trainer differ by there, is rounding. It moves the strength by chance, and what of it is in
d_trained draws it towards 0, by 2 * sum(e ** 2) / sum(d_trained ** 2) at most.
"""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from baker.errors import AdapterError

PARITY_FILE = "parity.json"

TOLERANCE_NATS = 0.1
"""Mean difference of a token's log-probability; bf16 rounding alone makes about 0.02."""
TOLERATED_SHARE = 0.25
"""Of the effect, as a difference, and of the strength."""
STANDARD_ERRORS = 4.0
LEAST_NATS = 0.2
"""A strength that is off matters from there: what it makes of the log-probability of some token."""


class PinnedSequence(msgspec.Struct, frozen=True):
    """A response of T tokens and what the trainer computed for it, in nats."""

    context_ids: list[int]
    response_ids: list[int]
    logprobs: list[float]
    """Of the response's tokens under the trained model."""
    base_logprobs: list[float]
    """Of the same tokens under the base model, without an adapter."""


class ParityCertificate(msgspec.Struct, frozen=True):
    """The parity certificate, parity.json: what the engine must reproduce before the adapter is served."""

    sequences: list[PinnedSequence]
    dtype: str
    """The type that the trainer computed in, such as `float32`."""


def read_parity(folder: Path) -> ParityCertificate:
    """Raises: AdapterError if the certificate is missing or broken."""
    path = folder / PARITY_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=ParityCertificate)
    except OSError as error:
        raise AdapterError(f"{path} can't be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AdapterError(f"{path} is not a parity certificate: {error}") from error


class ServedLogprobs(NamedTuple):
    """The engine's log-probabilities of a pinned sequence's response, in nats."""

    logprobs: Sequence[float]
    base_logprobs: Sequence[float]


class Parity(NamedTuple):
    error: float
    """Mean difference of a token's log-probability, served and trained, in nats."""
    effect: float
    """The same of trained and base."""
    strength: float
    """Of the adapter as served; 1 where it has no effect."""
    uncertainty: float
    """How far rounding may move the strength."""
    most: float
    """Greatest effect at a token, in nats."""

    @property
    def complaint(self) -> str | None:
        """What is wrong; None: it is served as it was trained."""
        allowed = TOLERANCE_NATS + TOLERATED_SHARE * self.effect
        if not self.error <= allowed:
            return f"differ from the trainer's by {self.error:.3f} nats a token, and {allowed:.3f} are allowed"
        off, allowed = abs(self.strength - 1.0), TOLERATED_SHARE + self.uncertainty
        if not (off <= allowed or off * self.most <= LEAST_NATS):
            return (
                f"show {self.strength:.2f} of the effect that it had when it was trained, and 1 is right, give or take "
                f"{allowed:.2f}"
            )
        return None


def compare(sequences: Sequence[PinnedSequence], served: Sequence[ServedLogprobs]) -> Parity | None:
    """None if there is no token to compare."""
    trained, base = _flat([s.logprobs for s in sequences]), _flat([s.base_logprobs for s in sequences])
    here, base_here = _flat([s.logprobs for s in served]), _flat([s.base_logprobs for s in served])
    if not trained:
        return None
    effects = [a - b for a, b in zip(trained, base, strict=True)]
    arrived = [a - b for a, b in zip(here, base_here, strict=True)]
    square = sum(effect**2 for effect in effects)
    strength, uncertainty = 1.0, 0.0
    if square:
        strength = sum(a * b for a, b in zip(arrived, effects, strict=True)) / square
        rounding = [(a - b) ** 2 for a, b in zip(base_here, base, strict=True)]
        # By all tokens' rounding, or by that of those that count most, which may be the least certain ones.
        weighed = sum(e * effect**2 for e, effect in zip(rounding, effects, strict=True)) / square
        chance = math.sqrt(2.0 * max(statistics.fmean(rounding), weighed) / square)
        uncertainty = STANDARD_ERRORS * chance + 2.0 * sum(rounding) / square
    return Parity(
        error=statistics.fmean(abs(a - b) for a, b in zip(here, trained, strict=True)),
        effect=statistics.fmean(map(abs, effects)),
        strength=strength,
        uncertainty=uncertainty,
        most=max(map(abs, effects)),
    )


def _flat(parts: Sequence[Sequence[float]]) -> list[float]:
    return [value for part in parts for value in part]
