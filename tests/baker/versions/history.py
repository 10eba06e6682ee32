"""Random histories of a repo, by the functions that the routes call, and what of them can be seen."""

from collections.abc import Callable
from typing import Any

import msgspec

from baker.errors import BakeryError, ConflictError
from baker.history.ref_table import RefKind
from baker.repos import bakes, pointers, prompts, repos, targets
from baker.repos.catalog import Catalog, plain
from baker.status import JobState
from baker.storage.home import checkpoint_folder, job_folder
from baker.storage.job import BakeJob, StimJob
from baker.storage.job_inputs import BakeInputs, StimInputs
from baker.types import Checkpoint, MovedBy, Prompt
from baker.versions import checkpoints, promotion, refs, undo

USER = "admin"
NAMES = ("one", "two")
Action = tuple[str, str, int]
"""What to do, the name of the thing, and a number that chooses a value."""


def act(catalog: Catalog, repo: str, action: Action) -> bool:
    """Returns: whether it was allowed."""
    verb, name, number = action
    try:
        VERBS[verb](catalog, repo, name, number)
    except BakeryError:
        return False
    return True


def put_prompt(catalog: Catalog, repo: str, name: str, number: int) -> None:
    prompt = Prompt(messages=[{"role": "system", "content": f"Prompt {number}"}])
    prompts.put(catalog, USER, repo, name, prompt, may_change=True)


def put_target(catalog: Catalog, repo: str, name: str, number: int) -> None:
    questions = {"type": "hardcoded", "questions": [f"Question {number}?"]}
    targets.put(catalog, USER, repo, name, "default", {"generators": [questions]}, may_change=True)


def run_stim(catalog: Catalog, repo: str, name: str, number: int) -> None:
    config = targets.get(catalog, USER, repo, name)
    state = JobState.COMPLETE if number % 2 else JobState.FAILED
    inputs = StimInputs(teacher=Prompt())
    catalog.store.jobs.add(StimJob(user=USER, repo=repo, name=name, state=state, config=config, inputs=inputs))


def put_bake(catalog: Catalog, repo: str, name: str, number: int) -> None:
    bakes.put(catalog, USER, repo, name, "default", {"epochs": number + 1}, may_change=True)


def run_bake(catalog: Catalog, repo: str, name: str, number: int, parent: str | None = None) -> Checkpoint:
    """Train it to two checkpoints with files; an even number is held back. As in `jobs/plan.py`, only a bake that was
    held back is trained again, with another config."""
    config, latest = bakes.get(catalog, USER, repo, name), bakes.latest_job(catalog, USER, repo, name)
    if latest is not None and not (bakes.is_held_back(catalog, latest) and latest.config != config):
        raise ConflictError("it is trained")
    job = catalog.store.jobs.add(BakeJob(user=USER, repo=repo, name=name, config=config, inputs=BakeInputs({}, parent)))
    made = []
    for step in (1, 2):
        folder = checkpoint_folder(job_folder(catalog.store.home, job.id), step)
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"x" * 100)
        (chosen,) = checkpoints.numbers(catalog, job, [folder])
        made.append(Checkpoint(USER, repo, name, chosen, folder, f"{job.id:062}{step:02}", 0, job.id, parent=parent))
        checkpoints.remove_namesakes(catalog, job, made[-1])
        checkpoints.keep(catalog, job, made[-1:], made[-1:] if number % 2 else [])
    held_back = None if number % 2 else "it is held back"
    if number % 2:
        checkpoints.remove_of_other_jobs(catalog, job, made[-1])
    catalog.store.jobs.update(job.id, state=JobState.COMPLETE, progress_percent=100.0, held_back=held_back)
    return made[-1]


def promote(catalog: Catalog, repo: str, name: str, number: int) -> None:
    steps = [checkpoint.step for checkpoint in bakes.checkpoints(catalog, USER, repo, name)]
    choice = promotion.named(catalog, USER, repo, name, steps[number % len(steps)] if steps else 0)
    if not choice.is_live:
        promotion.move(catalog, choice.checkpoint, MovedBy.PROMOTE)


def roll_back(catalog: Catalog, repo: str, name: str, number: int) -> None:
    choice = promotion.before(catalog, USER, repo, name)
    if not choice.is_live:
        promotion.move(catalog, choice.checkpoint, MovedBy.ROLLBACK)


def put_ref(catalog: Catalog, repo: str, name: str, number: int) -> None:
    """A branch, forced, or a tag, to one of the repo's versions."""
    kind = RefKind.TAG if number == 3 else RefKind.BRANCH
    known = [*catalog.history.commits.of_repo(USER, repo)]
    if not known:
        raise ConflictError("there is no version")
    refs.put(catalog, USER, repo, f"{kind}-{name}", kind, known[number % len(known)], force=True)


def step(catalog: Catalog, repo: str, verb: str, number: int | None = None) -> undo.Done:
    return undo.apply(catalog, undo.plan(catalog, USER, repo, verb, number))


VERBS: dict[str, Callable[[Catalog, str, str, int], Any]] = {
    "put-prompt": put_prompt,
    "delete-prompt": lambda catalog, repo, name, number: prompts.delete(catalog, USER, repo, name),
    "put-target": put_target,
    "run-stim": run_stim,
    "delete-target": lambda catalog, repo, name, number: targets.delete(catalog, USER, repo, name),
    "put-bake": put_bake,
    "run-bake": run_bake,
    "delete-bake": lambda catalog, repo, name, number: bakes.delete(catalog, USER, repo, name),
    "promote": promote,
    "rollback": roll_back,
    "put-ref": put_ref,
    "delete-branch": lambda catalog, repo, name, number: refs.delete(catalog, USER, repo, f"branch-{name}", force=True),
    "delete-tag": lambda catalog, repo, name, number: refs.delete(catalog, USER, repo, f"tag-{name}", force=True),
    "switch": lambda catalog, repo, name, number: refs.switch(catalog, USER, repo, f"branch-{name}"),
}


def new_repo(catalog: Catalog) -> str:
    name = f"repo{len(repos.listing(catalog, USER))}"
    repos.put(catalog, USER, name, None)
    return name


def seen(catalog: Catalog, repo: str) -> dict[str, Any]:
    """All that can be seen of the repo."""
    store = catalog.store
    names = {table: sorted(store.names(table, USER, repo)) for table in ("prompts", "templates", "targets", "bakes")}
    jobs = [job for job in store.jobs.in_state(*JobState) if (job.user, job.repo) == (USER, repo)]
    return {
        "prompts": {name: plain(store.prompt(USER, repo, name)) for name in names["prompts"]},
        "templates": {name: store.template(USER, repo, name) for name in names["templates"]},
        "targets": {name: store.config("targets", USER, repo, name) for name in names["targets"]},
        "bakes": {name: store.config("bakes", USER, repo, name) for name in names["bakes"]},
        "pointers": {name: plain(pointers.pointer(catalog, USER, repo, name)) for name in NAMES},
        "checkpoints": {name: bakes.checkpoints(catalog, USER, repo, name) for name in NAMES},
        "jobs": [msgspec.to_builtins(job) for job in jobs],
        "refs": [(ref.name, ref.kind, ref.target, ref.message) for ref in catalog.history.refs.of_repo(USER, repo)],
    }
