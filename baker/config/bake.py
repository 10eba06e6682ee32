"""Settings of bakes: types, defaults and ranges, and older names of fields.

Unknown fields are refused by name. docs/bake-config.md describes every field; `unsupported.py` lists settings that can
be stored but have no effect or prevent a run. The defaults are those that measured best on the embedded model
(benchmarks/README.md).
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar

import msgspec

from baker.config.checkpoint import STATE_SECONDS, CheckpointConfig, PublishConfig
from baker.config.data import DataConfig
from baker.config.merge import MergeConfig
from baker.config.mistakes import Mistake, check, find_mistakes, refusal
from baker.config.model import LoraConfig, ModelConfig
from baker.config.optimizer import OptimizerConfig, SchedulerConfig
from baker.config.overrides import convert
from baker.config.peft import adapter_fields
from baker.config.ranges import NonNegative, Positive, Seed
from baker.config.spellings import BAKERS, misspelling
from baker.names import check_name


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One target of the mix."""

    target: str
    """Name of the target."""
    weight: Annotated[float, msgspec.Meta(ge=0.0, le=1e9)] = 1.0
    """Sampling weight of the target's trajectories; only its ratio to the other weights counts."""


class WandbConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sends the metrics rows to Weights & Biases too, if the operator allows it."""

    enable: bool = False
    """Whether to send them."""
    project: str | None = None
    """Project of the run."""
    name: str | None = None
    """Name of the run; absent: model.save_name, or else the bake's name."""
    entity: str | None = None
    """User or team of the run."""
    tags: list[str] = []
    """Tags of the run."""


IN_PARTS = 3
"""ZeRO stage at which the weights are split among the devices."""


class ZeroConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    stage: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0
    """3: each device holds a part of the base model's weights (FSDP). Lower: each holds a copy of them (DDP)."""


class DeepspeedConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How several devices share a training (`training/setup/placement.py`). DeepSpeed itself is not used."""

    zero_optimization: ZeroConfig = ZeroConfig()


MIN_EPOCHS, MAX_EPOCHS = 2, 8


def epochs_for(rows: int) -> int:
    """Number of epochs over `rows` trajectories if the config sets none: 8 over 53, 4 over 256, 3 over 768.

    Fewer trajectories get more epochs: what counts is the number of steps. See benchmarks/README.md.
    """
    return min(MAX_EPOCHS, max(MIN_EPOCHS, round(70 / math.sqrt(rows))))


class BakeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a bake mixes its targets and trains."""

    other_names: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("rank", "lora_r", "lora_rank"), "model.baked_adapter_config.r"),
        **dict.fromkeys(("alpha", "lora_scale"), "model.baked_adapter_config.lora_alpha"),
        "dropout": "model.baked_adapter_config.lora_dropout",
        **dict.fromkeys(("lr", "peak_lr"), "optimizer.learning_rate"),
        **dict.fromkeys(("batch_size", "per_device_train_batch_size", "train_batch_size"), "micro_batch_size"),
        **dict.fromkeys(("num_epochs", "n_epochs", "num_train_epochs"), "epochs"),
        **dict.fromkeys(("warmup", "num_warmup_steps"), "scheduler.warmup_steps"),
        **dict.fromkeys(("lr_scheduler", "lr_scheduler_type"), "scheduler.type"),
        **dict.fromkeys(("base_model", "parent", "parent_model", "parent_name"), "model.parent_model_name"),
        **dict.fromkeys(("targets", "target_name"), "datasets[].target"),
        **dict.fromkeys(("save_steps", "checkpoint_interval"), "checkpoint[].save_every_n_steps"),
        **dict.fromkeys(("eval_steps", "eval_every"), "eval_interval"),
        **dict.fromkeys(("max_seq_length", "max_seq_len", "max_tokens"), "data.max_length"),
    }
    """Names that other libraries use for what these fields mean, for hints."""

    type: str = "single_baker"
    """Must be `single_baker`."""
    datasets: list[Dataset] = []
    """Targets to mix."""
    epochs: Positive | None = None
    """Number of passes over the mix; absent: 2 to 8, more for fewer trajectories (`epochs_for`)."""
    micro_batch_size: Positive = 2
    """Number of trajectories in one forward pass. Small, since with little data the number of steps counts most."""
    gradient_accumulation_steps: Positive = 1
    """Number of forward passes in one optimizer step."""
    total_trajectories: Positive | None = None
    """Number of trajectories in the mix; absent: as many as the rollouts have."""
    seed: Seed = 42
    """Seed of the adapter's initial weights, the order of the data and the dropout."""
    train_log_iter_interval: Positive = 1
    """Number of optimizer steps between metrics rows."""
    eval_interval: NonNegative | None = None
    """Number of optimizer steps between evaluations; 0: evaluate only before and after training. Absent: about ten
    evaluations, fewer if they would take more than 3 % of the training's time (`training/run/evaluation.py`)."""
    model_name: str | None = None
    """The same as model.parent_model_name; used if that is absent."""
    activation_checkpoint_cpu_offload: bool = False
    """Stored without effect: activations are kept on the device or recomputed, never moved."""
    model: ModelConfig = ModelConfig()
    """The model to start from, and its adapter."""
    data: DataConfig = DataConfig()
    """What the bake learns from, and how student and teacher are compared."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Settings of the optimizer."""
    scheduler: SchedulerConfig = SchedulerConfig()
    """Settings of the learning rate's curve."""
    checkpoint: list[CheckpointConfig] = []
    """When checkpoints are saved, and how an interrupted bake resumes."""
    publish_if: PublishConfig = PublishConfig()
    """Conditions on the result for moving the bake's name to it."""
    message: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None
    """Message of the commits that the bake makes; absent: the bake's name and the step."""
    branch: str | None = None
    """Branch of the repo that the bake begins from, if no parent is named, and that moves to its result."""
    merge: MergeConfig = MergeConfig()
    """Makes the bake a merge."""
    wandb: WandbConfig = WandbConfig()
    """Settings of Weights & Biases."""
    deepspeed: DeepspeedConfig = DeepspeedConfig()
    """How several devices share the training."""

    def __post_init__(self) -> None:
        weighs_nothing = bool(self.datasets) and not sum(dataset.weight for dataset in self.datasets) > 0
        check(
            misspelling("type", self.type, BAKERS),
            Mistake(("datasets",), "the weights sum to 0") if weighs_nothing else None,
            None if self.branch is None else refusal("branch", partial(check_name, self.branch, "branch")),
        )

    @property
    def parent(self) -> str | None:
        """Name of the model to start from, as the client wrote it; None: the repo's base model."""
        return self.model.parent_model_name or self.model_name

    @property
    def moves_at_end(self) -> bool:
        """Whether the bake's name moves to the result only, if that is good enough."""
        return self.publish_if.is_set or self.merge.is_set

    def settled(self, *, is_own_teacher: bool) -> "BakeConfig":
        """The config with `data.teacher` set; if it was absent, `full` if the parent gave all the rollouts' answers
        (`is_own_teacher`), else `top_k`."""
        if self.data.teacher is not None:
            return self
        data = msgspec.structs.replace(self.data, teacher="full" if is_own_teacher else "top_k")
        return msgspec.structs.replace(self, data=data)

    @property
    def resumes(self) -> bool:
        """Whether the training state is written, so that an interrupted bake can resume."""
        return all(checkpoint.auto_resume is not False for checkpoint in self._checkpoints)

    @property
    def state_seconds(self) -> int:
        """Seconds between writes of the training state; 0: after each step."""
        return min((checkpoint.state_every_n_seconds for checkpoint in self._checkpoints), default=STATE_SECONDS)

    @property
    def keeps_state(self) -> bool:
        """Whether the training state is kept when the bake is complete."""
        return any(checkpoint.keep_state for checkpoint in self._checkpoints)

    @property
    def save_total_limit(self) -> int | None:
        """Number of checkpoints to keep; None: all."""
        limits = [checkpoint.save_total_limit for checkpoint in self._checkpoints if checkpoint.save_total_limit]
        return min(limits, default=None)

    @property
    def _checkpoints(self) -> list[CheckpointConfig]:
        return [checkpoint for checkpoint in self.checkpoint if checkpoint.enabled]

    @property
    def weights(self) -> dict[str, float]:
        """Weight by target; a target that is listed twice gets the sum."""
        weights: dict[str, float] = {}
        for dataset in self.datasets:
            weights[dataset.target] = weights.get(dataset.target, 0.0) + dataset.weight
        return weights


