"""The metrics rows of a bake: a JSONL file, and Weights & Biases if the client asks for it and the operator allows it.

The only file that imports wandb, which is an optional extra: no failure in it ends a bake.
"""

import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from baker.config.bake import BakeConfig
from baker.storage.files import append_lines, read_lines, repair_lines, write_bytes
from baker.storage.home import WANDB_ID

WANDB_SECONDS = 60
"""Longest wait for its servers, at the start and again at the end: a bake takes minutes."""


class Metrics:
    """Receives the rows. Each has `iter`, the number of optimizer steps so far, which never falls."""

    def __init__(
        self,
        path: Path | None,
        run: Any = None,
        rows: int = 0,
        on_trouble: Callable[[str], None] = lambda message: None,
    ) -> None:
        """
        Args:
            path: the file; None: nothing is written, since another process does.
            run: of Weights & Biases; it is finished on exit.
            rows: number of rows that a continued training had written when its state was kept. Later rows in the file
                were written before the interruption: they are computed again, and skipped.
            on_trouble: called once when rows can't be written; they are held back until they can be.
        """
        self._path = path
        self._run = run
        self.rows = rows
        """Number of rows so far, those that are held back included."""
        self._state_cost: dict[str, float] = {}
        """Fields of a step's row: what writing the training state costs."""
        self._written = 0 if path is None else _whole_lines(path)
        self._waiting: list[dict[str, Any]] = []
        self._on_trouble = on_trouble
        self._is_held_back = False

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if kind is None else 1)

    def add(self, row: dict[str, Any]) -> None:
        self.rows += 1
        if self._path is None or self.rows <= self._written:
            return  # written by another process, or before an interruption
        if self._run is not None:
            self._run.log(row, step=row["iter"])
        self._waiting.append(row)
        try:
            self.flush()
        except OSError as error:
            if not self._is_held_back:
                self._on_trouble(f"metrics rows can't be written ({error.strerror}): they are held back until they can")
            self._is_held_back = True

    def add_step(self, row: dict[str, Any]) -> None:
        """Adds the row of an optimizer step, with the latest cost of the training state."""
        self.add(row | self._state_cost)

    def set_state_cost(self, milliseconds: float, share: float) -> None:
        """Args: milliseconds: time to write the last state. share: of the training time, for all states so far."""
        self._state_cost = {"state_ms": milliseconds, "state_share": share}

    def flush(self) -> None:
        """Raises: OSError if rows can't be written; they are tried again with the next one."""
        if self._path is None or not self._waiting:
            return
        try:
            append_lines(self._path, self._waiting)
        except OSError:
            self._written = _whole_lines(self._path)
            del self._waiting[: len(self._waiting) - (self.rows - self._written)]
            raise
        self._written = self.rows
        self._waiting.clear()
        self._is_held_back = False


def _whole_lines(path: Path) -> int:
    """Number of lines in the file, after an incomplete last line was cut off."""
    repair_lines(path)
    return len(read_lines(path))


class Run(NamedTuple):
    run: Any
    """Run of Weights & Biases; None: rows go only to the file."""
    warning: str | None
    """Reason why there is no run, if the config asks for one."""


def wandb_run(config: BakeConfig, *, is_allowed: bool, name: str, folder: Path) -> Run:
    """Starts the run that `config.wandb` asks for. A failure is a warning, never an error.

    Args:
        name: name of the bake, used if the config names neither the run nor its label.
        folder: folder of the run's own files and its id, and of its rows if the service works offline (WANDB_MODE).
            If it holds an id, that run is continued.
    """
    settings = config.wandb
    if not settings.enable:
        return Run(None, None)
    if not is_allowed:
        return Run(None, "wandb.enable has no effect: this service was not started with --wandb on")
    try:
        import wandb
    except ImportError:
        return Run(None, "wandb.enable has no effect: its package is not installed (pip install 'wandb>=0.31')")
    try:
        run = wandb.init(
            project=settings.project,
            name=settings.name or config.model.save_name or name,
            entity=settings.entity,
            tags=settings.tags or None,
            config=msgspec.to_builtins(config),
            dir=folder,
            id=_run_id(folder / WANDB_ID),
            resume="allow",
            settings=wandb.Settings(console="off", init_timeout=WANDB_SECONDS, finish_timeout=WANDB_SECONDS),
        )
    except Exception as error:  # wandb's own, of the network, of its settings: the bake continues without it
        return Run(None, f"wandb.enable has no effect: {type(error).__name__}: {error}")
    return Run(run, None)


def _run_id(file: Path) -> str:
    """The same for all processes and attempts of a bake's training."""
    if not file.exists():
        write_bytes(file, uuid.uuid4().hex.encode())
    return file.read_text()
