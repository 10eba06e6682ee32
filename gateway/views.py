"""From the baker's values to what goes over the wire."""

from collections.abc import Sequence
from typing import Any

import msgspec

from baker.config import BakeConfig, TargetConfig
from baker.types import Checkpoint, Job, JobState, Prompt, Repo
from gateway.protocol import responses


def repo(value: Repo) -> responses.Repo:
    return responses.Repo(repo_name=value.name, base_model=value.base_model)


def prompt(name: str, value: Prompt) -> responses.Prompt:
    return responses.Prompt(prompt_name=name, messages=value.messages, tools=value.tools)


def target(name: str, value: TargetConfig) -> responses.Target:
    return responses.Target(target_name=name, config=_target_config(msgspec.to_builtins(value)))


def job_status(job: Job | None) -> responses.JobStatus:
    return responses.JobStatus(**_job_fields(job))


def output_page(job: Job | None, rows: list[dict[str, Any]], offset: int, limit: int) -> responses.OutputPage:
    has_more = job is not None and offset + len(rows) < job.lines
    return responses.OutputPage(**_job_fields(job), offset=offset, limit=limit, has_more=has_more, output=rows)


def bake(name: str, config: BakeConfig, job: Job | None, checkpoints: Sequence[Checkpoint]) -> responses.Bake:
    """Args: checkpoints: newest first."""
    status = JobState.NOT_STARTED if job is None else job.state
    is_complete = status is JobState.COMPLETE
    return responses.Bake(
        bake_name=name,
        status=status,
        message=str(status),
        job_id=None if job is None else job.id,
        id=None if job is None else job.id,
        progress_percent=None if job is None else job.progress_percent,
        error=None if job is None else job.error,
        warnings=[] if job is None else job.warnings,
        config=msgspec.to_builtins(config),
        model_name=[checkpoint.name for checkpoint in checkpoints] if is_complete else None,
        checkpoint=checkpoints[0].step if is_complete and checkpoints else None,
        checkpoints=[checkpoint.step for checkpoint in checkpoints] if is_complete else [],
        loss=None if job is None else job.loss,
    )


def _job_fields(job: Job | None) -> dict[str, Any]:
    if job is None:
        nothing = dict.fromkeys(("job_id", "id", "progress_percent", "total_expected", "error", "config", "parameters"))
        return {"status": JobState.NOT_STARTED, "lines": 0, "warnings": [], **nothing}
    config = _target_config(job.config)
    return {
        "status": job.state,
        "lines": job.lines,
        "job_id": job.id,
        "id": job.id,
        "progress_percent": job.progress_percent,
        "total_expected": job.total_expected,
        "error": job.error,
        "warnings": job.warnings,
        "config": config,
        "parameters": config,
    }


def _target_config(config: dict[str, Any]) -> dict[str, Any]:
    # Clients of 1.0 read the prompts by their first names.
    return {**config, "u": config["teacher_prompt"], "v": config["student_prompt"]}
