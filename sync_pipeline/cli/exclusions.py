"""Ad accounts and shops on the command line: lists of them, and what happens when one is disabled or enabled."""

import logging
from collections.abc import Callable, Sequence
from datetime import date, timedelta

import dagster as dg

from sync_pipeline import logs
from sync_pipeline.assets.performance import performance_materialization, refresh_with_outdated
from sync_pipeline.cli.opening import open_dagster, open_tenants
from sync_pipeline.cli.reporting import named_days
from sync_pipeline.cli.tables import table
from sync_pipeline.cli.workflows import find_tenant
from sync_pipeline.date_ranges import today_in
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.resources import open_warehouse
from sync_pipeline.sync import META, POS
from sync_pipeline.tenants import Tenant
from sync_pipeline.terminal import say
from sync_pipeline.warehouse import exclusions
from sync_pipeline.warehouse.exclusions import AD_ACCOUNTS, ALWAYS, SHOPS, Directory, Entry
from sync_pipeline.warehouse.locks import LockWait
from sync_pipeline.warehouse.tenancy import Warehouse

_SOURCES = {AD_ACCOUNTS: META, SHOPS: POS}


class FutureDayError(SyncPipelineError):
    """Figures were to exclude an account or shop from a day on that has not come yet."""

    def __init__(self, tenant_id: str, day: date, today: date) -> None:
        super().__init__(
            f"--from {day} is after today, {today} in the timezone of {tenant_id}: syncs stop at once, so that later "
            "days would have no rows; name today or an earlier day"
        )
        self.tenant_id = tenant_id
        self.day = day
        self.today = today


def listed_accounts(tenant_id: str | None) -> str:
    """Return the ad accounts of a tenant, or of all tenants, as aligned text."""
    header = ("TENANT", "ACCOUNT", "NAME", "CURRENCY", "TIMEZONE", "STATUS", "SYNC", "EXCLUDED FROM", "LAST LISTED")
    return table(header, _listed(tenant_id, AD_ACCOUNTS, _account_cells))


def listed_shops(tenant_id: str | None) -> str:
    """Return the shops of a tenant, or of all tenants, as aligned text."""
    header = ("TENANT", "SHOP", "NAME", "SYNC", "EXCLUDED FROM", "LAST LISTED")
    return table(header, _listed(tenant_id, SHOPS, _shop_cells))


def disable(tenant_id: str, directory: Directory, entry_id: str, first_day: date | None) -> None:
    """Disable an account or shop, and recompute the figures that this changes.

    `first_day` is as in `warehouse.exclusions.disable`. The change is stored before the figures: where they have to
    wait for a run, or this process is interrupted, the next run computes them.
    """
    with open_dagster() as (settings, instance), open_warehouse() as warehouse:
        tenant = find_tenant(open_tenants(settings), tenant_id)
        today = today_in(tenant.timezone)
        if first_day and first_day > today:
            raise FutureDayError(tenant_id, first_day, today)
        change = exclusions.disable(warehouse.engine, tenant_id, directory, entry_id, first_day, today=today)
        already = "" if change.before.enabled else " already" if change.before == change.after else " still"
        days = "every day" if change.after.disabled_from == ALWAYS else f"days from {change.after.disabled_from} on"
        say(f"{tenant_id}: {directory.noun} {entry_id} is{already} disabled; figures exclude {days}")
        _recompute(tenant, instance, warehouse)


def enable(tenant_id: str, directory: Directory, entry_id: str) -> None:
    """Enable an account or shop, and recompute the figures that this changes, as `disable` does."""
    with open_dagster() as (settings, instance), open_warehouse() as warehouse:
        tenant = find_tenant(open_tenants(settings), tenant_id)
        change = exclusions.enable(warehouse.engine, tenant_id, directory, entry_id)
        already = " already" if change.before.enabled else ""
        say(f"{tenant_id}: {directory.noun} {entry_id} is{already} enabled; figures include every day")
        _recompute(tenant, instance, warehouse)
    if remedy := _remedy(tenant, _SOURCES[directory], change.before):
        logs.tell(remedy, logging.WARNING)


def _listed(
    tenant_id: str | None, directory: Directory, cells: Callable[[Entry], Sequence[str]]
) -> list[tuple[str, ...]]:
    with open_dagster() as (settings, _), open_warehouse() as warehouse:
        in_use = open_tenants(settings)
        tenants = in_use.tenants if tenant_id is None else [find_tenant(in_use, tenant_id)]
        return [
            (tenant.tenant_id, *cells(entry))
            for tenant in tenants
            for entry in exclusions.entries(warehouse.engine, tenant.tenant_id, directory)
        ]


def _account_cells(entry: Entry) -> tuple[str, ...]:
    status = "" if entry.account_status is None else str(entry.account_status)
    about = (entry.entry_id, entry.name or "", entry.currency or "", entry.timezone_name or "", status)
    return (*about, *_state_cells(entry))


def _shop_cells(entry: Entry) -> tuple[str, ...]:
    return (entry.entry_id, entry.name or "", *_state_cells(entry))


def _state_cells(entry: Entry) -> tuple[str, str, str]:
    excluded_from = "always" if entry.disabled_from == ALWAYS else str(entry.disabled_from or "")
    listed_at = f"{entry.listed_at.astimezone():%Y-%m-%d %H:%M}" if entry.listed_at else ""
    return "enabled" if entry.enabled else "disabled", excluded_from, listed_at


def _recompute(tenant: Tenant, instance: dg.DagsterInstance, warehouse: Warehouse) -> None:
    def tell_wait(wait: LockWait) -> None:
        logs.tell(f"{wait}; it is safe to interrupt this: the next run recomputes the figures", logging.WARNING)

    with warehouse.tenant(
        tenant.tenant_id, name=tenant.name, timezone=tenant.timezone, on_wait=tell_wait
    ) as tenant_warehouse:
        figures = refresh_with_outdated(tenant, tenant_warehouse, [])
    for day, of_day in figures.items():
        instance.report_runless_asset_event(performance_materialization(tenant, day, of_day))
    say(f"recomputed: {named_days(list(figures))}" if figures else "no stored figures change")


def _remedy(tenant: Tenant, source: str, before: Entry) -> str | None:
    """Return how to fetch the days that syncs have left out; None where there are none."""
    yesterday = today_in(tenant.timezone) - timedelta(days=1)
    since = max(tenant.start_date, before.disabled_from or date.max)
    if since > yesterday:
        return None
    sentence = f"days from {since} on may be missing, because syncs have left it out"
    workflow = next((workflow.name for workflow in tenant.workflows if source in workflow.sources), None)
    if workflow is None:
        return f"{sentence}; materialize them in the Dagster UI"
    return f"{sentence}; run: sync-pipeline trigger {tenant.tenant_id} {workflow} --since {since} --until {yesterday}"
