from pathlib import Path

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
    assert (whole.format, whole.size) == ("PNG", (1200, 720))
    other = draw(tmp_path / "other", [*steps[:10], *evaluations])
    assert whole.tobytes() != other.tobytes()
    without = draw(tmp_path / "without", [*steps, *({**row, "eval_agreement": None} for row in evaluations[:2])])
    assert whole.tobytes() != without.tobytes()
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == ["metrics.jsonl", "metrics.png"]


def test_values_that_a_log_axis_can_t_show_are_left_out(tmp_path: Path) -> None:
    draw(tmp_path / "zero", [{"iter": 1, "loss": 0.0, "lr": 0.0, "grad_norm": 0.0}])
    draw(tmp_path / "evaluated", [{"iter": 0, "eval_loss": 0.5}])
