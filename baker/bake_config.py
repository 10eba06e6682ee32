"""Settings of bakes: types, defaults, ranges, and the older and foreign spellings that are understood.

A field that is not here is refused by name. What becomes of each one is in docs/bake-config.md; what can be stored but
not done here is in `bake_limits.py`. The defaults are the ones that measured best on the embedded model
(benchmarks/README.md).
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec

from baker.config import config_error, convert
from baker.names import check_name
from baker.peft_config import adapter_fields, check_peft_config
from baker.ranges import NonNegative, Positive, Seed
from baker.status import Loss

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]

BAKERS = {"single_baker": "single_baker"}
MODEL_FACTORIES = {"bake": "bake"}
TEACHERS = {"top_k": "top_k", "full": "full"}
SOURCE_TYPES = {"bake_jsonl": "bake_jsonl"}
CHECKPOINT_ENGINES = {"huggingface": "huggingface"}
BIASES = {"none": "none"}
"""The engine serves no adapter with biases."""
CACHE_FILE_SYSTEMS = {name: name for name in ("auto", "local", "shared")}
DTYPES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp32": "float32",
    **{name: name for name in ("bfloat16", "float16", "float32")},
}
OPTIMIZERS = dict.fromkeys(
    ("adamw", "adam", "adamw_torch", "adamw_torch_fused", "fused_adam", "fusedadam", "cpu_adam", "huggingface"), "adamw"
)
Curve = Literal["linear", "cosine", "constant"]
_CURVES: tuple[Curve, ...] = get_args(Curve)
SCHEDULES: dict[str, Curve] = {
    **{name: name for name in _CURVES},
    **{f"{name}_with_warmup": name for name in _CURVES},
    **{f"get_{name}_schedule_with_warmup": name for name in _CURVES},
    "huggingface": "linear",
}
"""All of them warm up, by `warmup_steps`."""

Meaning = TypeVar("Meaning", bound=str)


def _meaning(field: str, value: str, spellings: Mapping[str, Meaning]) -> Meaning:
    """What `value` stands for, whatever its case and its dashes. Raises: ValueError listing what there is."""
    meaning = spellings.get(value.strip().lower().replace("-", "_"))
    if meaning is None:
        raise ValueError(f"{field} {value!r} is not known here; there is {', '.join(spellings)}")
    return meaning


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    target: str
    weight: Annotated[float, msgspec.Meta(ge=0.0, le=1e9)] = 1.0
    """Relative share of this target in the mix."""


class LoraConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    r: Positive = 16
    """Inner dimension (rank) of the update B @ A; at most the engine's max_lora_rank."""
    lora_alpha: Annotated[float, msgspec.Meta(gt=0.0)] = 16
    """The update is scaled by lora_alpha / r (LoRA, arXiv:2106.09685)."""
    lora_dropout: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    bias: str = "none"
    target_modules: str | list[str] = "all-linear"
    """`all-linear` (attention and MLP, never embeddings or lm_head), a list or a comma list of module names, or a
    regular expression that whole module names match."""

    def __post_init__(self) -> None:
        _meaning("bias", self.bias, BIASES)
        if isinstance(self.target_modules, str):
            try:
                re.compile(self.target_modules)
            except re.error as error:
                raise ValueError(
                    f"target_modules {self.target_modules!r} is neither a comma list nor a regular expression: {error}"
                ) from error


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "bake"
    parent_model_name: str | None = None
    """Base model or bake to start from; absent: the repo's base model."""
    baked_adapter_config: LoraConfig = LoraConfig()
    dtype: str | None = None
    """What the base computes in while training; absent: by device. Adapter weights are float32 in any case."""
    attn_implementation: str = "sdpa"
    disable_activation_checkpoint: bool = False
    """Never compute activations again, not even where they would not fit (`memory.py`)."""
    peft_config: dict[str, Any] | None = None
    """Raw PEFT settings: they give what baked_adapter_config does not."""
    save_name: str | None = None
    """A label of the result."""
    student_model_path: str | None = None
    """Another model with the same vocabulary as student, by its name in the service's models folder."""
    adapter_paths: list[str] | None = None
    """[old] Ignored."""
    parent_peft_dir: str | None = None
    """[old] Ignored."""

    def __post_init__(self) -> None:
        _meaning("type", self.type, MODEL_FACTORIES)
        if self.dtype is not None:
            _meaning("dtype", self.dtype, DTYPES)
        if self.peft_config is not None:
            check_peft_config(self.peft_config)
        if self.save_name is not None:
            check_name(self.save_name, "save")

    @property
    def torch_dtype(self) -> str | None:
        """torch's name of `dtype`."""
        return None if self.dtype is None else _meaning("dtype", self.dtype, DTYPES)


class DataSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of a file: stored, and not trained on here."""

    type: str = "bake_jsonl"
    name_or_path: str | None = None
    split: str | None = None
    """Absent: `train` for sources, `eval` for eval_sources."""
    max_samples: Annotated[int, msgspec.Meta(ge=-1)] = -1
    """-1 is all."""
    sample_ratio: Share | None = None
    sample_count: NonNegative | None = None
    sample_seed: Seed = 42
    process: bool = True

    def __post_init__(self) -> None:
        _meaning("type", self.type, SOURCE_TYPES)


class OnPolicyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Training that goes on, after the teacher's answers, on the student's own, which the teacher judges.

    Source: on-policy distillation, arXiv:2306.13649.
    """

    rounds: NonNegative = 0
    """0: none. In each, the student as it then is answers anew."""
    trajectories: Positive | None = None
    """Answers of a round; absent: as many as the mix has rows."""
    share: Annotated[float, msgspec.Meta(gt=0.0, le=1.0)] = 1.0
    """Of them among the rows that a round trains on; the others are the teacher's answers."""
    epochs: Positive = 1
    """Passes over a round's rows."""
    temperature: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    """At which the student answers."""
    max_tokens: Positive | None = None
    """Of an answer; absent: as many as the longest of the teacher's."""

    def rows(self, mix_rows: int) -> tuple[int, int]:
        """Of a round: how many the student answers, and how many the teacher did, of a mix of so many rows."""
        own = self.trajectories or mix_rows
        return own, round(own * (1.0 - self.share) / self.share)


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "single_baker"
    sources: list[DataSource] = []
    eval_sources: list[DataSource] = []
    beta: Share | None = None
    """Which divergence is trained, see `losses.Measure`; absent or 0: the forward KL."""
    temperature: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    """Of teacher and student alike, in the loss."""
    teacher: str | None = None
    """`top_k`: the distribution that the rollout kept; `full`: the trainer computes the whole of it, from the bake's
    parent (or the base) under the teacher's context. Absent: see `BakeConfig.settled`."""
    hidden_weight: Annotated[float, msgspec.Meta(ge=0.0)] = 150.0
    """With the full teacher: what the middle layers' distance from it counts beside the divergence, see
    `Student.lesson`."""
    on_policy: OnPolicyConfig = OnPolicyConfig()
    max_length: Positive | None = None
    """Longest trajectory, in tokens of student context and response; longer responses are cut, with a warning."""
    train_eval_split: tuple[float, float] = (0.9, 0.1)
    """Shares of the stimuli; the second is held out and gives eval_kl."""
    seed: Seed | None = None
    """Of the split and the mix; absent: the bake's seed."""
    dl_num_workers: NonNegative = 0
    """Stored, as all that follow: the rows of a bake are in memory."""
    num_proc: NonNegative = 1
    cache_dir: str | None = None
    cache_fs_type: str | None = None
    use_data_cache: bool | None = None

    def __post_init__(self) -> None:
        _meaning("type", self.type, BAKERS)
        if self.teacher is not None:
            _meaning("teacher", self.teacher, TEACHERS)
        if self.cache_fs_type is not None:
            _meaning("cache_fs_type", self.cache_fs_type, CACHE_FILE_SYSTEMS)
        train, held_out = self.train_eval_split
        if min(train, held_out) < 0 or train <= 0 or abs(train + held_out - 1.0) > 1e-6:
            raise ValueError(f"train_eval_split must be two shares that sum to 1.0, got {[train, held_out]}")

    @property
    def has_full_teacher(self) -> bool:
        return self.teacher is not None and _meaning("teacher", self.teacher, TEACHERS) == "full"

    @property
    def has_other_teacher(self) -> bool:
        """Whether the bake's parent teaches too, and not only who answered in the rollout."""
        return self.has_full_teacher or self.on_policy.rounds > 0


class OptimizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "adamw"
    learning_rate: Annotated[float, msgspec.Meta(gt=0.0)] = 1e-3
    weight_decay: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        _meaning("type", self.type, OPTIMIZERS)
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), got {list(self.betas)}")


class SchedulerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str = "linear"
    warmup_steps: NonNegative = 3
    lr: float | None = None

    def __post_init__(self) -> None:
        _meaning("type", self.type, SCHEDULES)
        if self.lr is not None:
            raise ValueError(f"lr is no longer read, and {self.lr:g} was given: set optimizer.learning_rate")

    @property
    def curve(self) -> Curve:
        """What the learning rate does after the warmup."""
        return _meaning("type", self.type, SCHEDULES)


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


STATE_SECONDS = 30


class CheckpointConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a checkpoint is written besides the last one, which always is, and what an interruption costs."""

    type: str = "huggingface"
    output_dir: str | None = None
    """Stored, never written to: checkpoints are in the service's own folder."""
    enabled: bool = True
    auto_resume: bool | None = None
    """Whether an interrupted bake goes on from its last training state (absent: it does) or starts over."""
    save_every_n_steps: NonNegative = 0
    """0 is off."""
    save_every_n_epochs: NonNegative = 0
    save_end_of_training: bool = False
    """Stored: that is always done."""
    save_total_limit: NonNegative = 0
    """So many checkpoints are kept, the last one among them, and older ones go; 0: all."""
    state_every_n_seconds: NonNegative = STATE_SECONDS
    """Longest piece of training that an interruption may cost; 0: a step."""
    keep_state: bool = False
    """Whether the training state outlives the training."""

    def __post_init__(self) -> None:
        _meaning("type", self.type, CHECKPOINT_ENGINES)


class PublishConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the result must show before the bake's name moves to it; nothing by default."""

    min_recovered: Share | None = None
    """Least share of the prompt's effect on held-out stimuli."""
    max_drift: Annotated[float, msgspec.Meta(ge=0.0)] | None = None
    """Most KL(base || baked) on neutral questions, in nats per token."""

    @property
    def asks(self) -> bool:
        return self.min_recovered is not None or self.max_drift is not None

    def complaint(self, loss: Loss) -> str | None:
        """Why the result is to be held back; None if it is not. What could not be measured is not shown."""
        complaints = []
        if self.min_recovered is not None and (loss.recovered is None or not loss.recovered >= self.min_recovered):
            found = "is not known" if loss.recovered is None else f"{loss.recovered:.4g}"
            complaints.append(f"recovered {found}, publish_if.min_recovered {self.min_recovered:g}")
        if self.max_drift is not None and (loss.drift is None or not loss.drift <= self.max_drift):
            found = "is not known" if loss.drift is None else f"{loss.drift:.4g} nats per token"
            complaints.append(f"drift {found}, publish_if.max_drift {self.max_drift:g}")
        return "; ".join(complaints) or None


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
        _meaning("type", self.type, BAKERS)
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
