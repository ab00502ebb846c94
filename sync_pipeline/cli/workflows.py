"""The workflows of the tenants, and the switch of their schedules, as the UI's toggle sets it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import dagster as dg

from sync_pipeline import tenants
from sync_pipeline.assets.specs import schedule_name
from sync_pipeline.cli.locations import Locations
from sync_pipeline.cli.tables import fields, table
from sync_pipeline.dagster_internals.cron import next_tick
from sync_pipeline.dagster_internals.schedules import switch_schedule
from sync_pipeline.dagster_internals.workspace import CodeLocationOrigin, schedule_switches
from sync_pipeline.date_ranges import AbsoluteRange, DateRange, RelativeRange, RollingRange
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.last_good import TenantsInUse
from sync_pipeline.settings import LOCATION_VARIABLE
from sync_pipeline.tenants import Tenant, Workflow

MINUTE = "%Y-%m-%d %H:%M"


class NoScheduleError(SyncPipelineError):
    """The workflow has no schedule that could be switched."""

    def __init__(self, tenant: str, workflow: str) -> None:
        super().__init__(
            f"workflow {workflow} of {tenant} has no schedule, so it is only ever started by hand; "
            "give it one in the tenant's file"
        )
        self.tenant = tenant
        self.workflow = workflow


@dataclass(frozen=True, slots=True)
class Listed:
    """A workflow with the state of its schedule; without a schedule `on` and `next_tick` are None.

    `next_tick` is in the tenant's timezone, None also where the schedule is off. `location` is the name of the code
    location that the state is of: the tenant's, or one of several that may have the tenant.
    """

    tenant: Tenant
    workflow: Workflow
    on: bool | None
    next_tick: datetime | None
    location: str


def find_tenant(in_use: TenantsInUse, tenant_id: str) -> Tenant:
    """The tenant of that id, perhaps in its last good version. Raises as `tenants.find_tenant` does."""
    files = tuple(set_aside.file for set_aside in in_use.set_aside)
    return tenants.find_tenant(tenants.TenantFolder(in_use.tenants, files, {}), tenant_id)


def listed(
    in_use: TenantsInUse, instance: dg.DagsterInstance, locations: Locations, now: datetime | None = None
) -> Iterator[Listed]:
    """Yield every workflow of every tenant in use as of `now`, once for each code location that may have the tenant."""
    switches = schedule_switches(instance)
    for tenant in in_use.tenants:
        candidates = locations.candidates(tenant)
        for workflow in tenant.workflows:
            states = switches.get(schedule_name(tenant, workflow), {})
            for location in candidates:
                yield _listed(tenant, workflow, location, states.get(location), now or datetime.now(UTC))


def find(
    in_use: TenantsInUse, instance: dg.DagsterInstance, locations: Locations, tenant_id: str, workflow: str
) -> list[Listed]:
    """Return one workflow, once for each code location that may have its tenant.

    Raises the errors of `find_tenant` and `UnknownWorkflowError`.
    """
    tenant = find_tenant(in_use, tenant_id)
    wanted = tenant.workflow(workflow)
    alone = TenantsInUse((tenant,), ())
    return [one for one in listed(alone, instance, locations) if one.workflow is wanted]


def location_warnings(listed: Iterable[Listed]) -> list[str]:
    """Return a sentence for each set of code locations of which it is not known which one has some tenants."""
    locations: dict[str, set[str]] = {}
    for one in listed:
        locations.setdefault(one.tenant.tenant_id, set()).add(one.location)
    tenants_of: dict[tuple[str, ...], list[str]] = {}
    for tenant_id, names in locations.items():
        if len(names) > 1:
            tenants_of.setdefault(tuple(sorted(names)), []).append(tenant_id)
    return [
        f"it is not known which of the code locations {', '.join(names)} has {', '.join(tenant_ids)}, so every one is "
        f"listed; name the one that loads this folder of tenants in {LOCATION_VARIABLE}"
        for names, tenant_ids in tenants_of.items()
    ]


def switch(
    tenant: Tenant, workflow: Workflow, instance: dg.DagsterInstance, location: CodeLocationOrigin, *, on: bool
) -> None:
    """Switch the workflow's schedule on or off in a code location; the daemon and the UI follow it at once.

    Raises `NoScheduleError`.
    """
    if workflow.schedule is None:
        raise NoScheduleError(tenant.tenant_id, workflow.name)
    from sync_pipeline.definitions import defs

    switch_schedule(instance, defs.get_repository_def(), schedule_name(tenant, workflow), location, on=on)


def as_table(workflows: list[Listed]) -> str:
    """The list as aligned text."""
    header = ("TENANT", "WORKFLOW", "SOURCES", "DAYS", "CRON", "NEXT", "TIMEZONE", "IN FILE", "SCHEDULE", "LOCATION")
    return table(
        header,
        (
            (
                one.tenant.tenant_id,
                one.workflow.name,
                ", ".join(one.workflow.sources),
                in_words(one.workflow.date_range),
                one.workflow.schedule or "",
                one.next_tick.strftime(MINUTE) if one.next_tick else "",
                one.tenant.timezone if one.workflow.schedule else "",
                "enabled" if one.workflow.enabled else "disabled",
                _switch_word(one),
                one.location,
            )
            for one in workflows
        ),
    )


def as_fields(one: Listed) -> str:
    """One workflow with everything that its tenant's file says of it."""
    workflow = one.workflow
    pace = one.tenant.rate_limit_for(workflow)
    return fields(
        {
            "tenant": f"{one.tenant.tenant_id} ({one.tenant.name})",
            "workflow": workflow.name,
            "description": workflow.description,
            "sources": ", ".join(workflow.sources),
            "days": in_words(workflow.date_range),
            "cron": f"{workflow.schedule} ({one.tenant.timezone})" if workflow.schedule else "none: started by hand",
            "next": f"{one.next_tick:{MINUTE}}" if one.next_tick else "",
            "in the file": "enabled" if workflow.enabled else "disabled",
            "schedule": _switch_word(one),
            "location": one.location,
            "pause": f"Meta {pace.meta_delay_ms} ms, POS {pace.pos_delay_ms} ms, {pace.pacing}",
            "retries": str(workflow.max_retries),
            "on error": workflow.on_error,
        }
    )


