"""Whether a merge is good enough for a name to mean it. Pure functions.

The thresholds are proposals that the benchmark is to calibrate once (benchmarks/README.md, "Merging"); they are
the same for every merge since.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from baker.merge_report import Conflict, MergeReport, Retention, Verdict
from baker.status import Loss


class Limits(NamedTuple):
    retention: float
    """Least of each version, times its weight if that is below 1."""
    mean_retention: float
    agreement: float
    """Most that may be lost of a version's agreement with its teacher."""


ALGEBRA = Limits(retention=0.85, mean_retention=0.85, agreement=0.03)
DISTILLED = Limits(retention=0.90, mean_retention=0.93, agreement=0.02)
UNCERTAINTY = 0.05
"""How far below its limit the lower end of a retention's interval may be."""
MOST_ENERGY = 0.05
"""Share of the sum's squared singular values that a cut may take."""
FORGOTTEN = 0.10
"""Most that may be left of a version that was taken out."""
MOST_CONFLICT = 0.25
"""Share of tokens in conflict above which a merge stops, if the versions answer the same bare conversation."""
DRIFT_SLACK = 0.005
COMPOSED = 0.7
"""Least `recovered` of a composed merge."""


def is_conflicting(conflict: Conflict) -> bool:
    return conflict.has_equal_contexts and conflict.share > MOST_CONFLICT


def drift_limit(drifts: Mapping[str, float], *, is_distilled: bool) -> float:
    """Args: drifts: label -> drift of each version."""
    own = max(drifts.values()) * 1.1 if is_distilled else 1.25 * sum(drifts.values())
    return own + DRIFT_SLACK


def judged(report: MergeReport, weights: Mapping[str, float], unmeasured: Sequence[str] = ()) -> MergeReport:
    """The report with its verdict and failures.

    Args:
        weights: label -> weight of the version; a version with less than its whole weight may lose the rest.
        unmeasured: labels of the versions that should be measured, but have no rows.
    """
    limits = ALGEBRA if report.strategy == "algebra" else DISTILLED
    failures: list[str] = []
    for label, each in report.retention.items():
        failures += _failures(label, each, min(1.0, abs(weights.get(label, 1.0))), limits)
    kept = [
        each.retention
        for each in report.retention.values()
        if each.retention is not None and not (each.is_removed or each.yields)
    ]
    full_weight = all(weights.get(label, 1.0) >= 1.0 for label in report.retention)
    if len(kept) > 1 and full_weight and (mean := sum(kept) / len(kept)) < limits.mean_retention:
        failures.append(f"mean retention {mean:.2f}, at least {limits.mean_retention:.2f} is needed")
    if report.strategy == "algebra" and (report.energy_lost or 0.0) > MOST_ENERGY:
        failures.append(
            f"the cut to rank {report.rank} lost {report.energy_lost:.1%} of the energy, at most {MOST_ENERGY:.0%} is "
            "allowed"
        )
    if report.drift is not None and report.drift_limit is not None and report.drift > report.drift_limit:
        failures.append(f"drift {report.drift:.4f} nats per token, at most {report.drift_limit:.4f}")
    if failures:
        verdict = Verdict.HELD_BACK
    elif unmeasured:
        failures = [f"{label} has no held-out rows here" for label in unmeasured]
        verdict = Verdict.UNVERIFIED
    elif not any(each.retention is not None for each in report.retention.values()):
        failures = ["none of the versions learned enough on held-out rows to measure what is left of it"]
        verdict = Verdict.UNVERIFIED
    else:
        verdict = Verdict.PASSED
    return msgspec.structs.replace(report, verdict=verdict, failures=failures)


def judged_composed(report: MergeReport, loss: Loss) -> MergeReport:
    """The report of a merge that was trained on the joined prompts: these are what it has to have learned. What is left
    of each version alone is only told."""
    failures = []
    if loss.recovered is None or loss.recovered < COMPOSED:
        measured = "was not measured" if loss.recovered is None else f"{loss.recovered:.2f}"
        failures.append(f"recovered of the joined prompts {measured}, at least {COMPOSED:.2f} is needed")
    verdict = Verdict.HELD_BACK if failures else Verdict.PASSED
    return msgspec.structs.replace(report, verdict=verdict, failures=failures)


def _failures(label: str, each: Retention, weight: float, limits: Limits) -> list[str]:
    if each.retention is None or each.yields or weight == 0.0:
        return []
    if each.is_removed:
        if each.retention <= FORGOTTEN:
            return []
        return [f"{each.retention:.2f} of {label} is still there, at most {FORGOTTEN:.2f} may be"]
    least = limits.retention * weight
    failures = []
    if each.retention < least:
        failures.append(f"only {each.retention:.2f} of {label} is left, at least {least:.2f} is needed")
    elif each.low is not None and each.low < least - UNCERTAINTY:
        failures.append(f"{each.retention:.2f} of {label} is left, but it may be as little as {each.low:.2f}")
    lost = each.agreement_own - each.agreement
    if weight == 1.0 and lost > limits.agreement:
        failures.append(f"{label} agrees with its teacher at {lost:.1%} fewer tokens, at most {limits.agreement:.0%}")
    return failures
