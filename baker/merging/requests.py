"""Turns a request for a merge into a bake of the repo. Functions over the catalog; they block."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from baker.comparison.versions import Version, read_history
from baker.config import unsupported
from baker.config.bake import BakeConfig, bake_config
from baker.config.merge import MergeConfig
from baker.errors import ConflictError, InvalidInputError
from baker.history import graph
from baker.history.ref_table import HEAD, RefKind
from baker.history.revisions import SHORT_ID, RepoView, resolve
from baker.merging.plan import plan_merge
from baker.repos import bakes
from baker.repos.catalog import DEFAULT_TEMPLATE, Catalog
from baker.status import JobState
from baker.storage.job_inputs import MergeInputs
from baker.versions import refs


class MergeRequest(msgspec.Struct, frozen=True):
    merge: dict[str, Any]
    """Settings of the merge, as a client writes them."""
    into: str = HEAD
    """Revision that the others are merged into."""
    name: str | None = None
    """Of the bake that the merge becomes; None: made of the versions' names."""
    message: str | None = None
    overrides: dict[str, Any] = {}
    """Further settings of the bake."""


class Planned(msgspec.Struct, frozen=True):
    name: str
    config: BakeConfig
    inputs: MergeInputs
    overrides: dict[str, Any] | None
    """Settings of the bake to add; None if it is there already."""


def plan(catalog: Catalog, user: str, repo: str, request: MergeRequest, *, max_rank: int) -> Planned:
    """The bake that the merge would be. Reads only.

    Raises: NotFoundError; InvalidInputError, ConfigError or ConflictError with what can't be merged, and what to do.
    """
    merge = bake_config({"merge": request.merge}).merge
    history = read_history(catalog, user, repo)
    ours = history.version(_into(history.view, request))
    if ours.checkpoint is None:
        raise InvalidInputError("the base model can't be merged into: name a version of the repo in `into`")
    others = [history.version(text) for text in merge.others]
    _check_overrides(request.overrides)
    overrides: dict[str, Any] = {
        **request.overrides,
        "merge": _given(merge),
        "model": {**(request.overrides.get("model") or {}), "parent_model_name": ours.checkpoint.name},
    }
    if request.message is not None:
        overrides["message"] = request.message
    if (branch := _branch(history.view, [ours, *others])) is not None:
        overrides.setdefault("branch", branch)
    config = bake_config(overrides, max_rank=max_rank)
    if refusals := unsupported.refusals(config):
        raise InvalidInputError(f"the merge can't be made: {'; '.join(refusals)}")
    inputs = plan_merge(catalog, user, repo, config, ours.checkpoint)
    for name in _names(request, config.merge.meant_kind, inputs):
        if config.merge.meant_strategy == "compose":
            overrides = {**overrides, "datasets": [{"target": name}]}
            config = bake_config(overrides, max_rank=max_rank)
        known = bakes.find(catalog, user, repo, name)
        is_free = known is None and catalog.history.refs.find(user, repo, name) is None
        if known is not None and _without_branch(known) == _without_branch(config):
            if _merges_the_same(catalog, user, repo, name, inputs):
                return Planned(name, known, inputs, None)
            if request.name is not None:
                raise ConflictError(f"bake {name!r} merged other versions of the same names: choose another name")
        if is_free or request.name is not None:
            return Planned(name, config, inputs, overrides)
    raise ConflictError("the names that are made of the versions' names are taken: choose a name")


def _check_overrides(overrides: dict[str, Any]) -> None:
    """Raises: InvalidInputError for what the merge itself sets, and what is no object."""
    if set_here := sorted({"merge", "datasets", "model_name"} & overrides.keys()):
        raise InvalidInputError(f"overrides has {', '.join(set_here)}, which the merge itself sets: leave it out")
    model = overrides.get("model") or {}
    if not isinstance(model, dict):
        raise InvalidInputError(f"overrides.model must be an object, got {type(model).__name__}")
    if set_here := sorted({"parent_model_name", "name_or_path"} & model.keys()):
        raise InvalidInputError(f"overrides.model has {', '.join(set_here)}: name the version to merge into in `into`")


