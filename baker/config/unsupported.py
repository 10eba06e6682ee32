"""Settings of bakes that are not supported: refused if that would change the result, otherwise warned about.

Only what can be judged from the settings; the training process warns about what depends on the machine.
"""

from collections.abc import Iterator

from baker.config.bake import BakeConfig
from baker.config.model import ModelConfig
from baker.config.peft import adapter_fields


def refusals(config: BakeConfig) -> list[str]:
    """Reasons why the bake can't be run with this config; empty if it can."""
    return list(_refusals(config))


def warnings(config: BakeConfig) -> list[str]:
    """Settings that have no effect or are overruled, as sentences for the user."""
    return [*_warnings_of_model(config.model), *_warnings_of_training(config)]


def _refusals(config: BakeConfig) -> Iterator[str]:
    on_policy = config.data.on_policy
    if config.model.student_model_path is not None:
        for name, is_set in (("teacher 'full'", config.data.has_full_teacher), ("on_policy", on_policy.rounds > 0)):
            if is_set:
                yield f"data.{name} needs the teacher's own weights, but model.student_model_path names another model"
    if on_policy.rounds and not config.resumes:
        yield (
            f"data.on_policy.rounds is {on_policy.rounds}, and each round resumes from the training state, "
            "but checkpoint[].auto_resume is false, so none is kept: remove auto_resume"
        )
    if config.merge.is_set and config.merge.meant_strategy != "compose":
        if config.data.has_full_teacher:
            yield "data.teacher 'full' needs one teacher, but the rows of a merge have different ones: leave it out"
        if on_policy.rounds and config.merge.meant_kind != "merge":
            yield f"data.on_policy.rounds is {on_policy.rounds}, but a {config.merge.meant_kind} asks no questions"
    if config.merge.is_set and config.model.student_model_path is not None:
        yield "model.student_model_path names another model, and only adapters of the served one are merged"
    for name, sources in (("sources", config.data.sources), ("eval_sources", config.data.eval_sources)):
        if sources:
            yield f"data.{name} names {len(sources)} files, but bakes train on rollouts: name targets in datasets"


def _warnings_of_model(model: ModelConfig) -> Iterator[str]:
    for name, value in (("adapter_paths", model.adapter_paths), ("parent_peft_dir", model.parent_peft_dir)):
        if value is not None:
            yield f"model.{name} has no effect: name the parent in model.parent_model_name"
    for name, value in adapter_fields(model.peft_config or {}).items():
        effective = getattr(model.baked_adapter_config, name)
        if value != effective:
            yield f"model.peft_config.{name} is {value!r}, but model.baked_adapter_config.{name} wins: {effective!r}"


def _warnings_of_training(config: BakeConfig) -> Iterator[str]:
    if config.model_name is not None and config.model_name != config.parent:
        yield f"model_name is {config.model_name!r}, but model.parent_model_name wins: {config.parent!r}"
    if config.optimizer.type.strip().lower() == "adam" and config.optimizer.weight_decay > 0:
        yield "optimizer.type is 'adam', but weight_decay is decoupled from the gradient, as AdamW does it"
    if config.activation_checkpoint_cpu_offload:
        yield "activation_checkpoint_cpu_offload has no effect: activations are never moved"
