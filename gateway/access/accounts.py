"""Users and their keys: the rules and rows of `baker/users.py`, and the index in memory that requests are let in by.

Order of effects: first the commit, then the index, both on the store's thread. So a request that is cancelled in
between leaves no key valid that the file says is revoked.
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
        """Let in again, after a start, whom the file knows."""
        await self._commit(lambda catalog: None)

    async def add(self, user: User, password: str) -> str | None:
        """The user's first key; None if the user was added before with the same data.

        Raises: ConfigError; ConflictError if the user has other data.
        """
        async with self._adding:  # two requests at once must hash with the same salt
            salt = await self._catalog(users.salt_for, user.id)
            hashed = await asyncio.to_thread(hash_password_sync, password, salt)
            key, text = new_key(user.id)
            is_new = await self._commit(partial(users.add, user=user, password=hashed, key=key))
        return text if is_new else None

    async def listing(self) -> list[tuple[User, list[Key]]]:
        return await self._catalog(users.listing)

    async def remove(self, user_id: str) -> list[int]:
        """The numbers of the removed jobs. Raises: NotFoundError; ConflictError. See `users.remove`."""
        return await self._commit(partial(users.remove, user_id=user_id))

    async def add_key(self, user_id: str) -> tuple[Key, str]:
        """A further key, and its text. Raises: NotFoundError."""
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
