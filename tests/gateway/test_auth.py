import pytest

from baker.errors import InvalidInputError, NotFoundError
from gateway.auth import Caller, Keys, UnauthorizedError, act_as

KEYS = Keys("sk-bread-right")
ADMIN = Caller("admin", is_master=True)


@pytest.mark.parametrize("header", ["Bearer sk-bread-right", "bearer sk-bread-right", "Bearer  sk-bread-right "])
def test_the_master_key_is_known(header: str) -> None:
    assert KEYS.identify(header) == ADMIN


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic sk-bread-right", "sk-bread-right", "Bearer sk-bread-wrong", "Bearer ü"],
)
def test_everything_else_is_not(header: str | None) -> None:
    with pytest.raises(UnauthorizedError):
        KEYS.identify(header)


def test_acting_for_a_user() -> None:
    assert act_as(ADMIN, None, None) == act_as(ADMIN, "admin", "admin") == ADMIN
    with pytest.raises(NotFoundError, match="'bob'"):
        act_as(ADMIN, "bob", None)
    with pytest.raises(InvalidInputError):
        act_as(ADMIN, "admin", "bob")
