"""Adds commits that were made on another server, with their weights, as versions of a repo here.

A received commit has a job of its own, complete from the start, and the checkpoint `<first 12 digits of its id>/0`. So
everything that works on a bake's checkpoints works on it. Functions over the catalog; they block (see
`storage/one_thread.py`).
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from baker.adapters.parity import PARITY_FILE, ParityCertificate
from baker.config.bake import BakeConfig
from baker.errors import ConflictError, InvalidInputError
from baker.history.commit import Commit, content_id
from baker.names import is_name
from baker.repos.catalog import Catalog
from baker.status import JobState
from baker.storage.files import append_lines, publish_folder, write_json
from baker.storage.home import checkpoint_folder, job_folder, received_rows
from baker.storage.job import BakeJob
from baker.storage.job_inputs import BakeInputs, ReceivedCommit
from baker.types import Checkpoint

STEP = 0
"""The step of received checkpoints. Steps of trained and imported ones begin at 1."""
PARITY = "parity"
"""Name of the note that holds the certificate."""
MAX_SEQUENCES = 256
MAX_CERTIFIED_TOKENS = 1 << 16


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What made a version, sent only on request: it holds the sender's prompts."""

    recipe: dict[str, Any] | None = None
    rows: dict[str, list[Any]] = {}
    """Target -> its questions and answers."""


class Arrival(NamedTuple):
    """A commit as it was sent."""

    commit: Commit
    notes: dict[str, Any]
    data: Data
    is_shallow: bool
    """Whether the sender has no weights of it either."""

    @property
    def short_id(self) -> str:
        return self.commit.id[:12]


class Plan(NamedTuple):
    """What is left to do for a commit."""

    is_known: bool
    has_weights: bool
    """Whether its weights are here already."""
    twin: Checkpoint | None
    """A version of the repo with the same adapter, whose files can be copied."""


def check_data(commit: Commit, data: Data) -> None:
    """Raises: InvalidInputError if the data is not the commit's."""
    if data.recipe is not None and content_id(data.recipe) != commit.recipe:
        raise InvalidInputError(f"data.recipe is not the recipe that the commit names: {commit.recipe}")
    for target in data.rows:
        if not is_name(target):
            raise InvalidInputError(f"data.rows: {target!r:.140} is not a target's name")


def certificate_of(notes: dict[str, Any], vocabulary: int | None) -> ParityCertificate | None:
    """The parity certificate among the notes; None if the sender has none.

    Args: vocabulary: number of the model's tokens; None: unknown.
    Raises: InvalidInputError if the engine can't be asked for it.
    """
    if PARITY not in notes:
        return None
    try:
        certificate = msgspec.convert(notes[PARITY], ParityCertificate)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"notes.parity is not a parity certificate: {error}") from error
    tokens = 0
    for each in certificate.sequences:
        ids = [*each.context_ids, *each.response_ids]
        tokens += len(ids)
        if not each.context_ids or not len(each.response_ids) == len(each.logprobs) == len(each.base_logprobs):
            raise InvalidInputError("notes.parity: a sequence needs a context, and two log-probabilities per token")
        if any(token < 0 or (vocabulary is not None and token >= vocabulary) for token in ids):
            raise InvalidInputError("notes.parity names tokens that the base model does not have")
    if len(certificate.sequences) > MAX_SEQUENCES or tokens > MAX_CERTIFIED_TOKENS:
        raise InvalidInputError(
            f"notes.parity has {len(certificate.sequences)} sequences with {tokens} tokens, at most {MAX_SEQUENCES} "
            f"with {MAX_CERTIFIED_TOKENS} are allowed"
        )
    return certificate


