"""After a crash: what a run had committed is shown as materialized, and a run whose process is gone is ended.

A process that is killed cannot say what it had committed, but the sync log can: it is written with the day itself.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from sync_pipeline.assets.days import day_materialization
from sync_pipeline.assets.runs import TENANT_TAG
from sync_pipeline.assets.specs import SYNCED, asset_key
from sync_pipeline.automation.pools import declare_pools
from sync_pipeline.resources import open_warehouse
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.staging import DayResult
from sync_pipeline.warehouse.tenancy import Warehouse

LINES_PER_TICK = 2000
# A live run says something with every day it commits and every wait it begins, and holds its lock while in a step.
SILENT_FOR = timedelta(minutes=2)
SETTLED_FOR = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the sync log has been read, and the lines behind that whose runs had not ended yet."""

    line: int = 0
    open_lines: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Read what `str` wrote; nothing is the beginning of the log."""
        found = json.loads(text) if text else {}
        return cls(found.get("line", 0), tuple(found.get("open_lines", ())))

    def __str__(self) -> str:
        return json.dumps(asdict(self))


def recovery_sensor(tenants: Sequence[Tenant]) -> dg.SensorDefinition:
    """One sensor for all tenants of the code location; it starts no runs."""
    by_id = {tenant.tenant_id: tenant for tenant in tenants}

    @dg.sensor(
        name="recover_committed_days",
        description="Shows days as materialized that a killed run had committed, and ends runs whose process is gone.",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        declare_pools(context.instance, tenants)
        with open_warehouse() as warehouse:
            ended = end_abandoned_runs(context.instance, warehouse, by_id.keys())
            cursor, shown = show_committed_days(context.instance, warehouse, by_id, Cursor.parse(context.cursor))
        context.update_cursor(str(cursor))
        return dg.SkipReason(f"{shown} committed days shown as materialized, {ended} abandoned runs ended")

    return sensor


def show_committed_days(
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    tenants: Mapping[str, Tenant],
    cursor: Cursor,
    *,
    settled_for: timedelta = SETTLED_FOR,
) -> tuple[Cursor, int]:
    """Materialize every committed day since `cursor` whose run has ended without saying so; returns how many.

    A day that lacks an account or shop that refused stays missing.

    Lines of runs still going are kept in the cursor for later.
    """
    lines = warehouse.log_lines(cursor.open_lines, tenants.keys())
    fresh = warehouse.log_after(cursor.line, tenants.keys(), LINES_PER_TICK, settled_for)
    shown = 0
    open_lines: list[int] = []
    for run_id, of_run in _by_run([*lines, *fresh]).items():
        run = instance.get_run_by_id(run_id)
        if run is None:  # deleted, and what it showed with it
            continue
        if not run.is_finished:
            open_lines += [result.line for _, result in of_run]
            continue
        told = set(_materializations(instance, run_id))
        for tenant_id, result in of_run:
            tenant = tenants[tenant_id]
            if result.missing:
                continue
            if (asset_key(tenant, SYNCED[result.source]), result.day.isoformat()) not in told:
                instance.report_runless_asset_event(day_materialization(tenant, result))
                shown += 1
    return Cursor(fresh[-1][1].line if fresh else cursor.line, tuple(sorted(open_lines))), shown


def end_abandoned_runs(
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    tenant_ids: Collection[str],
    *,
    silent_for: timedelta = SILENT_FOR,
) -> int:
    """Mark runs as failed that are shown as started but whose process holds no lock and has fallen silent.

    Dagster's code server notices a worker of its own that dies; after a restart of the machine, or for a run in the
    foreground, nobody else does.
    """
    started = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
    )
    ended = 0
    for record in started:
        run = record.dagster_run
        mine = run.tags.get(TENANT_TAG) in tenant_ids
        if mine and _silent(instance, run.run_id, silent_for) and not warehouse.is_held(run.run_id):
            if run.status == dg.DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run, "The run's process is gone.")
            else:
                instance.report_run_failed(run, "The run's process is gone: it was killed, or its machine restarted.")
            ended += 1
    return ended


def _by_run(lines: Sequence[tuple[str, DayResult]]) -> dict[str, list[tuple[str, DayResult]]]:
    runs: dict[str, list[tuple[str, DayResult]]] = {}
    for tenant_id, result in lines:
        runs.setdefault(result.run_id, []).append((tenant_id, result))
    return runs


def _materializations(instance: dg.DagsterInstance, run_id: str) -> Iterator[tuple[dg.AssetKey, str | None]]:
    cursor, more = None, True
    while more:
        page = instance.get_records_for_run(
            run_id, cursor=cursor, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION, limit=1000
        )
        for record in page.records:
            event = record.event_log_entry.dagster_event
            if event and event.asset_key:
                yield event.asset_key, event.partition
        cursor, more = page.cursor, page.has_more


def _silent(instance: dg.DagsterInstance, run_id: str, silent_for: timedelta) -> bool:
    latest = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    if not latest:
        return False
    # What was said in the future was said before the clock was moved back.
    return abs(datetime.now(UTC) - datetime.fromtimestamp(latest[0].event_log_entry.timestamp, UTC)) > silent_for
