"""Dagster's webserver behind a login, for viewers, launchers and admins; needs the `auth` extra.

dagster-authkit brings the login page, sessions, a limit on attempts and the table of users. What each role may do is
decided here, twice over: by the `Gate` in front, which knows every way in and keeps the audit log, and by Dagster's own
permissions, which also make the UI disable what a role may not do. Users are kept in the table `users` of Dagster's
database.

`python -m sync_pipeline.webserver_roles` takes the options of `dagster-webserver`, or one of dagster-authkit's commands
for users: `add-user`, `list-users`, `change-role`, `change-password`, `delete-user`.
"""

import hmac
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import click
from dagster._core.workspace.context import WorkspaceRequestContext
from dagster._core.workspace.permissions import PermissionResult, Permissions
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationType,
    SelectionSetNode,
    get_operation_ast,
    parse,
)
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.warehouse import database

SECRET_VARIABLE = "DAGSTER_AUTH_SECRET_KEY"  # noqa: S105
TOKEN_VARIABLE = "DAGSTER_AUTH_SERVICE_TOKEN"  # noqa: S105
SECRET_LENGTH = 32
USERS_URL = "dagster:///users"
APPLICATION = "sync_pipeline login"

PUBLIC = frozenset({"/auth/login", "/auth/process", "/auth/health"})
LOGOUT = "/auth/logout"
READING = frozenset({"GET", "HEAD"})
VISITOR = "sync_pipeline.visitor"

# Everything that is not here is an admin's, and so is whatever Dagster adds. Deleting a run is not launching: it takes
# the run's materializations, and with them the partitions' status, along.
LAUNCHING = frozenset(
    {
        "launchRun",
        "launchPipelineExecution",
        "launchMultipleRuns",
        "launchRunReexecution",
        "launchPipelineReexecution",
        "launchPartitionBackfill",
        "resumePartitionBackfill",
        "reexecutePartitionBackfill",
        "cancelPartitionBackfill",
        "terminateRun",
        "terminatePipelineExecution",
        "terminateRuns",
        "scheduleDryRun",
    }
)
LAUNCHING_PERMISSIONS = frozenset(
    {
        Permissions.LAUNCH_PIPELINE_EXECUTION,
        Permissions.LAUNCH_PIPELINE_REEXECUTION,
        Permissions.LAUNCH_PARTITION_BACKFILL,
        Permissions.CANCEL_PARTITION_BACKFILL,
        Permissions.TERMINATE_PIPELINE_EXECUTION,
        Permissions.SCHEDULE_DRY_RUN,
    }
)

# The variables of a mutation that say what it is about; run config and tags are nobody's business in a log.
TARGETS = frozenset(
    {
        "jobName",
        "pipelineName",
        "scheduleName",
        "sensorName",
        "runId",
        "runIds",
        "parentRunId",
        "backfillId",
        "path",
        "partitionNames",
        "repositoryLocationName",
        "concurrencyKey",
        "id",
    }
)
TARGET_LENGTH = 200


class WebserverSetupError(SyncPipelineError):
    """The webserver cannot be started behind a login as things are."""


class UnreadableRequestError(SyncPipelineError):
    """A GraphQL request comes in a form that is not let through."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Role(StrEnum):
    """What somebody may do, least first; an editor of dagster-authkit is a launcher here."""

    VIEWER = "viewer"
    LAUNCHER = "launcher"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is logged in."""

    name: str
    role: Role

    def may(self, action: str) -> bool:
        """Whether the role covers a mutation, or a request that is no reading."""
        return self.role is Role.ADMIN or (self.role is Role.LAUNCHER and action in LAUNCHING)

    def limited(self, permissions: Mapping[str, PermissionResult]) -> dict[str, PermissionResult]:
        """Dagster's permissions, less those that the role does not have."""
        refused = PermissionResult(enabled=False, disabled_reason=f"Not for a {self.role}")
        return {name: granted if self._has(name) else refused for name, granted in permissions.items()}

    def _has(self, permission: str) -> bool:
        return self.role is Role.ADMIN or (self.role is Role.LAUNCHER and permission in LAUNCHING_PERMISSIONS)


