"""Repos: added, listed, removed with everything in them."""

import time

from baker.errors import ConflictError
from baker.names import MASTER_USER, check_name
from baker.repos import models, records
from baker.repos.catalog import Catalog, Put
from baker.types import Repo


def put(catalog: Catalog, user: str, name: str, base_model: str | None) -> Put:
    """The repo of that name, added if there is none.

    Args: base_model: None or "" for the served one; an existing repo keeps its own.
    Raises: ConfigError; NotFoundError; InvalidInputError if there is no such model; ConflictError if the repo has
        another base model.
    """
    check_name(name, "repo")
    with catalog.store.transaction():
        # If the user has just been removed, this request must not leave a repo to the next user of that name.
        catalog.check_user(user)
        existing = catalog.store.repo(user, name)
        if existing is not None:
            if base_model and base_model != existing.base_model:
                raise ConflictError(
                    f"Repo {name!r} has base model {existing.base_model!r}, which can't be changed to "
                    f"{base_model!r}: make another repo"
                )
            return Put(existing, False)
        repo = Repo(name=name, base_model=base_model or catalog.base.served, created=int(time.time()))
        models.resolve(catalog, user, repo.base_model)
        catalog.store.add_repo(user, repo)
        return Put(repo, True)


def listing(catalog: Catalog, user: str) -> list[Repo]:
    """In order of creation."""
    return catalog.store.repos(user)


def owner(catalog: Catalog, name: str) -> str:
    """The user that the master key means if it names a repo and no user.

    Itself, unless it has no such repo and exactly one other user has. Clients that wait for a job ask in this way,
    although they named the user when they started it.
    """
    owners = catalog.store.owners(name, first=MASTER_USER)
    return owners[0] if len(owners) == 1 else MASTER_USER


def delete(catalog: Catalog, user: str, name: str) -> list[int]:
    """Remove the repo and all in it. A bake that others began from leaves a record: see `records.py`.

    Returns: the numbers of the jobs whose files may be removed.
    Raises: NotFoundError; ConflictError while a job of it is active, or one elsewhere needs a bake of it, or a
        branch or tag of another repo means a version of it.
    """
    with catalog.store.transaction():
        catalog.repo(user, name)
        catalog.check_unused(user, name)
        catalog.check_unnamed(user, name)
        catalog.store.bin.drop([binned.job for binned in catalog.store.bin.of_repo(user, name)])
        removed = records.delete_bakes(catalog, user, name) + catalog.store.remove_repo(user, name)
        return removed + [number for number in records.sweep(catalog) if number not in removed]
