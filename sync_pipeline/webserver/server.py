"""Dagster's webserver with an access decision in every endpoint."""

from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from sync_pipeline.dagster_internals.webserver import DagsterWebserver, PermissionResult, WorkspaceRequestContext
from sync_pipeline.webserver import audit, permissions
from sync_pipeline.webserver.graphql_request import GraphQLRequest, InvalidGraphQLRequestError
from sync_pipeline.webserver.login import LOGIN_PATH, Login
from sync_pipeline.webserver.roles import AuthenticatedUser, Role

USER_KEY = "sync_pipeline.user"
# The code with which a websocket is closed whose user is not, or no longer, signed in.
NOT_SIGNED_IN = 4401


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
    ) -> None:
        self._login = login(app_path_prefix)
        super().__init__(process_context, app_path_prefix, live_data_poll_rate)

    def build_routes(self) -> list[BaseRoute]:
        """Routes of the login, and one that takes every other request to Dagster's routes."""
        dagster_routes = Router([self._authorized(route) for route in super().build_routes()])  # type: ignore[no-untyped-call]
        authenticated = AuthenticationMiddleware(dagster_routes, self._login.authenticate, self._app_path_prefix)
        public = [self._with_prefix(route) for route in (*self._login.routes, *self._login.probes)]
        return [*public, CatchAllRoute(authenticated)]

    def _with_prefix(self, route: Route) -> Route:
        path = f"{self._app_path_prefix}{route.path}"
        return Route(path, route.endpoint, methods=route.methods, name=route.name)

    def _authorized(self, route: BaseRoute) -> BaseRoute:
        """Have a route of Dagster decide by role; a route of an unknown type is for admins."""
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
        return UserRequestContext(super()._make_request_context(conn), _user(conn.scope))

    async def index_html_endpoint(self, request: Request) -> Response:
        """Serve Dagster's page, with the login's menu."""
        page: HTMLResponse = await run_in_threadpool(super().index_html_endpoint, request)
        if self._login.menu is None:
            return page
        html = bytes(page.body).decode()
        nonce = html.partition('nonce="')[2].partition('"')[0]
        menu = self._login.menu(_user(request.scope), nonce)
        headers = {name: value for name, value in page.headers.items() if name != "content-length"}
        return HTMLResponse(html.replace("</body>", f"{menu}</body>", 1), headers=headers)

    async def graphql_http_endpoint(self, request: Request) -> Response:
        """Execute a GraphQL request if the user's role permits all of its mutations."""
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            # Dagster's GraphQL client, whatever the query string says.
            return cast("Response", await super().graphql_http_endpoint(request))
        try:
            graphql = GraphQLRequest.from_http(request.method, request.headers, await request.body())
            mutations = graphql.mutations
        except InvalidGraphQLRequestError as error:
            return PlainTextResponse(f"{error}\n", error.status)
        user = _user(request.scope)
        refused = [name for name in mutations if not permissions.may_run_mutation(user.role, name)]
        for name in mutations:
            audit.record(
                "mutation",
                user=user.name,
                role=user.role,
                address=_address(request),
                name=name,
                outcome="refused" if refused else "allowed",
                target=graphql.targets,
            )
        if refused:
            return _refusal(f"{', '.join(refused)}: not permitted for a {user.role}")
        return await self.execute_graphql_request(request, graphql.query, graphql.variables, graphql.operation_name)


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
        user = await run_in_threadpool(self._authenticate, HTTPConnection(scope))
        if user is not None:
            await self._app({**scope, USER_KEY: user}, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": NOT_SIGNED_IN})
        elif scope["method"] in permissions.READING_METHODS:
            page = RedirectResponse(f"{self._login_page}?next={quote(scope['path'], safe='/')}", 302)
            await page(scope, receive, send)
        else:
            await PlainTextResponse("not signed in\n", 401)(scope, receive, send)


class MethodAuthorization:
    """ASGI app around one route that is for admins unless the method only reads."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        user = _user(scope)
        if scope["type"] == "websocket":
            if user.role is not Role.ADMIN:
                await send({"type": "websocket.close", "code": 4403})
                return
        elif scope["method"] not in permissions.READING_METHODS:
            permitted = permissions.may_send(user.role, scope["method"])
            request = f"{scope['method']} {scope['path']}"
            audit.record(
                "request",
                user=user.name,
                role=user.role,
                address=_address(HTTPConnection(scope)),
                name=request,
                outcome="allowed" if permitted else "refused",
            )
            if not permitted:
                await _refusal(f"{request}: not permitted for a {user.role}")(scope, receive, send)
                return
        await self._app(scope, receive, send)


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


def _user(scope: Scope) -> AuthenticatedUser:
    return cast("AuthenticatedUser", scope[USER_KEY])


def _address(connection: HTTPConnection) -> str | None:
    return connection.client.host if connection.client else None


def _refusal(message: str) -> JSONResponse:
    """A refusal in the form of a GraphQL response, which the UI shows."""
    return JSONResponse({"data": None, "errors": [{"message": message}]}, 403)
