"""Names, partitions and static metadata that a tenant's assets share."""

import inspect
from collections.abc import Callable
from datetime import date
from functools import cache
from typing import Any, TypedDict, TypeVar

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from sync_pipeline.sync import META, POS
from sync_pipeline.tenants import Tenant, Workflow
from sync_pipeline.warehouse import schema

META_AD_ACCOUNTS = "meta_ad_accounts"
POS_SHOPS = "pos_shops"
PRODUCT_COSTS = "product_costs"
META_AD_INSIGHTS = "meta_ad_insights"
POS_ORDERS = "pos_orders"
POS_PRODUCTS = "pos_products"
ORDER_COSTS = "order_costs"
AD_PERFORMANCE = "ad_performance"

# The partitioned asset that each source fills.
SYNCED = {META: META_AD_INSIGHTS, POS: POS_ORDERS}
# What a run refreshes of a source before its days.
UPSTREAM = {META: (META_AD_ACCOUNTS,), POS: (POS_SHOPS, POS_PRODUCTS, PRODUCT_COSTS)}

_Compute = TypeVar("_Compute", bound=Callable[..., Any])


def asset_key(tenant: Tenant, name: str) -> dg.AssetKey:
    """The key `<tenant>/<name>`."""
    return dg.AssetKey([tenant.tenant_id, name])


def source_keys(tenant: Tenant, source: str) -> list[dg.AssetKey]:
    """Every asset that one source brings, the discovery before the days."""
    return [asset_key(tenant, name) for name in (*UPSTREAM[source], SYNCED[source])]


def schedule_name(tenant: Tenant, workflow: Workflow) -> str:
    """The name of a workflow's schedule, `<tenant>__<workflow>_schedule`."""
    return f"{tenant.tenant_id}__{workflow.name}_schedule"


def pool(tenant: Tenant) -> str:
    """The pool that all of a tenant's steps share: one run of a tenant at a time."""
    return f"tenant_{tenant.tenant_id}"


def partitions(tenant: Tenant) -> dg.DailyPartitionsDefinition:
    """One partition a day of the tenant's timezone, from its start date to today, today included."""
    return _days_since(tenant.start_date, tenant.timezone)


# Dagster works out the days of a definition anew for each that it is given.
@cache
def _days_since(start_date: date, timezone: str) -> dg.DailyPartitionsDefinition:
    return dg.DailyPartitionsDefinition(start_date=start_date.isoformat(), timezone=timezone, end_offset=1)


def backfill_policy(tenant: Tenant) -> dg.BackfillPolicy:
    """One run per backfill, unless the tenant wants a long one cut."""
    if tenant.backfill_days_per_run is None:
        return dg.BackfillPolicy.single_run()
    return dg.BackfillPolicy.multi_run(tenant.backfill_days_per_run)


class Attributes(TypedDict):
    """What every asset of a tenant says of itself, as Dagster's decorators take it."""

    group_name: str
    owners: list[str]
    kinds: set[str]
    metadata: dict[str, Any]


def attributes(tenant: Tenant, table: sa.Table, kind: str) -> Attributes:
    """What every asset of a tenant says of itself: group, owners, kinds, table name and columns."""
    return {
        "group_name": tenant.tenant_id,
        "owners": list(tenant.owners) or [f"team:{tenant.tenant_id}"],
        "kinds": {kind, "postgres"},
        "metadata": {
            "dagster/table_name": f"public.{table.name}",
            "dagster/column_schema": column_schema(table),
        },
    }


def read_once(function: _Compute) -> _Compute:
    """Keep the signature with the function: Dagster asks for it some twenty times to make an asset of it."""
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]  # looked for by inspect
    return function


@cache
def column_schema(table: sa.Table) -> dg.TableSchema:
    """The table's columns as Dagster shows them: Postgres type, whether null is allowed, and what they mean."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type.compile(dialect).lower(),
                description=column.comment,
                constraints=dg.TableColumnConstraints(nullable=bool(column.nullable)),
            )
            for column in table.columns
        ]
    )


TABLES = {
    META_AD_ACCOUNTS: schema.meta_ad_accounts,
    POS_SHOPS: schema.pos_shops,
    PRODUCT_COSTS: schema.product_costs,
    META_AD_INSIGHTS: schema.meta_ad_insights,
    POS_ORDERS: schema.pos_orders,
    POS_PRODUCTS: schema.pos_products,
    ORDER_COSTS: schema.pos_orders,
    AD_PERFORMANCE: schema.ad_performance,
}