def _merges_the_same(catalog: Catalog, user: str, repo: str, name: str, inputs: MergeInputs) -> bool:
    """Whether the bake's run, if it does not have to run again, merged these versions: names may have moved since."""
    job = bakes.latest_job(catalog, user, repo, name)
    if job is None or job.state is JobState.FAILED or job.inputs.merge is None:
        return True
    return _versions(job.inputs.merge) == _versions(inputs)


def _versions(inputs: MergeInputs) -> tuple[object, ...]:
    return [(side.commit, side.weight) for side in inputs.sides], inputs.base_commit, inputs.probe


def save(catalog: Catalog, user: str, repo: str, planned: Planned, *, max_rank: int) -> None:
    """Add the bake, unless it is there already. Raises: ConflictError if one of that name has other settings."""
    if planned.overrides is None:
        return
    bakes.put(
        catalog, user, repo, planned.name, DEFAULT_TEMPLATE, planned.overrides, may_change=False, max_rank=max_rank
    )


def _without_branch(config: BakeConfig) -> BakeConfig:
    """The current branch, which the first request chose, may have moved since."""
    return msgspec.structs.replace(config, branch=None)


class TakenBack(NamedTuple):
    branch: str
    commit: str
    """Id of the version that it means then."""


def take_back(
    catalog: Catalog, user: str, repo: str, request: MergeRequest, *, is_dry: bool = False
) -> TakenBack | None:
    """Move a branch whose newest version is reverted to that version's parent: the first, or the one in `merge.base`.
    None if `into` is no branch.

    Args: is_dry: only say what would move.
    Raises: NotFoundError; ConflictError if nothing came before that version, or `merge.base` is no parent of it.
    """
    with catalog.store.transaction():
        view = read_history(catalog, user, repo).view
        name = view.head if request.into == HEAD else request.into
        ref = None if name is None else view.refs.get(name)
        if name is None or ref is None or ref.kind is not RefKind.BRANCH:
            return None
        parents = view.parents[ref.target]
        if not parents:
            raise ConflictError(
                f"{ref.target[:SHORT_ID]} is the first version of branch {name!r}, and a branch can't mean the base "
                "model: delete the branch instead"
            )
        base = request.merge.get("base")
        parent = parents[0] if base is None else resolve(view, base)
        if parent not in parents:
            raise ConflictError(
                f"{base!r} is no parent of {ref.target[:SHORT_ID]}: {', '.join(p[:SHORT_ID] for p in parents)}"
            )
        if not is_dry:
            refs.put(catalog, user, repo, name, RefKind.BRANCH, parent, expected=ref.target, force=True)
        return TakenBack(name, parent)


def _into(view: RepoView, request: MergeRequest) -> str:
    if request.into == HEAD and (view.head is None or view.head not in view.refs):
        raise InvalidInputError(
            f"repo {view.repo!r} has no current branch to merge into: name a version (bread merge A B), or switch to a "
            "branch"
        )
    return request.into


def _branch(view: RepoView, sides: list[Version]) -> str | None:
    """The current branch, if the merge would move it forward."""
    if view.head is None or (ref := view.refs.get(view.head)) is None or ref.kind is not RefKind.BRANCH:
        return None
    return view.head if any(graph.is_ancestor(view.parents, ref.target, side.id) for side in sides) else None


def _given(merge: MergeConfig) -> dict[str, Any]:
    """The settings that differ from the defaults, as a client would write them."""
    defaults = msgspec.to_builtins(MergeConfig())
    return {name: value for name, value in msgspec.to_builtins(merge).items() if value != defaults[name]}


LONGEST_STEM = 120
"""Characters of a name made of other names; a number may follow."""
MOST_NAMES = 1000
_PREFIXES = {"merge": "", "cherry-pick": "pick-", "revert": "revert-"}


def _names(request: MergeRequest, kind: str, inputs: MergeInputs) -> Iterator[str]:
    """The name that the client chose, or those made of the versions' names."""
    if request.name is not None:
        yield request.name
        return
    sides = inputs.sides if kind == "merge" else inputs.sides[1:]
    stem = (_PREFIXES[kind] + "-".join(side.label for side in sides))[:LONGEST_STEM]
    yield stem
    yield from (f"{stem}-{number}" for number in range(2, MOST_NAMES))
