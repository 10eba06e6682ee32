"""The curves of a bake as a picture: loss, held-out divergence and agreement, drift, learning rate and gradient norm
over the steps.

The only file that imports matplotlib, and only when it draws: that takes a second.
"""

from pathlib import Path
from typing import Any

from baker.storage.files import new_file, read_lines
from baker.storage.home import PICTURE_SUFFIX


def draw(metrics: Path, title: str) -> str | None:
    """Draw the rows of `metrics` into a PNG beside it. Returns: why it was not, None if it was."""
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
    shares = above.twinx()
    _plot(shares, rows, "eval_agreement", color="tab:green", marker=".", linewidth=0.5)
    shares.set_ylabel("agreement on held-out questions", color="tab:green")
    shares.set_ylim(0, 1)
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
    points = [(row["iter"], row[key]) for row in rows if row.get(key) is not None and (key == "lr" or row[key] > 0)]
    if points:
        axes.plot(*zip(*points, strict=True), **style)
