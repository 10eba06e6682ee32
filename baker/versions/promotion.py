"""Moves a bake's name on request: to any existing checkpoint (promote), or to the one before (rollback).

Functions over the catalog, each one transaction; they block (see `storage/one_thread.py`). Before `move`, the caller
checks that the engine serves the checkpoint.
"""

from typing import NamedTuple

from baker.errors import ConflictError, NotFoundError
from baker.history.revisions import RepoView
from baker.repos import bakes, pointers
from baker.repos.catalog import Catalog
from baker.repos.repo_view import repo_view
from baker.types import Checkpoint, MovedBy


class Choice(NamedTuple):
    checkpoint: Checkpoint
    is_live: bool
    """Whether the name already means it, so that nothing is to do."""


def named(catalog: Catalog, user: str, repo: str, bake: str, step: int) -> Choice:
    """The checkpoint to promote. Raises: NotFoundError; ConflictError if it is not served."""
    bakes.get(catalog, user, repo, bake)
    checkpoint = bakes.find_checkpoint(catalog, user, repo, bake, step)
    if checkpoint is None:
        raise NotFoundError(
            f"Bake {bake!r} in repo {repo!r} has no checkpoint {step}; {_existing(catalog, user, repo, bake)}"
        )
    _check_is_served(checkpoint)
    return Choice(checkpoint, checkpoint == bakes.find_checkpoint(catalog, user, repo, bake, None))


def before(catalog: Catalog, user: str, repo: str, bake: str) -> Choice:
    """The checkpoint that the name meant before its last move. Repeating a rollback changes nothing.

    Raises: NotFoundError; ConflictError if there was none, or it no longer exists or is not served.
    """
    bakes.get(catalog, user, repo, bake)
    moves = catalog.store.checkpoints.moves(user, repo, bake)
    if moves and moves[0].by is MovedBy.ROLLBACK:
        return Choice(moves[0].checkpoint, True)
    if len(moves) < 2:
        raise ConflictError(
            f"'{repo}/{bake}' meant no other checkpoint before that still exists: promote one; "
            f"{_existing(catalog, user, repo, bake)}"
        )
    _check_is_served(moves[1].checkpoint)
    return Choice(moves[1].checkpoint, False)


def move(catalog: Catalog, checkpoint: Checkpoint, by: MovedBy) -> RepoView:
    """Returns: the repo's names and commits afterwards.

    Raises: NotFoundError if the checkpoint was pruned or deleted meanwhile.
    """
    with catalog.store.transaction():
        known = bakes.find_checkpoint(catalog, checkpoint.user, checkpoint.repo, checkpoint.bake, checkpoint.step)
        if known != checkpoint:
            raise NotFoundError(f"Checkpoint {checkpoint.name!r} no longer exists")
        with pointers.recorded(catalog, checkpoint.user, checkpoint.repo, checkpoint.bake, by):
            catalog.store.checkpoints.move_name(checkpoint, by)
        return repo_view(catalog, checkpoint.user, checkpoint.repo)


def _check_is_served(checkpoint: Checkpoint) -> None:
    if not checkpoint.is_served:
        raise ConflictError(
            f"Checkpoint {checkpoint.name!r} is an adapter of another model than the served one "
            "(model.student_model_path): no name can mean it"
        )


def _existing(catalog: Catalog, user: str, repo: str, bake: str) -> str:
    steps = [checkpoint.step for checkpoint in bakes.checkpoints(catalog, user, repo, bake)]
    return f"it has {', '.join(map(str, steps))}" if steps else "it has none"
