"""A merge by its sources: the prompts of the versions joined, which the merge base answers and a bake learns.

Only this strategy says what to answer where the versions contradict each other. Functions over the catalog; they block.
"""

from collections.abc import Iterator, Sequence

from baker.conversation import plain_text
from baker.errors import InvalidInputError
from baker.repos import prompts, targets
from baker.repos.catalog import DEFAULT_TEMPLATE, Catalog
from baker.storage.job import BakeJob
from baker.storage.job_inputs import MergeInputs
from baker.types import Message, Prompt


def add_sources(
    catalog: Catalog, user: str, repo: str, name: str, inputs: MergeInputs, questions: Sequence[str]
) -> None:
    """Add the prompt and the target of that name, which the bake of the merge then learns.

    Args: questions: those that the versions were trained on.
    Raises: InvalidInputError if a version has no prompt here; ConflictError if a name is taken by something else.
    """
    jobs = [
        [job for number in reversed(side.jobs) if (job := catalog.store.jobs.find_bake(number)) is not None]
        for side in inputs.sides
    ]
    for side, own in zip(inputs.sides, jobs, strict=True):
        if not any(snapshot.teacher.messages for job in own for snapshot in job.inputs.targets.values()):
            raise InvalidInputError(
                f"{side.label!r} has no prompt here (it was imported, or received without its data), so it can't be "
                "composed: choose another strategy"
            )
    if not questions:
        raise InvalidInputError("the versions' questions are not here, so their joined prompts can't be answered")
    joined = joined_prompt([prompt for own in jobs for prompt in _prompts(own)])
    with catalog.store.transaction():
        prompts.put(catalog, user, repo, name, joined, may_change=False)
        overrides = {
            "teacher_prompt": name,
            "model_name": inputs.base or catalog.repo(user, repo).base_model,
            "generators": [{"type": "hardcoded", "questions": list(questions), "numq": len(questions)}],
        }
        targets.put(catalog, user, repo, name, DEFAULT_TEMPLATE, overrides, may_change=False)


def _prompts(jobs: Sequence[BakeJob]) -> Iterator[Prompt]:
    for job in jobs:
        for snapshot in job.inputs.targets.values():
            yield snapshot.teacher


def joined_prompt(parts: Sequence[Prompt]) -> Prompt:
    """One prompt that says all: the system texts as one message, then the other messages and tools in their order."""
    different = [part for index, part in enumerate(parts) if part not in parts[:index]]
    system = [
        plain_text(message.get("content")) for part in different for message in part.messages if _is_system(message)
    ]
    others = [message for part in different for message in part.messages if not _is_system(message)]
    tools = [tool for part in different for tool in part.tools or []]
    first: list[Message] = [{"role": "system", "content": "\n\n".join(dict.fromkeys(system))}] if system else []
    return Prompt([*first, *others], tools or None)


def _is_system(message: Message) -> bool:
    return message.get("role") in ("system", "developer")
