"""Passwords and API keys, stored as salted hashes only.

Knows no tables and no HTTP. A key is shown once, when it is created. A lost key can only be replaced by a new one.
"""

import hashlib
import hmac
import secrets
import time

import msgspec

SALT_BYTES = 16
KEY_PREFIX = "sk-bread-"
KEY_ID_BYTES = 6
SECRET_BYTES = 32

# 16 MiB and about 0.2 s: one of the minimum settings in OWASP's Password Storage Cheat Sheet.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 5


class PasswordHash(msgspec.Struct, frozen=True):
    salt: bytes
    digest: bytes


def new_salt() -> bytes:
    return secrets.token_bytes(SALT_BYTES)


def hash_password_sync(password: str, salt: bytes) -> PasswordHash:
    """The hash of the password; the same password and salt give the same hash. Blocks for about 0.2 s: use a thread."""
    digest = hashlib.scrypt(password.encode(), salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    return PasswordHash(salt, digest)


class Key(msgspec.Struct, frozen=True):
    """A user's API key without its secret part."""

    id: str
    """Public part of the key's text; selects the hash to compare with."""
    user: str
    salt: bytes
    digest: bytes
    created: int
    """Unix seconds."""

    def fits(self, secret: str) -> bool:
        return hmac.compare_digest(self.digest, _digest(secret, self.salt))


def new_key(user: str) -> tuple[Key, str]:
    """A new key of `user` and its text, `sk-bread-<id>-<secret>`. The text is not stored anywhere."""
    key_id, secret, salt = secrets.token_hex(KEY_ID_BYTES), secrets.token_urlsafe(SECRET_BYTES), new_salt()
    return Key(key_id, user, salt, _digest(secret, salt), int(time.time())), f"{KEY_PREFIX}{key_id}-{secret}"


def split_key(text: str) -> tuple[str, str] | None:
    """Id and secret of a key's text; None if the text does not have the form of a key."""
    if not text.startswith(KEY_PREFIX):
        return None
    key_id, dash, secret = text.removeprefix(KEY_PREFIX).partition("-")
    return (key_id, secret) if dash else None


def _digest(secret: str, salt: bytes) -> bytes:
    # One SHA-256 is enough, unlike for a password: 256 random bits can't be guessed, however fast the hash is. It is
    # computed for every request, where scrypt would take 0.2 s.
    return hashlib.sha256(salt + secret.encode()).digest()
