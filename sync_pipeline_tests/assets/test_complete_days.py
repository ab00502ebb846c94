"""A day that was fetched before it was over is shown as incomplete everywhere, until a later run completes it."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import dagster as dg
import pytest

from sync_pipeline.assets.runs import PARENT_RUN_TAG
from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.automation.recovery import Cursor, show_committed_days
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.tenants import load_tenants
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.assets.conftest import CheckFound, Synced
from sync_pipeline_tests.automation.test_schedules import request_of
from sync_pipeline_tests.clocks import EngineClock
from sync_pipeline_tests.pipeline import Pipeline

# Lumina is in Manila; the third of its ad accounts is in Los Angeles, where a day ends at 15:00 in Manila.
JOB = "lumina__daily_sync"
DAY, NEXT_DAY = date(2026, 10, 18), date(2026, 10, 19)
NIGHT, NEXT_NIGHT = datetime(2026, 10, 18, 18, tzinfo=UTC), datetime(2026, 10, 19, 18, tzinfo=UTC)
AFTERNOON = datetime(2026, 10, 20, 6, 30, tzinfo=UTC)
TODAY = date(2026, 10, 20)
TOO_EARLY = "it was fetched before the day was over, at 2026-10-19 07:00 UTC"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> EngineClock:
    return EngineClock(monkeypatch, NIGHT)


def run(pipeline: Pipeline, tags: Mapping[str, str], job: str = JOB) -> dg.ExecuteInProcessResult:
    return pipeline.definitions.resolve_job_def(job).execute_in_process(
        instance=pipeline.instance, tags=tags, raise_on_error=False
    )


def checks_of(pipeline: Pipeline, result: dg.ExecuteInProcessResult) -> dict[tuple[str, str, str], CheckFound]:
    """What the checks of each day of a run found, by asset, check and day."""
    found = Synced.judgements(pipeline, result)  # type: ignore[arg-type]
    of_asset = {
        entry.dagster_event.asset_check_evaluation_data.check_name: (
            entry.dagster_event.asset_check_evaluation_data.asset_key.path[-1]
        )
        for entry in pipeline.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        if entry.dagster_event
    }
    return {(of_asset[name], name, day): one for (name, day), one in found if day is not None}


def completeness(pipeline: Pipeline, asset: str, run_id: str) -> dict[str, tuple[bool, str | None]]:
    """Whether a run shows each of its days as complete, and why not."""
    shown = pipeline.materialized(asset, run_id)
    return {day: (figures["complete"], figures.get("incomplete_because")) for day, figures in shown.items()}


def test_the_next_night_completes_a_day_fetched_too_early(pipeline: Pipeline, clock: EngineClock) -> None:
    schedule = f"{JOB}_schedule"
    first = run(pipeline, request_of(pipeline, schedule, NIGHT).tags)
    assert first.success
    shown = completeness(pipeline, "lumina/meta_ad_insights", first.run_id)
    assert shown[DAY.isoformat()] == (False, TOO_EARLY)
    assert set(shown.values()) == {(True, None), (False, TOO_EARLY)}, "the days before it are complete"
    assert completeness(pipeline, "lumina/pos_orders", first.run_id) == {DAY.isoformat(): (True, None)}
    last_complete = "SELECT source, last_complete_day FROM sync_health ORDER BY source"
    assert pipeline.query(last_complete) == [("meta", DAY - timedelta(days=1)), ("pos", DAY)]

    clock.now = NEXT_NIGHT
    second = run(pipeline, request_of(pipeline, schedule, NEXT_NIGHT).tags)
    assert second.success
    shown = completeness(pipeline, "lumina/meta_ad_insights", second.run_id)
    assert shown[DAY.isoformat()] == (True, None)
    assert not shown[NEXT_DAY.isoformat()][0]
    assert pipeline.query(last_complete) == [("meta", DAY), ("pos", NEXT_DAY)]


def test_every_check_of_an_incomplete_day_says_so(pipeline: Pipeline, clock: EngineClock) -> None:
    result = pipeline.run(JOB, DAY - timedelta(days=1), DAY)
    assert result.success
    found = checks_of(pipeline, result)
    marked = {key for key, one in found.items() if "the day is not complete" in one.sentence}
    assert marked == {key for key, one in found.items() if one.figures.get("day_complete") is False}
    of_meta = {key for key in found if key[0] != "pos_orders"}
    assert {asset for asset, _, _ in of_meta} == {"meta_ad_insights", "ad_performance"}
    assert marked == {key for key in of_meta if key[2] == DAY.isoformat()}
    spend = found["meta_ad_insights", "spend_matches_account", DAY.isoformat()]
    assert spend.passed
    assert spend.sentence.endswith(
        "; the day is not complete: meta was fetched before the day was over, at 2026-10-19 15:00"
    )


def test_today_is_complete_neither_in_figures_nor_in_checks(pipeline: Pipeline, clock: EngineClock) -> None:
    clock.now = AFTERNOON
    result = pipeline.run(JOB, TODAY, TODAY)
    assert result.success
    for asset, end in (("meta_ad_insights", "2026-10-21 07:00"), ("pos_orders", "2026-10-20 16:00")):
        why = f"it was fetched before the day was over, at {end} UTC"
        assert completeness(pipeline, f"lumina/{asset}", result.run_id) == {TODAY.isoformat(): (False, why)}
    found = checks_of(pipeline, result)
    assert {asset for asset, _, _ in found} == {"meta_ad_insights", "pos_orders", "ad_performance"}
    assert all("the day is not complete" in one.sentence for one in found.values())
    assert all(one.figures["day_complete"] is False for one in found.values())
    [record] = pipeline.instance.fetch_observations(dg.AssetKey(["lumina", "pos_orders"]), limit=10).records
    assert record.asset_observation
    assert record.asset_observation.metadata["complete"].value is False


def test_a_resumed_run_fetches_days_again_that_were_not_over(pipeline: Pipeline, clock: EngineClock) -> None:
    pipeline.sandbox.faults.add(Fault(faults.http_error(500), path="orders", covers_day=DAY, times=None))
    failed = pipeline.run(JOB, DAY - timedelta(days=2), DAY)
    assert not failed.success
    pipeline.sandbox.faults.clear()
    days = DayRange(DAY - timedelta(days=2), DAY)
    resumed = run(pipeline, {**range_tags(days), PARENT_RUN_TAG: failed.run_id, "dagster/root_run_id": failed.run_id})
    assert resumed.success
    fetched = pipeline.query(f"SELECT source, day FROM sync_log WHERE run_id = '{resumed.run_id}' ORDER BY source")
    assert fetched == [("meta", DAY), ("pos", DAY)]


def test_a_recovered_day_is_shown_as_incomplete_too(pipeline: Pipeline, clock: EngineClock) -> None:
    result = pipeline.run(JOB, DAY, DAY)
    # As if another run had committed the days and was killed before it could show them.
    killed = str(uuid4())
    pipeline.execute(f"UPDATE sync_log SET run_id = '{killed}' WHERE run_id = '{result.run_id}'")
    pipeline.instance.create_run_for_job(
        pipeline.definitions.resolve_job_def(JOB), run_id=killed, status=dg.DagsterRunStatus.FAILURE
    )
    tenants = {tenant.tenant_id: tenant for tenant in load_tenants(pipeline.tenants).tenants}
    _, shown = show_committed_days(
        pipeline.instance, Warehouse(pipeline.engine), tenants, Cursor(), settled_for=timedelta(0)
    )
    assert shown == 2
    recovered = {
        asset: pipeline.materialized(f"lumina/{asset}")[DAY.isoformat()] for asset in ("meta_ad_insights", "pos_orders")
    }
    assert {figures["run"] for figures in recovered.values()} == {killed}
    assert {asset: figures["complete"] for asset, figures in recovered.items()} == {
        "meta_ad_insights": False,
        "pos_orders": True,
    }


def test_spend_that_differs_is_a_warning_until_the_day_is_over(synced: Synced) -> None:
    day = "2026-10-06"
    synced.execute(f"UPDATE meta_ad_insights SET spend = spend + 1 WHERE date = '{day}'")
    assert not synced.failed()["spend_matches_account", day].warns_only
    # It was fetched at 14:59:59 in Manila, when it was still that day in Los Angeles.
    synced.execute(
        f"UPDATE sync_log SET fetched_at = over_at - interval '1 second' WHERE day = '{day}' AND source = 'meta'"
    )
    found = synced.failed()["spend_matches_account", day]
    assert found.warns_only
    assert found.sentence.endswith("not complete: meta was fetched before the day was over, at 2026-10-07 15:00")
