"""What another server needs to copy commits of a repo. Reads only; functions over the catalog that block."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from baker.adapters.parity import read_parity
from baker.errors import AdapterError, NotFoundError
from baker.history.commit import Commit
from baker.repos.catalog import Catalog
from baker.storage.files import read_lines
from baker.storage.home import RECEIVED, job_folder, output_file
from baker.storage.job import BakeJob
from baker.transfer.receiving import PARITY, Data
from baker.types import Checkpoint
from baker.versions.commits import recipe_of


class Description(NamedTuple):
    commit: Commit
    notes: dict[str, Any]
    """The evaluation and the like; `parity` is the certificate."""
    has_weights: bool
    data: Data | None
    """None unless it was asked for."""


class Missing(NamedTuple):
    commits: list[str]
    blobs: list[str]


def missing(catalog: Catalog, user: str, repo: str, commits: list[str], blobs: list[str]) -> Missing:
    """Those of the commits and adapters that the repo does not have. Raises: NotFoundError if there is no such repo."""
    catalog.repo(user, repo)
    # One query each: a client may ask for thousands, and other requests wait for this thread.
    commits_here = catalog.history.commits.parents(user, repo)
    blobs_here = catalog.store.checkpoints.adapters(user, repo)
    return Missing(
        [each for each in dict.fromkeys(commits) if each not in commits_here],
        [each for each in dict.fromkeys(blobs) if each not in blobs_here],
    )


def blob_folder(catalog: Catalog, user: str, repo: str, sha256: str) -> Path | None:
    """Folder with the adapter of that hash, if a version in the repo's history has it."""
    catalog.repo(user, repo)
    checkpoint = catalog.store.checkpoints.with_adapter(user, repo, sha256)
    return None if checkpoint is None else checkpoint.path


def description(catalog: Catalog, user: str, repo: str, commit_id: str, *, with_data: bool) -> Description:
    """Args: with_data: whether to add prompts, questions and answers. Raises: NotFoundError."""
    catalog.repo(user, repo)
    commit = catalog.history.commits.find(user, repo, commit_id)
    if commit is None:
        raise NotFoundError(f"Commit {commit_id!r:.80} not found in repo {repo!r}")
    notes = catalog.history.commits.notes(user, repo, commit_id)
    checkpoint = catalog.store.checkpoints.with_weights_of(user, repo, commit_id)
    if checkpoint is not None and (certificate := _certificate(checkpoint)) is not None:
        notes[PARITY] = certificate
    job = None if checkpoint is None else catalog.store.jobs.find_bake(checkpoint.job_id)
    data = _data(catalog, commit, job) if with_data else None
    return Description(commit, notes, checkpoint is not None and checkpoint.is_served, data)


def _certificate(checkpoint: Checkpoint) -> Any:
    try:
        return msgspec.to_builtins(read_parity(checkpoint.path))
    except AdapterError:  # an import has none
        return None


def _data(catalog: Catalog, commit: Commit, job: BakeJob | None) -> Data:
    if job is None or commit.recipe is None:
        return Data()
    home, rows = catalog.store.home, {}
    for target, number in job.inputs.rollouts.items():
        rollout = catalog.store.jobs.find(number)
        rows[target] = [] if rollout is None else read_lines(output_file(home, rollout))
    if job.inputs.received is not None:
        rows = {file.stem: read_lines(file) for file in sorted((job_folder(home, job.id) / RECEIVED).glob("*.jsonl"))}
    return Data(recipe_of(job), {target: lines for target, lines in rows.items() if lines})
