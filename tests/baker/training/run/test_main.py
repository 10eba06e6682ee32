"""The training process: its events, its exit codes, and how it ends."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from baker.training import events
from baker.training.run import __main__ as trainer
from baker.training.setup import builder
from tests.baker.tiny import save_model
from tests.baker.training.run.test_train import start, write_spec


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base") / "model")


def endless(folder: Path, base: Path) -> Path:
    write_spec(folder, base, epochs=100_000)
    return folder / "spec.json"


def wait_for_a_step(lines: Any) -> None:
    assert any(isinstance(events.decode(line), events.Stepped) for line in iter(lines.readline, b""))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_missing_file_is_an_event_and_exit_code_1(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_spec(tmp_path, base)
    Path(spec.train[2]).unlink()
    heard: list[events.TrainEvent] = []
    monkeypatch.setattr(trainer, "_take_stdout", lambda: heard.append)
    assert trainer.main([str(tmp_path / "spec.json")]) == 1
    (failed,) = heard
    assert isinstance(failed, events.Failed) and failed.code == "STAGE_FAILED"
    assert f"{spec.train[2]} is missing" in failed.message
    assert not (tmp_path / "out").exists()


def test_what_nobody_expected_is_an_event_too(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_spec(tmp_path, base)
    heard: list[events.TrainEvent] = []
    monkeypatch.setattr(trainer, "_take_stdout", lambda: heard.append)
    monkeypatch.setattr(builder, "Student", lambda *how, **more: 1 / 0)
    assert trainer.main([str(tmp_path / "spec.json")]) == 1
    assert heard[-1] == events.Failed("training stopped on ZeroDivisionError: division by zero", "INTERNAL_ERROR")
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "complaint"), [(None, "can't be read"), (b"{}", "is not a valid TrainSpec")])
def test_a_spec_that_cannot_be_read_is_an_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, complaint: str
) -> None:
    if content is not None:
        (tmp_path / "spec.json").write_bytes(content)
    heard: list[events.TrainEvent] = []
    monkeypatch.setattr(trainer, "_take_stdout", lambda: heard.append)
    assert trainer.main([str(tmp_path / "spec.json")]) == 1
    assert isinstance(heard[0], events.Failed) and complaint in heard[0].message


def test_the_child_ends_when_its_parent_is_killed(tmp_path: Path, base: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'baker.training.run', sys.argv[1], '--watch-stdin'],"
        " stdin=subprocess.PIPE)\n"
        "print(child.pid, file=sys.stderr, flush=True)\n"
        "child.wait()\n"
    )
    command = [sys.executable, "-c", code, str(endless(tmp_path, base))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        assert parent.stderr is not None
        child = int(parent.stderr.readline())
        wait_for_a_step(parent.stdout)
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 10
        while is_running(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not is_running(child)


def test_sigterm_ends_it_at_once_and_publishes_nothing(tmp_path: Path, base: Path) -> None:
    with start(endless(tmp_path, base)) as process:
        wait_for_a_step(process.stdout)
        process.terminate()
        assert process.wait(timeout=5) == -signal.SIGTERM
    assert not (tmp_path / "out").exists()
