from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from baker.storage.files import append_lines
from baker.training.run import curves


def draw(folder: Path, rows: list[dict[str, object]]) -> Image.Image:
    folder.mkdir()
    append_lines(folder / "metrics.jsonl", rows)
    assert curves.draw(folder / "metrics.jsonl", "repo/bake") is None
    with Image.open(folder / "metrics.png") as image:
        image.load()
        return image


def test_the_picture_depends_on_the_rows(tmp_path: Path) -> None:
    steps = [{"iter": i, "loss": 1 / i, "lr": 0.1, "grad_norm": 1.0} for i in range(1, 30)]
    evaluations = [
        {"iter": 0, "eval_loss": 1.0, "eval_agreement": 0.5},
        {"iter": 29, "eval_loss": 0.1, "eval_agreement": 0.9},
        {"iter": 29, "drift": 0.02},
    ]
    whole = draw(tmp_path / "whole", [*steps, *evaluations])
    assert (whole.format, whole.size) == ("PNG", (1200, 960))
    other = draw(tmp_path / "other", [*steps[:10], *evaluations])
    assert whole.tobytes() != other.tobytes()
    without = draw(tmp_path / "without", [*steps, *({**row, "eval_agreement": None} for row in evaluations[:2])])
    assert whole.tobytes() != without.tobytes()
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == ["metrics.jsonl", "metrics.png"]


def test_values_that_a_log_axis_can_t_show_are_left_out(tmp_path: Path) -> None:
    draw(tmp_path / "zero", [{"iter": 1, "loss": 0.0, "lr": 0.0, "grad_norm": 0.0}])
    draw(tmp_path / "evaluated", [{"iter": 0, "eval_loss": 0.5}])


def figure_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, object]], **arguments: str) -> Any:
    """The figure that is drawn from `rows`, after its layout."""
    figures: list[Any] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **named: (figures.append(self), save(self, *args, **named))
    )
    append_lines(tmp_path / "metrics.jsonl", rows)
    assert curves.draw(tmp_path / "metrics.jsonl", "repo/bake", **arguments) is None
    return figures[0]


def test_every_curve_has_a_name_outside_the_axes_and_every_axis_a_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [{"iter": step, "loss": 0.1 / step, "lr": 2e-5, "grad_norm": 1.0} for step in range(1, 21)]
    evaluations = [
        {
            "iter": step,
            "eval_loss": 0.2 / (step + 1),
            "eval_kl_by_target": {"a": 0.3 / (step + 1), "a_target_with_a_very_long_name": 0.1},
            "eval_agreement": 0.5,
            "eval_agreement_by_target": {"a": 0.4, "a_target_with_a_very_long_name": 0.6},
        }
        for step in (0, 10, 20)
    ]
    figure = figure_of(tmp_path, monkeypatch, [*steps, *evaluations, {"iter": 20, "drift": 0.01}])
    for axes in figure.axes[:2]:
        legend = axes.get_legend()
        names = [line.get_label() for line in axes.lines]
        assert [text.get_text() for text in legend.get_texts()] == names and len(set(names)) == len(names)
        assert legend.get_window_extent().x0 > axes.get_window_extent().x1
        assert figure.bbox.x1 >= legend.get_window_extent().x1
    assert [line.get_xdata().tolist() for line in figure.axes[0].lines[1:]] == [[0, 10, 20]] * 3 + [[20]]
    assert all(line.get_marker() != "None" for line in [*figure.axes[0].lines[1:], *figure.axes[1].lines])
    assert all(axes.get_ylabel() for axes in figure.axes) and figure.axes[-1].get_xlabel() == "optimizer step"
    ticks = [tick for axes in figure.axes for tick in axes.get_yticklabels()]
    assert all(axes.yaxis.get_offset_text().get_text() == "" for axes in figure.axes)
    assert all(set(tick.get_text()) <= set("0123456789.%") for tick in ticks)
    assert "0.00002" in {tick.get_text() for tick in figure.axes[3].get_yticklabels()}


@pytest.mark.parametrize(
    ("rows", "failure", "text"),
    [
        ([{"iter": 0, "eval_loss": 0.07}, {"iter": 9, "eval_loss": 0.021, "recovered": 0.7}], {},
         "held-out KL 0.07 → 0.021 nats per token: 70% of the prompt's effect is in the weights"),
        ([{"iter": 1, "loss": 1.0}], {}, "nothing was held out"),
        ([{"iter": 1, "loss": 1.0}], {"failure": "step 2: loss\nnan"}, "failed: step 2: loss nan"),
    ],
)  # fmt: skip
def test_the_line_under_the_title_tells_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, object]], failure: dict[str, str], text: str
) -> None:
    figure = figure_of(tmp_path, monkeypatch, rows, **failure)
    assert figure.axes[0].get_title(loc="left") == text


@pytest.mark.parametrize("low", [1e-5, 0.09, 0.0999])
def test_the_axis_of_divergences_has_two_ticks_or_more_at_any_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, low: float
) -> None:
    rows = [{"iter": 1, "loss": 0.1}, {"iter": 2, "loss": low}, {"iter": 3, "loss": low}]
    axes = figure_of(tmp_path, monkeypatch, rows).axes[0]
    lowest, highest = axes.get_ylim()
    labels = [tick.get_text() for tick in axes.get_yticklabels() if lowest <= tick.get_position()[1] <= highest]
    assert len(labels) == len(set(labels)) >= 2
