"""Reads the trajectories of a training, checks them and cuts them to length."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from baker.errors import TrainingError
from baker.training import events
from baker.training.data.batches import cut
from baker.training.events import Emit
from baker.training.spec import TrainSpec
from baker.trajectories.files import load_trajectory
from baker.types import Trajectory


class Rows(NamedTuple):
    rows: list[Trajectory]
    """Trajectories to train on, in the order of the mix."""
    held_out: dict[str, list[Trajectory]]
    """Target -> its held-out trajectories, for targets that have any."""


def read_data(spec: TrainSpec, emit: Emit) -> Rows:
    """Read the spec's trajectories; warnings report what was cut or left out. A file that appears twice is read once.

    Raises: TrainingError if there is nothing to train on, or the teacher's distributions are missing; StageError if a
    file can't be read.
    """
    train = spec.round.train or spec.train
    names = dict.fromkeys(chain(train, *spec.held_out.values()))
    files = {name: load_trajectory(Path(name)) for name in names}
    _check_widths(files, emit)
    limit = spec.config.data.max_length
    train_cut = cut([files[name] for name in train], limit)
    held_out_cuts = {target: cut([files[name] for name in own], limit) for target, own in spec.held_out.items()}
    cuts = [train_cut, *held_out_cuts.values()]
    if shortened := sum(part.shortened for part in cuts):
        emit(events.Warned(f"{shortened} responses were cut to data.max_length ({limit} tokens)"))
    if dropped := sum(part.dropped for part in cuts):
        emit(events.Warned(f"{dropped} trajectories were left out: they have no response, or no room for one"))
    if not train_cut.rows:
        raise TrainingError(f"there is nothing to train on: none of {len(train)} trajectories has a response")
    held_out = {target: part.rows for target, part in held_out_cuts.items() if part.rows}
    if not held_out:
        emit(events.Warned("nothing is held out, so there is no eval_kl: see data.train_eval_split"))
    return Rows(train_cut.rows, held_out)


def _check_widths(files: Mapping[str, Trajectory], emit: Emit) -> None:
    widths = {row.top_ids_TK.shape[1] for row in files.values() if len(row.response_ids)}
    if 0 in widths:
        raise TrainingError("some trajectories hold no teacher distribution: roll out with top log-probabilities")
    if len(widths) > 1:
        emit(
            events.Warned(
                f"trajectories have {min(widths)} to {max(widths)} top tokens per position: each batch uses the "
                "smallest number among its trajectories"
            )
        )


def check_vocabulary(rows: list[Trajectory], vocabulary: int) -> None:
    greatest = max(int(ids.max()) for row in rows for ids in (row.student_ids, row.response_ids, row.top_ids_TK))
    least = min(int(ids.min()) for row in rows for ids in (row.student_ids, row.response_ids, row.top_ids_TK))
    if least < 0 or greatest >= vocabulary:
        raise TrainingError(
            f"trajectories hold token ids from {least} to {greatest}, the base model knows 0 to {vocabulary - 1}: "
            f"they come from another model"
        )
