"""The metrics rows of a bake: a JSONL file, and Weights & Biases where the client asks and the operator allows.

The only file that imports wandb, which is an optional extra: nothing that goes wrong with it ends a bake.
"""

import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from baker.config.bake import BakeConfig
from baker.storage.files import append_lines, read_lines, repair_lines, write_bytes

WANDB_SECONDS = 60
"""Longest wait for its servers, at the start and at the end: a bake takes minutes."""


class Metrics:
    """Where rows go. Each has `iter`, the optimizer steps so far, which never falls."""

    def __init__(
        self,
        path: Path | None,
        run: Any = None,
        rows: int = 0,
        on_trouble: Callable[[str], None] = lambda message: None,
    ) -> None:
        """
        Args:
            path: None: nothing is written, since another process does.
            run: of Weights & Biases; it ends when this is left.
            rows: that a training has behind it which goes on here. What `path` holds beyond them, it had written
                before it was interrupted: those rows come again, and are read over.
            on_trouble: told, once, that rows can't be written; they wait for a better time.
        """
        self._path = path
        self._run = run
        self.rows = rows
        """So many, the file's and those that wait for it."""
        self.costs: dict[str, float] = {}
        """What a row of a step says besides: see `keeper.py`."""
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
            return
        if self._run is not None:
            self._run.log(row, step=row["iter"])
        self._waiting.append(row)
        try:
            self.flush()
        except OSError as error:
            if not self._is_held_back:
                self._on_trouble(f"metrics rows can't be written ({error.strerror}): they are held back until they can")
            self._is_held_back = True

    def flush(self) -> None:
        """Raises: OSError while rows can't be written; they are tried again with the next one."""
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
    """So many lines the file has, without a torn last one, which is cut off."""
    repair_lines(path)
    return len(read_lines(path))


class Run(NamedTuple):
    run: Any
    """None: rows go to the file alone."""
    warning: str | None
    """Why so, if a run was asked for."""


def wandb_run(config: BakeConfig, *, is_allowed: bool, name: str, folder: Path) -> Run:
    """Begin the run that `config.wandb` asks for.

    Args:
        name: of the bake, for a run that the config gives no name.
        folder: for the run's own files and its id, and for its rows if the service works offline (WANDB_MODE).
            Where it has an id already, that run goes on.
    """
    wanted = config.wandb
    if not wanted.enable:
        return Run(None, None)
    if not is_allowed:
        return Run(None, "wandb.enable has no effect: this service is not started with --wandb on")
    try:
        import wandb
    except ImportError:
        return Run(None, "wandb.enable has no effect: the service lacks its package, pip install 'wandb>=0.31'")
    try:
        run = wandb.init(
            project=wanted.project,
            name=wanted.name or config.model.save_name or name,
            entity=wanted.entity,
            tags=wanted.tags or None,
            config=msgspec.to_builtins(config),
            dir=folder,
            id=_run_id(folder / "wandb-id"),
            resume="allow",
            settings=wandb.Settings(console="off", init_timeout=WANDB_SECONDS, finish_timeout=WANDB_SECONDS),
        )
    except Exception as error:  # its own family, the network's, its settings': the bake goes on without
        return Run(None, f"wandb.enable has no effect: {type(error).__name__}: {error}")
    return Run(run, None)


def _run_id(file: Path) -> str:
    """The same for all that a bake's training takes."""
    if not file.exists():
        write_bytes(file, uuid.uuid4().hex.encode())
    return file.read_text()
