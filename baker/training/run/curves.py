"""Draws the curves of a bake: loss, held-out divergence and agreement, drift, learning rate and gradient norm by step.

The only file that imports matplotlib, and only when it draws: the import takes a second.
"""

from pathlib import Path
from typing import Any

from baker.storage.files import new_file, read_lines
from baker.storage.home import PICTURE_SUFFIX


def draw(metrics: Path, title: str) -> str | None:
    """Draws the rows of `metrics` as a PNG beside it. Returns: the reason if it could not be written, else None."""
    from matplotlib.figure import Figure

    rows = read_lines(metrics)
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    figure.suptitle(title)
    _plot(above, rows, "loss", label="loss", linewidth=1)
    _plot(above, rows, "eval_loss", label="held-out KL", marker="o")
    _plot(above, rows, "drift", label="drift", marker="s", linestyle="none")
    above.set_ylabel("nats per token")
    if above.lines:
        above.set_yscale("log")
        above.legend()
    agreement = above.twinx()
    _plot(agreement, rows, "eval_agreement", color="tab:green", marker=".", linewidth=0.5)
    agreement.set_ylabel("agreement on held-out questions", color="tab:green")
    agreement.set_ylim(0, 1)
    _plot(below, rows, "lr", label="learning rate")
    below.set_ylabel("learning rate")
    below.set_xlabel("step")
    norms = below.twinx()
    _plot(norms, rows, "grad_norm", color="tab:gray", linewidth=0.5)
    norms.set_ylabel("gradient norm")
    try:
        with new_file(metrics.with_suffix(PICTURE_SUFFIX)) as file:
            figure.savefig(file, format="png", dpi=120)
    except OSError as error:
        return f"the curves can't be written: {error.strerror}"
    return None


def _plot(axes: Any, rows: list[dict[str, Any]], key: str, **style: Any) -> None:
    """Plots the rows that have `key`. Values of 0 or below are skipped (the loss has a log axis), except `lr`."""
    points = [(row["iter"], row[key]) for row in rows if row.get(key) is not None and (key == "lr" or row[key] > 0)]
    if points:
        axes.plot(*zip(*points, strict=True), **style)
