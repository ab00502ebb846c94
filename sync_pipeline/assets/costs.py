"""What products cost, and the cost of stored orders brought up to date with it."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from sync_pipeline.assets.performance import performance_materialization, refresh_with_outdated
from sync_pipeline.assets.recomputed import tell_recomputed
from sync_pipeline.assets.runs import RunOf
from sync_pipeline.assets.specs import (
    ORDER_COSTS,
    POS_ORDERS,
    POS_PRODUCTS,
    PRODUCT_COSTS,
    TABLES,
    asset_key,
    attributes,
    pool,
    read_once,
)
from sync_pipeline.assets.tables import metadata_table
from sync_pipeline.assets.verdicts import WARN, Check, Evaluation, Verdict, log_check_evaluations
from sync_pipeline.resources import PostgresWarehouse
from sync_pipeline.rows.costs import ProductCostError
from sync_pipeline.run_config import NO_CONFIG
from sync_pipeline.sync import POS
from sync_pipeline.sync.costs import (
    DayCosts,
    compare_costs,
    costs_by_catalogue,
    read_product_costs,
    recost_orders,
    store_product_costs,
    version_of,
)
from sync_pipeline.sync.recompute import recompute_stored
from sync_pipeline.tenants import Tenant
from sync_pipeline.text_safety import escape_markdown
from sync_pipeline.warehouse.tenancy import TenantWarehouse

COGS_CURRENT = Check(
    "cogs_current",
    POS_ORDERS,
    "The stored COGS is what the costs there are now give; where it is not, materialize order_costs.",
    severity=WARN,
)
COST_DATES = Check(
    "cost_dates",
    PRODUCT_COSTS,
    "No dates in the product cost file are reversed, and none of a product overlap.",
    severity=WARN,
    daily=False,
)


def product_costs_asset(tenant: Tenant) -> dg.AssetsDefinition:
    """What the tenant's products cost, from the CSV beside its file."""

    @dg.asset(
        key=asset_key(tenant, PRODUCT_COSTS),
        description="Unit costs and mappings of products, from "
        + (
            f"{escape_markdown(tenant.product_costs.name)}."
            if tenant.product_costs
            else "no file yet: orders have no COGS."
        ),
        pool=pool(tenant),
        config_schema=NO_CONFIG,
        **attributes(tenant, TABLES[PRODUCT_COSTS], "csv"),
    )
    @read_once
    def product_costs(context: dg.AssetExecutionContext, warehouse: PostgresWarehouse) -> dg.MaterializeResult[Any]:
        run = RunOf(tenant, context)
        with run.failing({"source": POS, "date": run.first_day}), run.hold(warehouse) as held:
            try:
                costs = read_product_costs(tenant)
            except ProductCostError as error:
                problems = [str(problem) for problem in error.problems]
                verdict = Verdict(passed=False, sentence=str(error), figures={"problems": problems})
                log_check_evaluations(context, tenant, [Evaluation(COST_DATES, verdict)])
                raise
            stale = 0
            if held.product_costs() != [tuple(cost) for cost in costs]:
                # Before they are stored: a run killed in between marks the days again.
                stale = _mark_days(tenant, context, held)
            store_product_costs(tenant, held)
        return dg.MaterializeResult(
            metadata={"dagster/row_count": len(costs), "days_to_recompute": stale},
            data_version=dg.DataVersion(version_of([cost[:-1] for cost in costs])),
        )

    return product_costs


def order_costs_asset(tenant: Tenant) -> dg.AssetsDefinition:
    """The COGS and mappings of stored orders, brought up to date with costs and catalogue; Pancake is not asked."""

    @dg.asset(
        key=asset_key(tenant, ORDER_COSTS),
        deps=[asset_key(tenant, PRODUCT_COSTS), asset_key(tenant, POS_PRODUCTS)],
        description="Materialize this after product costs or settings have changed: COGS, mappings and whatever else "
        "the settings decide are recomputed from stored data, and `ad_performance` with them. No API is asked.",
        pool=pool(tenant),
        config_schema=NO_CONFIG,
        **attributes(tenant, TABLES[ORDER_COSTS], "sql"),
    )
    @read_once
    def order_costs(context: dg.AssetExecutionContext, warehouse: PostgresWarehouse) -> dg.MaterializeResult[Any]:
        run = RunOf(tenant, context)
        with run.failing({"source": POS, "date": run.first_day}), run.hold(warehouse) as held:
            costs = costs_by_catalogue(tenant, held)
            recomputed = recompute_stored(tenant, held, tenant.sources, costs)
            changed = list(recost_orders(tenant, held, costs))
            figures = refresh_with_outdated(tenant, held, [one.day for one in changed])
        tell_recomputed(context, recomputed)
        for one in changed:
            context.log.info(f"{one.day}: COGS of {one.changed} orders, {one.stored} before, {one.current} now")
        for day, of_day in figures.items():
            context.log_event(performance_materialization(tenant, day, of_day))
        recosted = [
            (one.day, Verdict(passed=True, sentence=f"COGS is {one.current}", figures=_figures(one))) for one in changed
        ]
        log_check_evaluations(context, tenant, [Evaluation(COGS_CURRENT, verdict, day) for day, verdict in recosted])
        return dg.MaterializeResult(
            metadata={
                "days": len(changed),
                "orders": sum(one.changed for one in changed),
                "cogs_before": float(sum(one.stored for one in changed)),
                "cogs_now": float(sum(one.current for one in changed)),
                "orders_recomputed": recomputed.orders,
                "insights_recomputed": recomputed.insights,
                "not_recomputed": recomputed.not_recomputed,
                "changes": _table(changed),
            }
        )

    return order_costs


def cogs_verdict(one: DayCosts) -> Verdict:
    """Whether a day's COGS is what the costs there are now give."""
    if not one.changed:
        return Verdict(passed=True, sentence=f"COGS of {one.orders} orders is {one.stored}", figures=_figures(one))
    return Verdict(
        passed=False,
        sentence=f"COGS is stored as {one.stored}, by the present costs it is {one.current}: {one.changed} of "
        f"{one.orders} orders differ; materialize order_costs",
        figures=_figures(one),
    )


def _mark_days(tenant: Tenant, context: dg.AssetExecutionContext, held: TenantWarehouse) -> int:
    compared = list(_compared(tenant, held))
    log_check_evaluations(context, tenant, [Evaluation(COGS_CURRENT, cogs_verdict(one), one.day) for one in compared])
    stale = sum(bool(one.changed) for one in compared)
    if stale:
        remedy = f"materialize {tenant.tenant_id}/{ORDER_COSTS}"
        context.log.warning(f"the COGS of {stale} stored days is not current; {remedy}")
    return stale


def _compared(tenant: Tenant, held: TenantWarehouse) -> Iterator[DayCosts]:
    return compare_costs(tenant, held, costs_by_catalogue(tenant, held), held.order_days())


def _figures(one: DayCosts) -> dict[str, Any]:
    return {
        "orders": one.orders,
        "orders_to_recompute": one.changed,
        "cogs_stored": float(one.stored),
        "cogs_current": float(one.current),
    }


def _table(changed: Sequence[DayCosts]) -> dg.TableMetadataValue:
    columns = [("Day", str), ("Orders", int), ("COGS before", str), ("COGS now", str)]
    rows = [(one.day.isoformat(), one.changed, f"{one.stored:,.2f}", f"{one.current:,.2f}") for one in changed]
    return metadata_table(columns, rows)
