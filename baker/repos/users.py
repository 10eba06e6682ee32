"""Users and their keys: added and removed.

These are the rules for the rows, on the catalog's thread. The caller cleans up what a removed user leaves in memory and
on disk. The master key's user has no row: see `names.MASTER_USER`.
"""

import re
from collections import defaultdict

from baker.errors import ConfigError, ConflictError, NotFoundError
from baker.names import check_name
from baker.repos import repos
from baker.repos.catalog import Catalog
from baker.storage.credentials import Key, PasswordHash, new_salt
from baker.types import User

# A plausibility check: only a delivered mail proves an address.
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
MAX_EMAIL = 254  # RFC 5321, section 4.5.3.1.3, without the angle brackets


def check_user(user: User) -> None:
    """Raises: ConfigError with the field."""
    check_name(user.id, "user")
    if len(user.email) > MAX_EMAIL or _EMAIL.fullmatch(user.email) is None:
        text = f"user_email {user.email!r} is not an e-mail address: it should look like name@example.org"
        raise ConfigError(text, detail=[{"loc": ["body", "user_email"], "msg": text, "type": "value_error"}])


def salt_for(catalog: Catalog, user_id: str) -> bytes:
    """Salt for hashing the user's password, so that `add` can compare the hashes. New if there is no such user."""
    known = catalog.store.users.find(user_id)
    return new_salt() if known is None else known[1].salt


def add(catalog: Catalog, user: User, password: PasswordHash, key: Key) -> bool:
    """Add the user with a first key.

    Args: password: hashed with the salt of `salt_for`.
    Returns: False, and nothing changes, if the user exists with the same data.
    Raises: ConfigError; ConflictError if the user exists with other data.
    """
    check_user(user)
    with catalog.store.transaction():
        known = catalog.store.users.find(user.id)
        if known is None:
            catalog.store.users.add(user, password)
            catalog.store.users.add_key(key)
            return True
    existing, its_password = known
    if (existing.alias, existing.email, its_password) != (user.alias, user.email, password):
        raise ConflictError(f"User {user.id!r} exists with another alias, e-mail or password: choose another user_id")
    return False


def add_key(catalog: Catalog, key: Key) -> None:
    """Add another key. Raises: NotFoundError if there is no such user."""
    with catalog.store.transaction():
        _check_known(catalog, key.user)
        catalog.store.users.add_key(key)


def remove_key(catalog: Catalog, user_id: str, key_id: str) -> None:
    """Raises: NotFoundError."""
    with catalog.store.transaction():
        _check_known(catalog, user_id)
        if not catalog.store.users.remove_key(user_id, key_id):
            raise NotFoundError(f"User {user_id!r} has no key {key_id!r}")


def remove(catalog: Catalog, user_id: str) -> list[int]:
    """Remove the user, its keys, its repos and all in them. Nothing of a removed user stays, so no records either: the
    master key's bakes that began from the user's bakes keep only their names.

    Returns: the numbers of the removed jobs. Their folders may be removed.
    Raises: NotFoundError; ConflictError while a job of the user is active, or another user's job needs its bakes.
    """
    with catalog.store.transaction():
        _check_known(catalog, user_id)
        catalog.check_unused(user_id)
        catalog.history.refs.remove_all(user_id)  # one in another repo would keep a repo from being removed
        names = [repo.name for repo in repos.listing(catalog, user_id)]
        removed = [job for name in names for job in repos.delete(catalog, user_id, name)]
        removed += [job for job in catalog.store.remove_records(user_id) if job not in removed]
        catalog.store.users.remove(user_id)
        return removed


def listing(catalog: Catalog) -> list[tuple[User, list[Key]]]:
    """All users with their keys, both in order of creation."""
    keys: defaultdict[str, list[Key]] = defaultdict(list)
    for key in catalog.store.users.all_keys():
        keys[key.user].append(key)
    return [(user, keys[user.id]) for user in catalog.store.users.all()]


def _check_known(catalog: Catalog, user_id: str) -> None:
    """Raises: NotFoundError."""
    if catalog.store.users.find(user_id) is None:
        raise NotFoundError(f"User {user_id!r} not found")
