"""A tick asks for the days that its workflow means, in the tenant's timezone."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from sync_pipeline.date_ranges import DateRangeError
from sync_pipeline_tests.pipeline import Pipeline


def request_of(pipeline: Pipeline, schedule: str, due: datetime) -> dg.RunRequest:
    definition = pipeline.definitions.get_repository_def().get_schedule_def(schedule)
    context = dg.build_schedule_context(instance=pipeline.instance, scheduled_execution_time=due)
    data = definition.evaluate_tick(context)
    assert data.run_requests is not None
    [request] = data.run_requests
    return request


def days_of(request: dg.RunRequest) -> tuple[str, str]:
    return request.tags["dagster/asset_partition_range_start"], request.tags["dagster/asset_partition_range_end"]


def test_yesterday_is_manilas_yesterday_while_utc_is_still_a_day_behind(pipeline: Pipeline) -> None:
    due = datetime(2026, 10, 6, 18, 0, tzinfo=UTC)  # 02:00 on 7 October in Manila
    request = request_of(pipeline, "lumina__daily_sync_schedule", due)
    assert days_of(request) == ("2026-10-06", "2026-10-06")
    assert request.tags["trigger"] == "schedule"


def test_a_relative_range_ends_with_today(pipeline: Pipeline) -> None:
    due = datetime(2026, 10, 4, 19, 0, tzinfo=UTC)  # Monday 5 October, 03:00 in Manila
    assert days_of(request_of(pipeline, "lumina__weekly_resync_schedule", due)) == ("2026-09-29", "2026-10-05")


def test_a_range_before_the_first_day_fails_the_tick_and_says_so(pipeline: Pipeline) -> None:
    due = datetime(2026, 1, 2, 19, 0, tzinfo=UTC)
    with pytest.raises(dg.DagsterUserCodeExecutionError) as caught:
        request_of(pipeline, "lumina__weekly_resync_schedule", due)
    assert isinstance(caught.value.user_exception, DateRangeError)
    assert "reaches before the tenant's start_date 2026-01-01" in str(caught.value.user_exception)


def test_a_scheduled_run_is_tagged_with_tenant_workflow_and_trigger(pipeline: Pipeline) -> None:
    request = request_of(pipeline, "lumina__daily_sync_schedule", datetime(2026, 10, 6, 18, 0, tzinfo=UTC))
    job = pipeline.definitions.resolve_job_def("lumina__daily_sync")
    tags = {**job.run_tags, **request.tags}
    assert (tags["tenant"], tags["workflow"], tags["trigger"]) == ("lumina", "daily_sync", "schedule")


def test_an_absolute_range_is_what_it_says(pipeline: Pipeline) -> None:
    file = pipeline.tenants / "mekong.yaml"
    file.write_text(
        file.read_text().replace("    description: All of October, by hand\n", '    schedule: "0 4 1 * *"\n')
    )
    pipeline.reload()
    due = datetime(2026, 11, 1, 0, 0, tzinfo=UTC)
    assert days_of(request_of(pipeline, "mekong__backfill_october_schedule", due)) == ("2026-10-01", "2026-10-31")


def test_a_disabled_workflows_schedule_starts_switched_off(pipeline: Pipeline) -> None:
    file = pipeline.tenants / "mekong.yaml"
    file.write_text(file.read_text().replace("enabled: true", "enabled: false", 1))
    pipeline.reload()
    schedules = {s.name: s for s in pipeline.definitions.get_repository_def().schedule_defs}
    assert schedules["mekong__daily_sync_schedule"].default_status == dg.DefaultScheduleStatus.STOPPED
