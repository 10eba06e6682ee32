"""Settings of bakes: types, defaults, ranges, and the older and foreign spellings that are understood.

A field that is not here is refused by name. What becomes of each one is in docs/bake-config.md; what can be stored but
not done here is in `bake_limits.py`. The defaults are the ones that measured best on the embedded model
(benchmarks/README.md).
"""

import math
from typing import Annotated, Any

import msgspec

from baker.config.checkpoint import STATE_SECONDS, CheckpointConfig, PublishConfig
from baker.config.data import DataConfig
from baker.config.model import LoraConfig, ModelConfig
from baker.config.optimizer import OptimizerConfig, SchedulerConfig
from baker.config.overrides import config_error, convert
from baker.config.peft import adapter_fields
from baker.config.ranges import NonNegative, Positive, Seed
from baker.config.spellings import BAKERS, meaning


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    target: str
    weight: Annotated[float, msgspec.Meta(ge=0.0, le=1e9)] = 1.0
    """Relative share of this target in the mix."""


class WandbConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to send the metrics rows besides, if the operator allows it."""

    enable: bool = False
    project: str | None = None
    name: str | None = None
    """Of the run; absent: model.save_name, else the bake's."""
    entity: str | None = None
    tags: list[str] = []


IN_PARTS = 3
"""The stage that parts the weights among the devices."""


class ZeroConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    stage: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0


class DeepspeedConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How several devices share the work of one, see `placement.py`."""

    zero_optimization: ZeroConfig = ZeroConfig()


MIN_EPOCHS, MAX_EPOCHS = 2, 8


def epochs_for(rows: int) -> int:
    """The passes over so many trajectories where the config names no number: 8 over 53, 4 over 256, 3 over 768.

    The fewer there are, the more passes: in steps, more of either helps. See benchmarks/README.md.
    """
    return min(MAX_EPOCHS, max(MIN_EPOCHS, round(70 / math.sqrt(rows))))


class BakeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a bake mixes its targets and trains."""

    type: str = "single_baker"
    datasets: list[Dataset] = []
    epochs: Positive | None = None
    """Passes over the mix; absent: as `epochs_for` says."""
    micro_batch_size: Positive = 2
    """Trajectories in one forward pass. Small: with little data the number of steps counts most."""
    gradient_accumulation_steps: Positive = 1
    """Forward passes in one optimizer step."""
    total_trajectories: Positive | None = None
    """Trajectories of the mix; absent: as many as there are."""
    seed: Seed = 42
    train_log_iter_interval: Positive = 1
    eval_interval: NonNegative = 0
    """Steps between evaluations; 0 evaluates before and after."""
    model_name: str | None = None
    """Read where model.parent_model_name is absent."""
    activation_checkpoint_cpu_offload: bool = False
    """Stored: activations that are kept stay where they are."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    checkpoint: list[CheckpointConfig] = []
    publish_if: PublishConfig = PublishConfig()
    wandb: WandbConfig = WandbConfig()
    deepspeed: DeepspeedConfig = DeepspeedConfig()

    def __post_init__(self) -> None:
        meaning("type", self.type, BAKERS)
        if self.datasets and not sum(dataset.weight for dataset in self.datasets) > 0:
            raise ValueError("datasets: the weights sum to 0")

    @property
    def parent(self) -> str | None:
        """The model to start from, as the client spelled it; None: the repo's base model."""
        return self.model.parent_model_name or self.model_name

    def settled(self, *, is_own_teacher: bool) -> "BakeConfig":
        """The config with a `data.teacher`: `full` where it has none and all answers are of the model that learns."""
        if self.data.teacher is not None:
            return self
        data = msgspec.structs.replace(self.data, teacher="full" if is_own_teacher else "top_k")
        return msgspec.structs.replace(self, data=data)

    @property
    def resumes(self) -> bool:
        """Whether training state is kept, to go on from after an interruption."""
        return all(checkpoint.auto_resume is not False for checkpoint in self._checkpoints)

    @property
    def state_seconds(self) -> int:
        """Between two training states; 0: one after each step."""
        return min((checkpoint.state_every_n_seconds for checkpoint in self._checkpoints), default=STATE_SECONDS)

    @property
    def keeps_state(self) -> bool:
        return any(checkpoint.keep_state for checkpoint in self._checkpoints)

    @property
    def save_total_limit(self) -> int | None:
        """Checkpoints to keep; None: all."""
        limits = [checkpoint.save_total_limit for checkpoint in self._checkpoints if checkpoint.save_total_limit]
        return min(limits, default=None)

    @property
    def _checkpoints(self) -> list[CheckpointConfig]:
        return [checkpoint for checkpoint in self.checkpoint if checkpoint.enabled]

    @property
    def weights(self) -> dict[str, float]:
        """Target -> weight; a target that is named twice has the sum."""
        weights: dict[str, float] = {}
        for dataset in self.datasets:
            weights[dataset.target] = weights.get(dataset.target, 0.0) + dataset.weight
        return weights


def bake_config(overrides: dict[str, Any], template: BakeConfig | None = None) -> BakeConfig:
    """The effective settings of a bake. Raises: ConfigError naming the field and the value."""
    return convert(_current(overrides), template, BakeConfig)


def _current(overrides: dict[str, Any]) -> dict[str, Any]:
    """`overrides` with old names renamed, and with what peft_config says moved to where it takes effect."""
    current: dict[str, Any] = _given(overrides)
    if isinstance(model := current.get("model"), dict):
        _rename(model, "name_or_path", "parent_model_name")
        if isinstance(peft := model.get("peft_config"), dict):
            adapter = model.setdefault("baked_adapter_config", {})
            if isinstance(adapter, dict):
                model["baked_adapter_config"] = _adapter_settings(peft) | adapter
    if isinstance(checkpoints := current.get("checkpoint"), list):
        for checkpoint in checkpoints:
            if isinstance(checkpoint, dict):
                _rename(checkpoint, "save_interval", "save_every_n_steps")
    return current


def _given(value: Any) -> Any:
    """A copy without the keys whose value is None: that is "not given", in lists of objects too."""
    if isinstance(value, dict):
        return {key: _given(inner) for key, inner in value.items() if inner is not None}
    return [_given(inner) for inner in value] if isinstance(value, list) else value


def _rename(fields: dict[str, Any], old: str, new: str) -> None:
    """The new name wins where both are given."""
    if old in fields:
        value = fields.pop(old)
        fields.setdefault(new, value)


def _adapter_settings(peft_config: dict[str, Any]) -> dict[str, Any]:
    fields = adapter_fields(peft_config)
    try:
        msgspec.convert(fields, LoraConfig)
    except msgspec.ValidationError as error:
        raise config_error(error, ("body", "overrides", "model", "peft_config"), fields) from error
    return fields
