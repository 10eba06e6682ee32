"""What the parity gate tells apart. That a real engine passes it is in test_first_bake.py."""

import random

import pytest

from baker.adapter_files import PinnedSequence
from gateway.parity import Parity, Served, compare

TOKENS = 24
ROUNDING = 0.03


def found(effect: float, strength: float = 1.0, rounding: float = ROUNDING, spoilt: float = 0.0) -> Parity:
    """Of four answers: an adapter that moves tokens by about `effect` nats, as an engine serves it that rounds."""
    chance = random.Random(0)
    sequences, served = [], []
    for _ in range(4):
        base = [-chance.expovariate(0.5) for _ in range(TOKENS)]
        effects = [chance.gauss(0.0, effect) for _ in range(TOKENS)]
        sequences.append(
            PinnedSequence([1], [2] * TOKENS, [a + b for a, b in zip(base, effects, strict=True)], base_logprobs=base)
        )
        here = [a + strength * b + chance.gauss(spoilt, rounding) for a, b in zip(base, effects, strict=True)]
        served.append(Served(here, [a + chance.gauss(0.0, rounding) for a in base]))
    parity = compare(sequences, served)
    assert parity is not None
    return parity


@pytest.mark.parametrize("effect", [0.0, 0.01, 0.05, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("rounding", [0.0, 0.01, ROUNDING, 0.06])
def test_what_is_served_as_it_was_trained_passes(effect: float, rounding: float) -> None:
    assert found(effect, rounding=rounding).complaint is None


@pytest.mark.parametrize("effect", [0.05, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("strength", [0.0, 2.0])
def test_the_base_model_and_twice_the_adapter_do_not_pass_for_it(effect: float, strength: float) -> None:
    assert found(effect, strength).complaint is not None


@pytest.mark.parametrize("strength", [0.5, 1.5])
def test_nor_does_half_of_an_effect_that_can_be_told_from_rounding(strength: float) -> None:
    complaint = found(0.15, strength).complaint
    assert complaint is not None and f"show {strength:.1f}" in complaint.replace("0.49", "0.5").replace("1.49", "1.5")


def test_what_is_off_at_every_token_does_not_pass_however_strong_it_is() -> None:
    complaint = found(0.1, spoilt=0.4).complaint
    assert complaint is not None and complaint.startswith("differ from the trainer's by 0.3")


def test_numbers_that_are_none_do_not_pass() -> None:
    sequence = PinnedSequence([1], [2], [-1.0], [-2.0])
    parity = compare([sequence], [Served([float("nan")], [-2.0])])
    assert parity is not None and parity.complaint is not None


def test_nothing_to_compare_is_said() -> None:
    assert compare([], []) is None
