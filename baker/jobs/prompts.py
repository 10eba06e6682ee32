"""The prompts that a job copies."""

from baker.config.target import TargetConfig
from baker.errors import InvalidInputError
from baker.repos.catalog import Catalog
from baker.types import Prompt


def prompts_of(catalog: Catalog, user: str, repo: str, target: str, config: TargetConfig) -> tuple[Prompt, Prompt]:
    """The target's teacher and student prompt. Raises: InvalidInputError if one is missing."""
    prompts = []
    for field, name in (("teacher_prompt", config.teacher_prompt), ("student_prompt", config.student_prompt)):
        if name is None:
            raise InvalidInputError(f'Target {target!r} has no {field}: name a prompt, or "" for none')
        prompt = Prompt() if name == "" else catalog.store.prompt(user, repo, name)
        if prompt is None:
            existing = ", ".join(map(repr, catalog.names("prompts", user, repo))) or "none"
            raise InvalidInputError(
                f"Target {target!r} names the {field} {name!r}, which repo {repo!r} does not have; "
                f"its prompts: {existing}"
            )
        prompts.append(prompt)
    return prompts[0], prompts[1]
