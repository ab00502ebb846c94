"""What deploy/compose.yaml starts: it works with only what each container is given, and nothing breaks it for good."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline_tests.deploy.topology import WAREHOUSE, Topology, running
from sync_pipeline_tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow

DAYS = ("2026-10-06", "2026-10-07")
TENANTS = ("lumina", "mekong")
LOCATION = "sync_pipeline"
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
        assert given == {"workspace.yaml"}
        assert WAREHOUSE not in known
    # Nobody tells: neither a token nor a password is in any log.
    for container in topology.containers.values():
        log = container.root / "log"
        assert not log.exists() or not any(secret in log.read_text() for secret in (*tokens, password))


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
