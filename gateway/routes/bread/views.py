"""Converts the baker's values to response bodies."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from baker.config.bake import BakeConfig
from baker.config.target import TargetConfig
from baker.conversation import context_text
from baker.repos import recycle_bin
from baker.repos.bakes import LiveFirst
from baker.repos.catalog import Deletion
from baker.status import JobState, Loss, Progress, Standing
from baker.storage.credentials import Key
from baker.storage.job import BakeJob, StimJob, TargetJob
from baker.types import Prompt, Repo, Stimulus, User
from baker.versions import lineage
from baker.versions.recipe import KINDS, Edge, Recipe
from gateway.protocol import responses


def user_created(value: User, key: str | None) -> responses.UserCreated:
    return responses.UserCreated(
        user_id=value.id, user_alias=value.alias, user_email=value.email, api_key=UNSET if key is None else key
    )


def user(value: User, keys: list[Key]) -> responses.User:
    return responses.User(
        user_id=value.id,
        user_alias=value.alias,
        user_email=value.email,
        created=value.created,
        keys=[responses.Key(key_id=key.id, created=key.created) for key in keys],
    )


def repo(value: Repo) -> responses.Repo:
    return responses.Repo(repo_name=value.name, base_model=value.base_model)


def prompt(name: str, value: Prompt, warnings: list[str] | UnsetType = UNSET) -> responses.Prompt:
    return responses.Prompt(prompt_name=name, messages=value.messages, tools=value.tools, warnings=warnings)


def deleted(message: str, value: Deletion) -> responses.Deleted:
    return responses.Deleted(
        message=message,
        operation=value.operation,
        undoable=value.is_undoable,
        kept_until=int(time.time()) + recycle_bin.KEPT_SECONDS if value.is_undoable else None,
    )


def target(name: str, value: TargetConfig, warnings: list[str]) -> responses.Target:
    return responses.Target(target_name=name, config=_target_config(value), warnings=warnings)


def job_status(job: TargetJob | None, standing: Standing) -> responses.JobStatus:
    fields = _job_fields(job, standing)
    if job is not None:
        fields |= {"lines": standing.lines, "progress_percent": standing.progress_percent}
    return responses.JobStatus(**fields)


def output_page(
    job: TargetJob | None, standing: Standing, rows: list[dict[str, Any]], offset: int, limit: int
) -> responses.OutputPage:
    """Its `lines` are those on disk, so that they agree with `has_more`."""
    has_more = job is not None and offset + len(rows) < job.lines
    return responses.OutputPage(
        **_job_fields(job, standing), offset=offset, limit=limit, has_more=has_more, output=rows
    )


def stimuli(job: StimJob, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a stim's output. Args: rows: rows of the job's file."""
    return [_stimulus(msgspec.convert(row, Stimulus), job.inputs.student) for row in rows]


def _stimulus(value: Stimulus, student: Prompt) -> dict[str, Any]:
    row = {
        "stimulus_id": value.id,
        "question": value.text,
        "stimulus": value.text,
        "generator": value.generator,
    }
    if value.is_conditioned:
        row["trajectory_override_stimulus"] = context_text(student, value.text)
    return row


def bake(
    name: str,
    config: BakeConfig,
    job: BakeJob | None,
    finished: LiveFirst,
    training: Mapping[int, Progress],
    standing: Standing,
    warnings: Sequence[str] = (),
) -> responses.Bake:
    """A bake's status.

    Args:
        training: number of a job -> its progress, for all bakes that train now.
        warnings: those of the settings, shown until the bake is run.
    """
    checkpoints = finished.checkpoints
    status = JobState.NOT_STARTED if job is None else job.state
    is_complete = status is JobState.COMPLETE
    loss = None if job is None else job.loss
    return responses.Bake(
        **_standing(standing),
        bake_name=name,
        status=status,
        message=str(status),
        job_id=None if job is None else job.id,
        id=None if job is None else job.id,
        progress_percent=None if job is None else job.progress_percent,
        error=None if job is None else job.error,
        error_code=None if job is None else job.error_code,
        warnings=[*warnings] if job is None else job.warnings,
        config=msgspec.to_builtins(config),
        model_name=[known.name for known in checkpoints if known.is_served] if is_complete else None,
        live_checkpoint=None if finished.live is None or not finished.live.is_served else finished.live.step,
        held_back=None if job is None else job.held_back,
        merge=None if job is None else job.merge,
        checkpoint=checkpoints[0].step if checkpoints else None,
        checkpoints=[checkpoint.step for checkpoint in checkpoints],
        loss=None if loss is None else _loss(loss),
        eval_kl_by_target={} if loss is None or loss.eval_kl is None else loss.eval_kl_by_target,
        agreement_by_target={} if loss is None or loss.agreement is None else loss.agreement_by_target,
        training=None if job is None else training.get(job.id),
        collation=None if job is None else job.collation,
        memory=None if job is None else job.memory,
    )