@dataclass(frozen=True, slots=True)
class Asked:
    """The mutations of a GraphQL request, and what its variables say they are about."""

    mutations: tuple[str, ...] = ()
    target: Mapping[str, str] | None = None


class Gate:
    """ASGI middleware in front of everything else: nobody gets past it without a login, nor beyond their role.

    GraphQL is let through as JSON by POST alone, because Dagster also runs mutations that it finds in an address. Every
    mutation and every other write is told to `audit` with user, role, action, target, status and address.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticate: Callable[[HTTPConnection], Visitor | None],
        audit: Callable[..., None],
        end_sessions: Callable[[str], None],
    ) -> None:
        self._app = app
        self._authenticate = authenticate
        self._audit = audit
        self._end_sessions = end_sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a connection through, or answer it."""
        path = scope.get("path", "")
        if scope["type"] not in {"http", "websocket"} or (scope["type"] == "http" and path in PUBLIC):
            await self._app(scope, receive, send)
            return
        visitor = self._authenticate(HTTPConnection(scope))
        if scope["type"] == "http" and path == LOGOUT:
            await self._app(scope, receive, send)
            # The browser keeps its cookie, and dagster-authkit remembers only until it is restarted that it is void.
            if visitor is not None:
                self._end_sessions(visitor.name)
            return
        if visitor is None:
            await _turn_away(scope, receive, send)
            return
        scope = {**scope, VISITOR: visitor}
        if scope["type"] == "http":
            request = Request(scope, receive)
            answer = await self._refusal(request, visitor)
            if answer is not None:
                await answer(scope, receive, send)
                return
            receive = _again(await request.body(), receive)
        # A subscription only ever reads: Dagster runs no mutation over a websocket.
        await self._app(scope, receive, send)

    async def _refusal(self, request: Request, visitor: Visitor) -> Response | None:
        """The answer to a request that is not let through."""
        if request.scope["path"] == "/graphql":
            try:
                asked = _asked(request.method, request.headers, await request.body())
            except UnreadableRequestError as error:
                return PlainTextResponse(str(error), error.status)
        else:
            asked = Asked(() if request.method in READING else (f"{request.method} {request.scope['path']}",))
        allowed = all(visitor.may(action) for action in asked.mutations)
        for action in asked.mutations:
            self._audit(
                "ACTION",
                visitor.name,
                role=visitor.role.value,
                action=action,
                target=asked.target or {},
                status="ALLOWED" if allowed else "DENIED",
                ip=request.client.host if request.client else None,
            )
        if allowed:
            return None
        message = f"{', '.join(asked.mutations)}: not for a {visitor.role}"
        return JSONResponse({"data": None, "errors": [{"message": message}]}, 403)


class RoleContext(WorkspaceRequestContext):
    """What a request sees of Dagster, with the permissions of the visitor's role."""

    def __init__(self, whole: WorkspaceRequestContext, visitor: Visitor) -> None:
        super().__init__(
            instance=whole.instance,
            current_workspace=whole.get_current_workspace(),
            process_context=whole.process_context,
            version=whole.version,
            source=whole.source,
            read_only=whole.read_only or visitor.role is Role.VIEWER,
        )
        self._visitor = visitor

    @property
    def permissions(self) -> Mapping[str, PermissionResult]:
        """By name; Dagster asks before most mutations, and the UI before it enables a button."""
        return self._visitor.limited(super().permissions)

    def permissions_for_location(self, *, location_name: str) -> Mapping[str, PermissionResult]:
        """By name, for one code location."""
        return self._visitor.limited(super().permissions_for_location(location_name=location_name))


def mutations(query: str, operation: str | None) -> tuple[str, ...]:
    """Names of the mutations that Dagster would run for this document, whatever aliases and fragments hide them.

    Raises `UnreadableRequestError` where it would run nothing.
    """
    try:
        document = parse(query)
        asked = get_operation_ast(document, operation)
        if asked is None:
            raise UnreadableRequestError(400, "the document has no such operation")
        if asked.operation is not OperationType.MUTATION:
            return ()
        return tuple(_fields(asked.selection_set, document, set()))
    except (GraphQLError, RecursionError):
        raise UnreadableRequestError(400, "this is not GraphQL") from None


