"""Decisions on what a user may do, and their audit lines."""

import functools
from typing import cast

from dagster import DagsterInstance
from graphql import GraphQLSchema
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.webserver import audit, permissions
from sync_pipeline.webserver.graphql_request import GraphQLRequest, InvalidGraphQLArgumentsError, MutationCall, is_json
from sync_pipeline.webserver.launch_rules import shorten
from sync_pipeline.webserver.launches import read_launch
from sync_pipeline.webserver.roles import AuthenticatedUser, Role

USER_KEY = "sync_pipeline.user"
# The code with which a websocket is closed that the user's role does not permit.
NOT_PERMITTED = 4403


class MutationRefusedError(SyncPipelineError):
    """A user may not run the mutations of a request."""


def authorize(
    graphql: GraphQLRequest,
    user: AuthenticatedUser,
    address: str | None,
    schema: GraphQLSchema,
    instance: DagsterInstance,
) -> None:
    """Check that a user may run all mutations of a request, and log each of them.

    Raises `MutationRefusedError`, and `InvalidGraphQLArgumentsError` if nobody may run them as they are.
    """
    log = functools.partial(audit.record, "mutation", user=user.name, role=user.role, address=address)
    not_permitted = [name for name in graphql.mutations if not permissions.may_run_mutation(user.role, name)]
    invalid: InvalidGraphQLArgumentsError | None = None
    calls: list[MutationCall] = []
    try:
        calls = graphql.mutation_calls(schema)
    except InvalidGraphQLArgumentsError as error:
        invalid = error
    if not_permitted or invalid:
        reason = f"not permitted for a {user.role}" if not_permitted else "invalid arguments"
        targets = {call.name: call.targets for call in calls}
        for name in graphql.mutations:
            log(name=shorten(name), outcome="refused", reason=reason, target=targets.get(name, {}))
        if invalid and not not_permitted:
            raise invalid
        raise MutationRefusedError(f"{', '.join(map(shorten, not_permitted))}: {reason}")
    launches = [(call, read_launch(call, instance)) for call in calls]
    problems = [
        f"{call.name}: {problem}"
        for call, launch in launches
        if user.role is not Role.ADMIN and (problem := launch.problem())
    ]
    refused = "; ".join(problems)
    for call, launch in launches:
        log(
            name=call.name,
            outcome="refused" if problems else "allowed",
            reason=refused or None,
            target=call.targets,
            tags=launch.logged_tags,
            run_config=launch.logged_run_config,
        )
    if problems:
        raise MutationRefusedError(refused)


class MethodAuthorization:
    """ASGI app around one route that is for admins unless the method only reads."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        user = user_of(HTTPConnection(scope))
        if scope["type"] == "websocket":
            if user.role is not Role.ADMIN:
                await send({"type": "websocket.close", "code": NOT_PERMITTED})
                return
        elif scope["method"] not in permissions.READING_METHODS:
            permitted = permissions.may_send(user.role, scope["method"])
            request = shorten(f"{scope['method']} {scope['path']}")
            audit.record(
                "request",
                user=user.name,
                role=user.role,
                address=address_of(HTTPConnection(scope)),
                name=request,
                outcome="allowed" if permitted else "refused",
            )
            if not permitted:
                await refusal(f"{request}: not permitted for a {user.role}")(scope, receive, send)
                return
            if not is_json(Headers(scope=scope)):
                problem = PlainTextResponse("send requests that write as Content-Type application/json\n", 415)
                await problem(scope, receive, send)
                return
        await self._app(scope, receive, send)


def user_of(connection: HTTPConnection) -> AuthenticatedUser:
    """Return the user that the connection was authenticated as."""
    return cast("AuthenticatedUser", connection.scope[USER_KEY])


def address_of(connection: HTTPConnection) -> str | None:
    """Return the client's address for the audit log."""
    return connection.client.host if connection.client else None


def refusal(message: str) -> JSONResponse:
    """Return a refusal in the form of a GraphQL response, which the UI shows."""
    return JSONResponse({"data": None, "errors": [{"message": message}]}, 403)
