"""This machine's clock is moved back an hour: nothing is lost, done twice or held up, and a wrong clock is told."""

import logging
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._scheduler.scheduler import launch_scheduled_runs

from sync_pipeline.automation import late_orders, recovery
from sync_pipeline.automation.recovery import SETTLED_FOR, Cursor, end_abandoned_runs, show_committed_days
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.settings import Settings
from sync_pipeline.sources import http
from sync_pipeline.sources.errors import ClockError
from sync_pipeline.sync import engine as sync_engine
from sync_pipeline.tenants import load_tenants
from sync_pipeline.warehouse import staging, tenancy
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.faults.holding import during
from sync_pipeline_tests.pipeline import Pipeline

pytestmark = pytest.mark.slow

JOB = "lumina__daily_sync"
SINCE, MIDDLE, UNTIL = date(2026, 10, 5), date(2026, 10, 6), date(2026, 10, 7)
HOUR = timedelta(hours=1)
NOW = datetime(2026, 10, 20, 7, 0, tzinfo=UTC)  # the sandbox's


class Clock:
    """This machine's clock, as the package reads it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = self
        self.moved_by = timedelta()

        class Moved(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
                return datetime.now(tz) + clock.moved_by

        for module in (http, sync_engine, staging, tenancy, recovery):
            monkeypatch.setattr(module, "datetime", Moved)

    def move(self, moved_by: timedelta) -> None:
        """Set the clock to so much after the real time."""
        self.moved_by = moved_by


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def look_for_late_orders(pipeline: Pipeline, cursor: late_orders.Cursor) -> late_orders.Look:
    """Lumina's, at `NOW`."""
    settings = Settings.from_environment()
    [tenant] = [tenant for tenant in load_tenants(settings.tenants).tenants if tenant.tenant_id == "lumina"]
    api_url = pipeline.sandbox.environment["PANCAKE_API_URL"]
    return late_orders.look_for_changes(tenant, Warehouse(pipeline.engine), api_url, cursor, NOW)


def test_a_run_in_the_middle_ends_with_what_is_wrong_and_a_retry_on_a_right_clock_completes_it(
    pipeline: Pipeline, clock: Clock
) -> None:
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("  accounts: all", "  days_per_request: 1\n  accounts: all"))
    pipeline.reload()
    assert pipeline.run(JOB, SINCE, UNTIL).success
    undisturbed = pipeline.tables()
    pipeline.execute("TRUNCATE tenants CASCADE")

    held = Fault(faults.held(), path="insights", query=MIDDLE.isoformat(), times=1)
    pipeline.sandbox.faults.add(held)
    with during(held, lambda: clock.move(-HOUR)):
        result = pipeline.run(JOB, SINCE, UNTIL)
    [failure] = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    assert failure is not None
    assert failure.description is not None
    assert failure.description.startswith("this machine's clock is 60 minutes behind the API's (meta, tenant lumina, ")
    assert failure.description.endswith("Set the clock of this machine right (by NTP), then run it again.")
    assert pipeline.query("SELECT day, source FROM sync_log ORDER BY id") == [(SINCE, "meta"), (SINCE, "pos")]

    clock.moved_by = timedelta()
    assert pipeline.run(JOB, SINCE, UNTIL).success
    assert pipeline.tables() == undisturbed


def test_days_that_were_committed_in_the_future_are_recovered_with_those_after_them(
    pipeline: Pipeline, clock: Clock
) -> None:
    assert pipeline.run(JOB, SINCE, SINCE).success
    tenants = {tenant.tenant_id: tenant for tenant in load_tenants(Settings.from_environment().tenants).tenants}
    warehouse = Warehouse(pipeline.engine)
    assert warehouse.log_after(0, tenants.keys(), 10, SETTLED_FOR) == [], "smaller numbers may still come"
    clock.moved_by = -HOUR
    cursor, _ = show_committed_days(pipeline.instance, warehouse, tenants, Cursor())
    assert cursor.line == max(line for (line,) in pipeline.query("SELECT id FROM sync_log"))


def test_a_line_that_is_not_settled_yet_is_not_passed_over_for_one_that_is(pipeline: Pipeline) -> None:
    assert pipeline.run(JOB, SINCE, SINCE).success
    pipeline.execute(
        "UPDATE sync_log SET finished = finished - interval '1 hour' WHERE id > (SELECT min(id) FROM sync_log)"
    )
    assert Warehouse(pipeline.engine).log_after(0, ["lumina"], 10, SETTLED_FOR) == []


