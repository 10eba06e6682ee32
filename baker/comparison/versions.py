"""The versions that a comparison is about: commits with weights here, or the base model.

Functions over the catalog block (see `storage/one_thread.py`).
"""

import re
from collections.abc import Mapping

import msgspec

from baker.errors import InvalidInputError, NotFoundError
from baker.history import graph, revisions
from baker.history.commit import Commit
from baker.history.revisions import SHORT_ID, RepoView
from baker.model_names import shortened
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.types import Checkpoint

BASE = "base"
"""What a client writes for the base model, and its id in results. It goes before a bake of that name."""
_STRENGTH = re.compile(r"@(?!\{)")


class Version(msgspec.Struct, frozen=True):
    id: str
    """Id of the commit; BASE for the base model."""
    commit: Commit | None
    checkpoint: Checkpoint | None
    """What the engine serves; None for the base model."""

    @property
    def short_id(self) -> str:
        return self.id[:SHORT_ID]


BASE_VERSION = Version(BASE, None, None)


class RepoHistory(msgspec.Struct, frozen=True):
    """The commits of a repo at one moment."""

    view: RepoView
    commits: Mapping[str, Commit]
    checkpoints: Mapping[str, Checkpoint]
    """Id of a commit -> its checkpoint; commits whose weights are not here have none."""

    def version(self, text: str) -> Version:
        """What a client means by a revision or BASE.

        Raises: InvalidInputError if it is malformed, has a strength or can't be asked; NotFoundError.
        """
        if text == BASE:
            return BASE_VERSION
        if _STRENGTH.search(text):
            raise InvalidInputError(
                f"{shortened(text)!r} names a strength, and only whole versions are compared: cut it off at the '@'"
            )
        version = self.of_commit(revisions.resolve(self.view, text))
        if version.checkpoint is None:
            raise NotFoundError(f"The weights of version {version.short_id} are not here, so it can't be asked")
        if not version.checkpoint.is_served:
            raise InvalidInputError(
                f"Version {version.short_id} is an adapter of another model than the one that is served: it can be "
                "downloaded, but not asked"
            )
        return version

    def of_commit(self, commit_id: str) -> Version:
        return Version(commit_id, self.commits[commit_id], self.checkpoints.get(commit_id))

    def in_log_order(self, commit_ids: set[str]) -> list[str]:
        """Newest first, children before parents."""
        return graph.log_order(
            self.view.parents, commit_ids, {commit: self.commits[commit].created for commit in commit_ids}
        )


def read_history(catalog: Catalog, user: str, repo: str) -> RepoHistory:
    """Raises: NotFoundError if there is no such repo."""
    catalog.repo(user, repo)
    commits = catalog.history.commits.of_repo(user, repo)
    # A bake may begin from another repo's version: its weights are there, and its commit is here too.
    own_last = sorted(catalog.store.checkpoints.of_user(user), key=lambda checkpoint: checkpoint.repo == repo)
    checkpoints = {
        each.commit_id: each for each in own_last if each.commit_id is not None and each.commit_id in commits
    }
    return RepoHistory(repo_view(catalog, user, repo), commits, checkpoints)


class Lineage(msgspec.Struct, frozen=True):
    """Versions that can be asked, and what each continues."""

    versions: list[Version]
    """Newest first, children before parents."""
    parents: dict[str, list[str]]
    """Id -> the nearest ancestors among `versions`, that of the first parent first; [BASE] if there is none."""
    warnings: list[str]


def lineage(history: RepoHistory, commit_ids: set[str], limit: int) -> Lineage:
    """The newest `limit` of these commits that have weights here."""
    ordered = [history.of_commit(commit) for commit in history.in_log_order(commit_ids)]
    served = [each for each in ordered if each.checkpoint is not None and each.checkpoint.is_served]
    warnings = []
    if missing := [each.short_id for each in ordered if each not in served]:
        warnings.append(
            f"not asked, since their weights are not here: {', '.join(missing)}; what they changed counts for the "
            "versions that came from them"
        )
    if len(served) > limit:
        warnings.append(
            f"only the newest {limit} of {len(served)} versions were asked; what older ones changed counts for the "
            f"oldest of these, {served[limit - 1].short_id}"
        )
    versions = served[:limit]
    outside = sorted(
        {
            parent
            for each in versions
            if each.commit is not None
            for parent in each.commit.parent_ids
            if parent not in history.commits
        }
    )
    if outside:
        warnings.append(
            f"{', '.join(commit[:SHORT_ID] for commit in outside)} is not in this repo; what it changed counts for the "
            "version that began from it"
        )
    kept = {each.id for each in versions}
    return Lineage(versions, {each: _nearest(history, each, kept) for each in kept}, warnings)


def _nearest(history: RepoHistory, commit_id: str, kept: set[str]) -> list[str]:
    """The nearest ancestors in `kept`, by way of ancestors that are not."""
    nearest: dict[str, None] = {}
    stack = list(reversed(history.view.parents[commit_id]))
    seen: set[str] = set()
    while stack:
        parent = stack.pop()
        if parent in kept:
            nearest.setdefault(parent)
        elif parent in history.commits and parent not in seen:
            seen.add(parent)
            stack += reversed(history.view.parents[parent])
    return list(nearest) or [BASE]