def plan(catalog: Catalog, user: str, repo: str, commit: Commit) -> Plan:
    """Raises: NotFoundError if there is no such repo; ConflictError if the commit does not fit it."""
    catalog.repo(user, repo)
    if commit.base != catalog.fingerprint:
        raise ConflictError(
            f"The commit's base model has the fingerprint {commit.base}, but {catalog.base.served!r}, which is served "
            f"here, has {catalog.fingerprint}: an adapter works only on the model that it was trained on"
        )
    missing = [each for each in commit.parent_ids if catalog.history.commits.find(user, repo, each) is None]
    if missing:
        raise ConflictError(f"Parent {missing[0]} of commit {commit.id} is not in repo {repo!r}: send parents first")
    commit_id, name = commit.id, commit.id[:12]
    if catalog.store.config("bakes", user, repo, name) is not None:
        raise ConflictError(
            f"Commit {commit_id} would be served as '{repo}/{name}/{STEP}', but {name!r} is a bake of repo {repo!r}: "
            "push it into another repo"
        )
    return Plan(
        is_known=catalog.history.commits.find(user, repo, commit_id) is not None,
        has_weights=catalog.store.checkpoints.of_commit(user, repo, commit_id) is not None,
        twin=catalog.store.checkpoints.with_adapter(user, repo, commit.adapter),
    )


def describe(catalog: Catalog, user: str, repo: str, arrival: Arrival) -> None:
    """Add the commit without weights, or the notes that it lacks. Raises: see `plan`."""
    with catalog.store.transaction():
        plan(catalog, user, repo, arrival.commit)
        _describe(catalog, user, repo, arrival)


def _describe(catalog: Catalog, user: str, repo: str, arrival: Arrival) -> str:
    commit_id = catalog.history.commits.add(user, repo, arrival.commit)
    catalog.history.commits.arrive(user, repo, commit_id, int(time.time()))
    known = catalog.history.commits.notes(user, repo, commit_id)
    for key, value in arrival.notes.items():
        if key != PARITY and key not in known:
            catalog.history.commits.put_note(user, repo, commit_id, key, value)
    return commit_id


def keep(
    catalog: Catalog, user: str, repo: str, arrival: Arrival, files: Path, warnings: list[str]
) -> Checkpoint | None:
    """Add the commit, its job and its checkpoint.

    Args: files: folder with the adapter, which is moved.
    Returns: the checkpoint; None if the commit's weights came in another request meanwhile.
    Raises: see `plan`; `files` then stay in place.
    """
    commit, now = arrival.commit, int(time.time())
    with catalog.store.transaction():
        catalog.check_user(user)
        if plan(catalog, user, repo, commit).has_weights:
            return None
        commit_id = _describe(catalog, user, repo, arrival)
        parent = next(iter(commit.parent_ids), None)
        began_from = None if parent is None else catalog.store.checkpoints.of_commit(user, repo, parent)
        parent_name = None if began_from is None else began_from.name
        job = catalog.store.jobs.add(
            BakeJob(
                user=user,
                repo=repo,
                name=arrival.short_id,
                state=JobState.COMPLETE,
                config=BakeConfig(),
                inputs=BakeInputs({}, parent_name, received=ReceivedCommit(commit_id, arrival.data.recipe)),
                progress_percent=100.0,
                warnings=warnings,
                created=now,
                finished=now,
            )
        )
        folder = checkpoint_folder(job_folder(catalog.store.home, job.id), STEP)
        folder.parent.mkdir(parents=True)
        for target, rows in arrival.data.rows.items():
            file = received_rows(folder.parent.parent, target)
            file.parent.mkdir(exist_ok=True)
            append_lines(file, rows)
        publish_folder(files, folder)
        checkpoint = Checkpoint(
            user=user,
            repo=repo,
            bake=arrival.short_id,
            step=STEP,
            path=folder,
            sha256=commit.adapter,
            created=now,
            job_id=job.id,
            parent=parent_name,
            commit_id=commit_id,
        )
        catalog.store.checkpoints.add(checkpoint, moves_name=False)
    return checkpoint


def write_certificate(folder: Path, certificate: ParityCertificate) -> None:
    """Blocks."""
    write_json(folder / PARITY_FILE, certificate)


def warnings_of(arrival: Arrival, *, is_certified: bool, has_effect: bool) -> list[str]:
    warnings = [f"received as commit {arrival.commit.id} from another server; its notes are that server's word"]
    if not is_certified:
        warnings.append(
            "it came without a parity certificate, so the engine's numbers were not compared with those of its training"
        )
    if not has_effect:
        warnings.append("it does not change the engine's probabilities of a few test tokens")
    return warnings
