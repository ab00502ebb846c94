"""Hosts that the webserver answers to and origins that it accepts, over HTTP, by websocket and in a browser."""

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from playwright.sync_api import Page, sync_playwright
from websockets.exceptions import InvalidStatus

from sync_pipeline.webserver import hosts
from sync_pipeline.webserver.hosts import Authority, InvalidHostListError, local_policy, login_policy
from sync_pipeline.webserver.roles import Role
from sync_pipeline_tests.webserver.running import RecordingWebserver, Running, running_webserver

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
RELOAD = "mutation { reloadWorkspace { __typename } }"
LOOPBACK = ("localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.1.2.3", "[::1]")
FOREIGN = (
    "evil.test",
    "localhost.evil.test",
    "127.0.0.1.evil.test",
    "evil-localhost",
    "0.0.0.0",  # noqa: S104
    "128.0.0.1",
    "[::2]",
    "[::ffff:10.0.0.1]",
    "localhost@evil.test",
    "evil.test/localhost",
    "localhost evil.test",
    "",
)


@pytest.fixture
def local(location: WorkspaceProcessContext) -> Iterator[Running]:
    """The webserver of `dev` and `demo`, which notes what is reached."""
    policy = local_policy({}, "127.0.0.1")
    with running_webserver(
        location, location.instance, hosts=policy, webserver=RecordingWebserver, local=True
    ) as running:
        yield running


def reload(running: Running, **headers: str | None) -> tuple[int, bool]:
    """Send a mutation; returns the status and whether it was reached."""
    body = json.dumps({"query": RELOAD}).encode()
    status, _ = running.send("POST", "/graphql", body=body, **headers)
    return status, was_reached(running)


def was_reached(running: Running) -> bool:
    assert isinstance(running.server, RecordingWebserver)
    found = bool(running.server.reached)
    running.server.reached.clear()
    return found


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize("port", ["", ":80", ":3000", ":65535"])
def test_dev_answers_to_a_loopback_host_on_any_port(host: str, port: str, local: Running) -> None:
    assert reload(local, host=host + port)[1]
    assert reload(local, host=host + port, origin=f"http://{host}{port}")[1]


@pytest.mark.parametrize("host", FOREIGN)
def test_dev_refuses_a_foreign_host(host: str, local: Running) -> None:
    for given in (host, f"{host}:3000"):
        assert reload(local, host=given) == (403, False)
        assert local.send("GET", "/", host=given)[0] == 403
        assert not was_reached(local)


def test_dev_refuses_a_request_without_a_single_host(local: Running) -> None:
    assert not reload(local, host=None)[1]
    assert not reload(local, host="evil.test\r\nhost: localhost")[1]
    assert not reload(local, host="localhost\r\nhost: evil.test")[1]


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "http://evil.test",
        "https://evil.test:3000",
        "http://localhost:3001",
        "http://localhost",
        "http://127.0.0.1:3000",
        "file://",
        "chrome-extension://localhost:3000",
        "localhost:3000",
        "http://localhost:3000@evil.test",
        "http://localhost:3000.evil.test",
        "http://localhost:3000, http://evil.test",
        "",
    ],
)
def test_dev_refuses_a_foreign_origin(origin: str, local: Running) -> None:
    assert reload(local, host="localhost:3000", origin=origin) == (403, False)
    status, _ = local.send("POST", "/report_asset_materialization/a", host="localhost:3000", origin=origin, body=b"{}")
    assert (status, was_reached(local)) == (403, False)


def test_dev_accepts_graphql_by_post_with_json_only(local: Running) -> None:
    body = json.dumps({"query": RELOAD}).encode()
    for content_type in (None, "text/plain", "application/x-www-form-urlencoded", "text/plain; application/json"):
        status, _ = local.send(
            "POST", "/graphql?query=" + RELOAD.replace(" ", "%20"), body=body, content_type=content_type
        )
        assert (status, was_reached(local)) == (405, False)
    for path in ("/graphql", "/graphql%0a"):
        status, _ = local.send("GET", f"{path}?query={RELOAD.replace(' ', '%20')}")
        assert (status, was_reached(local)) == (405, False)


