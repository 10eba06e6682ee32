"""Rows of users and of their keys. Which of them may be added or removed is decided in `baker/repos/users.py`."""

import msgspec

from baker.storage.credentials import Key, PasswordHash
from baker.storage.rows import Row, Rows
from baker.types import User


class UserTable:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def add(self, user: User, password: PasswordHash) -> None:
        row = msgspec.structs.asdict(user)
        self._rows.insert("users", row | {"password_salt": password.salt, "password_digest": password.digest})

    def find(self, user_id: str) -> tuple[User, PasswordHash] | None:
        row = self._rows.one("select * from users where id = ?", user_id)
        return None if row is None else (_user(row), PasswordHash(row["password_salt"], row["password_digest"]))

    def all(self) -> list[User]:
        """Users in order of creation."""
        return [_user(row) for row in self._rows.all("select * from users order by rowid")]

    def remove(self, user_id: str) -> None:
        """Remove the user and its keys."""
        self._rows.execute("delete from keys where user = ?", user_id)
        self._rows.execute("delete from users where id = ?", user_id)

    def add_key(self, key: Key) -> None:
        self._rows.insert("keys", msgspec.structs.asdict(key))

    def all_keys(self) -> list[Key]:
        """The keys of all users, in order of creation."""
        return [Key(**row) for row in self._rows.all("select * from keys order by rowid")]

    def remove_key(self, user_id: str, key_id: str) -> bool:
        """Whether the user had such a key."""
        return self._rows.execute("delete from keys where user = ? and id = ?", user_id, key_id) > 0


def _user(row: Row) -> User:
    return User(id=row["id"], alias=row["alias"], email=row["email"], created=row["created"])
