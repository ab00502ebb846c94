"""Re-executing a failed or cancelled run leaves out what it had committed."""

from datetime import date

import dagster as dg

from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline_tests.pipeline import Pipeline

JOB = "lumina__daily_sync"
FIRST = date(2026, 10, 5)
LAST = date(2026, 10, 9)
DAYS = [f"2026-10-{day:02}" for day in range(5, 10)]


def reexecuted(pipeline: Pipeline, parent: dg.ExecuteInProcessResult) -> dg.ExecuteInProcessResult:
    """Run the job again the way the UI's re-execute button does."""
    run = pipeline.instance.get_run_by_id(parent.run_id)
    assert run is not None
    root = run.root_run_id or run.run_id
    tags = {"dagster/parent_run_id": run.run_id, "dagster/root_run_id": root}
    return pipeline.definitions.resolve_job_def(JOB).execute_in_process(
        instance=pipeline.instance, tags={**range_tags(DayRange(FIRST, LAST)), **tags}, raise_on_error=False
    )


def fetched_days(pipeline: Pipeline, result: dg.ExecuteInProcessResult, source: str) -> list[str]:
    log = f"SELECT day::text FROM sync_log WHERE run_id = '{result.run_id}' AND source = '{source}' ORDER BY id"
    return [day for (day,) in pipeline.query(log)]


def logged(pipeline: Pipeline, result: dg.ExecuteInProcessResult) -> str:
    return "\n".join(entry.user_message for entry in pipeline.instance.all_logs(result.run_id))


def test_a_failed_run_is_resumed_where_each_source_stopped(pipeline: Pipeline) -> None:
    fault = Fault(faults.http_error(500), path="orders", covers_day=date(2026, 10, 7), times=None)
    pipeline.sandbox.faults.add(fault)
    failed = pipeline.run(JOB, FIRST, LAST)
    assert fetched_days(pipeline, failed, "meta") == DAYS[:3]
    assert fetched_days(pipeline, failed, "pos") == DAYS[:2]

    pipeline.sandbox.faults.clear()
    resumed = reexecuted(pipeline, failed)
    assert resumed.success
    assert fetched_days(pipeline, resumed, "meta") == DAYS[3:]
    assert fetched_days(pipeline, resumed, "pos") == DAYS[2:]
    said = logged(pipeline, resumed)
    assert f"meta: 3 days, 2026-10-05 to 2026-10-07, were committed by run {failed.run_id} and are skipped" in said
    assert f"pos: 2 days, 2026-10-05 to 2026-10-06, were committed by run {failed.run_id} and are skipped" in said

    shown = pipeline.materialized("lumina/pos_orders", resumed.run_id)
    assert list(shown) == DAYS
    assert [figures["run"] for figures in shown.values()] == [failed.run_id] * 2 + [resumed.run_id] * 3
    run = pipeline.instance.get_run_by_id(resumed.run_id)
    assert run is not None
    assert run.tags["days_processed"] == "5/5"


def test_a_run_resumed_twice_leaves_out_what_both_before_it_committed(pipeline: Pipeline) -> None:
    for day in (7, 9):
        fault = Fault(faults.http_error(500), path="orders", covers_day=date(2026, 10, day), times=None)
        pipeline.sandbox.faults.add(fault)
    first = pipeline.run(JOB, FIRST, LAST)
    pipeline.sandbox.faults.clear()
    pipeline.sandbox.faults.add(Fault(faults.http_error(500), path="orders", covers_day=LAST, times=None))
    second = reexecuted(pipeline, first)
    pipeline.sandbox.faults.clear()
    third = reexecuted(pipeline, second)
    assert third.success
    assert [fetched_days(pipeline, run, "pos") for run in (first, second, third)] == [DAYS[:2], DAYS[2:4], DAYS[4:]]


def test_a_resumed_run_that_fails_again_shows_no_day_twice(pipeline: Pipeline) -> None:
    fault = Fault(faults.http_error(500), path="orders", covers_day=LAST, times=None)
    pipeline.sandbox.faults.add(fault)
    failed = pipeline.run(JOB, FIRST, LAST)
    again = reexecuted(pipeline, failed)
    assert not again.success
    assert pipeline.materialized("lumina/pos_orders", again.run_id) == {}


def test_a_run_that_succeeded_is_repeated_whole(pipeline: Pipeline) -> None:
    done = pipeline.run(JOB, FIRST, LAST)
    assert fetched_days(pipeline, reexecuted(pipeline, done), "meta") == DAYS


def test_a_long_backfill_can_be_cut_into_runs(pipeline: Pipeline) -> None:
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("meta:\n", "backfill_days_per_run: 10\n\nmeta:\n", 1))
    pipeline.reload()
    node = pipeline.definitions.resolve_asset_graph().get(dg.AssetKey(["lumina", "pos_orders"]))
    assert node.backfill_policy == dg.BackfillPolicy.multi_run(10)
