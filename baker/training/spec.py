"""The input of a training process: one JSON file."""

import hashlib
from pathlib import Path

import msgspec

from baker.adapters.files import content_hash
from baker.config.bake import BakeConfig
from baker.errors import TrainingError


class Round(msgspec.Struct, frozen=True):
    """An on-policy round of a training; number 0 is the training before the rounds, on the teacher's answers."""

    number: int = 0
    first_step: int = 0
    """Number of optimizer steps before this round."""
    taught_steps: int = 0
    """Number of optimizer steps before the first round; 0 in round 0."""
    train: list[str] = []
    """Files of the trajectories to train on; empty in round 0, which trains on the mix."""


BEFORE_ROUNDS = Round()


class TrainSpec(msgspec.Struct, frozen=True):
    """Trajectories are given as paths of their files (`trajectories/files.py`)."""

    name: str
    """`repo/bake`, for curves and metrics."""
    base_model: str
    """Folder of the base model, in Hugging Face's format."""
    base_model_name: str
    """Name of the base model, as adapters are to record it."""
    parent_adapter: str | None
    """Folder of the adapter to continue from."""
    train: list[str]
    """Files of the mix, in its order; a file may appear twice. On-policy rounds train on `round.train` instead."""
    held_out: dict[str, list[str]]
    """Target -> files of its held-out trajectories."""
    output: str
    """Folder of the checkpoints: `<output>/<step>/`."""
    metrics: str
    """JSONL file of the metrics rows."""
    config: BakeConfig
    neutral: list[str] = []
    """Files of the base model's answers to neutral questions, which measure the drift (`trajectories/neutral.py`).
    Empty: the drift is not measured."""
    state: str | None = None
    """Folder of the training states; None: none are stored."""
    resume: str | None = None
    """Folder of the state to resume from; None: start at step 0."""
    round: Round = BEFORE_ROUNDS
    """The part of the training that this process does."""
    draws_curves: bool = False
    """Whether a PNG of the curves is drawn beside the metrics."""
    allows_wandb: bool = False
    """Whether the operator lets clients send metrics to Weights & Biases."""
    threads: int | None = None
    """Number of CPU threads of all its processes together; None: torch decides."""
    devices: int = 1
    """Number of processes that share the work, each with its own GPU if there are any."""

    engine_weights: str | None = None
    """File with the handles of the engine's weights, to train on them and not on a copy: see `engine_weights.py`."""
    engine_share: float = 0.0
    """Share of each GPU's memory that the engine would free if it slept."""
    is_engine_asleep: bool = False

    is_untrained: bool = False
    """Whether the parent's adapter is only evaluated, and written with its parity certificate as checkpoint 0."""

    def untrained(self, output: Path) -> "TrainSpec":
        """The spec of a process that evaluates the parent's adapter, and writes it with a certificate as `<output>/0`.

        Raises: TrainingError if there are no rows to do that on.
        """
        train = self.train or self.neutral
        if not train:
            raise TrainingError("there are no rows to prove the merge on: the base model answers no neutral questions")
        return msgspec.structs.replace(
            self, train=train, output=str(output), state=None, draws_curves=False, is_untrained=True
        )

    def fingerprint(self) -> str:
        """Hash of everything that decides the result, the same in all rounds. Only the last two parts of a trajectory's
        path count: the folders may have moved since."""
        parent = None if self.parent_adapter is None else content_hash(Path(self.parent_adapter))
        held_out = {target: [_short(file) for file in files] for target, files in self.held_out.items()}
        config = msgspec.to_builtins(self.config)
        for name in ("publish_if", "merge"):  # don't change the training; states of older versions lack them
            del config[name]
        parts = (self.base_model_name, parent, [_short(file) for file in self.train], held_out, config)
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _short(file: str) -> str:
    """`target/trajectory.safetensors`"""
    return "/".join(Path(file).parts[-2:])
