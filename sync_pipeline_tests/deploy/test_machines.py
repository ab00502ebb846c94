"""Tenants on two machines: runs are beside their code server, share one queue, and survive the other machine."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline_tests.deploy.topology import TWO_LOCATIONS, WAREHOUSE, Topology, running

DAYS = ("2026-10-06", "2026-10-07")
SHARED = ("recover_committed_days", "failure_alerts", "watch_freshness")


@pytest.fixture(scope="module")
def topology() -> Iterator[Topology]:
    with running(TWO_LOCATIONS, now=lambda: datetime(2026, 10, 20, 7, 0, tzinfo=UTC)) as topology:
        yield topology


def launch(topology: Topology, tenant: str) -> str:
    [location] = [name for name, tenants in topology.locations.items() if tenant in tenants]
    return topology.browser.launch(location, f"{tenant}__daily_sync", *DAYS)


def wait_for_the_middle(topology: Topology, *runs: str) -> None:
    """Wait until each of the runs has committed a day; the sandbox is slow enough for that to be its middle."""
    committed = "SELECT count(DISTINCT run_id) FROM sync_log WHERE run_id = ANY(:runs)"
    wanted = [(len(runs),)]
    topology.wait_for(
        lambda: topology.postgres.rows(WAREHOUSE, committed, runs=list(runs)), lambda found: found == wanted
    )


def network(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/net").readlink()


def worker(topology: Topology, run_id: str) -> int:
    [pid] = re.findall(r"Started process for run \(pid: (\d+)\)", topology.browser.said(run_id))
    return int(pid)


def test_runs_are_beside_their_code_server_share_one_queue_and_survive_the_other_machine(topology: Topology) -> None:
    topology.sandbox.faults.add(Fault(faults.slow(1), times=None))
    aurora, again, coral = (launch(topology, tenant) for tenant in ("aurora", "aurora", "coral"))
    wait_for_the_middle(topology, aurora, coral)
    assert topology.browser.status(again) == "QUEUED", "one run of a tenant at a time"
    assert [topology.browser.status(run_id) for run_id in (aurora, coral)] == ["STARTED", "STARTED"]
    north, south = topology.code.values()
    assert network(worker(topology, aurora)) == network(north.pid)
    assert network(worker(topology, coral)) == network(south.pid)
    if north.machine.namespace:
        assert network(north.pid) != network(south.pid)

    baltic, delta = launch(topology, "baltic"), launch(topology, "delta")
    north.end()
    topology.sandbox.faults.clear()
    assert [topology.browser.wait(run_id) for run_id in (coral, delta)] == ["SUCCESS", "SUCCESS"]
    topology.wait_for(topology.browser.locations, lambda found: found["north"] and not found["south"])
    assert [topology.browser.status(run_id) for run_id in (aurora, again, baltic)] == ["STARTED", "QUEUED", "QUEUED"]

    north.start()
    ended = topology.command("cancel", aurora, location="north")
    assert "its process is gone, so it was ended without it" in ended.stdout
    assert [topology.browser.wait(run_id) for run_id in (baltic, again)] == ["SUCCESS", "SUCCESS"]
    # Copies of the same demo tenant have the same figures, whatever happened to them.
    tables = topology.tables("aurora", "baltic", "coral", "delta")
    assert tables["aurora"] == tables["coral"]
    assert tables["baltic"] == tables["delta"]
    assert all(count for table in tables.values() for count, _ in table.values())


def test_sensors_of_the_same_name_keep_to_their_own_tenants(topology: Topology) -> None:
    for location in topology.locations:
        ticks = topology.wait_for(
            lambda location=location: topology.browser.ticks(location),  # type: ignore[misc]
            lambda found: all(found.get(name, [("", "")])[0][0] == "SKIPPED" for name in SHARED),
        )
        # Two tenants with two sources each are four checks; those of the other location are not among them.
        assert all("of 4 checks" in said for status, said in ticks["watch_freshness"] if status == "SKIPPED")
