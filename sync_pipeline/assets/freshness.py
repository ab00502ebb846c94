"""Whether the days that should be here by now are: by the workflows' schedules and the sync log.

Dagster's own freshness looks at the latest materialization of any partition, and an old backfill is one.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorStatus
from dagster._utils.schedules import reverse_cron_string_iterator

from sync_pipeline.assets.specs import SYNCED, schedule_name
from sync_pipeline.assets.verdicts import Check, Verdict
from sync_pipeline.date_ranges import AbsoluteRange, DateRangeError, day_window, local_date, resolve
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.checks import Completeness

UP_TO_DATE = {
    source: Check(
        "up_to_date",
        asset,
        "The day that the workflows' schedules should have brought by now is here, complete.",
        daily=False,
    )
    for source, asset in SYNCED.items()
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """The newest day of a source that should be here, and the tick of the schedule that should have brought it.

    A sync begun before `since` saw less of the day than the tick's would have: the day, or the time until then, was
    not over.
    """

    tenant_id: str
    source: str
    day: date
    tick: datetime
    since: datetime


def switched(instance: dg.DagsterInstance) -> dict[str, bool]:
    """The schedules that were switched in the UI or on the command line, and whether they are on."""
    states = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    return {
        state.instigator_name: state.status == InstigatorStatus.RUNNING
        for state in states
        if state.status != InstigatorStatus.DECLARED_IN_CODE
    }


def expectation(tenant: Tenant, source: str, on: Mapping[str, bool], now: datetime) -> Expectation | None:
    """What the schedules that are switched on should have brought by `now`, the time a run may take allowed for.

    None where no schedule brings the source. `on` overrides what the tenant file says of a schedule.
    """
    allowed = timedelta(minutes=tenant.checks.late_after_minutes)
    found: list[Expectation] = []
    for workflow in tenant.workflows:
        if workflow.schedule is None or source not in workflow.sources:
            continue
        if isinstance(workflow.date_range, AbsoluteRange):  # always the same days: nothing new is due
            continue
        if not on.get(schedule_name(tenant, workflow), workflow.enabled):
            continue
        ticks = reverse_cron_string_iterator((now - allowed).timestamp(), workflow.schedule, tenant.timezone)
        tick = next(iter(ticks)).astimezone(UTC)
        try:
            days = resolve(workflow.date_range, today=local_date(tick, tenant.timezone), start_date=tenant.start_date)
        except DateRangeError:  # before the tenant's first day
            continue
        # Of a range that reaches into the day of its tick, the days before are what it brings for good.
        day = days.until if len(days) == 1 else min(days.until, local_date(tick, tenant.timezone) - timedelta(days=1))
        day_over = day_window(day, tenant.timezone)[1] + timedelta(seconds=1)
        found.append(Expectation(tenant.tenant_id, source, day, tick, since=min(tick, day_over)))
    return max(found, key=lambda one: one.day, default=None)


def freshness_verdict(tenant: Tenant, expected: Expectation | None, found: Completeness | None) -> Verdict:
    """Whether the expected day is here, and by how many days the source is behind."""
    if expected is None or found is None:
        return Verdict(passed=True, sentence="no schedule is switched on that would bring days")
    last = found.last_complete
    latest = f"the last complete day is {last}" if last else "no day is complete yet"
    if found.expected_is_complete:
        return Verdict(passed=True, sentence=f"{expected.day} is here; {latest}")
    due = expected.tick.astimezone(ZoneInfo(tenant.timezone))
    behind = (expected.day - last).days if last and last < expected.day else None
    return Verdict(
        passed=False,
        sentence=f"{expected.source}: {expected.day} should be here since {due:%Y-%m-%d %H:%M} and "
        f"{tenant.checks.late_after_minutes} min; " + latest + (f", {behind} days behind" if behind else ""),
        figures={"expected": expected.day.isoformat(), **({"days_behind": behind} if behind else {})},
    )


def expectations(
    tenants: Collection[Tenant], on: Mapping[str, bool], now: datetime
) -> dict[tuple[str, str], Expectation]:
    """What is expected of every tenant and source that schedules bring."""
    found = (expectation(tenant, source, on, now) for tenant in tenants for source in tenant.sources)
    return {(one.tenant_id, one.source): one for one in found if one}
