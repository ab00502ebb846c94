"""Performance per ad and day, made in SQL of what is stored, in the same run as the sync and after it."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from sync_pipeline.assets.runs import RunOf, restated_days
from sync_pipeline.assets.specs import (
    AD_PERFORMANCE,
    SYNCED,
    TABLES,
    asset_key,
    attributes,
    backfill_policy,
    partitions,
    pool,
    read_once,
)
from sync_pipeline.assets.tables import metadata_table
from sync_pipeline.date_ranges import spans, today_in
from sync_pipeline.resources import PostgresWarehouse
from sync_pipeline.sync.refusals import MissingScope, listed_days
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.performance import DayFigures, Earner
from sync_pipeline.warehouse.tenancy import TenantWarehouse

BEST = 10
# The mark of figures without the rows of an account or shop, which says what is missing.
INCOMPLETE = "incomplete"
# Figures that a day may lack: ratios of nothing, and margins that are yet to be computed.
_PLOTTED_IF_KNOWN = (
    "realised_margin",
    "projected_margin",
    "contribution_margin",
    "roas",
    "delivered_roas",
    "delivery_rate",
    "return_rate",
    "settled_share",
)


def ad_performance_asset(tenant: Tenant) -> dg.AssetsDefinition:
    """What each ad of a tenant cost and brought per day, any range of days in one run."""

    key = asset_key(tenant, AD_PERFORMANCE)
    spec = dg.AssetSpec(
        key,
        deps=[asset_key(tenant, SYNCED[source]) for source in tenant.sources],
        description="What each ad cost and what it brought, per day; orders that matched no ad by shop and mapping. "
        "Summed up in the views `ad_performance_by_associate`, `ad_performance_by_campaign` and "
        "`ad_performance_by_mapping`; which ad each order went to is in `order_attribution`.",
        **attributes(tenant, TABLES[AD_PERFORMANCE], "sql"),
    )

    @dg.multi_asset(
        name=f"{tenant.tenant_id}__{AD_PERFORMANCE}",
        specs=[spec],
        partitions_def=partitions(tenant),
        backfill_policy=backfill_policy(tenant),
        pool=pool(tenant),
    )
    @read_once
    def ad_performance(context: dg.AssetExecutionContext, warehouse: PostgresWarehouse) -> dg.MaterializeResult[Any]:
        run = RunOf(tenant, context)
        own = [date.fromisoformat(key) for key in context.partition_keys]
        further = {day for days in restated_days(context.run.tags).values() for day in days} - set(own)
        with run.failing({"date": run.first_day}), run.hold(warehouse) as held:
            figures = refresh_with_outdated(tenant, held, [*own, *further])
        tell_incomplete(context, figures)
        for day in own:
            context.add_asset_metadata(figures[day], asset_key=key, partition_key=day.isoformat())
        for day in sorted(figures.keys() - set(own)):
            context.log_event(performance_materialization(tenant, day, figures[day]))
        return dg.MaterializeResult(asset_key=key)

    return ad_performance


def refresh_with_outdated(
    tenant: Tenant, held: TenantWarehouse, days: Collection[date]
) -> dict[date, Mapping[str, Any]]:
    """Compute these days and all outdated ones, and return each one's figures like `refresh_performance`.

    Outdated are days for which other rules or settings, or other columns of orders and ads, are in effect now, days of
    accounts and shops that were disabled or enabled since, and days that were projected with a rate that was replaced.
    """
    changed = held.pending_exclusions()
    held.save_delivery_rates(today_in(tenant.timezone), tenant.rates)
    outdated = held.outdated_performance_days(tenant.rates)
    figures = refresh_performance(tenant, held, sorted({*days, *outdated, *changed.days}))
    held.finish_exclusions(changed)
    return figures


def refresh_performance(tenant: Tenant, held: TenantWarehouse, days: Collection[date]) -> dict[date, Mapping[str, Any]]:
    """Recompute these days and return the figures of each as metadata, which Dagster plots over the partitions."""
    for span in spans(days):
        held.recompute_performance(span.since, span.until, tenant.rates)
    found = held.performance_of(days)
    ads, associates = held.best_ads(days, BEST), held.best_associates(days, BEST)
    missing = held.missing_of_days(days)
    return {
        day: {
            **_metadata(found.get(day), ads.get(day, ()), associates.get(day, ())),
            **_incomplete(tenant, day, missing.get(day, ())),
        }
        for day in days
    }


def tell_incomplete(context: dg.AssetExecutionContext, figures: Mapping[date, Mapping[str, Any]]) -> None:
    """Warn of figures that were computed without the rows of an account or shop."""
    if days := [day for day in figures if INCOMPLETE in figures[day]]:
        context.log.warning(f"figures are incomplete for {listed_days(days)}: {figures[max(days)][INCOMPLETE]}")


def performance_materialization(tenant: Tenant, day: date, figures: Mapping[str, Any]) -> dg.AssetMaterialization:
    """A computed day as the materialization of its partition."""
    return dg.AssetMaterialization(asset_key(tenant, AD_PERFORMANCE), partition=day.isoformat(), metadata=figures)


def _incomplete(tenant: Tenant, day: date, missing: Sequence[tuple[str, str]]) -> Mapping[str, Any]:
    """Mark the figures of a day that lacks accounts or shops."""
    if not missing:
        return {}
    sentences = [MissingScope(tenant.tenant_id, source, scope, (day,)).sentence for source, scope in missing]
    return {"complete": False, INCOMPLETE: "; ".join(sentences)}


def _metadata(day: DayFigures | None, ads: Sequence[Earner], associates: Sequence[Earner]) -> Mapping[str, Any]:
    if day is None:
        return {"dagster/partition_row_count": 0}
    figures: dict[str, Any] = {
        "dagster/partition_row_count": day.rows,
        # Dagster plots floats and ints; the exact amounts are in the table.
        "spend": float(day.spend),
        "ad_cost": float(day.ad_cost),
        "orders": day.orders,
        "revenue": float(day.revenue),
        "cogs": float(day.cogs),
        "best_associates": _table("Marketing associate", associates),
        "best_ads": _table("Ad", ads),
    }
    for name in _PLOTTED_IF_KNOWN:
        if (value := getattr(day, name)) is not None:
            figures[name] = float(value)
    return figures


def _table(what: str, earners: Sequence[Earner]) -> dg.TableMetadataValue:
    columns = [
        (what, str),
        ("Ad cost", str),
        ("Orders", int),
        ("Revenue", str),
        ("ROAS", str),
        ("Projected margin", str),
    ]
    rows = [
        (
            one.name,
            f"{one.ad_cost:,.2f}",
            one.orders,
            f"{one.revenue:,.2f}",
            f"{one.roas:.2f}" if one.roas is not None else "",
            f"{one.projected_margin:,.2f}" if one.projected_margin is not None else "",
        )
        for one in earners
    ]
    return metadata_table(columns, rows)