def _loss(value: Loss) -> responses.Loss:
    return msgspec.convert(value, responses.Loss, from_attributes=True)


def metrics(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, all with `loss` and `lr`, because scripts expect them in each row.

    Rows of evaluations get the values of the step before them, or of the first step. Empty until the first step.
    """
    last = next((row for row in rows if "loss" in row), None)
    if last is None:
        return []
    shown = []
    for row in rows:
        last = row if "loss" in row else last
        shown.append({**row, "loss": last["loss"], "lr": last["lr"]})
    return shown


def dependency_graph(value: Recipe) -> responses.DependencyGraph:
    return responses.DependencyGraph(
        base_model=value.base_model,
        bakes=value.bakes,
        targets={name: config for name, config in value.targets.items() if config is not None},
        prompts={name: None if text is None else f"prompts/{name}.yml" for name, text in value.prompts.items()},
        edges=[_edge(edge) for edge in value.edges],
        deleted=value.deleted,
    )


def recreation_plan(value: Recipe, steps: Sequence[lineage.Step]) -> responses.RecreationPlan:
    created = {kind: [step.resource.name for step in steps if step.action == f"create_{kind}"] for kind in KINDS}
    return responses.RecreationPlan(
        base_model=value.base_model,
        total_steps=len(steps),
        steps=[
            responses.PlanStep(
                step=number,
                action=step.action,
                resource_type=step.resource.kind,
                resource_name=step.resource.name,
                dependencies=step.dependencies,
                config=step.config,
                type=step.resource.kind,
                name=step.resource.name,
                deleted=step.deleted,
            )
            for number, step in enumerate(steps, start=1)
        ],
        resources=responses.PlanResources(
            prompts=created["prompt"],
            targets=created["target"],
            bakes=[
                responses.PlanBake(
                    bake_name=name,
                    model_names=value.model_names[name],
                    name=name,
                    model_name=next(iter(value.model_names[name]), None),
                    deleted=name in value.deleted,
                )
                for name in created["bake"]
            ],
        ),
    )


def tree(value: lineage.Tree) -> responses.Tree:
    return responses.Tree(
        base_model=value.base_model,
        bakes={
            name: responses.TreeBake(
                status=branch.status,
                model_name=branch.model_names,
                checkpoints=branch.steps,
                config=branch.config,
                bake_name=branch.name,
                parent=branch.parent,
                parents=branch.parents,
                deleted=branch.deleted,
            )
            for name, branch in value.bakes.items()
        },
        edges=[_edge(edge) for edge in value.edges],
    )


def _edge(edge: Edge) -> responses.EdgeRow:
    return [*edge.source, *edge.needed]


def _standing(value: Standing) -> dict[str, Any]:
    return {field: getattr(value, field) for field in responses.Stands.__struct_fields__}


def _job_fields(job: TargetJob | None, standing: Standing) -> dict[str, Any]:
    if job is None:
        fields = "job_id", "id", "progress_percent", "total_expected", "error", "error_code", "config", "parameters"
        nothing = dict.fromkeys(fields)
        return {"status": JobState.NOT_STARTED, "lines": 0, "warnings": [], **nothing, **_standing(standing)}
    config = _target_config(job.config)
    return {
        "status": job.state,
        "lines": job.lines,
        "job_id": job.id,
        "id": job.id,
        "progress_percent": job.progress_percent,
        "total_expected": job.total_expected,
        "error": job.error,
        "error_code": job.error_code,
        "warnings": job.warnings,
        "config": config,
        "parameters": config,
        **_standing(standing),
    }


def _target_config(config: TargetConfig) -> dict[str, Any]:
    # Clients of version 1.0 read the prompts by their old names.
    return {**msgspec.to_builtins(config), "u": config.teacher_prompt, "v": config.student_prompt}
