"""`sync-pipeline prune` takes what nothing is known by, and nothing else."""

from datetime import date, timedelta
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from sync_pipeline.cli.pruning import KEPT, prune
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.cli.installed import Installed

DAYS = (date(2026, 10, 5), date(2026, 10, 7))
INSIGHTS = dg.AssetKey(["lumina", "meta_ad_insights"])
NOW = timedelta(0)


def known(installed: Installed, run_id: str) -> dict[str, Any]:
    """What the UI shows of the days, their checks and the run."""
    instance = installed.instance
    checks = dg.AssetCheckKey(INSIGHTS, "spend_matches_account")
    history = instance.event_log_storage.get_asset_check_execution_history(checks, limit=100)
    records = instance.fetch_materializations(INSIGHTS, limit=100).records
    days = dg.DailyPartitionsDefinition("2026-10-05", end_date="2026-10-08")
    status = instance.get_status_by_partition(INSIGHTS, days.get_partition_keys(), days)
    run = instance.get_run_by_id(run_id)
    return {
        "checks": [(one.partition, one.status) for one in history],
        "days": {one.partition_key: one.asset_materialization.metadata for one in records},
        "partitions": {day: one for day, one in (status or {}).items() if one},
        "run": run.status if run else None,
        "shown": installed.command("executions", "show", run_id).stdout,
    }


def events(installed: Installed, run_id: str) -> set[str | None]:
    storage = installed.instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    with storage.index_connection() as connection:
        found = connection.execute(
            sa.text("SELECT DISTINCT dagster_event_type FROM event_logs WHERE run_id = :run"), {"run": run_id}
        )
        return set(found.scalars())


def test_days_checks_runs_and_errors_are_known_as_before(installed: Installed, sandbox: SandboxServer) -> None:
    whole = installed.run("lumina__meta_only", *DAYS)
    sandbox.faults.add(Fault(faults.graph_error("transient"), path="/insights$", times=None))
    failed = installed.run("lumina__meta_only", date(2026, 10, 8), date(2026, 10, 8))
    before = [known(installed, run_id) for run_id in (whole, failed)]
    assert [one["run"] for one in before] == [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    assert len(before[0]["days"]) == 3
    gone = prune(installed.instance, NOW)
    assert gone.runs == 2
    assert gone.events > 20
    assert gone.characters > 20_000
    assert [known(installed, run_id) for run_id in (whole, failed)] == before
    assert events(installed, whole) | events(installed, failed) <= {kind.value for kind in KEPT}
    assert prune(installed.instance, NOW).events == 0


def test_young_runs_and_runs_under_way_keep_all(installed: Installed) -> None:
    run_id = installed.run("lumina__meta_only", *DAYS)
    under_way = installed.note("lumina__meta_only", dg.DagsterRunStatus.STARTED)
    before = events(installed, run_id)
    assert installed.command("prune").stdout == "0 events, 0 characters, of 0 runs are gone\n"
    assert events(installed, run_id) == before
    planned = events(installed, under_way)
    prune(installed.instance, NOW)
    assert events(installed, under_way) == planned