def test_a_websocket_checks_host_and_origin(local: Running) -> None:
    for headers in ({"Origin": "http://evil.test"}, {"Origin": "null"}, {"Origin": f"http://localhost:{local.port}"}):
        with pytest.raises(InvalidStatus) as refused, local.websocket("anonymous", **headers):
            pass
        assert refused.value.response.status_code == 403
    with local.websocket("anonymous", Origin=f"http://127.0.0.1:{local.port}") as socket_:
        socket_.send(json.dumps({"type": "connection_init"}))
        assert json.loads(socket_.recv(60))["type"] == "connection_ack"
    handshake = {"upgrade": "websocket", "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==", "sec_websocket_version": "13"}
    for host, expected in (("evil.test", 403), ("localhost", 101)):
        with socket.create_connection(("127.0.0.1", local.port), timeout=60) as connection:
            lines = [f"{name.replace('_', '-')}: {value}" for name, value in handshake.items()]
            request = "\r\n".join(["GET /graphql HTTP/1.1", f"host: {host}", "connection: Upgrade", *lines, "", ""])
            connection.sendall(request.encode())
            assert int(connection.recv(100).split()[1]) == expected


@pytest.mark.parametrize(
    ("listen", "host", "expected"),
    [
        ("0.0.0.0", "192.0.2.1", False),  # noqa: S104
        ("0.0.0.0", "localhost", True),  # noqa: S104
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::", "[::1]", True),
        ("2001:db8::1", "[2001:db8::1]", True),
        ("myhost", "myhost", True),
        ("127.0.0.1", "listed.test", True),
    ],
)
def test_dev_answers_to_the_address_it_listens_on(listen: str, host: str, expected: bool) -> None:
    policy = local_policy({hosts.HOSTS_VARIABLE: "listed.test"}, listen)
    authority = Authority.parse(f"{host}:3000")
    assert authority
    assert policy.accepts_host(authority) == expected


@pytest.mark.parametrize(
    ("host", "origin", "accepted"),
    [
        ("dagster.example", None, True),
        ("dagster.example", "https://dagster.example", True),
        ("DAGSTER.example:443", "https://dagster.example", True),
        # TLS ends at a proxy, so the server cannot know the scheme.
        ("dagster.example", "http://dagster.example", True),
        ("dagster.example", "https://dagster.example:8443", False),
        ("dagster.example:8443", "https://dagster.example:8443", True),
        ("dagster.example", "https://evil.test", False),
        ("evil.test", "https://evil.test", False),
        ("evil.test", None, False),
        # A proxy may send a name of its own, if it is listed.
        ("webserver:3000", None, True),
        ("webserver:3000", "https://dagster.example", True),
        ("webserver:3000", "https://evil.test", False),
        ("127.0.0.1:3000", None, False),
    ],
)
def test_behind_the_login_listed_hosts_are_accepted(
    host: str, origin: str | None, accepted: bool, location: WorkspaceProcessContext
) -> None:
    policy = login_policy(
        {hosts.URL_VARIABLE: "https://dagster.example/dagster", hosts.HOSTS_VARIABLE: "webserver, other.test:8080"}
    )
    with running_webserver(location, location.instance, hosts=policy, webserver=RecordingWebserver) as running:
        body = json.dumps({"query": RELOAD}).encode()
        status, _ = running.send("POST", "/graphql", role=Role.ADMIN, host=host, origin=origin, body=body)
        assert was_reached(running) == accepted
        assert (status == 403) == (not accepted)
        assert running.send("GET", "/auth/login", host=host, origin=origin)[0] == (200 if accepted else 403)
        # Probes address the server by its IP.
        assert running.send("GET", "/auth/health", host="10.1.2.3:3000")[0] == 200


