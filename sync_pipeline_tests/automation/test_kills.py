"""A run worker killed at random moments: nothing is lost or shown that is not there, and resuming completes it.

A few kills by default; SYNC_PIPELINE_KILLS=20 for as many as it takes to believe it.
"""

import os
import random
import time
from datetime import date, timedelta
from multiprocessing.context import ForkServerProcess

import dagster as dg
import pytest

from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.automation.recovery import Cursor, end_abandoned_runs, show_committed_days
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.settings import Settings
from sync_pipeline.tenants import load_tenants
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.forks import fork_run, wait_for_exit
from sync_pipeline_tests.pipeline import Pipeline
from sync_pipeline_tests.waiting import wait_until

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("SYNC_PIPELINE_KILLS", "3"))
DAYS = DayRange(date(2026, 9, 28), date(2026, 10, 9))
NOW = timedelta(0)
# How many requests a run can make between the moment that is drawn and the kill.
REQUESTS_AHEAD = 5
ASSETS = {"meta": "lumina/meta_ad_insights", "pos": "lumina/pos_orders"}


def start(pipeline: Pipeline, parent: str | None) -> ForkServerProcess:
    tags = range_tags(DAYS) | ({"dagster/parent_run_id": parent} if parent else {})
    return fork_run(pipeline.instance.root_directory, tags, os.environ)


def newest_run(pipeline: Pipeline) -> dg.DagsterRun | None:
    return next(iter(pipeline.instance.get_runs(limit=1)), None)


def kill_a_run(pipeline: Pipeline, *, at_request: int, after_s: float) -> None:
    """Start a run and kill it `after_s` seconds after request number `at_request`.

    A moment by the clock would mostly come before the first commit on a loaded machine. However late the kill comes,
    the run is held a few requests further on.
    """
    pipeline.sandbox.faults.add(Fault(faults.held(), skip=at_request + REQUESTS_AHEAD, times=None))
    # Slow enough that most kills come between two commits.
    pipeline.sandbox.faults.add(Fault(faults.slow(0.05), times=None))
    process = start(pipeline, None)
    wait_until(lambda: newest_run(pipeline) or process.exitcode is not None)
    wait_until(lambda: len(pipeline.sandbox.requests.all()) >= at_request or process.exitcode is not None)
    time.sleep(after_s)
    process.kill()
    process.join()
    pipeline.sandbox.faults.clear()


@pytest.mark.timeout((KILLS + 1) * 300)
def test_killed_at_random_moments_and_resumed_it_gives_the_tables_of_an_undisturbed_run(pipeline: Pipeline) -> None:
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("  accounts: all", "  days_per_request: 3\n  accounts: all"))
    file.write_text(file.read_text().replace("    shops: all", "    days_per_request: 3\n    shops: all"))
    pipeline.reload()
    assert pipeline.run("lumina__daily_sync", DAYS.since, DAYS.until).success
    undisturbed = pipeline.tables()
    requests = len(pipeline.sandbox.requests.all())
    tenants = {tenant.tenant_id: tenant for tenant in load_tenants(Settings.from_environment().tenants).tenants}
    warehouse = Warehouse(pipeline.engine)
    moments = random.Random(7)  # noqa: S311
    killed_midway = 0

    for _ in range(KILLS):
        pipeline.execute("DELETE FROM tenants")
        pipeline.instance.wipe()
        pipeline.sandbox.requests.clear()
        kill_a_run(pipeline, at_request=moments.randrange(requests), after_s=moments.uniform(0, 0.1))

        end_abandoned_runs(pipeline.instance, warehouse, tenants.keys(), silent_for=NOW)
        show_committed_days(pipeline.instance, warehouse, tenants, Cursor(), settled_for=NOW)
        run = newest_run(pipeline)
        assert run is not None
        committed = pipeline.query("SELECT source, day::text FROM sync_log ORDER BY id")
        killed_midway += 0 < len(committed) < 2 * len(DAYS)
        for source, asset in ASSETS.items():
            assert set(pipeline.materialized(asset)) == {day for of, day in committed if of == source}

        if run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED):
            assert wait_for_exit(start(pipeline, run.run_id)) == 0
            fetched = pipeline.query("SELECT source, day::text, count(*) FROM sync_log GROUP BY 1, 2")
            assert {count for _, _, count in fetched} == {1}, "no committed day is fetched twice"
        elif run.status != dg.DagsterRunStatus.SUCCESS:
            assert wait_for_exit(start(pipeline, None)) == 0  # killed before the run's first step
        assert pipeline.tables() == undisturbed
        for asset in ASSETS.values():
            assert len(pipeline.materialized(asset)) == len(DAYS)

    print(f"\n{KILLS} kills, {killed_midway} of them between the first and the last commit")
    assert killed_midway
