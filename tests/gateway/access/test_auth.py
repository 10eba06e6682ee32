import itertools

import pytest

from baker.errors import InvalidInputError, NotFoundError
from baker.storage.credentials import new_key
from baker.types import User
from gateway.access.auth import Caller, Keys, act_as, user_named
from gateway.errors import ForbiddenError, UnauthorizedError

ADMIN = Caller("admin", is_master=True)
KEY, TEXT = new_key("alice")
ALICE, BOB = Caller("alice", is_master=False, key=KEY.id), User("bob", "Bob", "bob@example.org", 0)


@pytest.fixture
def keys() -> Keys:
    known = Keys("sk-bread-right")
    known.replace([(User("alice", "Alice", "alice@example.org", 0), [KEY]), (BOB, [])])
    return known


@pytest.mark.parametrize("header", ["Bearer sk-bread-right", "bearer sk-bread-right", "Bearer  sk-bread-right "])
def test_the_master_key_is_valid(keys: Keys, header: str) -> None:
    assert keys.identify(header) == ADMIN


def test_a_user_s_key_is_valid_until_it_is_replaced(keys: Keys) -> None:
    assert keys.identify(f"Bearer {TEXT}") == ALICE
    keys.replace([(BOB, [])])
    with pytest.raises(UnauthorizedError):
        keys.identify(f"Bearer {TEXT}")


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic sk-bread-right", "sk-bread-right", "Bearer sk-bread-wrong", "Bearer ü"]
    + [f"Bearer {text}" for text in (TEXT[:-1], TEXT + "x", f"sk-bread-{KEY.id}", f"sk-bread-{KEY.id}-", TEXT[9:])],
    ids=itertools.count(),
)
def test_other_keys_are_refused(keys: Keys, header: str | None) -> None:
    with pytest.raises(UnauthorizedError):
        keys.identify(header)


def test_a_key_may_come_in_the_header_of_anthropic_s_clients(keys: Keys) -> None:
    assert keys.identify(None, "sk-bread-right") == ADMIN
    assert keys.identify(None, TEXT) == ALICE
    assert keys.identify(f"Bearer {TEXT}", "sk-bread-right") == ALICE, "Authorization goes first"
    for wrong in ("", "wrong", TEXT[:-1]):
        with pytest.raises(UnauthorizedError):
            keys.identify(None, wrong)


def test_a_request_may_name_only_one_user() -> None:
    assert user_named([]) is None
    assert user_named(["bob"]) == user_named(["bob", "bob"]) == "bob"
    with pytest.raises(InvalidInputError, match=r"'bob', 'alice'"):
        user_named(["bob", "alice", "bob"])


def test_the_master_key_acts_for_every_user_that_exists(keys: Keys) -> None:
    assert act_as(ADMIN, "admin", keys) == ADMIN
    assert act_as(ADMIN, "bob", keys) == Caller("bob", is_master=True)
    with pytest.raises(NotFoundError, match="'carol'"):
        act_as(ADMIN, "carol", keys)


def test_a_users_key_acts_for_its_user_alone(keys: Keys) -> None:
    assert act_as(ALICE, "alice", keys) == ALICE
    for other in ("bob", "carol", "admin"):
        with pytest.raises(ForbiddenError, match=f"'{other}'"):
            act_as(ALICE, other, keys)
