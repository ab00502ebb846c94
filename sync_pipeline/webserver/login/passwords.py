"""Password hashes: Argon2, and bcrypt for users that were added by dagster-authkit."""

import hashlib
from functools import cache

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MINIMUM_LENGTH = 12
# Verifications that run at the same time: each takes 64 MiB and a core, and anybody may ask for one.
CONCURRENT_VERIFICATIONS = 2

_ARGON2 = "$argon2"
_BCRYPT = "$2"
_hasher = PasswordHasher()


def hash_password(password: str) -> str:
    """Return an Argon2 hash with a salt of its own."""
    return _hasher.hash(password)


def is_bcrypt(stored: str) -> bool:
    """Whether this is a hash that dagster-authkit stored."""
    return stored.startswith(_BCRYPT)


def needs_rehash(stored: str) -> bool:
    """Whether the hash should be replaced by a new one of the same password."""
    return not stored.startswith(_ARGON2) or _hasher.check_needs_rehash(stored)


def verify(password: str, stored: str | None, *, bcrypt_in_use: bool) -> bool:
    """Whether the password is the one of the stored hash.

    The work is the same for every user and for none (`stored` is None), so that the time tells nothing: one Argon2
    verification, and one of bcrypt as long as any user has such a hash (`bcrypt_in_use`).
    """
    stored = stored or ""
    legacy = is_bcrypt(stored)
    argon2_matches = _verify_argon2(password, stored if stored.startswith(_ARGON2) else _unknown_argon2())
    bcrypt_matches = (legacy or bcrypt_in_use) and _verify_bcrypt(password, stored if legacy else _unknown_bcrypt())
    return bcrypt_matches if legacy else argon2_matches


def _verify_argon2(password: str, stored: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _verify_bcrypt(password: str, stored: str) -> bool:
    # dagster-authkit hashes first, because bcrypt looks at 72 bytes only.
    digest = hashlib.sha256(password.encode()).hexdigest().encode()
    try:
        return bcrypt.checkpw(digest, stored.encode())
    except ValueError:
        return False


@cache
def _unknown_argon2() -> str:
    """A hash that no password has: its tag is all zeros."""
    head, _, tag = _hasher.hash("").rpartition("$")
    return f"{head}${'A' * len(tag)}"


@cache
def _unknown_bcrypt() -> str:
    """A hash that no password has, with the cost that dagster-authkit used."""
    return bcrypt.gensalt(rounds=12).decode() + "." * 31
