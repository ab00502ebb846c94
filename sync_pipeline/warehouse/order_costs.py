"""Stored orders whose cost is computed anew: their items out, new costs in, a day at a time."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import sqlalchemy as sa

from sync_pipeline.warehouse.exclusions import SHOPS, counted
from sync_pipeline.warehouse.schema import pos_orders


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """An order's cost as stored, and the JSON text of the items it came from."""

    shop_id: str
    pos_order_id: str
    cogs: Decimal
    uncosted_quantity: Decimal
    mapping: str | None
    items: str | None


@dataclass(frozen=True, slots=True)
class NewCost:
    """What an order is to hold instead."""

    shop_id: str
    pos_order_id: str
    cogs: Decimal
    uncosted_quantity: Decimal
    mapping: str | None


def order_days(connection: sa.Connection, tenant_id: str) -> list[date]:
    """The days that have orders, oldest first."""
    c = pos_orders.c
    with connection.begin():
        return list(
            connection.execute(
                sa.select(c.date_local).distinct().where(c.tenant_id == tenant_id).order_by(c.date_local)
            ).scalars()
        )


def stored_orders(
    connection: sa.Connection, tenant_id: str, day: date, *, uncosted_only: bool = False
) -> list[StoredOrder]:
    """The orders of a day; with `uncosted_only` those that figures count and that have a quantity without cost."""
    c = pos_orders.c
    listed = sa.func.nullif(sa.func.nullif(c.data["items"], sa.text("'null'::jsonb")), sa.text("'[]'::jsonb"))
    items = sa.cast(sa.func.coalesce(listed, c.data["order_items"]), sa.Text)
    statement = sa.select(c.shop_id, c.pos_order_id, c.cogs, c.uncosted_quantity, c.mapping, items).where(
        c.tenant_id == tenant_id, c.date_local == day
    )
    if uncosted_only:
        statement = statement.where(c.uncosted_quantity > 0, sa.text(counted(SHOPS, pos_orders.name)))
    with connection.begin():
        return [StoredOrder(*row) for row in connection.execute(statement)]


def store_costs(connection: sa.Connection, tenant_id: str, costs: Sequence[NewCost]) -> None:
    """Write these orders' costs in one transaction."""
    if not costs:
        return
    statement = sa.text("""
        UPDATE pos_orders AS o SET cogs = n.cogs, uncosted_quantity = n.uncosted_quantity, mapping = n.mapping
        FROM unnest(
            CAST(:shops AS text[]), CAST(:orders AS text[]), CAST(:cogs AS numeric[]), CAST(:uncosted AS numeric[]),
            CAST(:mappings AS text[])
        ) AS n (shop_id, pos_order_id, cogs, uncosted_quantity, mapping)
        WHERE o.tenant_id = :tenant AND o.shop_id = n.shop_id AND o.pos_order_id = n.pos_order_id
    """)
    parameters = {
        "tenant": tenant_id,
        "shops": [cost.shop_id for cost in costs],
        "orders": [cost.pos_order_id for cost in costs],
        "cogs": [cost.cogs for cost in costs],
        "uncosted": [cost.uncosted_quantity for cost in costs],
        "mappings": [cost.mapping for cost in costs],
    }
    with connection.begin():
        connection.execute(statement, parameters)


def uncosted_days(connection: sa.Connection, tenant_id: str, since: date, until: date) -> Collection[date]:
    """The days from `since` to `until` that have orders which figures count, with a quantity without cost."""
    c = pos_orders.c
    statement = (
        sa.select(c.date_local)
        .distinct()
        .where(c.tenant_id == tenant_id, c.date_local.between(since, until), c.uncosted_quantity > 0)
        .where(sa.text(counted(SHOPS, pos_orders.name)))
        .order_by(c.date_local)
    )
    with connection.begin():
        return list(connection.execute(statement).scalars())
