"""A workflow's cron as a Dagster schedule in the tenant's timezone."""

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from sync_pipeline.automation.jobs import SCHEDULE, TRIGGER_TAG, job_name, range_tags
from sync_pipeline.date_ranges import local_date, resolve
from sync_pipeline.tenants import Tenant, Workflow


def workflow_schedule(
    tenant: Tenant, workflow: Workflow, job: UnresolvedAssetJobDefinition
) -> dg.ScheduleDefinition | None:
    """The workflow's schedule, or None where it has no cron. It starts switched on if the workflow is enabled.

    A tick asks for the workflow's date range as of the day it was due in the tenant's timezone, so that a tick made
    up for later still means the same days. A range before `start_date` fails the tick with `DateRangeError`.
    """
    if workflow.schedule is None:
        return None

    @dg.schedule(
        name=f"{job_name(tenant, workflow)}_schedule",
        cron_schedule=workflow.schedule,
        execution_timezone=tenant.timezone,
        job=job,
        description=workflow.description,
        default_status=(dg.DefaultScheduleStatus.RUNNING if workflow.enabled else dg.DefaultScheduleStatus.STOPPED),
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        today = local_date(context.scheduled_execution_time, tenant.timezone)
        days = resolve(workflow.date_range, today=today, start_date=tenant.start_date)
        return dg.RunRequest(tags={TRIGGER_TAG: SCHEDULE, **range_tags(days)})

    return schedule
