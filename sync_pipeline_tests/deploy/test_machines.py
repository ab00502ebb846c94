"""Tenants on two machines: runs are beside their code server, share one queue, and survive the other machine."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline_tests.deploy.topology import TWO_LOCATIONS, WAREHOUSE, Topology, running

pytestmark = pytest.mark.slow

DAYS = ("2026-10-06", "2026-10-07")
SHARED = ("recover_committed_days", "failure_alerts", "watch_freshness", "watch_credentials")


@pytest.fixture(scope="module")
def topology() -> Iterator[Topology]:
    with running(TWO_LOCATIONS, now=lambda: datetime(2026, 10, 20, 7, 0, tzinfo=UTC)) as topology:
        yield topology


@pytest.fixture(autouse=True)
def _whole(topology: Topology) -> None:
    topology.restore()


def launch(topology: Topology, tenant: str) -> str:
    [location] = [name for name, tenants in topology.locations.items() if tenant in tenants]
    return topology.browser.launch(location, f"{tenant}__daily_sync", *DAYS)


@contextmanager
def second_day_held(topology: Topology) -> Iterator[None]:
    """Hold every run where it asks for the second day, when it has committed the first."""
    held = topology.sandbox.faults.add(Fault(faults.held(), path="insights$", query=DAYS[1], times=None))
    try:
        yield
    finally:
        held.release()


def wait_for_first_day(topology: Topology, *runs: str) -> None:
    """Wait until each run has committed a day."""
    committed = "SELECT count(DISTINCT run_id) FROM sync_log WHERE run_id = ANY(:runs)"
    topology.wait_for(
        lambda: topology.postgres.rows(WAREHOUSE, committed, runs=list(runs)), lambda found: found == [(len(runs),)]
    )


def network(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/net").readlink()


def worker(topology: Topology, run_id: str) -> int:
    [pid] = re.findall(r"Started process for run \(pid: (\d+)\)", topology.browser.said(run_id))
    return int(pid)


def test_runs_are_beside_their_code_server_share_one_queue_and_survive_the_other_machine(topology: Topology) -> None:
    browser, daemon = topology.browser, topology.containers["daemon"]
    north, south = topology.code.values()
    with second_day_held(topology):
        aurora, again, coral = (launch(topology, tenant) for tenant in ("aurora", "aurora", "coral"))
        wait_for_first_day(topology, aurora, coral)
        # The daemon has passed over `again`, for it has taken coral's run from the queue, which is behind it.
        assert [browser.status(run_id) for run_id in (aurora, coral)] == ["STARTED", "STARTED"]
        assert browser.status(again) == "QUEUED", "one run of a tenant at a time"
        assert network(worker(topology, aurora)) == network(north.pid)
        assert network(worker(topology, coral)) == network(south.pid)
        if north.machine.namespace:
            assert network(north.pid) != network(south.pid)

        # Both runs are in the queue before the daemon can find out that one of the machines is gone.
        with daemon.paused():
            baltic, delta = launch(topology, "baltic"), launch(topology, "delta")
            north.end()
    assert [browser.wait(run_id) for run_id in (coral, delta)] == ["SUCCESS", "SUCCESS"]
    topology.wait_for(browser.locations, lambda found: found["north"] and not found["south"])
    # The daemon has tried to start the run, and has put it back; from then on it tries every ten seconds.
    topology.wait_for(lambda: browser.said(baltic), lambda said: "re-submitting the run into the queue" in said)
    assert browser.status(baltic) in ("QUEUED", "STARTING")
    assert [browser.status(run_id) for run_id in (aurora, again)] == ["STARTED", "QUEUED"]

    # The daemon would have a sensor end the run, too, once it has been silent for two minutes.
    with daemon.paused():
        topology.start("north")
        ended = topology.command("cancel", aurora, location="north")
    assert "its process is gone, so it was ended without it" in ended.stdout
    assert [browser.wait(run_id) for run_id in (baltic, again)] == ["SUCCESS", "SUCCESS"]
    # Copies of the same demo tenant have the same figures, whatever happened to them.
    tables = topology.tables("aurora", "baltic", "coral", "delta")
    assert tables["aurora"] == tables["coral"]
    assert tables["baltic"] == tables["delta"]
    assert all(count for table in tables.values() for count, _ in table.values())


def test_sensors_of_the_same_name_keep_to_their_own_tenants(topology: Topology) -> None:
    for location in topology.locations:
        ticks = topology.wait_for(
            lambda location=location: topology.browser.ticks(location),  # type: ignore[misc]
            lambda found: all((found.get(name) or [("", "")])[0][0] == "SKIPPED" for name in SHARED),
        )
        # Two tenants with two sources each are four checks; those of the other location are not among them.
        assert all("of 4 checks" in said for status, said in ticks["watch_freshness"] if status == "SKIPPED")
