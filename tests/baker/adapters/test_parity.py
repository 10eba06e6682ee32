"""What the parity check accepts and refuses. tests/behaviour/test_first_bake.py shows that a real engine passes it."""

import math
import random
from pathlib import Path

import numpy as np
import pytest

from baker.adapters.parity import (
    PARITY_FILE,
    Parity,
    ParityCertificate,
    PinnedSequence,
    ServedLogprobs,
    compare,
    read_parity,
)
from baker.errors import AdapterError
from baker.storage.files import write_json

TOKENS = 24
ROUNDING = 0.03


def measured(
    effect: float, strength: float = 1.0, engine: float = ROUNDING, trainer: float = ROUNDING, shift: float = 0.0
) -> Parity:
    """The parity of an adapter that moves tokens by about `effect` nats, over four answers.

    Args:
        strength: the factor with which the engine applies the adapter.
        engine, trainer: rounding of each side in nats; some tokens get three times as much.
        shift: error that the engine adds at every token, in nats.
    """
    chance = random.Random(0)

    def rounded(value: float, rounding: float) -> float:
        return value + chance.gauss(0.0, rounding) * chance.choice([1, 1, 1, 1, 1, 1, 1, 1, 1, 3])

    sequences, served = [], []
    for _ in range(4):
        base = [-chance.expovariate(0.5) for _ in range(TOKENS)]
        effects = [chance.gauss(0.0, effect) for _ in range(TOKENS)]
        tokens = list(zip(base, effects, strict=True))
        trained = [rounded(a + b, trainer) for a, b in tokens]
        sequences.append(PinnedSequence([1], [2] * TOKENS, trained, base_logprobs=[rounded(a, trainer) for a in base]))
        by_engine = [rounded(a + strength * b, engine) + shift for a, b in tokens]
        served.append(ServedLogprobs(by_engine, [rounded(a, engine) for a in base]))
    parity = compare(sequences, served)
    assert parity is not None
    return parity


@pytest.mark.parametrize("effect", [0.0, 0.01, 0.03, 0.05, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("engine", [0.0, ROUNDING, 0.06])
@pytest.mark.parametrize("trainer", [0.0, ROUNDING])
def test_an_adapter_that_is_served_as_trained_passes(effect: float, engine: float, trainer: float) -> None:
    assert measured(effect, engine=engine, trainer=trainer).complaint is None


@pytest.mark.parametrize("effect", [0.15, 0.5, 2.0])
@pytest.mark.parametrize("strength", [0.0, 2.0])
@pytest.mark.parametrize("trainer", [0.0, ROUNDING])
def test_the_base_model_or_twice_the_adapter_in_its_place_does_not_pass(
    effect: float, strength: float, trainer: float
) -> None:
    assert measured(effect, strength, trainer=trainer).complaint is not None


@pytest.mark.parametrize("strength", [0.5, 1.5])
def test_half_of_an_effect_that_is_larger_than_rounding_does_not_pass(strength: float) -> None:
    parity = measured(0.3, strength)
    assert parity.complaint is not None and parity.strength == pytest.approx(strength, abs=0.1)


def test_a_single_uncertain_token_with_all_of_the_effect_is_not_enough_to_refuse() -> None:
    sequence = PinnedSequence([1], [2] * TOKENS, [-1.0] * TOKENS, [-1.4, *[-1.0] * (TOKENS - 1)])
    served = ServedLogprobs([-1.15, *[-1.0] * (TOKENS - 1)], [-1.4, *[-1.0] * (TOKENS - 1)])
    parity = compare([sequence], [served])
    assert parity is not None and parity.strength == pytest.approx(0.625) and parity.complaint is None


def test_an_error_at_every_token_does_not_pass_even_at_the_right_strength() -> None:
    complaint = measured(0.1, shift=0.4).complaint
    assert complaint is not None and complaint.startswith("differ from the trainer's by 0.")


@pytest.mark.parametrize("served", [ServedLogprobs([math.nan], [-2.0]), ServedLogprobs([-1.0], [math.nan])])
def test_nan_does_not_pass(served: ServedLogprobs) -> None:
    parity = compare([PinnedSequence([1], [2], [-1.0], [-2.0])], [served])
    assert parity is not None and parity.complaint is not None


def test_an_adapter_without_effect_passes_if_the_engine_answers_like_the_base() -> None:
    parity = compare([PinnedSequence([1], [2], [-1.0], [-1.0])], [ServedLogprobs([-1.0], [-1.01])])
    assert parity is not None and parity.complaint is None


def test_without_sequences_there_is_no_parity() -> None:
    assert compare([], []) is None


def test_a_certificate_is_read_back_unchanged_and_a_broken_one_is_named(tmp_path: Path) -> None:
    certificate = ParityCertificate([PinnedSequence([1, 2], [3], [-0.5], [-1.5])], "float32")
    with pytest.raises(AdapterError, match="can't be read"):
        read_parity(tmp_path)
    write_json(tmp_path / PARITY_FILE, certificate)
    assert read_parity(tmp_path) == certificate
    (tmp_path / PARITY_FILE).write_text("{}")
    with pytest.raises(AdapterError, match="not a parity certificate"):
        read_parity(tmp_path)


def test_the_strength_is_the_slope_of_served_over_trained_effects() -> None:
    """Checked against numpy's least squares solver."""
    chance = np.random.default_rng(0)
    base, effects, served_effects = -chance.exponential(2.0, 9), chance.normal(size=9), chance.normal(size=9)
    trained, served = base + effects, base + served_effects
    parity = compare(
        [PinnedSequence([1], [2] * 9, trained.tolist(), base.tolist())],
        [ServedLogprobs(served.tolist(), base.tolist())],
    )
    (slope,), *_ = np.linalg.lstsq((trained - base)[:, None], served - base)
    assert parity is not None
    assert parity.strength == pytest.approx(slope)
    assert parity.uncertainty == 0, "the base model shows no rounding"
