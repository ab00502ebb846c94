"""The guarded webserver in this process, over HTTP, with a login that believes a header."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from sync_pipeline.webserver.hosts import HostPolicy
from sync_pipeline.webserver.login import Login
from sync_pipeline.webserver.roles import AuthenticatedUser, Role
from sync_pipeline.webserver.server import GuardedWebserver

ANONYMOUS = "anonymous"
ROLES: Mapping[str, Role | None] = {ANONYMOUS: None, **{role.value: role for role in Role}}
LOCATION = {"repositoryLocationName": "location.py", "repositoryName": "__repository__"}
USER_HEADER = "x-test-user"


@dataclass
class HeaderLogin:
    """Takes the role from a header; `signed_out` ends the session of everybody."""

    signed_out: bool = False

    def authenticate(self, connection: HTTPConnection) -> AuthenticatedUser | None:
        role = ROLES[connection.headers.get(USER_HEADER, ANONYMOUS)]
        return None if role is None or self.signed_out else AuthenticatedUser(f"{role}'s name", role)

    def login(self, path_prefix: str) -> Login:  # noqa: ARG002
        page = Route("/auth/login", _login_page, methods=["GET", "POST"])
        return Login(self.authenticate, routes=[page], probes=[Route("/auth/health", _health, methods=["GET"])])


async def _login_page(_: Request) -> Response:
    return PlainTextResponse("the login page")


async def _health(_: Request) -> Response:
    return PlainTextResponse("healthy")


class RecordingWebserver(GuardedWebserver):
    """Notes which of Dagster's endpoints and mutations are reached, instead of running them."""

    reached: list[str]

    def build_dagster_routes(self) -> list[Any]:
        routes = super().build_dagster_routes()
        self.reached = []
        for route in leaves(routes):
            if route.endpoint not in (self.graphql_http_endpoint, self.graphql_ws_endpoint):
                route.app = self._recorder(route.path)
        assert self._graphene_schema.graphql_schema.mutation_type
        for name, mutation in self._graphene_schema.graphql_schema.mutation_type.fields.items():
            mutation.resolve = self._noting(name)
        return routes

    def _recorder(self, path: str) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.reached.append(f"{scope['method']} {path}")
            await JSONResponse({"reached": path})(scope, receive, send)

        return app

    def _noting(self, name: str) -> Callable[..., None]:
        def resolve(*_: object, **__: object) -> None:
            self.reached.append(name)

        return resolve


def leaves(routes: list[Any]) -> Iterator[Any]:
    """Routes and mounts of files, also of those below a path prefix."""
    for route in routes:
        if isinstance(route, Mount):
            yield from leaves(route.routes) if route.routes else ()
        else:
            yield route


@dataclass
class Running:
    """Sends requests as a role, as they stand."""

    port: int
    server: GuardedWebserver
    login: HeaderLogin
    instance: dg.DagsterInstance
    prefix: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(
        self,
        method: str,
        path: str,
        *,
        role: str = ANONYMOUS,
        body: bytes = b"",
        **headers: str | None,
    ) -> tuple[int, str]:
        """Send a request whose path no client has tidied up; returns status and the rest of the response."""
        given = {
            "host": f"127.0.0.1:{self.port}",
            "content-type": "application/json" if body else None,
            "content-length": str(len(body)),
            "connection": "close",
            USER_HEADER: None if role == ANONYMOUS else role,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", *(f"{n}: {v}" for n, v in given.items() if v is not None)]
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace")
        return int(answer.split()[1]), answer

    def graphql(self, document: str, *, role: str, path: str = "/graphql", **variables: object) -> tuple[int, Any]:
        """Send a GraphQL request as the UI does."""
        body = json.dumps({"query": document, "variables": variables}).encode()
        status, answer = self.send("POST", path, role=role, body=body)
        text = answer.partition("\r\n\r\n")[2]
        return status, json.loads(text) if text.startswith("{") else text

    def websocket(self, role: str, **headers: str) -> ClientConnection:
        user = {} if role == ANONYMOUS else {USER_HEADER: role}
        return connect(
            f"ws://127.0.0.1:{self.port}{self.prefix}/graphql",
            subprotocols=[Subprotocol("graphql-ws")],
            additional_headers={**user, **headers},
            proxy=None,
            open_timeout=60,
        )

    def runs(self) -> list[tuple[Mapping[str, object], Mapping[str, str]]]:
        """Run config and tags of all runs, the oldest first."""
        return [(run.run_config, run.tags) for run in reversed(self.instance.get_runs())]


@contextmanager
def running_webserver(
    context: WorkspaceProcessContext | None,
    instance: dg.DagsterInstance,
    *,
    prefix: str = "",
    hosts: HostPolicy = HostPolicy(any_host=True),  # noqa: B008 (immutable)
    webserver: type[GuardedWebserver] = GuardedWebserver,
    local: bool = False,
) -> Iterator[Running]:
    """Serve on a port of the system's choice."""
    from sync_pipeline.webserver.local import no_login

    login = HeaderLogin()
    app = webserver(context, prefix, login=no_login if local else login.login, hosts=hosts)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(app.create_asgi_app(), log_level="warning", lifespan="off")
        uvicorn_server = uvicorn.Server(config)
        thread = threading.Thread(target=uvicorn_server.run, args=([listening],))
        thread.start()
        try:
            yield Running(listening.getsockname()[1], app, login, instance, prefix)
        finally:
            uvicorn_server.should_exit = True
            thread.join()


@contextmanager
def workspace(folder: Path) -> Iterator[WorkspaceProcessContext]:
    """A Dagster instance of its own with a code server; no daemon takes runs from its queue."""
    (folder / "dagster.yaml").write_text(
        "run_coordinator: {module: dagster.core.run_coordinator, class: QueuedRunCoordinator}\n"
        "telemetry: {enabled: false}\n"
    )
    target = PythonFileTarget(str(Path(__file__).with_name("location.py")), None, None, None)
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        with WorkspaceProcessContext(instance, target) as context:
            yield context


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        time.sleep(0.05)