def test_of_two_commits_of_a_day_the_later_one_counts_though_its_time_is_earlier(
    pipeline: Pipeline, clock: Clock
) -> None:
    assert pipeline.run(JOB, SINCE, SINCE).success
    shop = pipeline.sandbox.world.tenants["lumina"].shops[0].shop_id
    order = pipeline.sandbox.world.add_order(shop, SINCE)
    clock.moved_by = -timedelta(minutes=9)
    result = pipeline.run(JOB, SINCE, SINCE)
    assert (str(order),) in pipeline.query("SELECT pos_order_id FROM pos_orders")
    assert pipeline.query(
        "SELECT count(*), count(*) FILTER (WHERE earlier) FROM (SELECT finished < lag(finished) "
        "OVER (PARTITION BY source ORDER BY id) AS earlier FROM sync_log) AS lines"
    ) == [(4, 2)]
    check = dg.AssetCheckKey(dg.AssetKey(["lumina", "pos_orders"]), "orders_all_stored")
    [judged] = pipeline.instance.event_log_storage.get_asset_check_execution_history(
        check, limit=1, partition_filter=PartitionKeyFilter(key=SINCE.isoformat())
    )
    assert judged.run_id == result.run_id
    assert judged.event is not None
    evaluation = judged.event.get_dagster_event().asset_check_evaluation_data
    assert evaluation.passed, evaluation.description


def test_late_orders_are_looked_for_from_now_on_where_the_cursor_is_of_the_future(pipeline: Pipeline) -> None:
    assert pipeline.run(JOB, SINCE, SINCE).success
    pipeline.execute("UPDATE sync_log SET started = '2026-10-19', fetched_at = '2026-10-19', finished = '2026-10-19'")
    changed = pipeline.query(f"SELECT shop_id, pos_order_id FROM pos_orders WHERE date_local = '{SINCE}' LIMIT 1")[0]
    updated = (NOW - timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%S")
    pipeline.sandbox.world.change_order(*map(int, changed), status=6, updated_at=updated)
    look = look_for_late_orders(pipeline, late_orders.Cursor(until=NOW + HOUR))
    assert DayRange(SINCE, SINCE) in [request.days for request in look.requests]
    assert look.cursor == late_orders.Cursor(until=NOW)


def test_a_look_for_late_orders_by_a_clock_that_is_behind_fails_and_so_passes_nothing_over(
    pipeline: Pipeline, clock: Clock
) -> None:
    assert pipeline.run(JOB, SINCE, SINCE).success
    clock.moved_by = -HOUR
    with pytest.raises(ClockError, match="60 minutes behind the API's"):
        look_for_late_orders(pipeline, late_orders.Cursor(until=NOW + HOUR))


def test_an_abandoned_run_that_spoke_in_the_future_is_ended_all_the_same(pipeline: Pipeline, clock: Clock) -> None:
    job = pipeline.definitions.resolve_job_def(JOB)
    run = pipeline.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=job.run_tags)
    pipeline.instance.report_engine_event("at work", run)
    warehouse = Warehouse(pipeline.engine)
    assert end_abandoned_runs(pipeline.instance, warehouse, ["lumina"]) == 0, "it may be between two steps"
    clock.moved_by = -HOUR
    assert end_abandoned_runs(pipeline.instance, warehouse, ["lumina"]) == 1


def test_a_day_never_took_less_than_no_time(pipeline: Pipeline, clock: Clock) -> None:
    held = Fault(faults.held(), path="orders", times=None)
    pipeline.sandbox.faults.add(held)
    clock.move(timedelta(minutes=5))
    with during(held, lambda: clock.move(timedelta())):
        assert pipeline.run(JOB, SINCE, SINCE).success
    figures = pipeline.materialized("lumina/pos_orders")[SINCE.isoformat()]
    assert figures["seconds"] == 0


def test_a_schedule_neither_repeats_nor_loses_a_tick(pipeline: Pipeline) -> None:
    target = LoadableTargetOrigin(module_name="sync_pipeline.definitions", attribute="defs")
    load = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(target))
    due = datetime(2026, 10, 6, 18, 0, tzinfo=UTC)  # 02:00 on 7 October in Manila

    def runs_after(now: datetime) -> list[str]:
        with freeze_time(now):
            for _ in launch_scheduled_runs(workspace, logging.getLogger("test"), now, {}):
                pass
        runs = reversed(pipeline.instance.get_runs(dg.RunsFilter(tags={"tenant": "lumina", "workflow": "daily_sync"})))
        return [run.tags["dagster/asset_partition_range_end"] for run in runs]

    with WorkspaceProcessContext(pipeline.instance, load) as workspace:
        assert runs_after(due - HOUR) == []
        assert runs_after(due + timedelta(seconds=30)) == ["2026-10-06"]
        assert runs_after(due + timedelta(seconds=30) - HOUR) == ["2026-10-06"]
        assert runs_after(due + timedelta(seconds=60)) == ["2026-10-06"]
        assert runs_after(due + timedelta(days=1, seconds=30)) == ["2026-10-06", "2026-10-07"]