def _fields(selections: SelectionSetNode, document: DocumentNode, seen: set[str]) -> Iterator[str]:
    for node in selections.selections:
        if isinstance(node, FieldNode):
            yield node.name.value
        elif isinstance(node, InlineFragmentNode):
            yield from _fields(node.selection_set, document, seen)
        elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
            seen.add(node.name.value)
            for fragment in document.definitions:
                if isinstance(fragment, FragmentDefinitionNode) and fragment.name.value == node.name.value:
                    yield from _fields(fragment.selection_set, document, seen)


def _asked(method: str, headers: Mapping[str, str], body: bytes) -> Asked:
    """What a request to /graphql is for. Raises `UnreadableRequestError`."""
    if method in READING and "text/html" in headers.get("accept", ""):
        return Asked()  # the page of Dagster's own GraphQL client
    # The type itself: with it as a mere parameter of another, a browser would send it from other sites unasked.
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method != "POST" or kind != "application/json":
        raise UnreadableRequestError(405, "GraphQL is asked for by POST, as application/json")
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        request = None
    query, operation, variables = (
        (request.get(key) for key in ("query", "operationName", "variables"))
        if isinstance(request, dict)
        else (None, None, None)
    )
    if not isinstance(query, str) or not isinstance(operation, str | None):
        raise UnreadableRequestError(400, "this is not one GraphQL request")
    return Asked(mutations(query, operation), dict(_targets(variables)))


def _targets(variables: object) -> Iterator[tuple[str, str]]:
    if isinstance(variables, list):
        for item in variables:
            yield from _targets(item)
    elif isinstance(variables, dict):
        for name, value in variables.items():
            if name in TARGETS and isinstance(value, str):
                yield name, value[:TARGET_LENGTH]
            elif name in TARGETS and isinstance(value, list) and all(isinstance(item, str) for item in value):
                yield name, ("/" if name == "path" else ", ").join(value)[:TARGET_LENGTH]
            else:
                yield from _targets(value)


