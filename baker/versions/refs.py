"""Branches, tags and HEAD: listed, added, moved, removed. Each change is an operation of the repo's log.

Branches, tags and bakes share one namespace, since each is a model: `repo/<name>`. Tags never move. A branch moves
forward only, unless it is forced to.

Functions over the catalog, each one transaction; they block (see `storage/one_thread.py`). The caller then shows the
registry what changed.
"""

from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from baker.errors import ConfigError, ConflictError, InvalidInputError, NotFoundError
from baker.history import graph
from baker.history.operation_table import Change, ChangeKind
from baker.history.ref_table import HEAD, Ref, RefKind
from baker.history.revisions import SHORT_ID, RepoView, resolve
from baker.names import check_name
from baker.repos.catalog import Catalog, Put
from baker.repos.repo_view import check_is_free, conflict, repo_view
from baker.storage.job import BakeJob
from baker.suggestions import did_you_mean


class Named(NamedTuple):
    """A name of a repo and what it means."""

    name: str
    kind: str
    """`bake`, `branch`, `tag` or `remote`."""
    commit: str
    message: str
    created: int
    """Unix seconds, like `updated`."""
    updated: int
    is_head: bool
    is_served: bool
    """Whether it may be chatted with, if its weights are served."""


def listing(catalog: Catalog, user: str, repo: str) -> list[Named]:
    """Bakes that mean a version, in order of creation; then branches, tags and remote-tracking names, by name.

    Raises: NotFoundError if there is no such repo.
    """
    catalog.repo(user, repo)
    view = repo_view(catalog, user, repo)
    created = catalog.store.all_created("bakes", user, repo)
    moved = {
        checkpoint.commit_id: checkpoint.created for checkpoint in catalog.store.checkpoints.moves_in_repo(user, repo)
    }
    known = [
        Named(name, "bake", commit, "", created[name], moved[commit], is_head=False, is_served=commit in view.models)
        for name, commit in view.bakes.items()
        if commit is not None
    ]
    return known + [_named(ref, view) for ref in view.refs.values()]


def find(catalog: Catalog, user: str, repo: str, name: str) -> Named:
    """Raises: NotFoundError."""
    known = {each.name: each for each in listing(catalog, user, repo)}
    if name not in known:
        raise _unknown(repo, name, list(known))
    return known[name]


def head(catalog: Catalog, user: str, repo: str) -> Named | None:
    """The current branch. Raises: NotFoundError if there is no such repo."""
    return next((each for each in listing(catalog, user, repo) if each.is_head), None)


def put(
    catalog: Catalog,
    user: str,
    repo: str,
    name: str,
    kind: RefKind,
    to: str,
    *,
    message: str = "",
    expected: str | UnsetType | None = UNSET,
    force: bool = False,
) -> Put:
    """Add the branch or tag, or move the branch. The same call again changes nothing.

    Args:
        to: a revision.
        expected: the id of the commit that the name must mean now; None: there must be no such branch or tag. Unset:
            it may mean anything.
        force: whether the branch may move to a version that did not come from the one that it means now.
    Raises: ConfigError for a name that is not allowed; NotFoundError; InvalidInputError for a wrong revision;
        ConflictError, with one of these as the `type` of its detail: `name_taken`, `tag_exists`, `compare_and_swap`,
        `not_fast_forward`.
    """
    with catalog.store.transaction():
        move = _moved(catalog, user, repo, Ref(name, kind, to, message), expected, force=force)
        if move is not None:
            catalog.history.log.record(user, repo, kind, [move])
        return Put(find(catalog, user, repo, name), move is not None and move.before is None)


def follow(catalog: Catalog, job: BakeJob, commit: str) -> str | None:
    """Move the branch that a bake names to its result, if it means what it meant when the bake was started; it is added
    if there was none. The move belongs to the operation of the bake's own name.

    Returns: why the branch did not move; None if it did, or the bake names none.
    """
    if job.config.branch is None:
        return None
    ref = Ref(job.config.branch, RefKind.BRANCH, commit)
    try:
        move = _moved(catalog, job.user, job.repo, ref, job.inputs.branch_tip, force=False)
    except (ConfigError, ConflictError) as error:
        return f"branch {ref.name!r} did not move to the result: {error.message}"
    earlier = catalog.history.operations.touching(job.user, job.repo, "bake", job.name)
    if move is not None and earlier:
        catalog.history.log.record_more(earlier[-1], [move])
    return None


