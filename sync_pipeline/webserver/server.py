"""Dagster's webserver with an access decision in every endpoint."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast
from urllib.parse import quote

from graphql import OperationType
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from sync_pipeline.dagster_internals.webserver import DagsterWebserver, PermissionResult, WorkspaceRequestContext
from sync_pipeline.webserver import permissions
from sync_pipeline.webserver.authorization import (
    USER_KEY,
    MethodAuthorization,
    MutationRefusedError,
    address_of,
    authorize,
    refusal,
    user_of,
)
from sync_pipeline.webserver.graphql_request import (
    GraphQLRequest,
    InvalidGraphQLArgumentsError,
    InvalidGraphQLRequestError,
    read_body,
)
from sync_pipeline.webserver.hosts import HostMiddleware, HostPolicy
from sync_pipeline.webserver.login import LOGIN_PATH, Login
from sync_pipeline.webserver.login.errors import LoginUnavailableError
from sync_pipeline.webserver.roles import AuthenticatedUser, Role

# The code with which a websocket is closed whose user is not, or no longer, signed in.
NOT_SIGNED_IN = 4401
TRY_AGAIN_LATER = 1013
# How often an open websocket's user is authenticated again.
SESSION_CHECK_S = 10.0


class UserRequestContext(WorkspaceRequestContext):
    """Dagster's context of a request, with the permissions of its user."""

    def __init__(self, context: WorkspaceRequestContext, user: AuthenticatedUser) -> None:
        super().__init__(
            instance=context.instance,
            current_workspace=context.get_current_workspace(),
            process_context=context.process_context,
            version=context.version,
            source=context.source,
            read_only=context.read_only or user.role is Role.VIEWER,
        )
        self._user = user

    @property
    def permissions(self) -> Mapping[str, PermissionResult]:
        """Permissions by name; Dagster checks them in most mutations, and the UI disables buttons by them."""
        return permissions.limit(super().permissions, self._user.role)

    def permissions_for_location(self, *, location_name: str) -> Mapping[str, PermissionResult]:
        """Permissions by name, for one code location."""
        return permissions.limit(super().permissions_for_location(location_name=location_name), self._user.role)


