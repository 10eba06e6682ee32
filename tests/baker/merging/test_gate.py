"""Which merges a name may mean."""

import msgspec
import pytest

from baker.merge_report import Conflict, MergeReport, Retention, Verdict
from baker.merging import gate
from baker.status import Loss

WHOLE = {"a": 1.0, "b": 1.0}


def left(
    value: float | None, *, low: float | None = None, agreement: float = 0.9, is_removed: bool = False
) -> Retention:
    return Retention(
        retention=value,
        low=value if low is None else low,
        high=value,
        kl_base=1.0,
        kl_own=0.1,
        kl_merged=0.2,
        agreement_own=0.9,
        agreement=agreement,
        rows=32,
        questions=32,
        is_removed=is_removed,
    )


def judged(strategy: str = "algebra", weights: dict[str, float] = WHOLE, **changes: object) -> MergeReport:
    report = MergeReport(
        "merge", strategy=strategy, rank=32, full_rank=48, energy_lost=0.01, drift=0.01, drift_limit=0.02
    )
    return gate.judged(msgspec.structs.replace(report, **changes), weights)


def test_a_good_merge_passes() -> None:
    report = judged(retention={"a": left(0.86), "b": left(0.97)})
    assert (report.verdict, report.failures) == (Verdict.PASSED, [])


@pytest.mark.parametrize(
    "strategy, retention, reason",
    [
        ("algebra", {"a": left(0.99), "b": left(0.84)}, "only 0.84 of b is left, at least 0.85"),
        ("distill", {"a": left(0.99), "b": left(0.89)}, "only 0.89 of b is left, at least 0.90"),
        ("distill", {"a": left(0.92), "b": left(0.92)}, "mean retention 0.92, at least 0.93"),
        ("algebra", {"a": left(0.99), "b": left(0.95, low=0.7)}, "may be as little as 0.70"),
        ("algebra", {"a": left(0.99), "b": left(0.95, agreement=0.86)}, "agrees with its teacher at 4.0% fewer tokens"),
        ("distill", {"a": left(0.99), "b": left(0.95, agreement=0.875)}, "2.5% fewer tokens"),
    ],
)
def test_a_lost_parent_is_named(strategy: str, retention: dict[str, Retention], reason: str) -> None:
    report = judged(strategy, retention=retention)
    assert report.verdict is Verdict.HELD_BACK
    assert reason in "; ".join(report.failures)


def test_the_mean_hides_no_parent() -> None:
    report = judged(retention={"a": left(1.9), "b": left(-0.03)})
    assert [failure for failure in report.failures if " b " in failure]


@pytest.mark.parametrize(
    "changes, reason",
    [({"energy_lost": 0.06}, "6.0% of the energy"), ({"drift": 0.021}, "drift 0.0210 nats")],
)
def test_the_cut_and_the_drift_count(changes: dict[str, float], reason: str) -> None:
    report = judged(retention={"a": left(1.0), "b": left(1.0)}, **changes)
    assert reason in "; ".join(report.failures)
    assert judged("distill", retention={"a": left(1.0), "b": left(1.0)}, energy_lost=0.9).verdict is Verdict.PASSED


def test_a_version_with_less_weight_may_lose_the_rest() -> None:
    retention = {"a": left(0.5, agreement=0.5), "b": left(0.97)}
    assert judged(retention=retention).verdict is Verdict.HELD_BACK
    assert judged(weights={"a": 0.5, "b": 1.0}, retention=retention).verdict is Verdict.PASSED


def test_a_version_that_yields_may_lose() -> None:
    loser = msgspec.structs.replace(left(0.2, agreement=0.3), yields=True)
    assert judged("distill", retention={"a": left(0.95), "b": loser}).verdict is Verdict.PASSED
    assert judged("distill", retention={"a": left(0.85), "b": loser}).verdict is Verdict.HELD_BACK


@pytest.mark.parametrize("value, verdict", [(0.05, Verdict.PASSED), (-0.2, Verdict.PASSED), (0.11, Verdict.HELD_BACK)])
def test_what_is_taken_out_is_gone(value: float, verdict: Verdict) -> None:
    retention = {"a": left(0.97), "b": left(value, is_removed=True)}
    assert judged(weights={"a": 1.0, "b": -1.0}, retention=retention).verdict is verdict


@pytest.mark.parametrize("retention", [{}, {"a": left(None)}])
def test_without_a_measurement_nothing_is_verified(retention: dict[str, Retention]) -> None:
    assert judged(retention=retention).verdict is Verdict.UNVERIFIED
    assert judged(retention=retention, drift=1.0).verdict is Verdict.HELD_BACK


def test_a_merge_of_which_one_version_is_not_measured_is_not_verified() -> None:
    report = MergeReport("merge", strategy="algebra", retention={"a": left(0.97)})
    assert gate.judged(report, WHOLE).verdict is Verdict.PASSED
    report = gate.judged(report, WHOLE, ["b"])
    assert (report.verdict, report.failures) == (Verdict.UNVERIFIED, ["b has no held-out rows here"])
    assert gate.judged(msgspec.structs.replace(report, retention={"a": left(0.2)}), WHOLE, ["b"]).verdict is (
        Verdict.HELD_BACK
    )


def test_a_version_without_weight_may_lose_everything() -> None:
    retention = {"a": left(0.97), "b": left(-0.3, agreement=0.1)}
    assert judged(weights={"a": 1.0, "b": 0.0}, retention=retention).verdict is Verdict.PASSED
    assert judged(weights={"a": 1.0, "b": 0.1}, retention=retention).verdict is Verdict.HELD_BACK


@pytest.mark.parametrize(
    "recovered, verdict", [(0.8, Verdict.PASSED), (0.6, Verdict.HELD_BACK), (None, Verdict.HELD_BACK)]
)
def test_joined_prompts_have_to_be_learned(recovered: float | None, verdict: Verdict) -> None:
    assert gate.judged_composed(MergeReport("merge"), Loss(recovered=recovered)).verdict is verdict


@pytest.mark.parametrize("share, equal, stops", [(0.26, True, True), (0.24, True, False), (0.9, False, False)])
def test_contradictions_stop_only_versions_of_the_same_conversation(share: float, equal: bool, stops: bool) -> None:
    assert gate.is_conflicting(Conflict(share, 26, 100, equal, [])) is stops


def test_the_drift_of_a_sum_may_add_up() -> None:
    drifts = {"a": 0.02, "b": 0.04}
    assert gate.drift_limit(drifts, is_distilled=False) == pytest.approx(1.25 * 0.06 + 0.005)
    assert gate.drift_limit(drifts, is_distilled=True) == pytest.approx(1.1 * 0.04 + 0.005)
