"""Roles, and users that are signed in."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """A user's role, from the fewest permissions to the most."""

    VIEWER = "viewer"
    LAUNCHER = "launcher"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class AuthenticatedUser:
    """A user that is signed in."""

    name: str
    role: Role