def _moved(
    catalog: Catalog, user: str, repo: str, wanted: Ref, expected: str | UnsetType | None, *, force: bool
) -> Change | None:
    """Add or move a branch or tag. Args: wanted: its target is a revision. Returns: None if nothing changes.

    Raises: see `put`.
    """
    name, kind = wanted.name, wanted.kind
    check_name(name, kind)
    catalog.repo(user, repo)
    view = repo_view(catalog, user, repo)
    commit = resolve(view, wanted.target)
    ref = view.refs.get(name)
    _check_kind(view, name, kind)
    if expected is not UNSET:
        _check_expected(name, None if ref is None else ref.target, expected)
    if ref is None:
        check_is_free(view, name)
        return _write(catalog, user, repo, msgspec.structs.replace(wanted, target=commit), None)
    message = wanted.message or ref.message
    if (ref.target, ref.message) == (commit, message):
        return None
    if kind is RefKind.TAG:
        text = f"Tag {name!r} means {ref.target[:SHORT_ID]}, and tags never move"
        raise conflict("to", "tag_exists", f"{text}: choose another name, or delete it first")
    if not force and not graph.is_ancestor(view.parents, ref.target, commit):
        text = f"{commit[:SHORT_ID]} did not come from {ref.target[:SHORT_ID]}, which branch {name!r} means now"
        raise conflict("to", "not_fast_forward", f"{text}: move it with force, or choose another name")
    return _write(catalog, user, repo, Ref(name, kind, commit, message), ref)


def delete(catalog: Catalog, user: str, repo: str, name: str, *, force: bool = False) -> RefKind:
    """Remove the branch or tag. Its commits stay. Returns: what it was.

    Args: force: needed for a tag, and for the current branch, which then is none.
    Raises: NotFoundError; InvalidInputError for a bake; ConflictError without `force`.
    """
    with catalog.store.transaction():
        catalog.repo(user, repo)
        view = repo_view(catalog, user, repo)
        ref = view.refs.get(name)
        if ref is None:
            if name in view.bakes:
                raise InvalidInputError(f"{name!r} is a bake: DELETE /v1/repo/{repo}/bakes/{name} removes it")
            raise _unknown(repo, name, list(view.refs))
        is_head = name == view.head
        if not force and (is_head or ref.kind is RefKind.TAG):
            what = "the current branch" if is_head else "a tag, which others may rely on"
            raise conflict("force", "needs_force", f"{name!r} is {what}: delete it with force")
        changes = [_removed(catalog, user, repo, ref)]
        if is_head and (head := catalog.history.refs.find(user, repo, HEAD)) is not None:
            changes.append(_removed(catalog, user, repo, head))
        catalog.history.log.record(user, repo, f"delete-{ref.kind}", changes)
        return ref.kind


def switch(catalog: Catalog, user: str, repo: str, branch: str) -> str:
    """Make `branch` the current branch. Returns: the id of the commit that it means. Raises: NotFoundError."""
    with catalog.store.transaction():
        catalog.repo(user, repo)
        refs = {ref.name: ref for ref in catalog.history.refs.of_repo(user, repo)}
        branches = {name: ref for name, ref in refs.items() if ref.kind is RefKind.BRANCH}
        if branch not in branches:
            raise NotFoundError(f"Repo {repo!r} has no branch {branch!r:.140}{did_you_mean(branch, branches)}")
        head = refs.get(HEAD)
        if head is None or head.target != branch:
            change = _write(catalog, user, repo, Ref(HEAD, RefKind.HEAD, branch), head)
            catalog.history.log.record(user, repo, "switch", [change])
        return branches[branch].target


def _check_kind(view: RepoView, name: str, kind: RefKind) -> None:
    """Raises: ConflictError if the name is that of a bake, or of a ref of another kind."""
    ref = view.refs.get(name)
    if name in view.bakes or (ref is not None and ref.kind is not kind):
        check_is_free(view, name)


def _check_expected(name: str, present: str | None, expected: str | None) -> None:
    if present != expected:
        means = "does not exist" if present is None else f"means {present[:SHORT_ID]}"
        wanted = "it should not exist yet" if expected is None else f"{expected[:SHORT_ID]} was expected"
        raise conflict("from", "compare_and_swap", f"{name!r} {means}, but {wanted}: fetch, then try again")


def _write(catalog: Catalog, user: str, repo: str, ref: Ref, before: Ref | None) -> Change:
    """Store the ref. Returns: the change for the log."""
    if before is not None:
        ref = msgspec.structs.replace(ref, created=before.created)
    catalog.history.refs.put(user, repo, ref)
    return _change(before, catalog.history.refs.find(user, repo, ref.name))


def _removed(catalog: Catalog, user: str, repo: str, ref: Ref) -> Change:
    catalog.history.refs.remove(user, repo, ref.name)
    return _change(ref, None)


def _change(before: Ref | None, after: Ref | None) -> Change:
    ref = after or before
    assert ref is not None
    kind: ChangeKind = ref.kind.value
    return Change(kind, ref.name, _json(before), _json(after))


def _json(ref: Ref | None) -> Any:
    return None if ref is None else msgspec.to_builtins(ref)


def _named(ref: Ref, view: RepoView) -> Named:
    is_head = ref.kind is RefKind.BRANCH and ref.name == view.head
    is_served = ref.kind is not RefKind.REMOTE and ref.target in view.models
    return Named(ref.name, ref.kind, ref.target, ref.message, ref.created, ref.updated, is_head, is_served)


def _unknown(repo: str, name: str, known: list[str]) -> NotFoundError:
    return NotFoundError(f"Repo {repo!r} has no branch or tag {name!r:.140}{did_you_mean(name, known)}")
