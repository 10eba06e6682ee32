"""Users and their keys: changes the rows (`baker/repos/users.py`) and the index in memory that checks requests.

Order of effects: the commit, then the index, both on the store's thread. So even if a request is cancelled in between,
no key stays valid that is revoked in the file.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from baker.repos import users
from baker.repos.catalog import Catalog
from baker.storage.credentials import Key, hash_password_sync, new_key
from baker.storage.one_thread import OneThread
from baker.types import User
from gateway.access.auth import Keys

Result = TypeVar("Result")


class Accounts:
    def __init__(self, catalog: OneThread[Catalog], keys: Keys) -> None:
        self._catalog = catalog
        self._keys = keys
        self._adding = asyncio.Lock()

    async def restore(self) -> None:
        """Fill the index from the file, after a start."""
        await self._commit(lambda catalog: None)

    async def add(self, user: User, password: str) -> str | None:
        """Add the user. Returns: the text of its first key; None if the user exists with the same data.

        Raises: ConfigError; ConflictError if the user exists with other data.
        """
        async with self._adding:  # two requests for one user must use the same salt
            salt = await self._catalog(users.salt_for, user.id)
            hashed = await asyncio.to_thread(hash_password_sync, password, salt)
            key, text = new_key(user.id)
            is_new = await self._commit(partial(users.add, user=user, password=hashed, key=key))
        return text if is_new else None

    async def listing(self) -> list[tuple[User, list[Key]]]:
        return await self._catalog(users.listing)

    async def remove(self, user_id: str) -> list[int]:
        """Remove the user. Returns: the numbers of the removed jobs. Raises: see `users.remove`."""
        return await self._commit(partial(users.remove, user_id=user_id))

    async def add_key(self, user_id: str) -> tuple[Key, str]:
        """Add another key. Returns: the key and its text. Raises: NotFoundError."""
        key, text = new_key(user_id)
        await self._commit(partial(users.add_key, key=key))
        return key, text

    async def remove_key(self, user_id: str, key_id: str) -> None:
        """Raises: NotFoundError."""
        await self._commit(partial(users.remove_key, user_id=user_id, key_id=key_id))

    async def _commit(self, change: Callable[[Catalog], Result]) -> Result:
        def change_and_index(catalog: Catalog) -> Result:
            result = change(catalog)
            self._keys.replace(users.listing(catalog))
            return result

        return await self._catalog(change_and_index)
