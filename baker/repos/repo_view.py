"""Reads the names and commits of a repo, which the rules of `history/revisions.py` work on."""

from collections.abc import Iterable, Mapping
from typing import Any

from baker.history.operation_table import Change
from baker.history.ref_table import HEAD, RefKind
from baker.history.revisions import RepoView
from baker.repos.catalog import Catalog


def repo_view(catalog: Catalog, user: str, repo: str) -> RepoView:
    """The names and commits of the repo as they are now; all empty if there is no such repo. Reads only."""
    moved = catalog.store.checkpoints.moves_in_repo(user, repo)
    meant: dict[str, list[str]] = {name: [] for name in catalog.store.names("bakes", user, repo)}
    for checkpoint in moved:
        if checkpoint.commit_id is not None and checkpoint.bake in meant:
            meant[checkpoint.bake].append(checkpoint.commit_id)
    refs = {ref.name: ref for ref in catalog.history.refs.of_repo(user, repo)}
    head = refs.pop(HEAD, None)
    bakes = {name: next(iter(commits), None) for name, commits in meant.items()}
    now = {name: ref.target for name, ref in refs.items() if ref.kind is not RefKind.REMOTE}
    now |= {name: commit for name, commit in bakes.items() if commit is not None}
    logs = reflogs(catalog.history.operations.moves(user, repo), now, None if head is None else head.target)
    for name, commits in meant.items():
        # Moves of versions without operations: the rows know the last one to each checkpoint.
        logs[name] = [*logs.get(name, ()), *(commit for commit in commits if commit not in logs.get(name, ()))]
    return RepoView(
        user=user,
        repo=repo,
        bakes=bakes,
        checkpoints={
            f"{checkpoint.bake}/{checkpoint.step}": checkpoint.commit_id
            for checkpoint in catalog.store.checkpoints.of_repo(user, repo)
            if checkpoint.commit_id is not None
        },
        refs=refs,
        head=None if head is None else head.target,
        parents=catalog.history.commits.parents(user, repo),
        reflogs=logs,
    )


def reflogs(changes: Iterable[Change], now: Mapping[str, str], head: str | None) -> dict[str, list[str]]:
    """Name -> ids of the commits that it meant, latest first.

    Args:
        changes: of pointers, oldest first.
        now: name -> the commit that it means now.
        head: name of the current branch.
    """
    logs: dict[str, list[str]] = {}
    at: dict[str, str] = {}
    branch: str | None = None
    of_head: list[str] = []
    for change in changes:
        before, after = target_of(change.before), target_of(change.after)
        if change.kind == "head":
            branch = after
        else:
            log = logs.setdefault(change.name, [] if before is None else [before])
            log += [] if after is None or log[-1:] == [after] else [after]
            at |= {} if after is None else {change.name: after}
        tip = at.get(branch or "")
        of_head += [] if tip is None or of_head[-1:] == [tip] else [tip]
    latest_first = {name: logs.get(name, [])[::-1] for name in now}
    latest_first[HEAD] = of_head[::-1]
    of_now = now if head is None or head not in now else {**now, HEAD: now[head]}
    for name, commit in of_now.items():
        if latest_first[name][:1] != [commit]:
            latest_first[name].insert(0, commit)
    return latest_first


def target_of(value: Any) -> str | None:
    """What a pointer meant by the `before` or `after` of its change: an id of a commit; for HEAD, a branch's name."""
    match value:
        case str():
            return value
        case {"target": str() as target} | {"commit": str() as target}:
            return target
    return None
