"""Users and keys: what is committed is what requests are checked against."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from baker.errors import ConflictError, NotFoundError
from baker.model_names import BaseModelNames
from baker.repos.catalog import Catalog
from baker.storage.one_thread import OneThread
from baker.types import User
from gateway.access.accounts import Accounts
from gateway.access.auth import Keys
from gateway.errors import UnauthorizedError

pytestmark = pytest.mark.anyio

ALICE = User("alice", "Alice", "alice@example.org", 1)


@pytest.fixture
async def rows(tmp_path: Path) -> AsyncIterator[OneThread[Catalog]]:
    opened = OneThread(lambda: Catalog(tmp_path, BaseModelNames("fake/base", stands_in=True)), "store")
    yield opened
    opened.close(Catalog.close)


def user_of(keys: Keys, text: str) -> str:
    return keys.identify(f"Bearer {text}").user


async def test_a_key_is_valid_as_soon_as_it_is_added_and_until_it_is_removed(rows: OneThread[Catalog]) -> None:
    accounts = Accounts(rows, keys := Keys("master"))
    first = await accounts.add(ALICE, "password")
    assert first is not None and user_of(keys, first) == "alice"
    second, text = await accounts.add_key("alice")
    assert user_of(keys, text) == "alice"
    await accounts.remove_key("alice", second.id)
    with pytest.raises(UnauthorizedError):
        keys.identify(f"Bearer {text}")
    assert user_of(keys, first) == "alice"
    await accounts.remove("alice")
    with pytest.raises(UnauthorizedError):
        keys.identify(f"Bearer {first}")
    assert await accounts.listing() == []


async def test_adding_a_user_again_is_no_error_only_with_the_same_data(rows: OneThread[Catalog]) -> None:
    accounts = Accounts(rows, Keys("master"))
    assert await accounts.add(ALICE, "password") is not None
    assert await accounts.add(ALICE, "password") is None
    with pytest.raises(ConflictError):
        await accounts.add(ALICE, "other password")


async def test_a_refused_change_leaves_the_index_as_it_was(rows: OneThread[Catalog]) -> None:
    accounts = Accounts(rows, keys := Keys("master"))
    text = await accounts.add(ALICE, "password")
    with pytest.raises(NotFoundError):
        await accounts.add_key("bob")
    assert text is not None and user_of(keys, text) == "alice" and not keys.knows_user("bob")


async def test_a_restart_restores_the_keys(rows: OneThread[Catalog]) -> None:
    text = await Accounts(rows, Keys("master")).add(ALICE, "password")
    again = Accounts(rows, keys := Keys("master"))
    assert not keys.knows_user("alice")
    await again.restore()
    assert text is not None and user_of(keys, text) == "alice"
