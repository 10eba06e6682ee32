"""Reads the names and commits of a repo, which the rules of `history/revisions.py` work on."""

from collections.abc import Iterable, Mapping

from baker.errors import ConflictError
from baker.history.operation_table import PointerMove
from baker.history.ref_table import HEAD, RefKind
from baker.history.revisions import SHORT_ID, RepoView, is_prefix
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
        models=catalog.store.checkpoints.by_commit(user, repo),
        reflogs=logs,
    )


def check_is_free(view: RepoView, name: str) -> None:
    """Raises: ConflictError if a new bake, branch or tag can't have the name."""
    kind = "bake" if name in view.bakes else view.refs[name].kind if name in view.refs else None
    if kind is not None:
        raise conflict("name", "name_taken", f"{name!r} is a {kind} of repo {view.repo!r}: choose another name")
    hidden = next((commit for commit in view.parents if is_prefix(name) and commit.startswith(name)), None)
    if hidden is not None:
        text = f"{name!r} is the beginning of the id of commit {hidden[:SHORT_ID]}, which it would hide"
        raise conflict("name", "name_taken", f"{text}: choose another name")


def conflict(field: str, kind: str, message: str) -> ConflictError:
    """Args: field: of the request's body; kind: `type` of the error's detail."""
    return ConflictError(message, detail=[{"loc": ["body", field], "msg": message, "type": kind}])


def reflogs(moves: Iterable[PointerMove], now: Mapping[str, str], head: str | None) -> dict[str, list[str]]:
    """Name -> ids of the commits that it meant, latest first.

    Args:
        moves: oldest first.
        now: name -> the commit that it means now.
        head: name of the current branch.
    """
    logs: dict[str, list[str]] = {}
    at: dict[str, str] = {}
    branch: str | None = None
    of_head: list[str] = []
    for kind, name, before, after in moves:
        if kind == "head":
            branch = after
        else:
            log = logs.setdefault(name, [] if before is None else [before])
            if after is not None:
                log += [] if log[-1:] == [after] else [after]
                at[name] = after
        tip = at.get(branch or "")
        of_head += [] if tip is None or of_head[-1:] == [tip] else [tip]
    latest_first = {name: logs.get(name, [])[::-1] for name in now}
    latest_first[HEAD] = of_head[::-1]
    of_now = now if head is None or head not in now else {**now, HEAD: now[head]}
    for name, commit in of_now.items():
        if latest_first[name][:1] != [commit]:
            latest_first[name].insert(0, commit)
    return latest_first
