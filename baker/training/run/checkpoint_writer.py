"""Writes checkpoints: the adapter after a training step in its own folder, with its parity certificate."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from baker.adapters.files import content_hash
from baker.adapters.parity import PARITY_FILE, ParityCertificate, PinnedSequence
from baker.config.checkpoint import CheckpointConfig
from baker.storage.files import new_folder, write_json
from baker.training import events
from baker.training.data.batches import length_of, make_batch, shorten
from baker.training.devices.ranks import ALONE, Ranks
from baker.training.model import lora
from baker.training.model.student import Student
from baker.types import Trajectory

PINNED_SEQUENCES = 4
"""Number of sequences in a certificate."""
PINNED_TOKENS = 24
"""Maximum length of their responses."""


def is_due(configs: Sequence[CheckpointConfig], step: int, steps_per_epoch: int, first_step: int = 0) -> bool:
    """Whether a checkpoint is due after that step. The caller always writes one after the last step.

    Args: first_step: number of steps before epoch 0.
    """
    epoch, rest = divmod(step - first_step, steps_per_epoch)
    for config in configs:
        by_steps, by_epochs = config.save_every_n_steps, config.save_every_n_epochs
        if config.enabled and by_steps and step % by_steps == 0:
            return True
        if config.enabled and by_epochs and rest == 0 and epoch % by_epochs == 0:
            return True
    return False


class CheckpointWriter:
    """Writes `<output>/<step>/`, completely or not at all. Training is not affected, not even its random state."""

    def __init__(
        self,
        attached: lora.Attached,
        student: Student,
        output: Path,
        base_model_name: str,
        rows: Sequence[Trajectory],
        ranks: Ranks = ALONE,
    ) -> None:
        """Args: rows: trajectories that the certificate's sequences are taken from."""
        self._ranks = ranks
        self._model, self._student = attached.model, student
        self._output, self._base_model_name = output, base_model_name
        self._pinned = _pinned(rows)

    def written(self) -> list[events.Saved]:
        """Checkpoints that an earlier process wrote, by step. All processes must call this."""
        return self._ranks.by_first(self._written)

    def _written(self) -> list[events.Saved]:
        folders = sorted(
            (path for path in self._output.glob("*") if path.name.isdigit()), key=lambda path: int(path.name)
        )
        return [events.Saved(int(path.name), content_hash(path)) for path in folders]

    def write(self, step: int, *, is_last: bool = False) -> events.Saved:
        """Write the checkpoint in the first process; all must call this. Raises: OSError; no files are left then."""
        folder = self._output / str(step)
        weights, parity = lora.weights_of(self._model), self._parity()

        def write() -> str:
            with new_folder(folder) as temporary:
                lora.save_adapter(self._model, temporary, self._base_model_name, weights)
                write_json(temporary / PARITY_FILE, parity)
                return content_hash(temporary)

        return events.Saved(step, self._ranks.by_first(write), is_last)

    def remove(self, saved: events.Saved) -> None:
        self._ranks.by_first(lambda: shutil.rmtree(self._output / str(saved.step)))

    def _parity(self) -> ParityCertificate:
        """Log-probabilities of the pinned sequences under the trained model and the base."""
        sequences = []
        for row in self._pinned:
            batch = make_batch([row])
            logprobs = self._student.response_logprobs(batch)
            with self._model.disable_adapter():
                base_logprobs = self._student.response_logprobs(batch)
            sequences.append(
                PinnedSequence(row.student_ids.tolist(), row.response_ids.tolist(), logprobs, base_logprobs)
            )
        return ParityCertificate(sequences, str(self._student.model.dtype).removeprefix("torch."))


def _pinned(rows: Sequence[Trajectory]) -> list[Trajectory]:
    """The shortest rows of different stimuli, cut to `PINNED_TOKENS`."""
    by_stimulus = {row.stimulus: row for row in sorted(rows, key=length_of, reverse=True)}
    chosen = sorted(by_stimulus.values(), key=length_of)[:PINNED_SEQUENCES]
    return [shorten(row, PINNED_TOKENS) for row in chosen]
