"""Whether the days that should be here by now are: by the workflows' schedules and the sync log.

Dagster's own freshness looks at the latest materialization of any partition, and an old backfill is one.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

import dagster as dg

from sync_pipeline.assets.specs import SYNCED, schedule_name
from sync_pipeline.assets.verdicts import Check, Verdict
from sync_pipeline.dagster_internals.cron import last_tick, next_tick
from sync_pipeline.dagster_internals.workspace import Switches, schedule_switches
from sync_pipeline.date_ranges import (
    AbsoluteRange,
    DateRangeError,
    DayRange,
    RollingRange,
    last_end,
    local_date,
    resolve,
)
from sync_pipeline.sync import META
from sync_pipeline.tenants import Tenant, Workflow
from sync_pipeline.timezones import timezone_names
from sync_pipeline.warehouse.completeness import Completeness
from sync_pipeline.warehouse.tenancy import Warehouse

ONE_DAY = timedelta(days=1)
# The timezones of a tenant's ad accounts, None where one is not known.
AccountTimezones = Mapping[str, str | None]
NO_ACCOUNTS: AccountTimezones = MappingProxyType({})
# The names of the code locations that may have a tenant; None where no location is known.
LocationsOf = Callable[[Tenant], Collection[str] | None]

UP_TO_DATE = {
    source: Check(
        "up_to_date",
        asset,
        "The newest day that was over, in all of its timezones, at the last scheduled run is complete.",
        daily=False,
    )
    for source, asset in SYNCED.items()
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """The newest day of a source that should be here, and the tick of the schedule that should have brought it.

    The day must be complete, unless it is the day of the tick itself: then `part_since` is the tick, and a fetch since
    then is enough. `complete_day` is the newest day that must be complete in either case. `delay` says why it is not a
    newer one, None where it ended in the tenant's timezone last.
    """

    tenant_id: str
    source: str
    day: date
    tick: datetime
    complete_day: date
    part_since: datetime | None = None
    delay: str | None = None


def switched(tenant: Tenant, switches: Switches, locations: Collection[str] | None) -> dict[str, bool]:
    """Return the tenant's schedules that were switched in the UI or on the command line, and whether they are on.

    A switch counts only in `locations`, because Dagster keeps the switches of a location that no longer exists. Where
    `locations` is None, all of them count. If several locations may have the tenant, a schedule is off only where it is
    off in each of them: an alarm too many is better than none.
    """
    found: dict[str, bool] = {}
    for workflow in tenant.workflows:
        name = schedule_name(tenant, workflow)
        by_location = switches.get(name, {})
        states = {by_location.get(location) for location in (by_location if locations is None else locations)}
        if True in states:
            found[name] = True
        elif states == {False}:
            found[name] = False
    return found


def switched_of_all(
    instance: dg.DagsterInstance, tenants: Collection[Tenant], locations: LocationsOf
) -> dict[str, bool]:
    """Return what `switched` returns for each of the tenants; schedules of different tenants have different names."""
    switches = schedule_switches(instance)
    return {name: on for one in tenants for name, on in switched(one, switches, locations(one)).items()}


def expectation(
    tenant: Tenant,
    source: str,
    on: Mapping[str, bool],
    now: datetime,
    accounts: AccountTimezones = NO_ACCOUNTS,
) -> Expectation | None:
    """What the schedules that are switched on should have brought by `now`, the time a run may take allowed for.

    A day of Meta is expected of the first run that begins after the day is over in the timezones of all `accounts`,
    too. None where no schedule brings the source. `on` overrides what the tenant file says of a schedule.
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
        tick = last_tick(workflow.schedule, tenant.timezone, now - allowed)
        try:
            days = resolve(workflow.date_range, today=local_date(tick, tenant.timezone), start_date=tenant.start_date)
        except DateRangeError:  # before the tenant's first day
            continue
        one = _expected_of_run(tenant, source, workflow, tick, days, accounts if source == META else NO_ACCOUNTS)
        if one.day >= tenant.start_date:
            found.append(one)
    return max(found, key=lambda one: one.day, default=None)


def _expected_of_run(
    tenant: Tenant, source: str, workflow: Workflow, tick: datetime, days: DayRange, accounts: AccountTimezones
) -> Expectation:
    """Return what the run of a tick, which is for `days`, should have brought."""
    today = local_date(tick, tenant.timezone)
    newest = min(days.until, today - ONE_DAY)
    timezones = (tenant.timezone, *accounts.values())
    complete_day = newest
    while last_end(complete_day, timezones) > tick:
        complete_day -= ONE_DAY
    delay = _delay(tenant, workflow, days, newest, complete_day, accounts) if complete_day < newest else None
    if len(days) == 1 and days.until == today:
        return Expectation(tenant.tenant_id, source, today, tick, complete_day, part_since=tick, delay=delay)
    return Expectation(tenant.tenant_id, source, complete_day, tick, complete_day, delay=delay)


