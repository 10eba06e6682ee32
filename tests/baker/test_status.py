import math

import msgspec
import pytest

from baker.status import NEGLIGIBLE_KL, AgreementChange, KLChange, Loss, Pace


def test_steps_give_the_latest_lowest_and_highest_loss() -> None:
    loss = Loss()
    for latest in (3.0, 1.0, 2.0):
        loss = loss.after_step(latest)
    assert loss == Loss(latest_loss=2.0, final_loss=2.0, min_loss=1.0, max_loss=3.0)


def test_the_first_evaluation_is_before_training_and_the_last_is_after() -> None:
    loss = Loss().after_evaluation(0.5, {"a": 0.8, "b": 0.2})
    assert (loss.eval_kl_before, loss.eval_kl, loss.recovered) == (0.5, None, None), "nothing is measured yet"
    loss = loss.after_step(0.3).after_evaluation(0.3, {"a": 0.4, "b": 0.2}).after_evaluation(0.1, {"a": 0.1, "b": 0.1})
    assert (loss.eval_kl_before, loss.eval_kl, loss.latest_loss) == (0.5, 0.1, 0.3)
    assert loss.recovered == pytest.approx(0.8)
    assert loss.eval_kl_by_target == {"a": KLChange(0.8, 0.1), "b": KLChange(0.2, 0.1)}


def test_agreement_and_drift_have_a_before_and_an_after() -> None:
    loss = Loss().after_drift(0, 0.0).after_evaluation(0.5, {"a": 0.5}, 0.25, {"a": 0.25})
    assert (loss.drift_before, loss.drift, loss.agreement_before, loss.agreement) == (0.0, None, 0.25, None)
    loss = loss.after_evaluation(0.3, {"a": 0.3}, 0.5, {"a": 0.5}).after_evaluation(0.1, {"a": 0.1}, 0.75, {"a": 0.75})
    loss = loss.after_drift(9, 0.125)
    assert (loss.agreement_before, loss.agreement) == (0.25, 0.75)
    assert loss.agreement_by_target == {"a": AgreementChange(0.25, 0.75)}
    assert (loss.drift_before, loss.drift) == (0.0, 0.125)


def test_a_number_that_an_older_version_did_not_measure_before_training_stays_absent() -> None:
    loss = Loss().after_evaluation(0.5, {"a": 0.5}).after_evaluation(0.1, {"a": 0.1}, 0.75, {"a": 0.75})
    loss = loss.after_drift(9, 0.125)
    assert (loss.agreement_before, loss.agreement) == (None, 0.75)
    assert (loss.drift_before, loss.drift) == (None, 0.125)


@pytest.mark.parametrize("before", [0.0, 1e-300, -1e-9, NEGLIGIBLE_KL / 2])
def test_a_negligible_effect_has_no_recovered_share(before: float) -> None:
    """The share would be huge or infinite, and JSON has no infinity."""
    loss = Loss().after_evaluation(before, {"pinned": before}).after_evaluation(0.01, {"pinned": 0.01})
    assert loss.recovered is None
    decoded = msgspec.json.decode(msgspec.json.encode(loss))
    assert decoded == {
        "eval_kl_before": before,
        "eval_kl": 0.01,
        "eval_kl_by_target": {"pinned": {"before": before, "after": 0.01}},
    }
    assert all(map(math.isfinite, (decoded["eval_kl"], decoded["eval_kl_before"])))


def test_a_pace_tells_the_time_left_from_the_items_since_the_job_began() -> None:
    now = 100.0
    pace = Pace(items=4, total=10, clock=lambda: now)
    assert (pace.eta_seconds, pace.percent) == (None, 40.0)
    now = 106.0
    pace.update(6, 10)
    assert (pace.eta_seconds, pace.percent) == (6 / 2 * 4, 60.0), "three seconds for each of four"
    now = 112.0
    assert pace.eta_seconds == 12 / 2 * 4, "it grows while nothing comes"
    pace.update(10, 10)
    assert (pace.eta_seconds, pace.percent) == (0.0, 100.0)
    assert Pace(0, 0).percent == 0.0
