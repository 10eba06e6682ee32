"""What the parity gate tells apart. That a real engine passes it is in test_first_bake.py."""

import math
import random

import pytest

from baker.adapters.parity import Parity, PinnedSequence, ServedLogprobs, compare

TOKENS = 24
ROUNDING = 0.03


def found(
    effect: float, strength: float = 1.0, engine: float = ROUNDING, trainer: float = ROUNDING, spoilt: float = 0.0
) -> Parity:
    """Of four answers: an adapter that moves tokens by about `effect` nats. Both sides round, some tokens more."""
    chance = random.Random(0)

    def rounded(value: float, by: float) -> float:
        return value + chance.gauss(0.0, by) * chance.choice([1, 1, 1, 1, 1, 1, 1, 1, 1, 3])

    sequences, served = [], []
    for _ in range(4):
        base = [-chance.expovariate(0.5) for _ in range(TOKENS)]
        effects = [chance.gauss(0.0, effect) for _ in range(TOKENS)]
        both = list(zip(base, effects, strict=True))
        trained = [rounded(a + b, trainer) for a, b in both]
        sequences.append(PinnedSequence([1], [2] * TOKENS, trained, base_logprobs=[rounded(a, trainer) for a in base]))
        here = [rounded(a + strength * b, engine) + spoilt for a, b in both]
        served.append(ServedLogprobs(here, [rounded(a, engine) for a in base]))
    parity = compare(sequences, served)
    assert parity is not None
    return parity


@pytest.mark.parametrize("effect", [0.0, 0.01, 0.03, 0.05, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("engine", [0.0, ROUNDING, 0.06])
@pytest.mark.parametrize("trainer", [0.0, ROUNDING])
def test_what_is_served_as_it_was_trained_passes(effect: float, engine: float, trainer: float) -> None:
    assert found(effect, engine=engine, trainer=trainer).complaint is None


@pytest.mark.parametrize("effect", [0.15, 0.5, 2.0])
@pytest.mark.parametrize("strength", [0.0, 2.0])
@pytest.mark.parametrize("trainer", [0.0, ROUNDING])
def test_the_base_model_and_twice_the_adapter_do_not_pass_for_it(
    effect: float, strength: float, trainer: float
) -> None:
    assert found(effect, strength, trainer=trainer).complaint is not None


@pytest.mark.parametrize("strength", [0.5, 1.5])
def test_nor_does_half_of_an_effect_that_can_be_told_from_rounding(strength: float) -> None:
    parity = found(0.3, strength)
    assert parity.complaint is not None and parity.strength == pytest.approx(strength, abs=0.1)


def test_one_uncertain_token_that_has_all_of_the_effect_is_no_proof() -> None:
    quiet = PinnedSequence([1], [2] * TOKENS, [-1.0] * TOKENS, [-1.4, *[-1.0] * (TOKENS - 1)])
    here = ServedLogprobs([-1.15, *[-1.0] * (TOKENS - 1)], [-1.4, *[-1.0] * (TOKENS - 1)])
    parity = compare([quiet], [here])
    assert parity is not None and parity.strength == pytest.approx(0.625) and parity.complaint is None


def test_what_is_off_at_every_token_does_not_pass_however_strong_it_is() -> None:
    complaint = found(0.1, spoilt=0.4).complaint
    assert complaint is not None and complaint.startswith("differ from the trainer's by 0.")


@pytest.mark.parametrize("served", [ServedLogprobs([math.nan], [-2.0]), ServedLogprobs([-1.0], [math.nan])])
def test_numbers_that_are_none_do_not_pass(served: ServedLogprobs) -> None:
    parity = compare([PinnedSequence([1], [2], [-1.0], [-2.0])], [served])
    assert parity is not None and parity.complaint is not None


def test_an_adapter_without_any_effect_passes_as_the_base_does() -> None:
    parity = compare([PinnedSequence([1], [2], [-1.0], [-1.0])], [ServedLogprobs([-1.0], [-1.01])])
    assert parity is not None and parity.complaint is None


def test_nothing_to_compare_is_said() -> None:
    assert compare([], []) is None
