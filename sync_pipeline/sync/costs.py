"""The cost of orders that are stored already, by the costs and the catalogue there are now; no API is asked."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from hashlib import sha256

from sync_pipeline.rows.costs import ProductCost, ProductCosts, load_product_costs
from sync_pipeline.rows.errors import RowError
from sync_pipeline.rows.pancake import recosted, uncosted_items
from sync_pipeline.rows.products import ProductRow, aliases_of, custom_ids_of, shared_display_ids
from sync_pipeline.rows.values import ZERO
from sync_pipeline.sources.errors import Place
from sync_pipeline.sync import POS
from sync_pipeline.sync.errors import RowRejectedError
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.order_costs import NewCost
from sync_pipeline.warehouse.tenancy import TenantWarehouse


@dataclass(frozen=True, slots=True)
class DayCosts:
    """A day's orders with their cost as stored and as it is by the costs there are now."""

    day: date
    orders: int
    changed: int
    stored: Decimal
    current: Decimal


@dataclass(frozen=True, slots=True)
class Uncosted:
    """A product that was sold without a cost: in which shop, how many, and when last."""

    shop_id: str
    product_id: str | None
    display_id: str | None
    name: str | None
    quantity: Decimal
    last_sold: date


def read_product_costs(tenant: Tenant) -> tuple[ProductCost, ...]:
    """The lines of the tenant's CSV, none where it has no file. Raises `ProductCostError` naming file and line."""
    return load_product_costs(tenant.product_costs) if tenant.product_costs else ()


def store_product_costs(tenant: Tenant, warehouse: TenantWarehouse) -> tuple[ProductCost, ...]:
    """Make the warehouse's costs those of the tenant's CSV and return them. Raises `ProductCostError`."""
    costs = read_product_costs(tenant)
    warehouse.replace_product_costs([cost._asdict() for cost in costs])
    return costs


def costs_by_catalogue(tenant: Tenant, warehouse: TenantWarehouse) -> ProductCosts:
    """The tenant's costs, found also by the custom and display ids that the stored catalogue knows products by."""
    rows = _catalogue(warehouse)
    return ProductCosts(
        read_product_costs(tenant),
        aliases_of(rows),
        custom_ids=custom_ids_of(rows),
        shared_display_ids=shared_display_ids(rows),
    )


@dataclass(frozen=True, slots=True)
class AmbiguousCost:
    """A line of the cost file that matches nothing in a shop: several products have the display id that it names."""

    line: int
    shop_id: str
    display_id: str
    products: tuple[str, ...]


def ambiguous_costs(tenant: Tenant, warehouse: TenantWarehouse) -> list[AmbiguousCost]:
    """Return the lines of the tenant's CSV whose `product_id` is a display id shared by several products of a shop."""
    rows = _catalogue(warehouse)
    shared = shared_display_ids(rows)
    named = {(row.shop_id, product_id) for row in rows for product_id in _ids(row)}
    return [
        AmbiguousCost(cost.line, shop_id, display_id, products)
        for cost in read_product_costs(tenant)
        for (shop_id, display_id), products in shared.items()
        if cost.product_id == display_id and cost.shop_id in {None, shop_id} and (shop_id, display_id) not in named
    ]


@dataclass(frozen=True, slots=True)
class UnlistedCost:
    """A line of the cost file whose product is in no catalogue: of its shop, or where `shop_id` is None of any shop."""

    line: int
    shop_id: str | None
    product_id: str


def unlisted_costs(tenant: Tenant, warehouse: TenantWarehouse) -> list[UnlistedCost] | None:
    """Return the lines of the tenant's CSV whose product is in no stored catalogue; None before there is a catalogue.

    Products that a shop no longer lists stay in the stored catalogue.
    """
    rows = _catalogue(warehouse)
    if not rows:
        return None
    listed = {(row.shop_id, product_id) for row in rows for product_id in (*_ids(row), row.display_id)}
    anywhere = {product_id for _, product_id in listed}
    return [
        UnlistedCost(cost.line, cost.shop_id, cost.product_id)
        for cost in read_product_costs(tenant)
        if (cost.product_id not in anywhere if cost.shop_id is None else (cost.shop_id, cost.product_id) not in listed)
    ]


def _catalogue(warehouse: TenantWarehouse) -> list[ProductRow]:
    return [ProductRow(*row) for row in warehouse.products()]


def _ids(row: ProductRow) -> tuple[str | None, ...]:
    """Return the ids of a row that name one product only."""
    return row.product_id, row.variation_id, row.custom_id, row.variation_custom_id


def version_of(rows: Collection[tuple[object, ...]]) -> str:
    """A version that is the same for the same rows, for Dagster to tell whether there is anything new."""
    return sha256(repr(sorted(map(repr, rows))).encode()).hexdigest()[:16]


def compare_costs(
    tenant: Tenant, warehouse: TenantWarehouse, costs: ProductCosts, days: Collection[date]
) -> Iterator[DayCosts]:
    """Each of these days that has orders, with its cost stored and current. Nothing is written."""
    for day in days:
        yield _compared(tenant, warehouse, costs, day)[0]


def recost_orders(tenant: Tenant, warehouse: TenantWarehouse, costs: ProductCosts) -> Iterator[DayCosts]:
    """Bring every stored order's cost and mapping up to date, a day at a time; yields the days that changed."""
    for day in warehouse.order_days():
        compared, changes = _compared(tenant, warehouse, costs, day)
        if changes:
            warehouse.store_costs(changes)
            yield compared


def _compared(
    tenant: Tenant, warehouse: TenantWarehouse, costs: ProductCosts, day: date
) -> tuple[DayCosts, list[NewCost]]:
    changes: list[NewCost] = []
    stored = current = ZERO
    orders = warehouse.stored_orders(day)
    for order in orders:
        try:
            found = recosted(order.items, shop_id=order.shop_id, day=day, costs=costs, pos_order_id=order.pos_order_id)
        except RowError as error:
            place = Place(tenant.tenant_id, POS, shop_id=order.shop_id, since=day, until=day)
            raise RowRejectedError(place, error) from None
        stored += order.cogs
        current += found.cogs
        if found != (order.cogs, order.uncosted_quantity, order.mapping):
            changes.append(NewCost(order.shop_id, order.pos_order_id, *found))
    return DayCosts(day, len(orders), len(changes), stored, current), changes


def sold_without_cost(warehouse: TenantWarehouse, costs: ProductCosts, since: date, until: date) -> list[Uncosted]:
    """The products sold from `since` to `until` that no cost is found for, the most sold first."""
    sold: defaultdict[tuple[str, str | None, str | None, str | None], Decimal] = defaultdict(Decimal)
    last: dict[tuple[str, str | None, str | None, str | None], date] = {}
    for day in warehouse.uncosted_days(since, until):
        for order in warehouse.stored_orders(day, uncosted_only=True):
            for item in uncosted_items(order.items, shop_id=order.shop_id, day=day, costs=costs):
                key = (order.shop_id, item.product_id, item.display_id, item.name)
                sold[key] += item.quantity
                last[key] = day
    most_sold_first = sorted(sold.items(), key=lambda one: one[1], reverse=True)
    return [Uncosted(*key, quantity, last[key]) for key, quantity in most_sold_first if quantity]
