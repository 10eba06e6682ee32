import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from baker.config.bake import bake_config
from baker.storage.files import append_lines, read_lines
from baker.training.run.metrics import Metrics, Run, wandb_run

ASKED = bake_config({"wandb": {"enable": True, "project": "bread", "tags": ["a"]}})


class FakeRun:
    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.rows: list[tuple[dict[str, Any], int]] = []
        self.exit_code: int | None = None

    def log(self, row: dict[str, Any], step: int) -> None:
        self.rows.append((row, step))

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


def begin(folder: Path, config: Any = ASKED, is_allowed: bool = True) -> Run:
    return wandb_run(config, is_allowed=is_allowed, name="repo/bake", folder=folder)


@pytest.fixture
def fake_wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    fake = SimpleNamespace(init=FakeRun, Settings=lambda **settings: settings)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    yield fake


def test_rows_are_lines_of_the_file(tmp_path: Path) -> None:
    rows = [{"iter": 1, "loss": 0.5}, {"iter": 1, "eval_loss": 0.25}]
    with Metrics(tmp_path / "metrics.jsonl") as metrics:
        for row in rows:
            metrics.add(row)
    assert read_lines(tmp_path / "metrics.jsonl") == rows


def test_rows_that_are_repeated_after_an_interruption_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = [{"iter": step, "loss": 1.0 / step} for step in (1, 2, 3)]
    with Metrics(path) as metrics:
        for row in first:
            metrics.add(row)
    path.write_bytes(path.read_bytes() + b'{"iter": 4, "lo')
    run = FakeRun()
    with Metrics(path, run, rows=1) as metrics:  # a state after step 1 was kept
        for step in (2, 3, 4, 5):
            metrics.add({"iter": step, "loss": 10.0 * step})
        assert metrics.rows == 5
    assert read_lines(path) == [*first, {"iter": 4, "loss": 40.0}, {"iter": 5, "loss": 50.0}]
    assert [step for _, step in run.rows] == [4, 5]


def test_rows_that_a_full_disk_refuses_are_held_back_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, complaints = tmp_path / "metrics.jsonl", list[str]()
    append = append_lines

    def full(path: Path, rows: list[Any]) -> None:
        """Writes one row and half of the next, then fails."""
        append(path, rows[:1])
        path.write_bytes(path.read_bytes() + b'{"iter"')
        raise OSError(28, "No space left on device")

    with Metrics(path, on_trouble=complaints.append) as metrics:
        metrics.add({"iter": 1})
        monkeypatch.setattr("baker.training.run.metrics.append_lines", full)
        metrics.add({"iter": 2})
        metrics.add({"iter": 3})
        metrics.add({"iter": 4})
        assert [row["iter"] for row in read_lines(path)] == [1, 2, 3, 4]
        monkeypatch.setattr("baker.training.run.metrics.append_lines", lambda path, rows: full(path, []))
        metrics.add({"iter": 5})
        with pytest.raises(OSError, match="No space"):
            metrics.flush()
        monkeypatch.undo()
        metrics.add({"iter": 6})
    assert [row["iter"] for row in read_lines(path)] == [1, 2, 3, 4, 5, 6]
    assert complaints == [
        "metrics rows can't be written (No space left on device): they are held back until they can"
    ], "once"


def test_no_run_is_begun_unless_it_is_asked_for(tmp_path: Path, fake_wandb: SimpleNamespace) -> None:
    assert begin(tmp_path, bake_config({"wandb": {"project": "x"}})) == (None, None)


def test_a_run_that_the_operator_does_not_allow_is_a_warning(tmp_path: Path, fake_wandb: SimpleNamespace) -> None:
    run, warning = begin(tmp_path, is_allowed=False)
    assert run is None and warning is not None and "--wandb on" in warning


def test_a_missing_package_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    run, warning = begin(tmp_path)
    assert run is None and warning is not None and "pip install" in warning


def test_an_error_of_its_servers_is_a_warning(
    tmp_path: Path, fake_wandb: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**arguments: Any) -> None:
        raise RuntimeError("no API key configured")

    monkeypatch.setattr(fake_wandb, "init", refuse)
    assert begin(tmp_path) == (None, "wandb.enable has no effect: RuntimeError: no API key configured")


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_run_gets_every_row_and_ends_with_the_bake(
    tmp_path: Path, fake_wandb: SimpleNamespace, is_broken: bool
) -> None:
    run, warning = begin(tmp_path)
    assert warning is None
    row = {"iter": 3, "loss": 0.5}
    try:
        with Metrics(tmp_path / "metrics.jsonl", run) as metrics:
            metrics.add(row)
            assert run.exit_code is None
            if is_broken:
                raise ValueError
    except ValueError:
        pass
    assert run.rows == [(row, 3)] and run.exit_code == int(is_broken)
    asked = {key: run.arguments[key] for key in ("project", "name", "entity", "tags", "dir")}
    assert run.arguments["resume"] == "allow"
    assert asked == {"project": "bread", "name": "repo/bake", "entity": None, "tags": ["a"], "dir": tmp_path}


def test_a_resumed_bake_continues_its_run(tmp_path: Path, fake_wandb: SimpleNamespace) -> None:
    ids = [begin(tmp_path).run.arguments["id"] for _ in range(2)]
    (tmp_path / "other").mkdir()
    other = begin(tmp_path / "other").run.arguments["id"]
    assert ids[0] == ids[1] != other


@pytest.mark.parametrize(
    ("overrides", "name"),
    [({}, "repo/bake"), ({"model": {"save_name": "label"}}, "label"), ({"wandb": {"name": "own"}}, "own")],
)
def test_a_run_is_named_by_its_config_its_label_or_its_bake(
    tmp_path: Path, fake_wandb: SimpleNamespace, overrides: dict[str, Any], name: str
) -> None:
    assert begin(tmp_path, bake_config(overrides, ASKED)).run.arguments["name"] == name


@pytest.mark.filterwarnings("ignore")  # wandb's own warnings
def test_the_real_package_takes_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the wandb extra is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run, warning = begin(tmp_path)
    assert warning is None
    with Metrics(tmp_path / "metrics.jsonl", run) as metrics:
        metrics.add({"iter": 1, "loss": 0.5})
        metrics.add({"iter": 1, "eval_loss": 0.25, "eval_kl_by_target": {"a": 0.25}})
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"eval_kl_by_target" in file.read_bytes()
