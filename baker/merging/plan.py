"""Which versions a merge adds up, from what, and what it refuses. Functions over the catalog; they block."""

from collections.abc import Sequence
from itertools import permutations

import msgspec

from baker.comparison import probes
from baker.comparison.versions import BASE, BASE_VERSION, RepoHistory, Version, read_history
from baker.config.bake import BakeConfig
from baker.config.merge import MergeConfig
from baker.errors import ConflictError, InvalidInputError
from baker.history import graph, revisions
from baker.history.commit import content_id
from baker.model_names import shortened
from baker.names import is_name
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.storage.job import BakeJob
from baker.storage.job_inputs import MergeInputs, MergeSide
from baker.types import Checkpoint

UP_TO_DATE, FAST_FORWARD, NEWEST = "up_to_date", "fast_forward", "newest"
"""`type` in the detail of the errors for merges that need no new weights."""


def plan_merge(catalog: Catalog, user: str, repo: str, config: BakeConfig, parent: Checkpoint | None) -> MergeInputs:
    """Args: parent: the version to merge into, which the bake begins from.

    Raises: NotFoundError; InvalidInputError or ConflictError with what can't be merged, and what to do.
    """
    merge, history = config.merge, read_history(catalog, user, repo)
    if parent is None or parent.commit_id is None or parent.commit_id not in history.commits:
        raise InvalidInputError(
            f"merge.others names {', '.join(merge.others)}, but there is no version of repo {repo!r} to merge into: "
            "name it as the bake's parent"
        )
    ours = history.of_commit(parent.commit_id)
    others = [history.version(text) for text in merge.others]
    texts = [_own_label(history, ours), *merge.others]
    for version, text in zip([ours, *others], texts, strict=True):
        _check_side(catalog, version, text, merge)
    base = _base(history, merge, ours, others)
    labels = _labels(texts, [ours, *others])
    weights = merge.weights or [1.0, *(-1.0 if merge.meant_kind == "revert" else 1.0 for _ in others)]
    jobs_of = [_with_rows_of_their_own(catalog, jobs) for jobs in _jobs(history, merge, base, [ours, *others])]
    if config.data.on_policy.rounds:
        _check_teachers(labels, jobs_of, None if base.checkpoint is None else base.checkpoint.name)
    sides = [
        MergeSide(label, side.id, side.checkpoint.name, weight, [job.id for job in jobs], _contexts(jobs))
        for label, side, weight, jobs in zip(labels, [ours, *others], weights, jobs_of, strict=True)
        if side.checkpoint is not None
    ]
    return MergeInputs(
        sides,
        None if base.checkpoint is None else base.checkpoint.name,
        None if base.commit is None else base.id,
        [] if merge.probe is None else probes.get(catalog, user, repo, merge.probe).conversations,
    )


def _check_teachers(labels: Sequence[str], jobs_of: Sequence[Sequence[BakeJob]], base: str | None) -> None:
    """Raises: InvalidInputError if another model than the merge base answered a version's questions: on-policy rounds
    have one teacher, the merge base under each row's own prompt."""
    for label, jobs in zip(labels, jobs_of, strict=True):
        teachers = {snapshot.checkpoint for job in jobs for snapshot in job.inputs.targets.values()}
        if teachers - {base}:
            raise InvalidInputError(
                f"{label!r} learned from another model than the merge base, which is the only teacher of on-policy "
                "rounds: leave them out (--on-policy)"
            )


def _check_side(catalog: Catalog, version: Version, text: str, merge: MergeConfig) -> None:
    """Raises: InvalidInputError if the version can't be merged."""
    name = shortened(text)
    if version.checkpoint is None or version.commit is None:
        raise InvalidInputError(f"{name!r} is the base model, which changes nothing: name a version of the repo")
    if version.commit.base != catalog.fingerprint:
        raise InvalidInputError(
            f"{name!r} is an adapter of another base model ({version.commit.base[:12]}) than the one that is served "
            f"({(catalog.fingerprint or 'unknown')[:12]}): only adapters of one base model can be added up"
        )
    job = catalog.store.jobs.find_bake(version.checkpoint.job_id)
    if job is not None and job.state.is_active:
        raise ConflictError(f"{name!r} is still training: wait for its end, or name one of its checkpoints' ids later")
    is_taken_out = merge.meant_kind == "revert"
    if job is not None and bakes.is_held_back(catalog, job) and not (merge.allows_held_back or is_taken_out):
        raise InvalidInputError(
            f"{name!r} was held back ({job.held_back}): bake it again, or set merge.allows_held_back "
            "(--allow-held-back)"
        )


