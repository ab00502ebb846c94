"""Commands that manage the users of the webserver."""

import os
import sys
from collections.abc import Callable

import click

from sync_pipeline.terminal import ask_password, confirm, say
from sync_pipeline.text_safety import printable_line
from sync_pipeline.webserver import audit
from sync_pipeline.webserver.login import passwords, storage
from sync_pipeline.webserver.login.errors import PasswordError
from sync_pipeline.webserver.login.settings import parse_role, users_database
from sync_pipeline.webserver.login.users import User, Users
from sync_pipeline.webserver.roles import Role


class RoleParameter(click.ParamType[Role]):
    """A role by its name."""

    name = "role"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Role:
        """Parse the name."""
        return parse_role(value) or self.fail(f"'{value}' is not one of {', '.join(Role)}", param, ctx)


def password_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of commands that set a password."""
    for option in (
        click.option("--force", is_flag=True, help=f"Accept a password under {passwords.MINIMUM_LENGTH} characters."),
        click.option("--password-stdin", is_flag=True, help="Read the password from standard input."),
        click.option("--password", help="Password; other users of this machine can see it. Prompted for if omitted."),
    ):
        command = option(command)
    return command


@click.group()
def users() -> None:
    """Manage the users of the webserver."""


@users.command()
@click.argument("username")
@click.option("--admin", "role", flag_value=Role.ADMIN, type=RoleParameter(), help="May do everything.")
@click.option("--editor", "role", flag_value=Role.LAUNCHER, type=RoleParameter(), hidden=True)
@click.option("--launcher", "role", flag_value=Role.LAUNCHER, type=RoleParameter(), help="May also launch runs.")
@click.option("--viewer", "role", flag_value=Role.VIEWER, type=RoleParameter(), help="May only read (default).")
@click.option("--role", "role", type=RoleParameter(), help="Role by name.")
@click.option("--email", default="", help="Email address.")
@click.option("--full-name", default="", help="Full name.")
@click.option("--single-sign-on", is_flag=True, help="Let a deleted user of single sign-on sign in again.")
@password_options
def add_user(
    username: str,
    role: Role | None,
    email: str,
    full_name: str,
    password: str | None,
    *,
    single_sign_on: bool,
    password_stdin: bool,
    force: bool,
) -> None:
    """Add a user, or a deleted one again."""
    table = _users()
    if single_sign_on:
        table.readmit(username)
        audit.record("user_readmitted", target=username)
        say(f"User '{username}' may sign in by single sign-on again.")
        return
    role = role or Role.VIEWER
    table.add(username, _password(password, from_stdin=password_stdin, force=force), role, full_name, email)
    audit.record("user_added", target=username, target_role=role)
    say(f"Added user '{username}' with role {role}.")


@users.command()
def list_users() -> None:
    """List all users, deleted ones included."""
    everybody = _users().all()
    say(f"{'Name':<24} {'Role':<9} {'Status':<8} {'Signs in by':<15} Full name")
    for user in everybody:
        say(_row(user))
    say(f"{len(everybody)} users")


@users.command()
@click.argument("username")
@click.argument("new_role", type=RoleParameter())
def change_role(username: str, new_role: Role) -> None:
    """Change the role of a user and end their sessions."""
    _users().change_role(username, new_role)
    audit.record("role_changed", target=username, target_role=new_role)
    say(f"User '{username}' has the role {new_role} now; their sessions have ended.")


@users.command()
@click.argument("username")
@password_options
def change_password(username: str, password: str | None, *, password_stdin: bool, force: bool) -> None:
    """Change the password of a user and end their sessions."""
    _users().change_password(username, _password(password, from_stdin=password_stdin, force=force))
    audit.record("password_changed", target=username)
    say(f"Changed the password of user '{username}'; their sessions have ended.")


@users.command()
@click.argument("username")
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
def delete_user(username: str, *, yes: bool) -> None:
    """Delete a user and end their sessions; `add-user` adds them again."""
    if not yes:
        confirm(f"Delete user '{username}'?")
    _users().delete(username)
    audit.record("user_deleted", target=username)
    say(f"Deleted user '{username}'; their sessions have ended.")


def _users() -> Users:
    """The table of users, created or upgraded if necessary."""
    engine = storage.connect(users_database(os.environ))
    storage.upgrade(engine)
    return Users(engine)


def _password(given: str | None, *, from_stdin: bool, force: bool) -> str:
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif given is None:
        password = ask_password("Password")
    else:
        password = given
    if not password:
        raise PasswordError("is empty")
    if len(password) < passwords.MINIMUM_LENGTH and not force:
        raise PasswordError(f"has fewer than {passwords.MINIMUM_LENGTH} characters; use a longer one, or add --force")
    return password


def _row(user: User) -> str:
    status = "active" if user.active else "deleted"
    method = "password" if user.oidc_issuer is None else "single sign-on"
    # Names of single sign-on users come from the provider.
    name, full_name = printable_line(user.name), printable_line(user.full_name)
    return f"{name:<24} {user.role:<9} {status:<8} {method:<15} {full_name}".rstrip()
