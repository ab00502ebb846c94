"""Users: who may sign in, and with which role."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from sync_pipeline.webserver.login import passwords
from sync_pipeline.webserver.login.errors import SignInRefusedError, UserError
from sync_pipeline.webserver.login.storage import transaction, users
from sync_pipeline.webserver.roles import Role

NAME_LENGTH = 100
TEXT_LENGTH = 255
# The name of programs that send the service token.
SERVICE_USER = "service-token"
# As dagster-authkit stored them; its editors are launchers.
ROLE_NUMBERS = {Role.VIEWER: 10, Role.LAUNCHER: 20, Role.ADMIN: 40}
_ROLES = {**{number: role for role, number in ROLE_NUMBERS.items()}, 30: Role.LAUNCHER}
# Session versions of new users begin anywhere below this, so that a session of a former user of the same name is void.
_FIRST_VERSIONS = 2**30


@dataclass(frozen=True, slots=True)
class User:
    """A row of the table `users`."""

    name: str
    role: Role
    active: bool
    full_name: str
    session_version: int
    password_hash: str = field(repr=False)
    oidc_issuer: str | None
    oidc_subject: str | None

    @property
    def signs_in_by_password(self) -> bool:
        """Whether there is a password that could be right."""
        return self.active and self.oidc_issuer is None


@dataclass(frozen=True, slots=True)
class Identity:
    """A user as an identity provider describes them."""

    issuer: str
    subject: str
    name: str
    role: Role
    full_name: str
    email: str


def normalize_name(typed: str) -> str:
    """The name of a user with a password, from what was typed.

    dagster-authkit dropped all other characters, both when it added a user and when one signed in.
    """
    return re.sub(r"[^a-zA-Z0-9_.-]", "", typed)[:NAME_LENGTH]


class Users:
    """The table of users."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def find(self, name: str) -> User | None:
        """The user of this name, deleted ones included."""
        with transaction(self._engine) as connection:
            row = connection.execute(sa.select(users).where(users.c.username == name)).one_or_none()
        return _user(row) if row else None

    def all(self) -> Sequence[User]:
        """All users by name, deleted ones included."""
        with transaction(self._engine) as connection:
            return [_user(row) for row in connection.execute(sa.select(users).order_by(users.c.username))]

    def have_bcrypt_hashes(self) -> bool:
        """Whether any user has not signed in since dagster-authkit added them."""
        legacy = sa.exists().where(users.c.is_active, users.c.password_hash.startswith("$2"))
        with transaction(self._engine) as connection:
            return bool(connection.execute(sa.select(legacy)).scalar_one())

    def add(self, name: str, password: str, role: Role, full_name: str, email: str) -> None:
        """Add a user with a password; a deleted one of the same name is replaced. Raises `UserError`."""
        if normalize_name(name) != name or not name:
            raise UserError(name, f"cannot be added: use up to {NAME_LENGTH} letters, digits, '_', '-' and '.'")
        if name == SERVICE_USER:
            raise UserError(name, "cannot be added: programs with the service token have this name")
        if max(len(full_name), len(email)) > TEXT_LENGTH:
            raise UserError(name, f"cannot be added: full name and email have at most {TEXT_LENGTH} characters")
        values = {
            "password_hash": passwords.hash_password(password),
            "role": ROLE_NUMBERS[role],
            "full_name": full_name,
            "email": email,
            "is_active": True,
            "oidc_issuer": None,
            "oidc_subject": None,
        }
        replace = {**values, "session_version": users.c.session_version + 1}
        with transaction(self._engine) as connection:
            if _insert(connection, name, values):
                return
            deleted = sa.update(users).where(users.c.username == name, sa.not_(users.c.is_active)).values(replace)
            if not connection.execute(deleted).rowcount:
                raise UserError(name, "exists already; use change-password or change-role")

    def change_role(self, name: str, role: Role) -> None:
        """Give a user another role and end their sessions. Raises `UserError`."""
        self._change(name, {"role": ROLE_NUMBERS[role]}, provided="role")

    def change_password(self, name: str, password: str) -> None:
        """Give a user another password and end their sessions. Raises `UserError`."""
        self._change(name, {"password_hash": passwords.hash_password(password)}, provided="password")

    def delete(self, name: str) -> None:
        """Keep a user from signing in and end their sessions. Raises `UserError`."""
        self._change(name, {"is_active": False})

    def readmit(self, name: str) -> None:
        """Let a deleted user of single sign-on sign in again. Raises `UserError`."""
        deleted = (users.c.username == name, sa.not_(users.c.is_active), users.c.oidc_issuer.is_not(None))
        with transaction(self._engine) as connection:
            if not connection.execute(sa.update(users).where(*deleted).values(is_active=True)).rowcount:
                raise UserError(name, "is not a deleted user of single sign-on")

    def end_sessions(self, name: str) -> None:
        """Make all sessions of a user void."""
        with transaction(self._engine) as connection:
            later = sa.update(users).where(users.c.username == name)
            connection.execute(later.values(session_version=users.c.session_version + 1))

    def note_password_sign_in(self, user: User, new_hash: str | None) -> None:
        """Record that a user signed in, and replace their hash by a new one of the same password if there is one."""
        values = {"last_login": _now(), **({"password_hash": new_hash} if new_hash else {})}
        # Not if the password was changed meanwhile.
        unchanged = (users.c.username == user.name, users.c.password_hash == user.password_hash)
        with transaction(self._engine) as connection:
            connection.execute(sa.update(users).where(*unchanged).values(values))

    def sign_in(self, identity: Identity) -> User:
        """The user of an identity, created at the first time, with the role that the provider says.

        Another role ends the sessions that have the former one. Raises `SignInRefusedError`.
        """
        subject = (users.c.oidc_issuer == identity.issuer, users.c.oidc_subject == identity.subject)
        values = {
            "username": identity.name,
            "role": ROLE_NUMBERS[identity.role],
            "full_name": identity.full_name,
            "email": identity.email,
            "last_login": _now(),
        }
        with transaction(self._engine) as connection:
            row = connection.execute(sa.select(users).where(*subject).with_for_update()).one_or_none()
            if row is None:
                new = {
                    **{name: value for name, value in values.items() if name != "username"},
                    "password_hash": "",
                    "is_active": True,
                    "oidc_issuer": identity.issuer,
                    "oidc_subject": identity.subject,
                }
                if not _insert(connection, identity.name, new):
                    raise _name_is_taken(identity.name)
            elif not row.is_active:
                raise SignInRefusedError("deleted", f"The user '{row.username}' was deleted here.")
            else:
                if row.username != identity.name and _exists(connection, identity.name):
                    raise _name_is_taken(identity.name)
                renamed = row.username != identity.name or row.role != values["role"]
                connection.execute(
                    sa.update(users).where(*subject).values(**values, session_version=row.session_version + renamed)
                )
            return _user(connection.execute(sa.select(users).where(*subject)).one())

    def _change(self, name: str, values: dict[str, Any], *, provided: str | None = None) -> None:
        """Change an active user; `provided` is what comes from the provider in single sign-on."""
        with transaction(self._engine) as connection:
            row = connection.execute(
                sa.select(users).where(users.c.username == name, users.c.is_active).with_for_update()
            ).one_or_none()
            if row is None:
                raise UserError(name, "does not exist")
            if provided and row.oidc_issuer is not None:
                raise UserError(name, f"signs in by single sign-on: change the {provided} at the identity provider")
            version = {"session_version": row.session_version + 1}
            connection.execute(sa.update(users).where(users.c.username == name).values({**values, **version}))


def _user(row: Any) -> User:
    return User(
        name=row.username,
        # An unknown number is of no role that this version knows, so it gets the fewest permissions.
        role=_ROLES.get(row.role, Role.VIEWER),
        active=row.is_active,
        full_name=row.full_name or "",
        session_version=row.session_version,
        password_hash=row.password_hash,
        oidc_issuer=row.oidc_issuer,
        oidc_subject=row.oidc_subject,
    )


def _insert(connection: sa.Connection, name: str, values: dict[str, Any]) -> bool:
    """Insert a user; False if the name is taken."""
    from sqlalchemy.dialects.postgresql import insert

    version = secrets.randbelow(_FIRST_VERSIONS) + 1
    row = {"username": name, "created_at": _now(), "session_version": version, **values}
    inserted = connection.execute(insert(users).values(row).on_conflict_do_nothing(index_elements=["username"]))
    return bool(inserted.rowcount)


def _exists(connection: sa.Connection, name: str) -> bool:
    return bool(connection.execute(sa.select(sa.exists().where(users.c.username == name))).scalar_one())


def _name_is_taken(name: str) -> SignInRefusedError:
    return SignInRefusedError("name_taken", f"Another user has the name '{name}' here.")


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
