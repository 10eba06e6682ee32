"""Where a bake's name points, when somebody chooses: to any checkpoint that is there, or back to where it was.

Functions over the catalog, each one transaction; they block (see `threads.OneThread`). Whether the chosen one can be
served is the caller's to find out before `move`.
"""

from typing import NamedTuple

from baker.errors import ConflictError, NotFoundError
from baker.repos import bakes
from baker.repos.catalog import Catalog
from baker.types import Checkpoint, MovedBy


class Choice(NamedTuple):
    checkpoint: Checkpoint
    is_live: bool
    """The name points there already: nothing is to be done."""


def named(catalog: Catalog, user: str, repo: str, bake: str, step: int) -> Choice:
    """Raises: NotFoundError if there is no such bake or checkpoint, or no more."""
    bakes.get(catalog, user, repo, bake)
    checkpoint = bakes.find_checkpoint(catalog, user, repo, bake, step)
    if checkpoint is None:
        raise NotFoundError(
            f"Bake {bake!r} in repo {repo!r} has no checkpoint {step}; {_there(catalog, user, repo, bake)}"
        )
    _check_is_served(checkpoint)
    return Choice(checkpoint, checkpoint == bakes.find_checkpoint(catalog, user, repo, bake, None))


def before(catalog: Catalog, user: str, repo: str, bake: str) -> Choice:
    """Where the name pointed before it was last moved on. A rollback that comes again has nothing left to do.

    Raises: NotFoundError; ConflictError if it pointed to nothing before, or to what is not there any more.
    """
    bakes.get(catalog, user, repo, bake)
    moves = catalog.store.checkpoints.moves(user, repo, bake)
    if moves and moves[0].by is MovedBy.ROLLBACK:
        return Choice(moves[0].checkpoint, True)
    if len(moves) < 2:
        raise ConflictError(
            f"'{repo}/{bake}' meant no other checkpoint before that is still there: promote one; "
            f"{_there(catalog, user, repo, bake)}"
        )
    _check_is_served(moves[1].checkpoint)
    return Choice(moves[1].checkpoint, False)


def move(catalog: Catalog, checkpoint: Checkpoint, by: MovedBy) -> None:
    """Raises: NotFoundError if the checkpoint was pruned or deleted meanwhile."""
    with catalog.store.transaction():
        known = bakes.find_checkpoint(catalog, checkpoint.user, checkpoint.repo, checkpoint.bake, checkpoint.step)
        if known != checkpoint:
            raise NotFoundError(f"Checkpoint {checkpoint.name!r} is not there any more")
        catalog.store.checkpoints.move_name(checkpoint, by)


def _check_is_served(checkpoint: Checkpoint) -> None:
    if not checkpoint.is_served:
        raise ConflictError(
            f"Checkpoint {checkpoint.name!r} is an adapter of another model than the one that is served "
            "(model.student_model_path): no name can mean it"
        )


def _there(catalog: Catalog, user: str, repo: str, bake: str) -> str:
    steps = [checkpoint.step for checkpoint in bakes.checkpoints(catalog, user, repo, bake)]
    return f"there are {', '.join(map(str, steps))}" if steps else "there is none"
