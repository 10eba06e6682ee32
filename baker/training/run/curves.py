"""Draws the curves of a bake: divergences, agreement, gradient norm and learning rate by step.

The only file that imports matplotlib, and only when it draws: the import takes a second.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from baker.storage.files import new_file, read_lines
from baker.storage.home import PICTURE_SUFFIX

Rows = list[dict[str, Any]]
Value = Callable[[dict[str, Any]], float | None]

MAX_TARGETS = 8
"""More targets than this get no curves of their own: their colours could not be told apart."""

MAX_NAME = 20
"""Characters of a target's name that the legend shows."""

FAR_APART = 4.0
"""Ratio of the highest to the lowest value from which a log axis has ticks at 1, 2 and 5 times powers of ten."""


def draw(metrics: Path, title: str, failure: str | None = None) -> str | None:
    """Draws the rows of `metrics` as a PNG beside it.

    Args: failure: why the training failed, if it did; shown under the title.
    Returns: the reason if the picture could not be written, else None.
    """
    from matplotlib.figure import Figure

    rows = read_lines(metrics) if metrics.exists() else []
    figure = Figure(figsize=(10, 8), dpi=120, layout="constrained")
    panels = figure.subplots(4, 1, sharex=True, height_ratios=(5, 2.5, 1.5, 1.5))
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    panels[0].set_title(_one_line(failure) if failure else _result(rows), loc="left", fontsize=10)
    _draw_divergences(panels[0], rows)
    _draw_agreement(panels[1], rows)
    _draw_steps(panels[2], rows, "grad_norm", "gradient\nnorm", "tab:gray")
    _draw_steps(panels[3], rows, "lr", "learning\nrate", "tab:brown")
    panels[3].set_xlabel("optimizer step")
    panels[3].xaxis.get_major_locator().set_params(integer=True)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
    figure.align_ylabels(panels)
    try:
        with new_file(metrics.with_suffix(PICTURE_SUFFIX)) as file:
            figure.savefig(file, format="png")
    except OSError as error:
        return f"the curves can't be written: {error.strerror}"
    return None


def _draw_divergences(axes: Any, rows: Rows) -> None:
    """On a log axis, which shows no value of 0 or below."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    _plot(axes, rows, _field("loss"), label="training loss\n(each step)", color="tab:blue", linewidth=0.8, alpha=0.7)
    measured = {"marker": "o", "markersize": 6, "linewidth": 1.2}
    _plot(axes, rows, _field("eval_loss"), label="held-out KL", color="tab:orange", zorder=4, **measured)
    for number, target in enumerate(_targets(rows, "eval_kl_by_target")):
        _plot(
            axes, rows, _part("eval_kl_by_target", target), label=f"held-out KL\nof {_short(target)}", **_thin(number)
        )
    _plot(
        axes, rows, _field("drift"), label="drift on neutral\nquestions", color="tab:red", marker="s", linestyle="none"
    )
    axes.set_ylabel("nats per token")
    if not axes.lines:
        _say_nothing_is_measured(axes)
        return
    values = np.concatenate([line.get_ydata() for line in axes.lines])
    axes.set_yscale("log")
    is_wide = values.max() / values.min() >= FAR_APART
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if is_wide else MaxNLocator(5))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(_plain)
    _name_curves(axes)


def _draw_agreement(axes: Any, rows: Rows) -> None:
    measured = {"marker": "o", "markersize": 5, "linewidth": 1.2}
    _plot(axes, rows, _field("eval_agreement"), label="held-out agreement", color="tab:green", zorder=4, **measured)
    for number, target in enumerate(_targets(rows, "eval_agreement_by_target")):
        part = _part("eval_agreement_by_target", target)
        _plot(axes, rows, part, label=f"agreement\nof {_short(target)}", **_thin(number))
    axes.set_ylabel("same likeliest\ntoken")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    if axes.lines:
        _name_curves(axes)
    else:
        _say_nothing_is_measured(axes)


def _draw_steps(axes: Any, rows: Rows, field: str, name: str, color: str) -> None:
    """One curve with a value for each step, on an axis that begins at 0."""
    _plot(axes, rows, _field(field), color=color, linewidth=1.0)
    axes.set_ylabel(name)
    axes.yaxis.set_major_formatter(_plain)
    if axes.lines:
        axes.set_ylim(bottom=0)
    else:
        _say_nothing_is_measured(axes)


def _plot(axes: Any, rows: Rows, value: Value, **style: Any) -> None:
    """Plots the rows that have a positive value. A lone point gets a marker; a dotted line joins two, since nothing is
    known about what lies between them."""
    points = [(row["iter"], found) for row in rows if (found := value(row)) is not None and found > 0]
    if points:
        steps, values = zip(*points, strict=True)
        if len(points) <= 2:
            style = {"marker": "o", "markersize": 4, "linestyle": ":"} | style
        axes.plot(steps, values, **style)


def _field(name: str) -> Value:
    return lambda row: row.get(name)


def _part(name: str, target: str) -> Value:
    return lambda row: (row.get(name) or {}).get(target)


def _targets(rows: Rows, name: str) -> list[str]:
    """The targets that get curves of their own: a single one has the curve of the whole."""
    targets = list(dict.fromkeys(target for row in rows for target in row.get(name) or {}))
    return targets if 1 < len(targets) <= MAX_TARGETS else []


def _short(target: str) -> str:
    return target if len(target) <= MAX_NAME else f"{target[: MAX_NAME - 1]}…"


def _thin(number: int) -> dict[str, Any]:
    """The style of one target's curves."""
    colors = ("tab:purple", "tab:olive", "tab:cyan", "tab:pink", "tab:brown", "navy", "darkgreen", "black")
    return {"color": colors[number], "marker": ".", "linewidth": 0.8, "linestyle": "--"}


def _name_curves(axes: Any) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False, fontsize=9)


def _say_nothing_is_measured(axes: Any) -> None:
    axes.set_yticks([])
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="0.5")


def _result(rows: Rows) -> str:
    """What the held-out questions show, in one line."""
    kls = [row["eval_loss"] for row in rows if row.get("eval_loss") is not None]
    if not kls:
        return "nothing was held out"
    text = f"held-out KL {kls[0]:.3g} → {kls[-1]:.3g} nats per token"
    recovered = next((row["recovered"] for row in reversed(rows) if row.get("recovered") is not None), None)
    return text if recovered is None else f"{text}: {recovered:.0%} of the prompt's effect is in the weights"


def _one_line(failure: str) -> str:
    text = " ".join(f"failed: {failure}".split())
    return text if len(text) <= 120 else f"{text[:119]}…"


def _plain(value: float, _: int) -> str:
    """A tick's number without an exponent."""
    return np.format_float_positional(value, precision=6, fractional=False, trim="-")
