"""Every mutation and route of Dagster's webserver, for every role, by every method and spelling of the path.

`pytest -n 0 -s -k prints` on this file prints the list.
"""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster_graphql.schema import create_schema
from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLNonNull,
    get_named_type,
    is_leaf_type,
    is_list_type,
    is_required_argument,
    parse,
)
from starlette.routing import Route
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sync_pipeline.webserver import graphql_request, server
from sync_pipeline.webserver.graphql_request import MAX_BODY_BYTES
from sync_pipeline.webserver.roles import Role
from sync_pipeline.webserver.roles_table import as_markdown
from sync_pipeline_tests.webserver.running import (
    ANONYMOUS,
    ROLES,
    RecordingWebserver,
    Running,
    leaves,
    running_webserver,
)

SCHEMA = create_schema().graphql_schema
assert SCHEMA.mutation_type
MUTATIONS: dict[str, GraphQLField] = dict(sorted(SCHEMA.mutation_type.fields.items()))
LAUNCHER_MUTATIONS = {
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
PERMITTED = {
    ANONYMOUS: set[str](),
    Role.VIEWER: set[str](),
    Role.LAUNCHER: LAUNCHER_MUTATIONS,
    Role.ADMIN: set(MUTATIONS),
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "ANYTHING")
# Spellings that a router or a proxy may take for /graphql, and those that a check of the path may miss.
ODD_PATHS = (
    "/graphql%0a",
    "/graphql%0A",
    "/graphql%0d%0a",
    "/graphql%00",
    "/graphql%20",
    "/graphql/",
    "//graphql",
    "/GRAPHQL",
    "/%67raphql",
    "/graphql%2f",
    "/graphql;x",
    "/./graphql",
    "/x/../graphql",
    "/auth/login/../../graphql",
    "/auth/login%0a/graphql",
    "/graphql?/auth/login",
    "/graphql#/auth/login",
    "*",
    "http://127.0.0.1/graphql",
)
SOURCES = {"String": '"x"', "ID": '"x"', "Int": "1", "Float": "1.0", "Boolean": "true", "RunConfigData": "{}"}


def literal(declared: Any) -> str:
    """A valid value of an input type, with all that is required and nothing else."""
    inner = declared.of_type if isinstance(declared, GraphQLNonNull) else declared
    named = get_named_type(inner)
    if isinstance(named, GraphQLInputObjectType):
        required = {name: each for name, each in named.fields.items() if isinstance(each.type, GraphQLNonNull)}
        value = "{" + ", ".join(f"{name}: {literal(each.type)}" for name, each in required.items()) + "}"
    elif named.name in SOURCES:
        value = SOURCES[named.name]
    else:
        value = next(iter(named.values))  # type: ignore[attr-defined]
    return f"[{value}]" if is_list_type(inner) else value


def document(name: str) -> str:
    """A mutation that Dagster would execute."""
    field = MUTATIONS[name]
    arguments = ", ".join(
        f"{arg}: {literal(each.type)}" for arg, each in field.args.items() if is_required_argument(each)
    )
    called = f"{name}({arguments})" if arguments else name
    is_leaf = is_leaf_type(get_named_type(field.type))
    return f"mutation {{ {called} {'' if is_leaf else '{ __typename }'} }}"


@pytest.fixture(scope="module", params=["", "/some/prefix"])
def recording(request: pytest.FixtureRequest, location: WorkspaceProcessContext) -> Iterator[Running]:
    """A webserver that notes what is reached, at the root and below a path prefix."""
    with running_webserver(location, location.instance, prefix=request.param, webserver=RecordingWebserver) as running:
        yield running


def reached(running: Running) -> list[str]:
    assert isinstance(running.server, RecordingWebserver)
    noted, running.server.reached[:] = list(running.server.reached), []
    return noted


@pytest.mark.parametrize("role", ROLES)
def test_each_role_reaches_its_mutations_by_post_only(role: str, recording: Running) -> None:
    by_post, statuses = set(), set()
    for name in MUTATIONS:
        statuses.add(recording.graphql(document(name), role=role)[0])
        by_post |= set(reached(recording))
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
            query = document(name).replace(" ", "%20").replace('"', "%22")
            status, _ = recording.send(method, f"/graphql?query={query}", role=role)
            assert (status in {302, 401, 403, 405}, reached(recording)) == (True, []), (method, name)
    assert by_post == PERMITTED[role]
    if role in (ANONYMOUS, Role.VIEWER):
        assert statuses == {401 if role == ANONYMOUS else 403}


@pytest.mark.parametrize("role", ROLES)
def test_an_odd_path_gives_a_role_no_further_mutation(role: str, recording: Running) -> None:
    found: dict[str, set[str]] = {}
    for name in ("launchRun", "reloadWorkspace", "wipeAssets"):
        body = json.dumps({"query": document(name)}).encode()
        query = document(name).replace(" ", "%20").replace('"', "%22")
        for path in ODD_PATHS:
            for method in ("POST", "GET", "PUT"):
                recording.send(method, path, role=role, body=body)
                found.setdefault(path, set()).update(set(reached(recording)) & set(MUTATIONS))
                asked = f"{path}{'&' if '?' in path else '?'}query={query}"
                recording.send(method, asked, role=role)
                assert not set(reached(recording)) & set(MUTATIONS), (method, asked)
    assert set().union(*found.values()) <= PERMITTED[role]
    # Dagster takes these for the same endpoint, so they show that the check is there as well.
    reachable = {Role.LAUNCHER: 1, Role.ADMIN: 3}.get(ROLES[role], 0)
    assert len(found["/graphql?/auth/login"]) == len(found["/%67raphql"]) == reachable
    assert recording.prefix or len(found["/graphql%0a"]) == reachable


@pytest.mark.parametrize("role", ROLES)
def test_a_websocket_runs_no_mutation_for_any_role(role: str, recording: Running) -> None:
    if role == ANONYMOUS:
        with pytest.raises(InvalidStatus) as refused, recording.websocket(role):
            pass
        assert refused.value.response.status_code == 403
        return
    with recording.websocket(role) as socket:
        for name in MUTATIONS:
            socket.send(json.dumps({"type": "start", "id": name, "payload": {"query": document(name)}}))
            answer = json.loads(socket.recv(60))
            assert (answer["type"], answer["id"]) == ("error", name)
            assert "send a mutation by POST" in answer["payload"]["message"]
        socket.send(json.dumps({"type": "start", "id": "q", "payload": {"query": "{ version }"}}))
        assert json.loads(socket.recv(60))["type"] == "error"
        subscription = "subscription { locationStateChangeEvents { event { message } } }"
        socket.send(json.dumps({"type": "start", "id": "s", "payload": {"query": subscription}}))
        with pytest.raises(TimeoutError):  # no error: it goes on
            socket.recv(0.5)
    assert reached(recording) == []


@pytest.mark.parametrize("role", ROLES)
def test_each_role_reaches_its_routes(role: str, recording: Running) -> None:
    routes = [each for each in leaves(recording.server.build_dagster_routes()) if isinstance(each, Route)]
    reached(recording)
    prefix = recording.prefix
    found: set[str] = set()
    for route in routes:
        path = route.path_format.replace("{", "").replace("}", "").removeprefix(prefix)
        for method in METHODS:
            # Some routes write what is in the query string, so a body is not needed.
            for body in (b"", b"{}"):
                recording.send(method, path or "/", role=role, body=body, content_type="application/json")
                found |= set(reached(recording))
    declared = {
        f"{method} {route.path}" for route in routes for method in route.methods or () if route.name != "graphql-http"
    }
    reading = {each for each in declared if each.startswith(("GET ", "HEAD "))}
    writing = declared - reading
    assert len(writing) >= 3
    assert found & writing == (writing if role == Role.ADMIN else set())
    assert found - writing <= (set() if role == ANONYMOUS else reading)
    assert role == ANONYMOUS or len(found) > 10


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_writing_routes_accept_json_only(content_type: str | None, recording: Running) -> None:
    """A browser sends other types for pages of other sites without asking this server first."""
    for path in ("/report_asset_materialization/a", "/report_asset_check/a", "/report_asset_observation/a"):
        status, _ = recording.send("POST", path, role=Role.ADMIN, body=b"{}", content_type=content_type)
        assert (status, reached(recording)) == (415, [])


@pytest.mark.parametrize(
    "path",
    ["/", "/runs", "/server_info", "/logs/a/b.out", "/notebook", "/auth/", "/auth/metrics", "/auth/login/x", "/x%0ay"],
)
def test_an_anonymous_reader_is_sent_to_the_login_page(path: str, recording: Running) -> None:
    status, answer = recording.send("GET", path)
    assert (status, reached(recording)) == (302, [])
    location = answer.lower().partition("location: ")[2].partition("\r\n")[0]
    assert location.startswith(f"{recording.prefix}/auth/login?next={recording.prefix}/")
    assert "%" not in path or "\n" not in location


def test_the_login_page_and_the_health_check_need_no_login(recording: Running) -> None:
    assert "the login page" in recording.send("GET", "/auth/login")[1]
    assert "the login page" in recording.send("POST", "/auth/login", body=b"{}")[1]
    assert "healthy" in recording.send("GET", "/auth/health")[1]
    assert recording.send("POST", "/auth/health", body=b"{}")[0] in {401, 405}


def test_an_unknown_route_that_writes_is_for_admins(location: WorkspaceProcessContext) -> None:
    """Whatever a later version of Dagster adds."""

    class Newer(RecordingWebserver):
        def build_dagster_routes(self) -> list[Any]:
            async def endpoint(_: Any) -> None:
                raise AssertionError

            routes = [Route("/new", endpoint, methods=["GET", "POST"]), *super().build_dagster_routes()]
            routes[0].app = self._recorder("/new")
            return routes

    with running_webserver(location, location.instance, webserver=Newer) as running:
        for role, expected in ((ANONYMOUS, 401), (Role.VIEWER, 403), (Role.LAUNCHER, 403), (Role.ADMIN, 200)):
            assert running.send("POST", "/new", role=role, body=b"{}")[0] == expected
        assert reached(running) == ["POST /new"]


def test_a_websocket_ends_with_the_session(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SESSION_CHECK_S", 0.05)
    with running.websocket(Role.VIEWER) as socket:
        with pytest.raises(TimeoutError):
            socket.recv(0.5)
        running.login.signed_out = True
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(60)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == server.NOT_SIGNED_IN


def test_a_long_query_does_not_hold_up_others(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    parsing, going_on = threading.Event(), threading.Event()

    def slow_parse(*args: Any, **options: Any) -> Any:
        parsing.set()
        assert going_on.wait(60)
        return parse(*args, **options)

    monkeypatch.setattr(graphql_request, "parse", slow_parse)
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(running.graphql, "{ version }", role=Role.VIEWER)
        assert parsing.wait(60)
        health = ThreadPoolExecutor(1).submit(running.send, "GET", "/auth/health")
        try:
            assert "healthy" in health.result(10)[1]
        finally:
            going_on.set()
        assert query.result(60)[0] == 200


@pytest.mark.parametrize(
    ("query", "status"), [(f"{{{' a' * 50_000}}}", 400), (f"#{'x' * 1_000_000}\n{{ version }}", 413)]
)
def test_an_endless_query_is_not_read_to_its_end(query: str, status: int, running: Running) -> None:
    assert running.graphql(query, role=Role.VIEWER)[0] == status


def test_an_endless_body_is_not_read_to_its_end(running: Running) -> None:
    variables = {"filler": "x" * (MAX_BODY_BYTES + 1)}
    status, answer = running.graphql("{ version }", role=Role.VIEWER, **variables)
    assert (status, str(answer)) == (413, f"the body has more than {MAX_BODY_BYTES} bytes\n")


def test_pages_cannot_be_framed_by_other_sites(running: Running) -> None:
    for path, role in (("/", Role.VIEWER), ("/auth/login", ANONYMOUS), ("/graphql", Role.VIEWER)):
        assert "x-frame-options: " in running.send("GET", path, role=role, accept="text/html")[1].lower()


def test_the_path_prefix_is_where_everything_is(location: WorkspaceProcessContext) -> None:
    with running_webserver(location, location.instance, prefix="/some/prefix") as running:
        assert running.graphql("{ version }", role=Role.VIEWER)[0] == 200
        assert '"pathPrefix": "/some/prefix"' in running.send("GET", "/runs", role=Role.VIEWER)[1]
        running.prefix = ""
        assert running.graphql("{ version }", role=Role.VIEWER)[0] == 404
        assert running.graphql("{ version }", role=ANONYMOUS)[0] == 401


def test_this_prints_mutations_and_routes_by_role() -> None:
    page = as_markdown()
    print(f"\n{page}")
    assert all(f"| `{name}` |" in page for name in MUTATIONS)
    assert "`POST /report_asset_materialization/{asset_key:path}` | no | no | no | yes |" in page


def test_the_documented_table_of_roles_is_current() -> None:
    documented = Path(__file__).parents[2] / "docs" / "roles.md"
    assert documented.read_text() == as_markdown(), "run python -m sync_pipeline.webserver.roles_table > docs/roles.md"
