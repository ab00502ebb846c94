"""What deploy/compose.yaml starts: it works with only what each container is given, and nothing breaks it for good."""

import json
import re
import signal
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from sync_pipeline.logs import FIELDS
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline_tests.deploy import caddy
from sync_pipeline_tests.deploy.caddy import needs_caddy
from sync_pipeline_tests.deploy.machines import HERE
from sync_pipeline_tests.deploy.topology import WAREHOUSE, Container, Topology, running
from sync_pipeline_tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow

DAYS = ("2026-10-06", "2026-10-07")
TENANTS = ("lumina", "mekong")
LOCATION = "sync_pipeline"
ENGINE_ERRORS = """query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
  ... on EngineEvent { error { message causes { message } } }
} } } }"""
Tables = dict[str, dict[str, tuple[int, str]]]


@pytest.fixture(scope="module")
def topology() -> Iterator[Topology]:
    with running(now=lambda: datetime(2026, 10, 20, 7, 0, tzinfo=UTC)) as topology:
        yield topology


@pytest.fixture(autouse=True)
def _whole(topology: Topology) -> None:
    topology.restore()


@pytest.fixture(scope="module")
def undisturbed(topology: Topology) -> Tables:
    """The tables after a run of every tenant that nothing happened to."""
    for run_id in [launch(topology, tenant) for tenant in TENANTS]:
        assert topology.browser.wait(run_id) == "SUCCESS"
    return topology.tables(*TENANTS)


def launch(topology: Topology, tenant: str) -> str:
    return topology.browser.launch(LOCATION, f"{tenant}__daily_sync", *DAYS)


@contextmanager
def middle_of_a_run(topology: Topology) -> Iterator[str]:
    """Launch lumina's workflow and hold it where it asks for the second day, when it has committed the first."""
    held = topology.sandbox.faults.add(Fault(faults.held(), path="insights$", query=DAYS[1], times=None))
    try:
        run_id = launch(topology, "lumina")
        topology.wait_for(lambda: held.hits)
        days = "SELECT DISTINCT day::text FROM sync_log WHERE run_id = :run"
        assert topology.postgres.rows(WAREHOUSE, days, run=run_id) == [(DAYS[0],)]
        yield run_id
    finally:
        topology.sandbox.faults.clear()


def variables(container: str, topology: Topology) -> str:
    return Path(f"/proc/{topology.containers[container].pid}/environ").read_text()


def test_a_workflow_launched_in_the_ui_fills_the_tables(topology: Topology, undisturbed: Tables) -> None:
    assert all(count > 0 for tables in undisturbed.values() for count, _ in tables.values())
    said = topology.command("executions", "--status", "COMPLETED").stdout
    assert all(f"{tenant} " in said for tenant in TENANTS)


def test_webserver_and_daemon_know_no_tenant(topology: Topology, undisturbed: Tables) -> None:
    tokens = topology.sandbox.world.secrets().values()
    password = (topology.folder / "secrets" / "database_password").read_text()
    for name in ("webserver", "daemon"):
        known = variables(name, topology)
        assert password in known
        assert not any(secret in known for secret in tokens)
        given = {path.name for path in (topology.containers[name].root / "etc/sync_pipeline").iterdir()}
        assert given == {"workspace"}
        assert WAREHOUSE not in known
    # Nobody tells: neither a token nor a password is in any log.
    for container in topology.containers.values():
        log = container.root / "log"
        assert not log.exists() or not any(secret in log.read_text() for secret in (*tokens, password))


