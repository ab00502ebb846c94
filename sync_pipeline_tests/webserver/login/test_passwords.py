"""Password hashes."""

from unittest import mock

import bcrypt
import pytest
from argon2 import PasswordHasher

from sync_pipeline.webserver.login import passwords

# Stored by dagster-authkit 1.2.0 for this password.
OLD_PASSWORD = "a password of old"
OLD_HASH = "$2b$12$TBYvQ.oFM4WMgBikQTJcjeMCWcxpsSj/1kmBwl2Fbx746I.srdBwi"


def test_password_matches_its_own_hash_only() -> None:
    stored = passwords.hash_password("päss/word @ 1%40")
    assert stored.startswith("$argon2id$")
    assert passwords.verify("päss/word @ 1%40", stored, bcrypt_in_use=False)
    assert not passwords.verify("päss/word @ 1%41", stored, bcrypt_in_use=False)
    assert not passwords.needs_rehash(stored)


@pytest.mark.parametrize("bcrypt_in_use", [True, False])
def test_hash_of_dagster_authkit_is_verified(bcrypt_in_use: bool) -> None:
    assert passwords.verify(OLD_PASSWORD, OLD_HASH, bcrypt_in_use=bcrypt_in_use)
    assert not passwords.verify("another", OLD_HASH, bcrypt_in_use=bcrypt_in_use)
    assert passwords.needs_rehash(OLD_HASH)


@pytest.mark.parametrize("stored", [None, "", "plain", "pbkdf2:sha256:00:00", "$2b$broken", "$argon2id$broken"])
@pytest.mark.parametrize("password", ["", "plain", "anything"])
def test_no_password_matches_a_missing_or_broken_hash(stored: str | None, password: str) -> None:
    assert not passwords.verify(password, stored, bcrypt_in_use=True)


@pytest.mark.parametrize("bcrypt_in_use", [True, False])
def test_verification_costs_the_same_with_and_without_a_hash(bcrypt_in_use: bool) -> None:
    costs = set()
    stored_hashes = [None, "", passwords.hash_password("x"), *([OLD_HASH] if bcrypt_in_use else [])]
    for stored in stored_hashes:
        with (
            mock.patch.object(PasswordHasher, "verify", autospec=True, side_effect=PasswordHasher.verify) as argon2,
            mock.patch.object(bcrypt, "checkpw", side_effect=bcrypt.checkpw) as blowfish,
        ):
            passwords.verify("a guess", stored, bcrypt_in_use=bcrypt_in_use)
        parameters = [call.args[1].split("$")[3] for call in argon2.call_args_list]
        rounds = [call.args[1].decode().split("$")[2] for call in blowfish.call_args_list]
        costs.add((*parameters, "bcrypt", *rounds))
    assert costs == {("m=65536,t=3,p=4", "bcrypt", *(["12"] if bcrypt_in_use else []))}
