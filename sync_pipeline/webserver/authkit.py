"""The login of dagster-authkit: its sign-in page, sessions and table of users, in Dagster's database."""

import hmac
import html
import json
import os
from collections.abc import Callable
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.warehouse import database
from sync_pipeline.webserver.login import LOGIN_PATH, Login
from sync_pipeline.webserver.roles import AuthenticatedUser, Role

SECRET_VARIABLE = "DAGSTER_AUTH_SECRET_KEY"  # noqa: S105
TOKEN_VARIABLE = "DAGSTER_AUTH_SERVICE_TOKEN"  # noqa: S105
SECRET_LENGTH = 32
USERS_URL = "dagster:///users"
APPLICATION = "sync_pipeline login"
# An editor of dagster-authkit is a launcher here.
ROLES = {"VIEWER": Role.VIEWER, "LAUNCHER": Role.LAUNCHER, "EDITOR": Role.LAUNCHER, "ADMIN": Role.ADMIN}


class WebserverSetupError(SyncPipelineError):
    """The webserver cannot start behind a login with these settings."""


def prepare() -> None:
    """Have dagster-authkit find the users in Dagster's database. Raises `SyncPipelineError`."""
    if len(os.environ.get(SECRET_VARIABLE, "")) < SECRET_LENGTH:
        raise WebserverSetupError(
            f"{SECRET_VARIABLE} must be set to a secret of at least {SECRET_LENGTH} characters, the same in every "
            "webserver; `openssl rand -base64 33` makes one"
        )
    if 0 < len(os.environ.get(TOKEN_VARIABLE, "")) < SECRET_LENGTH:
        raise WebserverSetupError(f"{TOKEN_VARIABLE} must have at least {SECRET_LENGTH} characters, or be unset")
    if not os.environ.get(database.DAGSTER_VARIABLE):
        raise WebserverSetupError(f"{database.DAGSTER_VARIABLE} must be set: users are stored in Dagster's database")
    url = database.parse_url(os.environ[database.DAGSTER_VARIABLE], database.DAGSTER_VARIABLE)
    if not url.database:
        raise WebserverSetupError(f"{database.DAGSTER_VARIABLE} names no database")
    database.connect(url, database.DAGSTER_VARIABLE).dispose()
    try:
        from playhouse.db_url import register_database
    except ImportError:
        raise WebserverSetupError("the webserver's login needs the extra `auth`: install sync-pipeline[auth]") from None
    # dagster-authkit does not understand a percent-encoded password, and prints the URL that it gets.
    register_database(_users_database, "dagster")
    os.environ["DAGSTER_AUTH_DATABASE_URL"] = USERS_URL
    os.environ["DAGSTER_AUTH_BACKEND"] = "sql"


def run_user_command(arguments: list[str]) -> int | None:
    """Run the command for users that the arguments name; returns its exit code, or None if they name none."""
    from dagster_authkit.cli.main import MANAGEMENT_COMMANDS

    if not arguments or arguments[0] not in MANAGEMENT_COMMANDS:
        return None
    from dagster_authkit.cli.cli_tools import handle_user_management

    return int(handle_user_management())


def create_login(path_prefix: str) -> Login:  # noqa: ARG001
    """Set up dagster-authkit for the webserver that this process is about to start; its pages ignore the prefix."""
    from dagster_authkit.api.health import health_endpoint
    from dagster_authkit.api.routes import create_auth_routes
    from dagster_authkit.auth.backends.sql import UserTable
    from dagster_authkit.auth.session import CookieBackend
    from dagster_authkit.core.registry import get_backend
    from dagster_authkit.utils.config import config

    # It would otherwise trust a user's state for up to ten seconds: a user that signed out stayed signed in, and a user
    # that signed in again at once was signed out later.
    CookieBackend._VERSION_CACHE_TTL = 0.0
    # Create the table, and an admin from the environment, now instead of at the first login.
    get_backend(config.AUTH_BACKEND, config.__dict__)
    authenticate = _authenticator(config)
    endpoints = {route.path: route.endpoint for route in create_auth_routes().routes if isinstance(route, Route)}

    async def sign_out(request: Request) -> Response:
        user = authenticate(request)
        response: Response = await endpoints["/logout"](request)
        # The browser keeps its cookie, and dagster-authkit forgets at a restart that it is void.
        if user is not None:
            newer = UserTable.session_version + 1
            UserTable.update(session_version=newer).where(UserTable.username == user.name).execute()
        return response

    return Login(
        authenticate,
        routes=[
            Route(LOGIN_PATH, endpoints["/login"], methods=["GET"]),
            Route("/auth/process", endpoints["/process"], methods=["POST"]),
            Route("/auth/logout", sign_out, methods=["GET"]),
        ],
        probes=[Route("/auth/health", health_endpoint, methods=["GET"])],
        menu=_menu,
    )


def _users_database(**_: object) -> Any:
    """Dagster's database for peewee; it reconnects after Postgres was unavailable."""
    import peewee
    from playhouse.shortcuts import ReconnectMixin

    class Reconnecting(ReconnectMixin, peewee.PostgresqlDatabase):  # type: ignore[misc]
        reconnect_errors = (
            (peewee.OperationalError, "server closed the connection"),
            (peewee.OperationalError, "terminating connection"),
            (peewee.InterfaceError, "connection already closed"),
        )

    url = database.parse_url(os.environ[database.DAGSTER_VARIABLE], database.DAGSTER_VARIABLE)
    ours = {"connect_timeout": database.CONNECT_TIMEOUT_S, "application_name": APPLICATION}
    options: dict[str, Any] = {**ours, **url.query, **url.translate_connect_args(username="user")}
    return Reconnecting(options.pop("database"), **options)


def _authenticator(config: Any) -> Callable[[HTTPConnection], AuthenticatedUser | None]:
    """Return a function that finds the user by the session's cookie, or, for programs, by the service token."""
    from dagster_authkit.auth.backends.base import AuthUser
    from dagster_authkit.auth.session import sessions

    token = (config.DAGSTER_AUTH_SERVICE_TOKEN or "").encode()

    def authenticate(connection: HTTPConnection) -> AuthenticatedUser | None:
        cookie = connection.cookies.get(config.SESSION_COOKIE_NAME)
        session = sessions.validate(cookie) if cookie else None
        if session:
            user = AuthUser.from_dict(session)
            return AuthenticatedUser(user.username, ROLES[user.role.name])
        presented = connection.headers.get(config.DAGSTER_AUTH_SERVICE_TOKEN_HEADER, "").encode()
        if token and hmac.compare_digest(presented, token):
            role = ROLES[config.DAGSTER_AUTH_SERVICE_TOKEN_ROLE]
            return AuthenticatedUser(config.DAGSTER_AUTH_SERVICE_TOKEN_USER, role)
        return None

    return authenticate


def _menu(user: AuthenticatedUser, nonce: str) -> str:
    from dagster_authkit.utils.config import config
    from dagster_authkit.utils.templates import render_user_menu_injection

    name = html.escape(user.name)
    fields = {
        "username": name,
        "full_name": name.capitalize(),
        "email": "",
        "role": user.role.name,
        "initial": name[:1].upper(),
        "has_email": False,
    }
    menu: str = render_user_menu_injection(json.dumps(fields), debug=config.UI_DEBUG, safe_mode=config.UI_SAFE_MODE)
    return menu.replace("<script>", f'<script nonce="{nonce}">', 1)