def test_every_line_of_every_process_has_the_same_fields(topology: Topology, undisturbed: Tables) -> None:
    metrics = topology.container("metrics", "metrics", HERE, LOCATION)
    metrics.start()
    topology.wait_for(metrics.is_healthy)
    url = f"http://127.0.0.1:{topology.ports['metrics']}/metrics"
    scraped = topology.wait_for(lambda: requests.get(url, timeout=30).text, lambda text: "sync_pipeline_up 1.0" in text)
    assert f'sync_pipeline_tenant_info{{location="{LOCATION}",tenant="lumina"}} 1.0' in scraped
    failed = topology.containers["migrate"].run("sync-pipeline", "check", SYNC_PIPELINE_TENANTS="/nowhere")
    texts = {name: container.log for name, container in topology.containers.items() if container.process}
    assert set(texts) == {LOCATION, "daemon", "webserver", "metrics"}
    loggers = {name: {line["logger"] for line in json_lines(text)} for name, text in texts.items()}
    # The code server's proxy, its process with the tenants, and runs.
    assert {"dagster.code_server", "dagster"} <= loggers[LOCATION]
    assert any(logger.startswith("dagster.daemon") for logger in loggers["daemon"])
    assert {"dagster-webserver"} <= loggers["webserver"]
    assert loggers["metrics"] == {"sync_pipeline.metrics"}
    assert len(json_lines(failed.stderr)) == 1
    runs = [line for line in json_lines(texts[LOCATION]) if line.get("tenant") == "lumina" and "run_id" in line]
    assert runs
    metrics.end(signal.SIGTERM)


def json_lines(text: str) -> list[dict[str, Any]]:
    """The lines of a log, all of which have the documented fields."""
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        assert line.startswith("{"), line
        found.append(json.loads(line))
        assert list(found[-1])[:4] == ["timestamp", "level", "logger", "message"], line
        # The audit log has fields of its own beside these.
        if found[-1]["logger"] != "sync_pipeline.audit":
            assert set(list(found[-1])[4:]) <= {*FIELDS, "step", "exception"}, line
        assert datetime.fromisoformat(found[-1]["timestamp"]).utcoffset() == timedelta()
    assert found
    return found


@pytest.mark.parametrize("name", [LOCATION, "daemon", "webserver"])
def test_an_engine_finds_out_whether_a_container_works(topology: Topology, name: str) -> None:
    container = topology.containers[name]
    topology.wait_for(container.is_healthy)
    container.end()
    try:
        assert name == "daemon" or not container.is_healthy(), "a daemon's heartbeats are good for a while"
    finally:
        topology.start(name)
        topology.ready()


def test_reload_reaches_a_code_server_of_its_own(topology: Topology) -> None:
    file = topology.tenants(LOCATION) / "mekong.yaml"
    good = file.read_text()
    file.write_text(f"{good}\nnonsense: 1\n")
    broken = topology.command("reload")
    assert broken.returncode == 1
    assert "tenants loaded: lumina, mekong" in broken.stdout
    assert "nonsense: is not a known key" in broken.stderr
    assert "last good version of mekong" in broken.stderr
    file.write_text(good.replace("name: backfill_october", "name: october"))
    mended = topology.command("reload")
    assert (mended.returncode, mended.stderr) == (0, "")
    assert topology.browser.job_names(LOCATION) >= {"mekong__october", "mekong__daily_sync"}


def test_commands_work_in_the_running_code_container(topology: Topology, undisturbed: Tables) -> None:
    # `docker compose exec` gives a command the container's variables, and not what the entrypoint made of them.
    code = topology.containers[LOCATION]
    listed = code.execute("sync-pipeline", "executions")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "lumina" in listed.stdout
    reloaded = code.execute("sync-pipeline", "reload")
    assert (reloaded.returncode, reloaded.stderr) == (0, "")
    assert "tenants loaded: lumina, mekong" in reloaded.stdout
    token = (topology.folder / "secrets" / "service_token").read_text()
    assert token not in variables(LOCATION, topology), "commands read it themselves, runs never have it"