async def _turn_away(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer somebody who is not logged in: people are shown the login page."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4401})
    elif scope["path"] == "/graphql" or scope["method"] not in READING:
        await PlainTextResponse("not logged in", 401)(scope, receive, send)
    else:
        await RedirectResponse(f"/auth/login?next={quote(scope['path'])}", 302)(scope, receive, send)


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` for those behind us, of a body that has been read already."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def main() -> None:
    """Serve, or run one of the commands for users, as the arguments say."""
    from dotenv import load_dotenv

    load_dotenv(Path.cwd() / ".env")
    try:
        _prepare()
        sys.exit(_run(sys.argv[1:]))
    except SyncPipelineError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


def _prepare() -> None:
    """Have dagster-authkit find the users in Dagster's database. Raises `SyncPipelineError` where it could not work."""
    if len(os.environ.get(SECRET_VARIABLE, "")) < SECRET_LENGTH:
        raise WebserverSetupError(
            f"{SECRET_VARIABLE} must be set to a secret of at least {SECRET_LENGTH} characters, the same in every "
            "webserver; `openssl rand -base64 33` makes one"
        )
    if 0 < len(os.environ.get(TOKEN_VARIABLE, "")) < SECRET_LENGTH:
        raise WebserverSetupError(f"{TOKEN_VARIABLE} must have at least {SECRET_LENGTH} characters, or be unset")
    if not os.environ.get(database.DAGSTER_VARIABLE):
        raise WebserverSetupError(
            f"{database.DAGSTER_VARIABLE} must be set: Dagster's database is where users are kept"
        )
    url = database.parse_url(os.environ[database.DAGSTER_VARIABLE], database.DAGSTER_VARIABLE)
    if not url.database:
        raise WebserverSetupError(f"{database.DAGSTER_VARIABLE} names no database")
    database.connect(url, database.DAGSTER_VARIABLE).dispose()
    try:
        from playhouse.db_url import register_database
    except ImportError:
        raise WebserverSetupError("the webserver's login needs the extra `auth`: install sync-pipeline[auth]") from None
    # dagster-authkit knows no percent-encoded password, and prints the URL that it is given.
    register_database(_users_database, "dagster")
    os.environ["DAGSTER_AUTH_DATABASE_URL"] = USERS_URL
    os.environ["DAGSTER_AUTH_BACKEND"] = "sql"


def _users_database(**_: object) -> Any:
    """Dagster's database as peewee's, which connects again after Postgres was away."""
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


def _run(arguments: Sequence[str]) -> int:
    from dagster_authkit.cli.main import MANAGEMENT_COMMANDS

    if arguments and arguments[0] in MANAGEMENT_COMMANDS:
        from dagster_authkit.cli.cli_tools import handle_user_management

        return int(handle_user_management())
    _install()
    from dagster_webserver.cli import dagster_webserver

    dagster_webserver.main(list(arguments), prog_name="dagster-webserver", auto_envvar_prefix="DAGSTER_WEBSERVER")
    return 0


def _install() -> None:
    """Put the login and the gate into the webserver that this process is about to start."""
    import dagster_webserver.app
    from dagster_authkit.auth.backends.base import RolePermissions
    from dagster_authkit.auth.backends.sql import UserTable
    from dagster_authkit.auth.session import CookieBackend
    from dagster_authkit.core.patch import apply_patches
    from dagster_authkit.core.registry import get_backend
    from dagster_authkit.utils.audit import log_audit_event
    from dagster_authkit.utils.config import config
    from dagster_webserver.webserver import DagsterWebserver
    from starlette.middleware import Middleware

    # Its own rules stay a second lock behind ours, so they must not be narrower.
    RolePermissions.LAUNCHER_MUTATIONS = LAUNCHING
    RolePermissions.EDITOR_MUTATIONS = frozenset()
    # It would go by a version of the user that is up to ten seconds old, for better and for worse: who was signed out
    # stayed in, and who signed in again right away was thrown out later.
    CookieBackend._VERSION_CACHE_TTL = 0.0
    apply_patches()
    # At once rather than at the first login, so that an admin of the environment and the table are there.
    get_backend(config.AUTH_BACKEND, config.__dict__)

    def end_sessions(name: str) -> None:
        UserTable.update(session_version=UserTable.session_version + 1).where(UserTable.username == name).execute()

    class GuardedWebserver(DagsterWebserver[Any, Any]):
        def build_middleware(self) -> list[Middleware]:
            gate = Middleware(
                Gate, authenticate=_authenticator(config), audit=log_audit_event, end_sessions=end_sessions
            )
            return [gate, *super().build_middleware()]

        def _make_request_context(self, conn: HTTPConnection) -> RoleContext:
            return RoleContext(super()._make_request_context(conn), cast("Visitor", conn.scope[VISITOR]))

    # What Dagster's own command makes its application of.
    vars(dagster_webserver.app)["DagsterWebserver"] = GuardedWebserver


def _authenticator(config: Any) -> Callable[[HTTPConnection], Visitor | None]:
    """Finds who is asking: by the session's cookie, or, for programs, by the token of the environment."""
    from dagster_authkit.auth.backends.base import AuthUser
    from dagster_authkit.auth.session import sessions

    roles = {"VIEWER": Role.VIEWER, "LAUNCHER": Role.LAUNCHER, "EDITOR": Role.LAUNCHER, "ADMIN": Role.ADMIN}
    token = (config.DAGSTER_AUTH_SERVICE_TOKEN or "").encode()

    def authenticate(connection: HTTPConnection) -> Visitor | None:
        cookie = connection.cookies.get(config.SESSION_COOKIE_NAME)
        session = sessions.validate(cookie) if cookie else None
        if session:
            user = AuthUser.from_dict(session)
            return Visitor(user.username, roles[user.role.name])
        presented = connection.headers.get(config.DAGSTER_AUTH_SERVICE_TOKEN_HEADER, "").encode()
        if token and hmac.compare_digest(presented, token):
            return Visitor(config.DAGSTER_AUTH_SERVICE_TOKEN_USER, roles[config.DAGSTER_AUTH_SERVICE_TOKEN_ROLE])
        return None

    return authenticate


if __name__ == "__main__":
    main()
