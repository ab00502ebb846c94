"""A workflow's cron as a Dagster schedule in the tenant's timezone."""

from datetime import timedelta

import dagster as dg

from sync_pipeline.assets.runs import RESTATE_TAGS
from sync_pipeline.assets.specs import read_once, schedule_name
from sync_pipeline.automation.jobs import SCHEDULE, TRIGGER_TAG, range_tags
from sync_pipeline.dagster_internals.jobs import UnresolvedAssetJobDefinition
from sync_pipeline.date_ranges import DayRange, RollingRange, local_date, resolve
from sync_pipeline.sync import META
from sync_pipeline.tenants import Tenant, Workflow
from sync_pipeline.text_safety import printable_line


def workflow_schedule(
    tenant: Tenant, workflow: Workflow, job: UnresolvedAssetJobDefinition
) -> dg.ScheduleDefinition | None:
    """The workflow's schedule, or None where it has no cron. It starts switched on if the workflow is enabled.

    A tick asks for the workflow's date range as of the day it was due in the tenant's timezone, so that a tick made
    up for later still means the same days. A rolling range brings the tenant's `restate_days` with it. A range before
    `start_date` fails the tick with `DateRangeError`.
    """
    if workflow.schedule is None:
        return None

    @dg.schedule(
        name=schedule_name(tenant, workflow),
        cron_schedule=workflow.schedule,
        execution_timezone=tenant.timezone,
        job=job,
        # Dagster shows a schedule's description as plain text, and a job's as Markdown.
        description=printable_line(workflow.description),
        default_status=(dg.DefaultScheduleStatus.RUNNING if workflow.enabled else dg.DefaultScheduleStatus.STOPPED),
    )
    @read_once
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        today = local_date(context.scheduled_execution_time, tenant.timezone)
        days = resolve(workflow.date_range, today=today, start_date=tenant.start_date)
        return dg.RunRequest(tags={TRIGGER_TAG: SCHEDULE, **range_tags(days), **_restate_tags(tenant, workflow, days)})

    return schedule


def _restate_tags(tenant: Tenant, workflow: Workflow, days: DayRange) -> dict[str, str]:
    """Which days before a rolling range its run fetches once more, by source: figures change after the fact."""
    tags: dict[str, str] = {}
    if not isinstance(workflow.date_range, RollingRange):
        return tags
    for source in workflow.sources:
        count = tenant.restate_days.meta if source == META else tenant.restate_days.pos
        since = max(tenant.start_date, days.until - timedelta(days=count - 1))
        if since < days.since:
            tags[RESTATE_TAGS[source]] = f"{since}/{days.since - timedelta(days=1)}"
    return tags