def _delay(
    tenant: Tenant, workflow: Workflow, days: DayRange, newest: date, complete_day: date, accounts: AccountTimezones
) -> str:
    """Say why a run is not expected to bring the newest day that was over in the tenant's timezone when it began."""
    assert workflow.schedule is not None
    over_at = last_end(newest, accounts.values())
    account_id, timezone = next(one for one in accounts.items() if last_end(newest, [one[1]]) == over_at)
    reason = (
        f"the days of ad account {account_id} are in {timezone}"
        if timezone in timezone_names()
        else f"the timezone of ad account {account_id} is not known, so UTC-12 is assumed"
    )
    following = next_tick(workflow.schedule, tenant.timezone, over_at)
    sentence = (
        f"{newest} is over at {_local(tenant, over_at)}, because {reason}; "
        f"the first run of {workflow.name} after that is due at {_local(tenant, following)}"
    )
    first, remedy = days.since, f"set the days of its date_range to at least {(days.until - complete_day).days + 1}"
    if isinstance(workflow.date_range, RollingRange):
        first = min(first, days.until - timedelta(days=tenant.restate_days.meta - 1))
        remedy = f"set restate_days.meta to at least {(days.until - complete_day).days + 1}"
    if complete_day < first:
        sentence += f" and does not fetch it again: {remedy} in the tenant file"
    return sentence


def _local(tenant: Tenant, instant: datetime) -> str:
    return f"{instant.astimezone(ZoneInfo(tenant.timezone)):%Y-%m-%d %H:%M}"


def freshness_verdict(tenant: Tenant, expected: Expectation | None, found: Completeness | None) -> Verdict:
    """Whether the expected day is here, and by how many days the source is behind."""
    if expected is None or found is None:
        return Verdict(passed=True, sentence="no schedule is switched on that would bring days")
    last = found.last_complete
    latest = f"the last complete day is {last}" if last else "no day is complete yet"
    why = f"; {expected.delay}" if expected.delay else ""
    if found.expected_is_complete:
        return Verdict(passed=True, sentence=f"{expected.day} is here; {latest}{why}")
    behind = (expected.day - last).days if last and last < expected.day else None
    days = "1 day" if behind == 1 else f"{behind} days"
    return Verdict(
        passed=False,
        sentence=f"{expected.source}: {expected.day} should be here since {_local(tenant, expected.tick)} and "
        f"{tenant.checks.late_after_minutes} min; " + latest + (f", {days} behind" if behind else "") + why,
        figures={"expected": expected.day.isoformat(), **({"days_behind": behind} if behind else {})},
    )


def days_behind(
    source: str, expected: Expectation | None, last_complete: date | None, since_last_over: int | None
) -> int | None:
    """Return how many days, ending with the last one that can be complete by now, follow the last complete one.

    A day of Meta can be complete after the first scheduled run that begins once it is over in all timezones.
    `since_last_over` is the same for a source without a schedule, as `sync_health` has it: it ends with the last day
    that is over by now. None where no day is complete yet.
    """
    if last_complete is None:
        return None
    if expected is None or source != META:
        return since_last_over
    return max(0, (expected.complete_day - last_complete).days)


def account_timezones(warehouse: Warehouse, tenants: Collection[Tenant]) -> dict[str, AccountTimezones]:
    """Return the timezones of the ad accounts of each tenant that has a source Meta. Raises `WarehouseFailedError`."""
    return {
        tenant.tenant_id: warehouse.account_timezones(tenant.tenant_id) for tenant in tenants if META in tenant.sources
    }


def expectations(
    tenants: Collection[Tenant], on: Mapping[str, bool], now: datetime, accounts: Mapping[str, AccountTimezones]
) -> dict[tuple[str, str], Expectation]:
    """What is expected of every tenant and source that schedules bring; `accounts` by tenant."""
    found = (
        expectation(tenant, source, on, now, accounts.get(tenant.tenant_id, NO_ACCOUNTS))
        for tenant in tenants
        for source in tenant.sources
    )
    return {(one.tenant_id, one.source): one for one in found if one}


def expected_and_stored(
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    tenants: Collection[Tenant],
    now: datetime,
    locations: LocationsOf,
) -> tuple[dict[tuple[str, str], Expectation], dict[tuple[str, str], Completeness]]:
    """Return what is expected by `now`, and what is stored of it, by tenant and source.

    Raises `WarehouseFailedError`.
    """
    on = switched_of_all(instance, tenants, locations)
    expected = expectations(tenants, on, now, account_timezones(warehouse, tenants))
    wanted = [(one.tenant_id, one.source, one.day, one.part_since) for one in expected.values()]
    found = warehouse.completeness(wanted) if wanted else {}
    return expected, found
