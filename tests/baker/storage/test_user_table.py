from collections.abc import Iterator
from pathlib import Path

import pytest

from baker.storage.credentials import PasswordHash, new_key
from baker.storage.store import Store
from baker.types import User

ALICE, BOB = User("alice", "Alice", "alice@example.org", 1), User("bob", "Bob", "bob@example.org", 2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.close()


def test_users_and_keys_come_back_as_they_were_added_in_that_order(store: Store) -> None:
    keys = [new_key(name)[0] for name in ("bob", "alice", "bob")]
    for user in (BOB, ALICE):
        store.users.add(user, PasswordHash(b"\0salt", b"\xffdigest"))
    for key in keys:
        store.users.add_key(key)
    assert store.users.all() == [BOB, ALICE]
    assert store.users.all_keys() == keys
    assert store.users.find("alice") == (ALICE, PasswordHash(b"\0salt", b"\xffdigest"))
    assert store.users.find("carol") is None


def test_a_removed_user_s_keys_are_removed_too(store: Store) -> None:
    kept, removed = new_key("bob")[0], new_key("alice")[0]
    for user in (ALICE, BOB):
        store.users.add(user, PasswordHash(b"", b""))
    for key in (kept, removed):
        store.users.add_key(key)
    store.users.remove("alice")
    assert (store.users.all(), store.users.all_keys()) == ([BOB], [kept])


def test_a_key_is_removed_only_from_its_own_user(store: Store) -> None:
    key, _ = new_key("alice")
    store.users.add_key(key)
    assert not store.users.remove_key("bob", key.id)
    assert store.users.remove_key("alice", key.id)
    assert not store.users.remove_key("alice", key.id)
