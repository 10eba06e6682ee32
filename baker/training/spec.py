"""All that the training process is told."""

import hashlib
from pathlib import Path

import msgspec

from baker.adapters.files import content_hash
from baker.config.bake import BakeConfig


class Round(msgspec.Struct, frozen=True):
    """An on-policy round of a training; number 0 is the training before them, on the teacher's answers."""

    number: int = 0
    first_step: int = 0
    """Steps behind it."""
    taught_steps: int = 0
    """Steps of the training before all rounds, as far as it is behind it."""
    train: list[str] = []
    """What it trains on instead of the mix."""


BEFORE_ROUNDS = Round()


class TrainSpec(msgspec.Struct, frozen=True):
    """A JSON file in the process's working folder.

    Trajectories are named by their files (`baker/artifacts.py`).
    """

    name: str
    """Of the bake, for people: `repo/bake`."""
    base_model: str
    """Folder of the base model, in Hugging Face's format."""
    base_model_name: str
    parent_adapter: str | None
    """Folder of the adapter to continue from."""
    train: list[str]
    """In the order of the mix; a file may appear twice. Rounds train on others."""
    held_out: dict[str, list[str]]
    """By target."""
    output: str
    """Folder of the checkpoints: `<output>/<step>/`."""
    metrics: str
    """JSONL file of the metrics rows."""
    config: BakeConfig
    neutral: list[str] = []
    """The base model's answers to neutral questions, which tell the drift (`neutral.py`); none: it is not told."""
    state: str | None = None
    """Folder of the training states; None: none are kept."""
    resume: str | None = None
    """The state in there to go on from; None: begin anew."""
    round: Round = BEFORE_ROUNDS
    """The part of the training that this process does, and no other."""
    draws_curves: bool = False
    """Whether a PNG of the curves is drawn beside the metrics."""
    allows_wandb: bool = False
    """Whether the operator lets clients send metrics to Weights & Biases."""
    threads: int | None = None
    """CPU threads, of all its processes; None leaves the choice to torch."""
    devices: int = 1
    """Processes that share the work, each with a GPU where there are any."""

    engine_weights: str | None = None
    """File of the handles of the engine's weights, to train on in place of a copy; see `engine_weights.py`."""
    engine_share: float = 0.0
    """Of each GPU's memory, that the engine would give back if it slept."""
    is_engine_asleep: bool = False

    def fingerprint(self) -> str:
        """Of what decides the result, the same in all rounds. The folders of data and results may have moved since."""
        parent = None if self.parent_adapter is None else content_hash(Path(self.parent_adapter))
        held_out = {target: [_short(file) for file in files] for target, files in self.held_out.items()}
        config = msgspec.to_builtins(self.config)
        del config["publish_if"]  # it decides what becomes of the result, as a plain config of before it had it
        what = (self.base_model_name, parent, [_short(file) for file in self.train], held_out, config)
        return hashlib.sha256(msgspec.json.encode(what)).hexdigest()


def _short(file: str) -> str:
    """`target/trajectory.safetensors`"""
    return "/".join(Path(file).parts[-2:])