def test_an_edited_workspace_takes_effect_with_a_reload(topology: Topology) -> None:
    original = topology.workspace.read_text()
    [entry] = yaml.safe_load(original)["load_from"]
    second = {"grpc_server": {**entry["grpc_server"], "socket": "/none/second.sock", "location_name": "second"}}
    try:
        replace(topology.workspace, yaml.safe_dump({"load_from": [entry, second]}))
        assert "second does not load" in topology.command("reload").stderr
        assert set(topology.browser.locations()) == {LOCATION, "second"}
    finally:
        replace(topology.workspace, original)
        mended = topology.command("reload")
    assert (mended.returncode, mended.stderr) == (0, "")
    assert set(topology.browser.locations()) == {LOCATION}


def replace(file: Path, text: str) -> None:
    """Put a new file in the place of this one, as editors and `git pull` do."""
    draft = file.with_suffix(".new")
    draft.write_text(text)
    draft.replace(file)


def test_runs_write_no_step_logs(topology: Topology, undisturbed: Tables) -> None:
    assert topology.browser.wait(launch(topology, "lumina")) == "SUCCESS"
    for name in (LOCATION, "daemon", "webserver"):
        home = topology.containers[name].root / "var/lib/dagster"
        assert [path.name for path in home.rglob("*") if path.is_file()] == ["dagster.yaml"]


def test_a_run_that_cannot_load_its_code_says_why(topology: Topology) -> None:
    # Such a run has no step whose output could be stored.
    tenants = topology.tenants(LOCATION)
    away = tenants.rename(tenants.with_name("away"))
    try:
        run_id = launch(topology, "lumina")
        assert topology.browser.wait(run_id) == "FAILURE"
    finally:
        away.rename(tenants)
    events = topology.browser.ask(ENGINE_ERRORS, id=run_id)["logsForRun"]["events"]
    [error] = [event["error"] for event in events if event.get("error")]
    assert "TenantFolderError" in str(error)


def test_a_wrong_password_is_one_clear_sentence(topology: Topology) -> None:
    container = topology.containers["migrate"]
    secret = container.root / "run/secrets/database_password"
    right = secret.read_text()
    secret.write_text("not the password")
    failed = container.run()
    secret.write_text(right)
    assert failed.returncode == 1
    assert failed.stdout == ""
    [line] = failed.stderr.splitlines()
    assert "password authentication failed" in line
    assert "Check SYNC_PIPELINE_DATABASE_URL" in line
    assert "not the password" not in line


def test_daemon_and_webserver_killed_the_run_goes_on(topology: Topology, undisturbed: Tables) -> None:
    topology.empty()
    with middle_of_a_run(topology) as run_id:
        for name in ("daemon", "webserver"):
            topology.containers[name].end()
    topology.start("daemon", "webserver")
    assert topology.browser.wait(run_id) == "SUCCESS"
    assert topology.tables("lumina")["lumina"] == undisturbed["lumina"]


def test_a_code_server_told_to_end_lets_its_run_finish(topology: Topology, undisturbed: Tables) -> None:
    topology.empty()
    container = topology.containers[LOCATION]
    with middle_of_a_run(topology) as run_id:
        process = container.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        # Dagster's code server waits for half a minute, and then ends without its run.
        topology.wait_for(lambda: "the command has ended" in container.log)
        assert process.poll() is None
        assert topology.browser.status(run_id) == "STARTED"
    assert process.wait(PATIENCE_S) is not None
    assert topology.browser.wait(run_id) == "SUCCESS"
    container.end()
    assert topology.tables("lumina")["lumina"] == undisturbed["lumina"]


def cut_connections(topology: Topology) -> None:
    topology.postgres.rows(
        "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sync_pipeline'"
    )


def crash_postgres(topology: Topology) -> None:
    topology.postgres.crash()
    topology.postgres.start()