def schedule_in_words(one: Listed) -> str:
    """Whether the schedule is on, and if so when it is due next."""
    if one.next_tick is None:
        return "the schedule is off"
    return f"the schedule is on, next at {one.next_tick:{MINUTE}} ({one.tenant.timezone})"


def in_words(date_range: DateRange) -> str:
    """A date range as one would say it."""
    match date_range:
        case RollingRange(offset_days=0) | RelativeRange(days=1):
            return "today"
        case RollingRange(offset_days=1):
            return "yesterday"
        case RollingRange():
            return f"the day {date_range.offset_days} days ago"
        case RelativeRange():
            return f"the last {date_range.days} days, with today"
        case AbsoluteRange():
            return f"{date_range.since} to {date_range.until}"


def _listed(tenant: Tenant, workflow: Workflow, location: str, switched: bool | None, now: datetime) -> Listed:  # noqa: FBT001
    if workflow.schedule is None:
        return Listed(tenant, workflow, on=None, next_tick=None, location=location)
    # Until someone switches it, a schedule is as the file says.
    if not (workflow.enabled if switched is None else switched):
        return Listed(tenant, workflow, on=False, next_tick=None, location=location)
    following = next_tick(workflow.schedule, tenant.timezone, now)
    local = following.astimezone(ZoneInfo(tenant.timezone))
    return Listed(tenant, workflow, on=True, next_tick=local, location=location)


def _switch_word(one: Listed) -> str:
    return "" if one.on is None else "on" if one.on else "off"
