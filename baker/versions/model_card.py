"""The README.md of an adapter, for people and for Hugging Face's hub: what it was made from, and its results.

Reads rows only. It names prompts but does not quote them: people who download the weights may publish them.
"""

import json

import msgspec

from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.errors import NotFoundError
from baker.repos import models
from baker.repos.catalog import Catalog
from baker.storage.job import BakeJob
from baker.types import Checkpoint

TAGS = ("lora", "peft", "prompt-baking", "bread")


def model_card(catalog: Catalog, checkpoint: Checkpoint, base_model: str) -> str:
    """Markdown with YAML front matter. Raises: NotFoundError if the bake was deleted meanwhile."""
    job = catalog.store.jobs.find_bake(checkpoint.job_id)
    if job is None:
        raise NotFoundError(f"The bake of {checkpoint.name!r} was deleted")
    config = job.config
    title = f"# {config.model.save_name or checkpoint.bake}, checkpoint {checkpoint.step}"
    if job.inputs.imported is not None:
        origin = f"A LoRA adapter of {_code(base_model)} that was trained elsewhere."
        return "\n\n".join([_front_matter(base_model), title, origin]) + "\n"
    sections = [
        _front_matter(base_model),
        title,
        f"A LoRA adapter of {_code(base_model)}. It makes the model behave as if it were given a prompt: the prompt's "
        "effect on the model's probabilities was trained into the weights (*Prompt Baking*, arXiv:2409.13697).",
        "## Lineage",
        _lineage(catalog, job, checkpoint, base_model),
        "## Data",
        _data(job, config),
        "## Loss",
        _loss(job),
        "## Configuration",
        f"```json\n{_indented(config)}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(base_model: str) -> str:
    # Any JSON string is also a YAML string.
    tags = "\n".join(f"- {tag}" for tag in TAGS)
    return f"---\nbase_model: {json.dumps(base_model)}\nlibrary_name: peft\ntags:\n{tags}\n---"


def _lineage(catalog: Catalog, job: BakeJob, checkpoint: Checkpoint, base_model: str) -> str:
    names = [_code(checkpoint.name), *_parents(catalog, job), f"{_code(base_model)} (base model)"]
    steps = [f"{number}. {name}" for number, name in enumerate(reversed(names), start=1)]
    if job.inputs.student is not None:
        steps.append(f"\nIts teacher was {_code(catalog.base.served)}, which has the same vocabulary.")
    return "\n".join(["Each one continues the one before; this adapter includes all of them.", "", *steps])


def _parents(catalog: Catalog, job: BakeJob) -> list[str]:
    """Names of the parents, nearest first, until one was deleted."""
    names: list[str] = []
    child: BakeJob | None = job
    while child is not None and (name := child.inputs.checkpoint) is not None:
        checkpoint = models.checkpoint_named(catalog, name)
        child = None if checkpoint is None else catalog.store.jobs.find_bake(checkpoint.job_id)
        names.append(_code(name) if child is not None else f"{_code(name)} (deleted; its parent is not known)")
    return names


def _data(job: BakeJob, config: BakeConfig) -> str:
    """The share of each target in the mix; targets of weight 0 have none."""
    shares = {} if job.collation is None else job.collation.targets
    snapshots = job.inputs.targets
    rows = [["target", "share", "trajectories", "held out", "teacher prompt", "student prompt"]]
    for target in dict.fromkeys(dataset.target for dataset in config.datasets):
        share = shares.get(target)
        numbers = ["-"] * 3 if share is None else [f"{share.share:.1%}", str(share.trajectories), str(share.held_out)]
        settings = snapshots[target].config if target in snapshots else TargetConfig()
        sides = [_prompt(settings.teacher_prompt), _prompt(settings.student_prompt)]
        rows.append([_code(target), *numbers, *sides])
    return f"Held-out trajectories were never trained on.\n\n{_table(rows)}"


def _prompt(name: str | None) -> str:
    match name:
        case None:
            return "-"
        case "":
            return "none"
    return _code(name)


def _loss(job: BakeJob) -> str:
    if job.loss is None:
        return "Not recorded."
    fields = msgspec.to_builtins(job.loss)
    by_target = {name: fields.pop(f"{name}_by_target", {}) for name in ("eval_kl", "agreement")}
    rows = [["field", "value"], *([_code(name), f"{value:.6g}"] for name, value in fields.items())]
    for name, changes in by_target.items():
        for target, change in changes.items():
            rows.append([f"`{name}` of {_code(target)}", f"{change['after']:.6g} (before: {change['before']:.6g})"])
    legend = (
        "In nats per response token, at the end of the bake. `eval_kl` is on held-out questions, `recovered` the share "
        "of the prompt's effect that they show, and `agreement` the share of their tokens at which this model and the "
        "prompted one have the same likeliest token. `drift` is the model's distance from the base on neutral "
        "questions: KL(base || baked)."
    )
    return f"{legend}\n\n{_table(rows)}"


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def _code(text: str) -> str:
    """`text` as code, without characters that would end the code or the table around it."""
    return "`" + "".join(" " if character in "`|\r\n" else character for character in text) + "`"


def _indented(config: BakeConfig) -> str:
    return msgspec.json.format(msgspec.json.encode(config), indent=2).decode()
