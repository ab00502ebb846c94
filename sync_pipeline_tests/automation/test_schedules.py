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


def restated(pipeline: Pipeline, schedule: str, due: datetime) -> dict[str, str]:
    tags = request_of(pipeline, schedule, due).tags
    return {name: days for name, days in tags.items() if name.startswith("restate_")}


TWO_AT_NIGHT = datetime(2026, 10, 6, 18, 0, tzinfo=UTC)  # 02:00 on 7 October in Manila


def test_a_scheduled_run_of_yesterday_also_fetches_the_six_days_before_from_meta(pipeline: Pipeline) -> None:
    found = restated(pipeline, "lumina__daily_sync_schedule", TWO_AT_NIGHT)
    assert found == {"restate_meta": "2026-09-30/2026-10-05"}


def test_a_tenant_says_per_source_how_many_days_are_restated(pipeline: Pipeline) -> None:
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(f"{file.read_text()}\nrestate_days: {{meta: 1, pos: 3}}\n")
    pipeline.reload()
    found = restated(pipeline, "lumina__daily_sync_schedule", TWO_AT_NIGHT)
    assert found == {"restate_pos": "2026-10-04/2026-10-05"}, "of one day the range itself is all"


def test_no_day_before_the_tenants_first_is_restated(pipeline: Pipeline) -> None:
    first_ticks = (datetime(2026, 1, day, 18, 0, tzinfo=UTC) for day in (1, 2, 3))
    assert [restated(pipeline, "lumina__daily_sync_schedule", due) for due in first_ticks] == [
        {},
        {"restate_meta": "2026-01-01/2026-01-01"},
        {"restate_meta": "2026-01-01/2026-01-02"},
    ]


def test_ranges_that_are_not_rolling_restate_nothing(pipeline: Pipeline) -> None:
    due = datetime(2026, 10, 4, 19, 0, tzinfo=UTC)
    assert restated(pipeline, "lumina__weekly_resync_schedule", due) == {}