def bake_config(
    overrides: dict[str, Any], template: BakeConfig | None = None, *, max_rank: int | None = None
) -> BakeConfig:
    """The effective settings of a bake.

    Args: max_rank: highest rank that the service serves; None: any.
    Raises: ConfigError with every mistake.
    """
    current: dict[str, Any] = _without_nulls(overrides)
    old_names: dict[tuple[str, ...], str] = {}
    mistakes: list[Mistake] = []
    rank_in = "baked_adapter_config"
    if isinstance(model := current.get("model"), dict):
        if _rename(model, "name_or_path", "parent_model_name"):
            old_names["model", "parent_model_name"] = "name_or_path"
        if isinstance(peft := model.get("peft_config"), dict):
            fields = adapter_fields(peft)
            wrong = find_mistakes(fields, LoraConfig)
            mistakes = [Mistake(("model", "peft_config", *path), text) for path, text in wrong]
            adapter = model.setdefault("baked_adapter_config", {})
            if isinstance(adapter, dict):
                right = {name: value for name, value in fields.items() if name not in {path[0] for path, _ in wrong}}
                model["baked_adapter_config"] = right | adapter
                rank_in = "peft_config" if "r" in right and "r" not in adapter else rank_in
    if isinstance(checkpoints := current.get("checkpoint"), list):
        for index, checkpoint in enumerate(checkpoints):
            if isinstance(checkpoint, dict) and _rename(checkpoint, "save_interval", "save_every_n_steps"):
                old_names["checkpoint", str(index), "save_every_n_steps"] = "save_interval"
    if max_rank is not None and (text := _wrong_rank(current, template or BakeConfig(), max_rank)) is not None:
        mistakes.append(Mistake(("model", rank_in, "r"), text))
    return convert(current, template, BakeConfig, old_names=old_names, known=mistakes)


def _wrong_rank(overrides: dict[str, Any], template: BakeConfig, max_rank: int) -> str | None:
    """Why the rank can't be served; None if it can, or if another student's adapter is not served here anyway."""
    model = overrides.get("model")
    given = model if isinstance(model, dict) else {}
    adapter = given.get("baked_adapter_config")
    rank = adapter.get("r") if isinstance(adapter, dict) else None
    effective = template.model.baked_adapter_config.r if rank is None else rank
    is_served = given.get("student_model_path", template.model.student_model_path) is None
    if not is_served or not isinstance(effective, int) or effective <= max_rank:
        return None
    return (
        f"the rank is {effective}, but this service serves ranks up to {max_rank}: lower it, or start the service with "
        "a higher --max-lora-rank"
    )


def _without_nulls(value: Any) -> Any:
    """A deep copy without keys whose value is None: null means "not given", also inside lists of objects."""
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _rename(fields: dict[str, Any], old: str, new: str) -> bool:
    """Rename a key in place; if both are given, the new one wins. Returns: whether the old one's value counts."""
    if old not in fields:
        return False
    value = fields.pop(old)
    return fields.setdefault(new, value) is value
