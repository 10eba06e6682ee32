"""A pending job, and the prompts that it copies."""

import msgspec

from baker.config.target import TargetConfig
from baker.errors import InvalidInputError
from baker.repos.catalog import Catalog
from baker.status import JobState, Stage
from baker.storage.job import Job
from baker.types import Prompt


def prompts_of(catalog: Catalog, user: str, repo: str, target: str, config: TargetConfig) -> tuple[Prompt, Prompt]:
    found = []
    for field, name in (("teacher_prompt", config.teacher_prompt), ("student_prompt", config.student_prompt)):
        if name is None:
            raise InvalidInputError(f'Target {target!r} has no {field}: name a prompt, or "" for none')
        prompt = Prompt() if name == "" else catalog.store.prompt(user, repo, name)
        if prompt is None:
            there = ", ".join(map(repr, catalog.names("prompts", user, repo))) or "none"
            raise InvalidInputError(
                f"Target {target!r} names the {field} {name!r}, which repo {repo!r} does not have; its prompts: {there}"
            )
        found.append(prompt)
    return found[0], found[1]


def new_job(
    stage: Stage,
    user: str,
    repo: str,
    name: str,
    config: msgspec.Struct,
    inputs: msgspec.Struct,
    *,
    depends_on: list[int] | None = None,
    warnings: list[str] | None = None,
    total_expected: int | None = None,
) -> Job:
    return Job(
        id=0,
        stage=stage,
        user=user,
        repo=repo,
        name=name,
        state=JobState.PENDING,
        config=msgspec.to_builtins(config),
        inputs=msgspec.to_builtins(inputs),
        depends_on=depends_on or [],
        warnings=warnings or [],
        total_expected=total_expected,
    )
