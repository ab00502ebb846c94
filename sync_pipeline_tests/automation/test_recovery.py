"""What a killed process could not say is said for it, from the sync log."""

import os
from datetime import date, timedelta

import dagster as dg
import pytest

from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.automation.pools import declare_pools
from sync_pipeline.automation.recovery import Cursor, end_abandoned_runs, show_committed_days
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.settings import Settings
from sync_pipeline.tenants import Tenant, load_tenants
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.forks import fork_run
from sync_pipeline_tests.pipeline import Pipeline
from sync_pipeline_tests.waiting import wait_until

JOB = "lumina__daily_sync"
NOW = timedelta(0)


@pytest.fixture
def tenants(pipeline: Pipeline) -> dict[str, Tenant]:
    return {tenant.tenant_id: tenant for tenant in load_tenants(Settings.from_environment().tenants).tenants}


@pytest.fixture
def killed(pipeline: Pipeline) -> str:
    """The id of a run whose process was killed while it asked for the third of five days."""
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("  accounts: all", "  days_per_request: 1\n  accounts: all"))
    held = pipeline.sandbox.faults.add(Fault(faults.held(), path="insights", query="2026-10-07", times=None))
    days = DayRange(date(2026, 10, 5), date(2026, 10, 9))
    process = fork_run(pipeline.instance.root_directory, range_tags(days), os.environ)
    wait_until(lambda: held.hits or process.exitcode is not None)
    process.kill()
    process.join()
    pipeline.sandbox.faults.clear()
    [run] = pipeline.instance.get_runs()
    assert run.status == dg.DagsterRunStatus.STARTED
    return run.run_id


def test_a_run_whose_process_is_gone_is_ended_once_it_has_been_silent(
    pipeline: Pipeline, killed: str, tenants: dict[str, Tenant]
) -> None:
    warehouse = Warehouse(pipeline.engine)
    assert end_abandoned_runs(pipeline.instance, warehouse, tenants.keys()) == 0, "it may be between two steps"
    assert end_abandoned_runs(pipeline.instance, warehouse, tenants.keys(), silent_for=NOW) == 1
    run = pipeline.instance.get_run_by_id(killed)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.FAILURE


def test_a_silent_run_of_another_location_is_left_alone(pipeline: Pipeline) -> None:
    job = pipeline.definitions.resolve_job_def(JOB)
    run = pipeline.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=job.run_tags)
    pipeline.instance.report_engine_event("at work", run)
    warehouse = Warehouse(pipeline.engine)
    assert end_abandoned_runs(pipeline.instance, warehouse, ["mekong"], silent_for=NOW) == 0
    [record] = pipeline.instance.get_run_records()
    assert record.dagster_run.status == dg.DagsterRunStatus.STARTED
    assert end_abandoned_runs(pipeline.instance, warehouse, ["lumina"], silent_for=NOW) == 1


def test_a_run_that_holds_its_tenant_is_left_alone_however_silent(
    pipeline: Pipeline, killed: str, tenants: dict[str, Tenant]
) -> None:
    warehouse = Warehouse(pipeline.engine)
    with warehouse.tenant("lumina", name="Lumina", timezone="Asia/Manila", run_id=killed):
        assert end_abandoned_runs(pipeline.instance, warehouse, tenants.keys(), silent_for=NOW) == 0


def test_the_days_it_had_committed_become_shown_without_a_request(
    pipeline: Pipeline, killed: str, tenants: dict[str, Tenant]
) -> None:
    warehouse = Warehouse(pipeline.engine)
    pipeline.sandbox.requests.clear()
    cursor, shown = show_committed_days(pipeline.instance, warehouse, tenants, Cursor(), settled_for=NOW)
    assert shown == 0, "as long as the run goes, it will say so itself"
    assert len(cursor.open_lines) == 4

    end_abandoned_runs(pipeline.instance, warehouse, tenants.keys(), silent_for=NOW)
    cursor, shown = show_committed_days(pipeline.instance, warehouse, tenants, cursor, settled_for=NOW)
    assert (shown, cursor.open_lines) == (4, ())
    logged = pipeline.query("SELECT source, day::text, rows FROM sync_log ORDER BY id")
    for source, asset in (("meta", "lumina/meta_ad_insights"), ("pos", "lumina/pos_orders")):
        rows = {day: figures["dagster/partition_row_count"] for day, figures in pipeline.materialized(asset).items()}
        assert rows == {day: count for of, day, count in logged if of == source}
    assert pipeline.sandbox.requests.all() == []

    assert show_committed_days(pipeline.instance, warehouse, tenants, cursor, settled_for=NOW)[1] == 0


def test_what_a_run_said_itself_is_not_said_again(pipeline: Pipeline, tenants: dict[str, Tenant]) -> None:
    warehouse = Warehouse(pipeline.engine)
    pipeline.run(JOB, date(2026, 10, 5), date(2026, 10, 6))
    pipeline.sandbox.faults.add(Fault(faults.http_error(500), path="orders", times=None))
    pipeline.run(JOB, date(2026, 10, 7), date(2026, 10, 8))
    cursor, shown = show_committed_days(pipeline.instance, warehouse, tenants, Cursor(), settled_for=NOW)
    assert shown == 0
    assert cursor.open_lines == ()
    assert Cursor.parse(str(cursor)) == cursor


def test_lines_too_young_to_be_in_order_are_left_for_the_next_time(
    pipeline: Pipeline, tenants: dict[str, Tenant]
) -> None:
    pipeline.run(JOB, date(2026, 10, 5), date(2026, 10, 5))
    cursor, _ = show_committed_days(pipeline.instance, Warehouse(pipeline.engine), tenants, Cursor())
    assert cursor == Cursor()


def test_pools_are_limited_to_one_run_before_the_first_and_a_persons_own_limit_stays(
    pipeline: Pipeline, tenants: dict[str, Tenant]
) -> None:
    storage = pipeline.instance.event_log_storage
    assert declare_pools(pipeline.instance, tenants.values()) == ["tenant_lumina", "tenant_mekong"]
    assert {(p.name, p.limit) for p in storage.get_pool_limits()} == {("tenant_lumina", 1), ("tenant_mekong", 1)}
    storage.set_concurrency_slots("tenant_mekong", 2)
    assert declare_pools(pipeline.instance, tenants.values()) == []
    assert {p.name: p.limit for p in storage.get_pool_limits()}["tenant_mekong"] == 2


def test_the_sensor_does_both_and_starts_nothing(pipeline: Pipeline, killed: str) -> None:
    sensor = pipeline.definitions.get_repository_def().get_sensor_def("recover_committed_days")
    context = dg.build_sensor_context(instance=pipeline.instance, definitions=pipeline.definitions)
    data = sensor.evaluate_tick(context)
    assert not data.run_requests
    assert data.skip_message == "0 committed days shown as materialized, 0 abandoned runs ended"
