import hashlib

from baker.storage.credentials import hash_password_sync, new_key, new_salt, split_key


def test_a_key_matches_only_its_own_secret() -> None:
    key, text = new_key("alice")
    parts = split_key(text)
    assert parts is not None
    assert (parts[0], key.user) == (key.id, "alice")
    assert key.fits(parts[1])
    other = split_key(new_key("alice")[1])
    assert other is not None
    assert not key.fits(other[1])


def test_keys_have_256_random_bits_that_are_not_stored() -> None:
    key, text = new_key("alice")
    assert text.startswith("sk-bread-")
    _, secret = split_key(text) or ("", "")
    assert len(secret) >= 43  # 32 bytes in base64
    assert secret.encode() not in key.salt + key.digest
    assert key.digest == hashlib.sha256(key.salt + secret.encode()).digest()
    assert len({new_key("alice")[1] for _ in range(100)}) == 100


def test_a_text_that_is_no_key_is_not_split() -> None:
    assert split_key("sk-bread-abc") is None
    assert split_key("sk-other-abc-def") is None
    assert split_key("sk-bread-abc-d-e") == ("abc", "d-e")


def test_a_password_is_salted_and_hashed_slowly() -> None:
    salt = new_salt()
    hashed = hash_password_sync("correct horse", salt)
    assert hashed == hash_password_sync("correct horse", salt)
    assert hashed != hash_password_sync("correct horse", new_salt())
    assert hashed != hash_password_sync("correct hors", salt)
    # By another way: OWASP takes n=2^14, r=8, p=5 for as good as n=2^17, r=8, p=1, which needs 128 MiB.
    assert hashed.digest == hashlib.scrypt(b"correct horse", salt=salt, n=16384, r=8, p=5)