def _base(history: RepoHistory, merge: MergeConfig, ours: Version, others: Sequence[Version]) -> Version:
    """What the versions' changes are counted from.

    Raises: ConflictError if one version came from another, or it is not clear what they came from.
    """
    parents, kind = history.view.parents, merge.meant_kind
    if kind != "merge":
        (other,) = others
        if kind == "revert":
            if other.id == ours.id:
                raise _nothing_to_do(
                    NEWEST,
                    f"{other.short_id} is the newest version itself: to take it back, move the name to its parent "
                    "(promote, undo, or a branch with force)",
                )
            if not graph.is_ancestor(parents, other.id, ours.id):
                raise ConflictError(
                    f"{other.short_id} is no ancestor of {ours.short_id}, so there is nothing to revert"
                )
        elif graph.is_ancestor(parents, other.id, ours.id):
            raise _nothing_to_do(UP_TO_DATE, f"{ours.short_id} already has {other.short_id}")
        if merge.base is not None:
            return history.version(merge.base)
        known = parents[other.id]
        if len(known) > 1:
            raise ConflictError(
                f"{other.short_id} is a merge with {len(known)} parents: name the one that its changes are counted "
                f"from in merge.base (--merge-base), such as {known[0][: revisions.SHORT_ID]}"
            )
        return history.version(known[0]) if known else BASE_VERSION
    _check_apart(history, [ours, *others])
    for other in others:
        if graph.is_ancestor(parents, other.id, ours.id):
            raise _nothing_to_do(UP_TO_DATE, f"{ours.short_id} already has everything of {other.short_id}")
        if graph.is_ancestor(parents, ours.id, other.id):
            raise _nothing_to_do(
                FAST_FORWARD,
                f"{other.short_id} came from {ours.short_id}: move the name there, nothing has to be merged",
            )
    if merge.base is not None:
        return history.version(merge.base)
    bases = [graph.merge_bases(parents, ours.id, other.id) for other in others]
    if any(len(each) > 1 for each in bases) or any(each != bases[0] for each in bases):
        known = [*(commit[: revisions.SHORT_ID] for each in bases for commit in each), BASE]
        raise ConflictError(
            f"the versions have more than one merge base, since they were merged before: name one in merge.base "
            f"(--merge-base): {', '.join(dict.fromkeys(known))}"
        )
    return history.version(bases[0][0]) if bases[0] else BASE_VERSION


def _check_apart(history: RepoHistory, versions: Sequence[Version]) -> None:
    """Raises: ConflictError if one of more than two versions is, or came from, another one: it would count twice."""
    for older, newer in permutations(versions, 2) if len(versions) > 2 else ():
        if older.id == newer.id:
            raise ConflictError(f"{older.short_id} is named twice: name each version once")
        if graph.is_ancestor(history.view.parents, older.id, newer.id):
            raise ConflictError(
                f"{newer.short_id} already has everything of {older.short_id}, so that would count twice: leave "
                f"{older.short_id} out"
            )


def _nothing_to_do(kind: str, message: str) -> ConflictError:
    return ConflictError(message, detail=[{"loc": ["body", "merge", "others"], "msg": message, "type": kind}])


def _own_label(history: RepoHistory, ours: Version) -> str:
    """The name of the version that is merged into: a bake or branch that means it, else its id."""
    view = history.view
    names = [name for name, commit in view.bakes.items() if commit == ours.id]
    names += [name for name, ref in view.refs.items() if ref.target == ours.id]
    return next(filter(is_name, names), ours.short_id)  # `origin/x` is a name of another server, and none for a bake


def _labels(texts: Sequence[str], versions: Sequence[Version]) -> list[str]:
    """A label for each version: the name that the client wrote if it is one, else the beginning of its id."""
    labels: list[str] = []
    for text, version in zip(texts, versions, strict=True):
        label = text if is_name(text) and text not in labels else version.short_id
        labels.append(label)
    return labels


def _jobs(history: RepoHistory, merge: MergeConfig, base: Version, sides: Sequence[Version]) -> list[list[int]]:
    """For each side, the bakes that made it since the base. A bake that two sides share belongs to neither."""
    parents, kind = history.view.parents, merge.meant_kind
    old = set() if base.commit is None else graph.ancestors(parents, [base.id])
    if kind == "merge":
        own = [graph.ancestors(parents, [side.id]) - old for side in sides]
        shared = {commit for index, mine in enumerate(own) for theirs in own[index + 1 :] for commit in mine & theirs}
        own = [mine - shared for mine in own]
    else:
        ours, other = sides
        own = [graph.ancestors(parents, [ours.id]) - old - {other.id}, {other.id}]
    return [
        list(
            dict.fromkeys(
                checkpoint.job_id
                for commit in history.in_log_order(mine)
                if (checkpoint := history.checkpoints.get(commit)) is not None
            )
        )
        for mine in own
    ]


def _with_rows_of_their_own(catalog: Catalog, numbers: Sequence[int]) -> list[BakeJob]:
    """Without merges, whose rows are those of the versions that they came from."""
    jobs = [catalog.store.jobs.find_bake(number) for number in numbers]
    return [job for job in jobs if job is not None and (job.inputs.merge is None or job.inputs.targets)]


def _contexts(jobs: Sequence[BakeJob]) -> list[str]:
    students = [snapshot.student for job in jobs for snapshot in job.inputs.targets.values()]
    return list(dict.fromkeys(content_id(msgspec.to_builtins(student)) for student in students))
