"""Settings of targets and bakes: types, defaults, ranges, and how overrides are laid over a template.

A field that is not here is refused by name. The defaults are the ones that measured best on the embedded model
(benchmarks/README.md).
"""

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from baker.errors import ConfigError

Positive = Annotated[int, msgspec.Meta(ge=1)]
NonNegative = Annotated[int, msgspec.Meta(ge=0)]
Temperature = Annotated[float, msgspec.Meta(ge=0.0, le=2.0)]


class Hardcoded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="hardcoded"):
    """The questions as they stand."""

    questions: list[str] = []
    numq: Positive | None = None
    """Take only the first so many."""


class OneshotQs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="oneshot_qs"):
    """A language model is asked for questions that bring the teacher prompt out."""

    model: str | None = None
    """An Anthropic model, or a model served here; absent: the served base model."""
    numq: Positive = 10
    temperature: Temperature = 1.0
    max_tokens: Positive | None = None


Generator = Hardcoded | OneshotQs

RESERVED_KWARGS = ("model", "messages", "stream")


class TargetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is baked: the prompts, the questions, and how the teacher answers them."""

    teacher_prompt: str | None = None
    """Name of the prompt that is baked in; "" is no prompt at all."""
    student_prompt: str | None = None
    """Name of the prompt under which the baked model shall behave so; "" is no prompt at all."""
    generators: list[Generator] = []
    model_name: str | None = None
    """Who answers; absent: the repo's base model."""
    num_traj_per_stimulus: Positive = 1
    temperature: Temperature = 1.0
    max_tokens: Positive = 1024
    """Tokens of an answer; cut down to what the context window leaves."""
    max_concurrency: Positive = 10
    extra_kwargs: dict[str, Any] = {}
    """More sampling settings by OpenAI's names."""

    def __post_init__(self) -> None:
        for key in RESERVED_KWARGS:
            if key in self.extra_kwargs:
                raise ValueError(f"extra_kwargs must not set {key!r}")


class Dataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    target: str
    weight: Annotated[float, msgspec.Meta(ge=0.0)] = 1.0
    """Relative share of this target in the mix."""


class LoraConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    r: Positive = 16
    """Inner dimension (rank) of the update B @ A; at most the engine's max_lora_rank."""
    lora_alpha: Annotated[float, msgspec.Meta(gt=0.0)] = 16
    """The update is scaled by lora_alpha / r (LoRA, arXiv:2106.09685)."""
    lora_dropout: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)] = 0.0
    bias: Literal["none"] = "none"
    """The engine serves no adapter with biases."""
    target_modules: str | list[str] = "all-linear"
    """`all-linear` (attention and MLP, never embeddings or lm_head), a comma list, or a list of module names."""


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["bake"] = "bake"
    parent_model_name: str | None = None
    """Base model or bake to start from; absent: the repo's base model."""
    baked_adapter_config: LoraConfig = LoraConfig()


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["single_baker"] = "single_baker"
    max_length: Positive | None = None
    """Longest trajectory, in tokens of student context and response; longer responses are cut, with a warning."""
    train_eval_split: tuple[float, float] = (0.9, 0.1)
    """Shares of the stimuli; the second is held out and gives eval_kl."""
    seed: int | None = None
    """Of the split and the mix; absent: the bake's seed."""

    def __post_init__(self) -> None:
        train, held_out = self.train_eval_split
        if min(train, held_out) < 0 or train <= 0 or abs(train + held_out - 1.0) > 1e-6:
            raise ValueError(f"train_eval_split must be two shares that sum to 1.0, got {[train, held_out]}")


class OptimizerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["adamw"] = "adamw"
    learning_rate: Annotated[float, msgspec.Meta(gt=0.0)] = 1e-3
    weight_decay: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: Annotated[float, msgspec.Meta(gt=0.0)] = 1.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        if not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), got {list(self.betas)}")


class SchedulerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["linear", "cosine", "constant"] = "linear"
    """What the learning rate does after the warmup."""
    warmup_steps: NonNegative = 3