class GuardedWebserver(DagsterWebserver[Any, Any]):
    """Dagster's webserver behind a login.

    Only the routes of the login are public. Dagster's routes are behind `AuthenticationMiddleware`; each of them then
    decides by the user's role: the GraphQL endpoints by what they are about to execute, all others by the method.
    No decision depends on how a path is spelled.
    """

    def __init__(
        self,
        process_context: Any,
        app_path_prefix: str = "",
        live_data_poll_rate: int | None = None,
        *,
        login: Callable[[str], Login],
        hosts: HostPolicy,
    ) -> None:
        self._login = login(app_path_prefix)
        self._hosts = hosts
        super().__init__(process_context, app_path_prefix, live_data_poll_rate)

    def build_middleware(self) -> list[Middleware]:
        """Dagster's middleware, and one that keeps other sites from framing the pages."""
        return [Middleware(NoForeignFrames), *super().build_middleware()]

    def build_routes(self) -> list[BaseRoute]:
        """Routes of the login, and one that takes every other request to Dagster's routes."""
        dagster_routes = Router([self._authorized(route) for route in self.build_dagster_routes()])
        authenticated = AuthenticationMiddleware(dagster_routes, self._login.authenticate, self._app_path_prefix)
        check_host = Middleware(HostMiddleware, self._hosts)
        probes = [self._public(route) for route in self._login.probes]
        pages = [self._public(route, check_host) for route in self._login.routes]
        return [*probes, *pages, CatchAllRoute(HostMiddleware(authenticated, self._hosts))]

    def build_dagster_routes(self) -> list[BaseRoute]:
        """Return Dagster's own routes, unguarded."""
        routes: list[BaseRoute] = super().build_routes()  # type: ignore[no-untyped-call]
        return routes

    def _public(self, route: Route, *middleware: Middleware) -> Route:
        path = f"{self._app_path_prefix}{route.path}"
        return Route(path, route.endpoint, methods=route.methods, name=route.name, middleware=middleware)

    def _authorized(self, route: BaseRoute) -> BaseRoute:
        """Have a route of Dagster decide by role. Raises `TypeError` for a route of an unknown type."""
        if isinstance(route, Mount) and route.routes:
            nested = [self._authorized(each) for each in route.routes]
            return Mount(route.path, routes=nested, name=route.name)
        if isinstance(route, Route | WebSocketRoute) and route.endpoint in (
            self.graphql_http_endpoint,
            self.graphql_ws_endpoint,
        ):
            return route
        if isinstance(route, Route | WebSocketRoute | Mount):
            route.app = MethodAuthorization(route.app)
            return route
        raise TypeError(f"Dagster's webserver has a route of an unknown type: {type(route).__name__}")

    def _make_request_context(self, conn: HTTPConnection) -> UserRequestContext:
        return UserRequestContext(super()._make_request_context(conn), user_of(conn))

    async def index_html_endpoint(self, request: Request) -> Response:
        """Serve Dagster's page, with the login's menu."""
        page: HTMLResponse = await run_in_threadpool(super().index_html_endpoint, request)
        if self._login.menu is None:
            return page
        html = bytes(page.body).decode()
        nonce = html.partition('nonce="')[2].partition('"')[0]
        menu = self._login.menu(user_of(request), nonce)
        headers = {name: value for name, value in page.headers.items() if name != "content-length"}
        return HTMLResponse(html.replace("</body>", f"{menu}</body>", 1), headers=headers)

    async def graphql_http_endpoint(self, request: Request) -> Response:
        """Execute a GraphQL request if the user's role permits all of its mutations."""
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            # Dagster's GraphQL client, whatever the query string says.
            return cast("Response", await super().graphql_http_endpoint(request))
        try:
            body = await read_body(request)
            graphql = await run_in_threadpool(GraphQLRequest.from_http, request.method, request.headers, body)
            if graphql.mutations:
                await run_in_threadpool(
                    authorize,
                    graphql,
                    user_of(request),
                    address_of(request),
                    self._graphene_schema.graphql_schema,
                    self._process_context.instance,
                )
        except InvalidGraphQLRequestError as error:
            return PlainTextResponse(f"{error}\n", error.status)
        except InvalidGraphQLArgumentsError as error:
            return JSONResponse({"data": None, "errors": self.handle_graphql_errors(error.errors)}, 400)
        except MutationRefusedError as error:
            return refusal(str(error))
        return await self.execute_graphql_request(request, graphql.query, graphql.variables, graphql.operation_name)

    async def graphql_ws_endpoint(self, websocket: WebSocket) -> None:
        """Serve subscriptions until the user signs out, is removed or changes role."""
        watch = asyncio.create_task(self._close_with_session(websocket))
        try:
            await super().graphql_ws_endpoint(websocket)
        finally:
            watch.cancel()

    async def execute_graphql_subscription(
        self,
        websocket: WebSocket,
        operation_id: str,
        query: str,
        variables: dict[str, Any] | None,
        operation_name: str | None,
    ) -> tuple[Any, Any]:
        """Execute a subscription; refuse queries and mutations."""
        try:
            graphql = await run_in_threadpool(GraphQLRequest.from_query, query, operation_name, variables)
        except InvalidGraphQLRequestError as error:
            return None, {"message": str(error)}
        operation = graphql.operation.operation
        if operation is not OperationType.SUBSCRIPTION:
            return None, {"message": f"send a {operation.value} by POST; a websocket is for subscriptions only"}
        return await super().execute_graphql_subscription(websocket, operation_id, query, variables, operation_name)

    async def _close_with_session(self, websocket: WebSocket) -> None:
        """Close a websocket once its user is not signed in with the same role any more."""
        user: AuthenticatedUser | None = user_of(websocket)
        while user == user_of(websocket):
            await asyncio.sleep(SESSION_CHECK_S)
            try:
                user = await run_in_threadpool(self._login.authenticate, websocket)
            except Exception:  # noqa: BLE001 (whatever prevents the check must not keep a session open)
                user = None
        with suppress(RuntimeError):  # the client has closed it at the same moment
            await websocket.close(NOT_SIGNED_IN)


class AuthenticationMiddleware:
    """ASGI middleware that turns away everybody who is not signed in."""

    def __init__(
        self, app: ASGIApp, authenticate: Callable[[HTTPConnection], AuthenticatedUser | None], path_prefix: str
    ) -> None:
        self._app = app
        self._authenticate = authenticate
        self._login_page = f"{path_prefix}{LOGIN_PATH}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on, with its user in the scope, or answer it."""
        try:
            user = await run_in_threadpool(self._authenticate, HTTPConnection(scope))
        except LoginUnavailableError as error:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
            else:
                await PlainTextResponse(f"{error}\n", 503)(scope, receive, send)
            return
        if user is not None:
            await self._app({**scope, USER_KEY: user}, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": NOT_SIGNED_IN})
        elif scope["method"] in permissions.READING_METHODS:
            page = RedirectResponse(f"{self._login_page}?next={quote(scope['path'], safe='/')}", 302)
            await page(scope, receive, send)
        else:
            await PlainTextResponse("not signed in\n", 401)(scope, receive, send)


class NoForeignFrames:
    """ASGI middleware that forbids browsers to show a page inside a page of another site, which could steal clicks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the header to every response."""

        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("X-Frame-Options", "SAMEORIGIN")
            await send(message)

        await self._app(scope, receive, send_with_header)


class CatchAllRoute(BaseRoute):
    """A route that every request matches, however its path is spelled."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def matches(self, scope: Scope) -> tuple[Match, Scope]:  # noqa: ARG002
        """Match."""
        return Match.FULL, {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        await self.app(scope, receive, send)
