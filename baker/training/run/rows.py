"""The trajectories of a training: read, checked, and cut to length."""

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
    held_out: dict[str, list[Trajectory]]
    """Of each target that has some."""


def read_data(spec: TrainSpec, emit: Emit) -> Rows:
    """The trajectories, cut to length; what was cut is reported. A file that appears twice is read once."""
    train = spec.round.train or spec.train
    names = dict.fromkeys(chain(train, *spec.held_out.values()))
    files = {name: load_trajectory(Path(name)) for name in names}
    _check_widths(files, emit)
    limit = spec.config.data.max_length
    train_cut = cut([files[name] for name in train], limit)
    held_out_cuts = {target: cut([files[name] for name in own], limit) for target, own in spec.held_out.items()}
    cuts = [train_cut, *held_out_cuts.values()]
    if shortened := sum(made.shortened for made in cuts):
        emit(events.Warned(f"{shortened} responses were cut to data.max_length ({limit} tokens)"))
    if dropped := sum(made.dropped for made in cuts):
        emit(events.Warned(f"{dropped} trajectories have no response, or no room for one, and were left out"))
    if not train_cut.rows:
        raise TrainingError(f"there is nothing to train on: {len(train)} trajectories, none with a response")
    held_out = {target: made.rows for target, made in held_out_cuts.items() if made.rows}
    if not held_out:
        emit(events.Warned("nothing is held out, so there is no eval_kl: see data.train_eval_split"))
    return Rows(train_cut.rows, held_out)


def _check_widths(files: Mapping[str, Trajectory], emit: Emit) -> None:
    widths = {row.top_ids_TK.shape[1] for row in files.values() if len(row.response_ids)}
    if 0 in widths:
        raise TrainingError("some trajectories hold no teacher distribution: roll out with top log-probabilities")
    if len(widths) > 1:
        emit(events.Warned(f"trajectories keep {min(widths)} to {max(widths)} top tokens: each batch uses its fewest"))


def check_vocabulary(rows: list[Trajectory], vocabulary: int) -> None:
    greatest = max(int(ids.max()) for row in rows for ids in (row.student_ids, row.response_ids, row.top_ids_TK))
    least = min(int(ids.min()) for row in rows for ids in (row.student_ids, row.response_ids, row.top_ids_TK))
    if least < 0 or greatest >= vocabulary:
        raise TrainingError(
            f"trajectories hold token ids from {least} to {greatest}, the base model knows 0 to {vocabulary - 1}: "
            f"they come from another model"
        )
