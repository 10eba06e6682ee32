"""The parity certificate of an adapter, and the check that the engine serves the adapter as it was trained.

The certificate holds log-probabilities that the trainer computed for pinned sequences. The engine's are compared with
them in two ways, since each alone misses something:

- The mean difference per token finds errors with large effects, and errors at single tokens.
- The strength with which the adapter is served finds errors with small effects, which the first can't distinguish from
  rounding. With d = log p(with adapter) - log p(without) at each token, as trained and as served, the strength is the
  slope of the least squares line through the origin,

      strength = sum(d_served * d_trained) / sum(d_trained ** 2),

  which is 1 if the whole adapter is served, 0.5 with half of it, and 0 if the engine answers as its base model.

The base model has no adapter, so the difference e between engine and trainer there is rounding, which limits how far
rounding can move the strength: e moves it at random, and the part of e that is in d_trained draws it towards 0, by at
most 2 * sum(e ** 2) / sum(d_trained ** 2).
"""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from baker.errors import AdapterError

PARITY_FILE = "parity.json"


class PinnedSequence(msgspec.Struct, frozen=True):
    """A response of T tokens with the trainer's log-probabilities for it, in nats."""

    context_ids: list[int]
    response_ids: list[int]
    logprobs: list[float]
    """Log-probabilities of the response's tokens under the trained model."""
    base_logprobs: list[float]
    """Log-probabilities of the same tokens under the base model, without an adapter."""


class ParityCertificate(msgspec.Struct, frozen=True):
    """The contents of parity.json: what the engine must reproduce before the adapter is served."""

    sequences: list[PinnedSequence]
    dtype: str
    """Type that the trainer computed in, such as `float32`."""


def read_parity(folder: Path) -> ParityCertificate:
    """The certificate of the adapter in `folder`. Raises: AdapterError if it is missing or broken."""
    path = folder / PARITY_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=ParityCertificate)
    except OSError as error:
        raise AdapterError(f"{path} can't be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AdapterError(f"{path} is not a parity certificate: {error}") from error


TOLERANCE_NATS = 0.1
"""Allowed mean difference of a token's log-probability; bf16 rounding alone gives about 0.02."""
TOLERATED_SHARE = 0.25
"""Share of the effect that may be added to TOLERANCE_NATS, and allowed error of the strength."""
STANDARD_ERRORS = 4.0
"""Number of standard errors that rounding may move the strength by."""
NEGLIGIBLE_NATS = 0.2
"""A wrong strength is accepted if it changes no token's log-probability by more than this."""


class ServedLogprobs(NamedTuple):
    """The engine's log-probabilities of a pinned sequence's response, in nats."""

    logprobs: Sequence[float]
    base_logprobs: Sequence[float]


class Parity(NamedTuple):
    """How the served adapter compares with the trained one."""

    error: float
    """Mean absolute difference of a token's log-probability between served and trained, in nats."""
    effect: float
    """Mean absolute difference of a token's log-probability between trained and base, in nats."""
    strength: float
    """Strength of the adapter as served; 1 if the adapter has no effect."""
    uncertainty: float
    """Largest change of the strength that rounding can explain."""
    max_effect: float
    """Largest effect at a single token, in nats."""

    @property
    def complaint(self) -> str | None:
        """What is wrong; None if the adapter is served as it was trained."""
        allowed = TOLERANCE_NATS + TOLERATED_SHARE * self.effect
        if not self.error <= allowed:
            return f"differ from the trainer's by {self.error:.3f} nats per token; at most {allowed:.3f} are allowed"
        deviation, allowed = abs(self.strength - 1.0), TOLERATED_SHARE + self.uncertainty
        if not (deviation <= allowed or deviation * self.max_effect <= NEGLIGIBLE_NATS):
            return (
                f"show {self.strength:.2f} of the effect that the adapter had in training; it must be 1, give or take "
                f"{allowed:.2f}"
            )
        return None


def compare(sequences: Sequence[PinnedSequence], served: Sequence[ServedLogprobs]) -> Parity | None:
    """Compare the engine's log-probabilities with the certificate's; None if there is no token to compare."""
    trained, trained_base = _flat([s.logprobs for s in sequences]), _flat([s.base_logprobs for s in sequences])
    engine, engine_base = _flat([s.logprobs for s in served]), _flat([s.base_logprobs for s in served])
    if not trained:
        return None
    effects = [a - b for a, b in zip(trained, trained_base, strict=True)]
    served_effects = [a - b for a, b in zip(engine, engine_base, strict=True)]
    square = sum(effect**2 for effect in effects)
    strength, uncertainty = 1.0, 0.0
    if square:
        strength = sum(a * b for a, b in zip(served_effects, effects, strict=True)) / square
        rounding = [(a - b) ** 2 for a, b in zip(engine_base, trained_base, strict=True)]
        # Over all tokens, or weighted by effect: the tokens that count most may be the least certain ones.
        weighted = sum(e * effect**2 for e, effect in zip(rounding, effects, strict=True)) / square
        standard_error = math.sqrt(2.0 * max(statistics.fmean(rounding), weighted) / square)
        uncertainty = STANDARD_ERRORS * standard_error + 2.0 * sum(rounding) / square
    return Parity(
        error=statistics.fmean(abs(a - b) for a, b in zip(engine, trained, strict=True)),
        effect=statistics.fmean(map(abs, effects)),
        strength=strength,
        uncertainty=uncertainty,
        max_effect=max(map(abs, effects)),
    )


def _flat(parts: Sequence[Sequence[float]]) -> list[float]:
    return [value for part in parts for value in part]
