"""The models of `paper.py`, and its report: the table, the paper's claims with the results here, the plots."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Shares of a bake's steps after which its adapter is kept; the last is the bake."""
STRENGTHS = (0.25, 0.5, 0.75, 1.25, 1.5)


class Voice(NamedTuple):
    """A model that answers: an adapter at a strength, with or without the prompt."""

    label: str
    adapter: str | None = None
    """Name of the adapter's folder; None: the base model."""
    strength: float = 1.0
    is_prompted: bool = False


BASE, PROMPTED = Voice("base"), Voice("prompted", is_prompted=True)
CHECKPOINTS = [Voice(f"baked, {share:g} of the steps", f"baked-{share:g}") for share in SHARES[:-1]]
DIAL = [Voice(f"baked@{strength:g}", "baked-1", strength) for strength in STRENGTHS]
BAKED, REPROMPTED = Voice("baked", "baked-1"), Voice("baked, re-prompted", "baked-1", is_prompted=True)
TWICE = Voice("baked twice", "twice-1")
"""The comparison for pursuit: the same number of extra steps, with answers of the prompted base model again."""
PURSUED = Voice("pursuit", "pursuit-1")
PURSUED_REPROMPTED = Voice("pursuit, re-prompted", "pursuit-1", is_prompted=True)
FIRST = [BASE, *CHECKPOINTS, *DIAL[:3], BAKED, PROMPTED, *DIAL[3:], REPROMPTED]
THEN = [TWICE, PURSUED, PURSUED_REPROMPTED]
VOICES = [*FIRST, *THEN]


class Estimate(NamedTuple):
    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.error:.4f}"

    def exceeds(self, other: "Estimate") -> str:
        by = Estimate(self.mean - other.mean, math.hypot(self.error, other.error))
        return f"{'yes' if by.mean > 0 else 'no'}, by {by}"


class Measures(NamedTuple):
    kl: Estimate
    log_odds: Estimate


def per_token(answers: Sequence[Tensor]) -> Estimate:
    """The mean over all tokens; its error treats each answer as one draw, since its tokens are not independent."""
    tokens = sum(map(len, answers))
    mean = sum(float(values_T.sum()) for values_T in answers) / tokens
    return Estimate(mean, math.sqrt(sum(float((values_T - mean).sum()) ** 2 for values_T in answers)) / tokens)


def table(measures: Mapping[str, Measures]) -> str:
    lines = ["| model | KL (prompted ‖ it) | log-odds of its own words |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {label} | {kl} | {log_odds} |" for label, (kl, log_odds) in measures.items())])


def verdicts(measures: Mapping[str, Measures]) -> Iterator[str]:
    """The paper's claims, each with the result here."""
    base, prompted, baked = (measures[voice.label] for voice in (BASE, PROMPTED, BAKED))
    share = (baked.log_odds.mean - base.log_odds.mean) / (prompted.log_odds.mean - base.log_odds.mean)
    yield (
        f"baked is close to prompted: {1 - baked.kl.mean / base.kl.mean:.0%} of the KL is gone, and the log-odds are "
        f"{share:.0%} of the way"
    )
    for name, halves in (("checkpoints", CHECKPOINTS), ("strengths", DIAL[:3])):
        line = [measures[voice.label] for voice in (BASE, *halves, BAKED)]
        closer = all(after.kl.mean < before.kl.mean for before, after in itertools.pairwise(line))
        stronger = all(after.log_odds.mean > before.log_odds.mean for before, after in itertools.pairwise(line))
        yield (
            f"{name} are in between, in order: by KL {'yes' if closer else 'no'}, "
            f"by log-odds {'yes' if stronger else 'no'}"
        )
    pairs = (
        (REPROMPTED, PROMPTED),
        (PURSUED, BAKED),
        (PURSUED, TWICE),
        (PURSUED, PROMPTED),
        (PURSUED_REPROMPTED, PURSUED),
    )
    for voice, other in pairs:
        more = measures[voice.label].log_odds.exceeds(measures[other.label].log_odds)
        yield f"{voice.label} goes beyond {other.label}: {more}"


def draw(measures: Mapping[str, Measures], folder: Path) -> None:
    """Write half_baking.png and beyond.png to `folder`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    columns = (
        ("share of the training steps", [(0.0, BASE), *zip(SHARES, [*CHECKPOINTS, BAKED], strict=True)]),
        ("strength", sorted([(0.0, BASE), (1.0, BAKED), *zip(STRENGTHS, DIAL, strict=True)])),
    )
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, (name, points) in enumerate(columns):
        for row, what in enumerate(("kl", "log_odds")):
            values = [getattr(measures[voice.label], what) for _, voice in points]
            axes = grid[row][column]
            axes.errorbar([at for at, _ in points], [v.mean for v in values], [v.error for v in values], marker="o")
            for voice, style in ((BASE, ":"), (PROMPTED, "--")):
                axes.axhline(
                    getattr(measures[voice.label], what).mean, color="gray", linestyle=style, label=voice.label
                )
        grid[1][column].set_xlabel(name)
    grid[0][0].set_ylabel("KL from the prompted model")
    grid[1][0].set_ylabel("log-odds of its own words")
    grid[1][1].legend()
    figure.savefig(folder / "half_baking.png", dpi=80)
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    shown = [BASE, DIAL[1], BAKED, TWICE, PROMPTED, REPROMPTED, PURSUED, PURSUED_REPROMPTED][::-1]
    odds = [measures[voice.label].log_odds for voice in shown]
    colors = ["gray" if voice in (BASE, PROMPTED) else "tab:blue" for voice in shown]
    axes.barh([v.label for v in shown], [v.mean for v in odds], xerr=[v.error for v in odds], color=colors)
    axes.axvline(measures[PROMPTED.label].log_odds.mean, color="gray", linestyle="--")
    axes.set_xlabel("log-odds of its own words, prompted against base, nats per token")
    figure.savefig(folder / "beyond.png", dpi=80)
