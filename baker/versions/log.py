"""The versions of a repo as clients see them: in order, with their names and notes. Reads only.

Functions over the catalog; they block (see `storage/one_thread.py`). Each makes the same few queries however many
commits there are.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from baker.errors import NotFoundError
from baker.history import graph
from baker.history.commit import Commit
from baker.history.ref_table import RefKind
from baker.history.revisions import RepoView, resolve
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.versions import commits


class Name(NamedTuple):
    """A name that means a commit."""

    name: str
    kind: str
    """`bake`, `branch`, `tag` or `remote`."""
    is_head: bool


class Entry(NamedTuple):
    """A commit, and what changes about it."""

    id: str
    commit: Commit
    names: list[Name]
    model: str | None
    """Full name of its checkpoint; None if its weights are not here."""
    notes: dict[str, Any]


class Page(NamedTuple):
    entries: list[Entry]
    next: str | None
    """Id of the last commit, if more follow."""


def log(
    catalog: Catalog,
    user: str,
    repo: str,
    *,
    revision: str | None = None,
    with_siblings: bool = False,
    limit: int,
    after: str | None = None,
) -> Page:
    """Versions, each before those that it came from, else the newest first.

    Args:
        revision: only this one and what it came from; None: what the repo's names came from.
        with_siblings: whether other checkpoints of the same trainings are included; without `revision`, all commits.
        after: id of the commit that the page before ended with.
    Raises: NotFoundError if there is no such repo, revision or commit; InvalidInputError for a wrong revision.
    """
    catalog.repo(user, repo)
    view = repo_view(catalog, user, repo)
    known = catalog.history.commits.of_repo(user, repo)
    tips = names_by_commit(view) if revision is None else [resolve(view, revision)]
    chosen = graph.ancestors(view.parents, tips)
    if with_siblings:
        chosen = set(known) if revision is None else chosen | _siblings(catalog, user, repo, chosen)
    order = graph.log_order(view.parents, chosen, {commit_id: commit.created for commit_id, commit in known.items()})
    start = 0
    if after is not None:
        if after not in chosen:
            raise NotFoundError(f"Repo {repo!r} has no commit {after!r:.140} in this list: `after` is a commit's id")
        start = order.index(after) + 1
    page = order[start : start + limit]
    return Page(_entries(catalog, view, known, page), page[-1] if page and start + limit < len(order) else None)


def show(catalog: Catalog, user: str, repo: str, revision: str) -> tuple[Entry, dict[str, Any] | None]:
    """The commit that the revision means, and its recipe as JSON: the settings, targets and prompts that made it; None
    if it is an import, or they are not here.

    Raises: NotFoundError; InvalidInputError for a wrong revision.
    """
    catalog.repo(user, repo)
    view = repo_view(catalog, user, repo)
    commit_id = resolve(view, revision)
    commit = catalog.history.commits.find(user, repo, commit_id)
    assert commit is not None  # the view is from the same rows
    (entry,) = _entries(catalog, view, {commit_id: commit}, [commit_id])
    number = catalog.store.checkpoints.job_of_commit(user, commit_id)
    job = None if number is None else catalog.store.jobs.find_bake(number)
    return entry, None if job is None else commits.recipe_of(job)


def names_by_commit(view: RepoView) -> dict[str, list[Name]]:
    """Id of each commit that a name means -> its names: bakes, branches, tags, remote-tracking names."""
    named: dict[str, list[Name]] = {}
    for bake, commit in view.bakes.items():
        if commit is not None:
            named.setdefault(commit, []).append(Name(bake, "bake", is_head=False))
    order = [RefKind.BRANCH, RefKind.TAG, RefKind.REMOTE]
    for ref in sorted(view.refs.values(), key=lambda ref: order.index(ref.kind)):
        is_head = ref.kind is RefKind.BRANCH and ref.name == view.head
        named.setdefault(ref.target, []).append(Name(ref.name, ref.kind, is_head))
    return named


def _entries(catalog: Catalog, view: RepoView, known: dict[str, Commit], ids: Iterable[str]) -> list[Entry]:
    names = names_by_commit(view)
    models = catalog.store.checkpoints.by_commit(view.user, view.repo)
    notes = catalog.history.commits.all_notes(view.user, view.repo)
    return [Entry(each, known[each], names.get(each, []), models.get(each), notes.get(each, {})) for each in ids]


def _siblings(catalog: Catalog, user: str, repo: str, chosen: set[str]) -> set[str]:
    """The commits of all checkpoints that the trainings of the chosen ones wrote."""
    jobs = catalog.store.checkpoints.jobs_by_commit(user, repo)
    numbers = {jobs[commit] for commit in chosen if commit in jobs}
    return {commit for commit, number in jobs.items() if number in numbers}