TRAJECTORY_PASSES = 288
MIN_EPOCHS, MAX_EPOCHS = 2, 8
"""Few trajectories need many passes: of 53, 6 epochs recovered 0.75 and 3 epochs 0.70; of 256, 2 epochs 0.78."""


def epochs_for(rows: int) -> int:
    """The passes over so many trajectories where the config names no number."""
    return min(MAX_EPOCHS, max(MIN_EPOCHS, round(TRAJECTORY_PASSES / rows)))


class BakeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a bake mixes its targets and trains."""

    type: Literal["single_baker"] = "single_baker"
    datasets: list[Dataset] = []
    epochs: Positive | None = None
    """Passes over the mix; absent: as many as make about TRAJECTORY_PASSES, see `epochs_for`."""
    micro_batch_size: Positive = 2
    """Trajectories in one forward pass. Small: with little data the number of steps counts most."""
    gradient_accumulation_steps: Positive = 1
    """Forward passes in one optimizer step."""
    total_trajectories: Positive | None = None
    """Trajectories of the mix; absent: as many as there are."""
    seed: int = 42
    train_log_iter_interval: Positive = 1
    eval_interval: NonNegative = 0
    """Steps between evaluations; 0 evaluates before and after."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    scheduler: SchedulerConfig = SchedulerConfig()

    def __post_init__(self) -> None:
        if self.datasets and not sum(dataset.weight for dataset in self.datasets) > 0:
            raise ValueError("datasets: the weights sum to 0")


class TrainSpec(msgspec.Struct, frozen=True):
    """All that the training process is told; a JSON file in its working folder.

    Trajectories are named by their files (`baker/artifacts.py`), in the order of the mix; a file may appear twice.
    """

    base_model: str
    """Folder of the base model, in Hugging Face's format."""
    base_model_name: str
    parent_adapter: str | None
    """Folder of the adapter to continue from."""
    train: list[str]
    held_out: list[str]
    output: str
    """Folder of the checkpoints: `<output>/<step>/`."""
    metrics: str
    """JSONL file of the metrics rows."""
    config: BakeConfig
    threads: int | None = None
    """CPU threads; None leaves the choice to torch."""


Config = TypeVar("Config", TargetConfig, BakeConfig)


def merge(template: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`overrides` laid over `template`: objects key by key and deeply, all else replaced; None is "not given"."""
    merged = dict(template)
    for key, value in overrides.items():
        if value is None:
            continue
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = merge(below, value)
        elif isinstance(value, dict):
            merged[key] = merge({}, value)
        else:
            merged[key] = value
    return merged


def target_config(overrides: dict[str, Any], template: TargetConfig | None = None) -> TargetConfig:
    """The effective settings of a target. Raises: ConfigError naming the field and the value."""
    renamed = dict(overrides)
    for old, new in (("u", "teacher_prompt"), ("v", "student_prompt")):
        value = renamed.pop(old, None)
        if value is not None and renamed.get(new) is None:
            renamed[new] = value
    return _convert(renamed, template, TargetConfig)


def bake_config(overrides: dict[str, Any], template: BakeConfig | None = None) -> BakeConfig:
    """The effective settings of a bake. Raises: ConfigError naming the field and the value."""
    return _convert(overrides, template, BakeConfig)


def _convert(overrides: dict[str, Any], template: Config | None, kind: type[Config]) -> Config:
    below = {} if template is None else msgspec.to_builtins(template)
    try:
        return msgspec.convert(merge(below, overrides), kind)
    except msgspec.ValidationError as error:
        raise config_error(error, ("body", "overrides")) from error


def config_error(error: msgspec.ValidationError, root: tuple[str, ...]) -> ConfigError:
    """msgspec's complaint with the field's path first, as our clients expect it."""
    text, _, path = str(error).partition(" - at `$")
    fields = [part for part in path.rstrip("`").replace("[", ".").replace("]", "").split(".") if part]
    where = ".".join((*root[1:], *fields))
    return ConfigError(
        f"{where}: {text}" if where else text,
        detail=[{"loc": [*root, *fields], "msg": text, "type": "value_error"}],
    )