def test_behind_the_login_any_host_is_accepted_if_none_is_listed(
    location: WorkspaceProcessContext, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = login_policy({})
    assert "warning: the webserver answers to any Host; set SYNC_PIPELINE_UI_URL" in capsys.readouterr().err
    with running_webserver(location, location.instance, hosts=policy, webserver=RecordingWebserver) as running:
        body = json.dumps({"query": RELOAD}).encode()
        for origin, expected in ((None, True), ("https://any.test", True), ("https://evil.test", False)):
            running.send("POST", "/graphql", role=Role.ADMIN, host="any.test", origin=origin, body=body)
            assert was_reached(running) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (hosts.HOSTS_VARIABLE, "https://dagster.example"),
        (hosts.HOSTS_VARIABLE, "a.test, b test"),
        (hosts.URL_VARIABLE, "dagster.example"),
        (hosts.URL_VARIABLE, "ftp://dagster.example"),
        (hosts.URL_VARIABLE, "https://user:marker@dagster.example"),
        (hosts.URL_VARIABLE, "https://[::1"),
    ],
)
def test_an_unreadable_list_of_hosts_is_an_error(variable: str, value: str) -> None:
    with pytest.raises(InvalidHostListError, match=variable) as error:
        login_policy({variable: value})
    assert "marker" not in str(error.value)


@contextmanager
def foreign_page(script: str) -> Iterator[str]:
    """A page of another site, which runs a script; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<html><body><script>{script}</script></body></html>".encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://evil.test:{site.server_address[1]}/"
        site.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A browser in which evil.test, and a name that was rebound, resolve to this machine."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: install Debian's package `chromium`")
    rules = "--host-resolver-rules=MAP evil.test 127.0.0.1, MAP rebound.test 127.0.0.1"
    with sync_playwright() as playwright:
        switches = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", rules]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        page = browser.new_page()
        page.set_default_timeout(120_000)
        yield page
        browser.close()


ATTACK = """
const ui = 'http://127.0.0.1:PORT', query = 'mutation { reloadWorkspace { __typename } }';
const send = (path, options) => fetch(ui + path, {mode: 'no-cors', credentials: 'include', ...options}).catch(() => 0);
const socket = () => new Promise(done => {
  const opened = new WebSocket(ui.replace('http', 'ws') + '/graphql', 'graphql-ws');
  opened.onopen = () => done('open'); opened.onerror = () => done('refused');
});
window.result = (async () => {
  const body = JSON.stringify({query});
  await send('/graphql?query=' + encodeURIComponent(query));
  await send('/graphql%0a?query=' + encodeURIComponent(query));
  await send('/graphql?query=' + encodeURIComponent(query), {method: 'POST'});
  await send('/graphql', {method: 'POST', body});
  await send('/graphql', {method: 'POST', body: new Blob([body])});
  await send('/graphql', {method: 'POST', body: new Blob([body], {type: 'text/plain; application/json'})});
  await send('/graphql', {mode: 'cors', method: 'POST', body, headers: {'content-type': 'application/json'}});
  await send('/report_asset_materialization/a', {method: 'POST'});
  await send('/report_asset_check/a?check_name=x&passed=true', {method: 'POST', body: new Blob(['{}'])});
  return await socket();
})();
"""


def test_a_page_of_another_site_cannot_drive_the_ui(local: Running, page: Page) -> None:
    with foreign_page(ATTACK.replace("PORT", str(local.port))) as address:
        page.goto(address)
        assert page.evaluate("window.result") == "refused"
    assert isinstance(local.server, RecordingWebserver)
    assert local.server.reached == []


def test_a_rebound_name_does_not_reach_the_ui(local: Running, page: Page) -> None:
    response = page.goto(f"http://rebound.test:{local.port}/")
    assert response is not None
    assert response.status == 403
    sent = (
        "fetch('/graphql', {method: 'POST', headers: {'content-type': 'application/json'}, body}).then(r => r.status)"
    )
    assert page.evaluate(f"body => {sent}", json.dumps({"query": RELOAD})) == 403
    assert not was_reached(local)
    # The same page under its own name works, websocket and all.
    page.goto(f"http://localhost:{local.port}/graphql")
    assert page.evaluate(f"body => {sent}", json.dumps({"query": "{ version }"})) == 200
    opened = "new Promise(done => { const s = new WebSocket(`ws://${location.host}/graphql`, 'graphql-ws');"
    assert (
        page.evaluate(f"() => {opened} s.onopen = () => done('open'); s.onerror = () => done('refused') }})") == "open"
    )