def test_whenever_the_warehouse_is_lost_one_retry_gives_the_tables_of_an_undisturbed_run(
    topology: Topology, undisturbed: Tables
) -> None:
    topology.empty()
    # The second time it is a retry that is disturbed.
    for disturb in (cut_connections, crash_postgres):
        with middle_of_a_run(topology) as run_id:
            disturb(topology)
        assert topology.browser.wait(run_id) == "FAILURE"
        said = topology.wait_for(lambda run_id=run_id: topology.browser.said(run_id))  # type: ignore[misc]
        assert "the connection was lost. Days committed before are stored; run the rest again." in said
        assert topology.tables("lumina")["lumina"] != undisturbed["lumina"]
    assert topology.browser.wait(launch(topology, "lumina")) == "SUCCESS"
    assert topology.tables("lumina")["lumina"] == undisturbed["lumina"]


@needs_caddy
def test_the_tls_proxy_passes_on_what_the_webserver_checks(topology: Topology, tmp_path: Path) -> None:
    url = caddy.reserve_url()
    behind = topology.container("behind-tls", "webserver", HERE, "")
    behind.environment |= {"SYNC_PIPELINE_UI_URL": url, "FORWARDED_ALLOW_IPS": HERE.address}
    behind.start()
    try:
        topology.wait_for(behind.is_healthy)
        with caddy.running(tmp_path, url, f"{HERE.address}:{topology.ports['behind-tls']}") as proxy:
            assert_tls(proxy)
            assert_forwarded(proxy, behind)
            assert_origin_checked(proxy, topology.browser.token)
    finally:
        behind.end()
        del topology.containers["behind-tls"]


def assert_tls(proxy: caddy.Proxy) -> None:
    with proxy.session("127.0.0.1") as session:
        plain = session.get(f"http://localhost:{proxy.http_port}/runs", allow_redirects=False, timeout=PATIENCE_S)
        assert plain.is_redirect
        assert plain.headers["location"].startswith("https://localhost")
        page = session.get(f"{proxy.url}/auth/login", timeout=PATIENCE_S)
    assert page.headers["strict-transport-security"] == "max-age=31536000"
    assert "; secure" in page.headers["set-cookie"].lower()


def assert_forwarded(proxy: caddy.Proxy, webserver: Container) -> None:
    """A failed sign-in is noted with the visitor's address, and not with one that the visitor claims."""
    claimed, visitor = "203.0.113.1", "127.0.0.2"
    with proxy.session(visitor) as session:
        page = session.get(f"{proxy.url}/auth/login", timeout=PATIENCE_S)
        [token] = re.findall(r'name="csrf_token" value="([^"]+)"', page.text)
        form = {"username": "nobody", "password": "guess", "csrf_token": token}
        headers = {"X-Forwarded-For": claimed, "Origin": proxy.url}
        refused = session.post(f"{proxy.url}/auth/login", data=form, headers=headers, timeout=PATIENCE_S)
    assert refused.status_code == 401
    assert f'"address": "{visitor}"' in webserver.log
    assert claimed not in webserver.log


def assert_origin_checked(proxy: caddy.Proxy, token: str) -> None:
    login = {"Dagster-Cloud-Api-Token": token}
    with proxy.session("127.0.0.1") as session:
        statuses = [
            session.post(
                f"{proxy.url}/graphql",
                json={"query": "{ version }"},
                headers={**login, "Origin": origin},
                timeout=PATIENCE_S,
            ).status_code
            for origin in (proxy.url, "https://evil.example")
        ]
    assert statuses == [200, 403]
    secure = ssl.create_default_context(cafile=str(proxy.root))
    socket_url = f"{proxy.url.replace('https', 'wss')}/graphql"
    with connect(
        socket_url,
        ssl=secure,
        subprotocols=[Subprotocol("graphql-ws")],
        additional_headers=login,
        origin=Origin(proxy.url),
        proxy=None,
        open_timeout=PATIENCE_S,
    ) as websocket:
        websocket.send(json.dumps({"type": "connection_init", "payload": {}}))
        assert json.loads(websocket.recv(PATIENCE_S))["type"] == "connection_ack"
