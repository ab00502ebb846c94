"""Corrections of stored rows that take too long for one transaction: a batch at a time, each with its own commit.

A correction runs before the revision that marks it as complete. When it is stopped, the committed batches stay; the
next `migrate` starts it again and leaves what is correct already as it is.
"""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from sync_pipeline.rows.customers import without_credentials, without_customer_data
from sync_pipeline.rows.pancake import json_text
from sync_pipeline.warehouse.database import bound_to, failing_clearly

BATCH_ROWS: Final = 500
# Pancake sends all of them, and no version has stored one of them without the tenant's wish.
_CUSTOMER_FIELDS: Final = frozenset({"bill_full_name", "bill_phone_number", "customer"})

_COUNT: Final = sa.text("SELECT count(*) FROM pos_orders WHERE tenant_id = :tenant")
# Locked, so that no run which began before the migration changes a row between reading and writing it.
_BATCH: Final = sa.text("""
    SELECT shop_id, pos_order_id, data::text FROM pos_orders
    WHERE tenant_id = :tenant AND (shop_id, pos_order_id) > (:shop, :order)
    ORDER BY shop_id, pos_order_id LIMIT :rows FOR UPDATE
""")
_UPDATE: Final = sa.text("""
    UPDATE pos_orders AS o SET data = CAST(n.data AS jsonb)
    FROM unnest(CAST(:shops AS text[]), CAST(:orders AS text[]), CAST(:data AS text[])) AS n (shop_id, order_id, data)
    WHERE o.tenant_id = :tenant AND o.shop_id = n.shop_id AND o.pos_order_id = n.order_id
""")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the correction of a tenant's rows is: how many were looked at, of how many, and how many were changed."""

    tenant_id: str
    checked: int
    total: int
    changed: int

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.checked} of {self.total} stored orders checked, {self.changed} changed"


OnProgress: TypeAlias = Callable[[Progress], None]


def reduce_orders(engine: sa.Engine, tenant_ids: Collection[str], on_progress: OnProgress) -> None:
    """Reduce the stored orders of these tenants to the fields that are stored today.

    Whether a tenant stores customer data is told by each order itself, since a migration does not know the tenant
    files: orders with customer data lose nothing but credentials. Raises `WarehouseFailedError`.
    """
    for tenant_id in tenant_ids:
        with failing_clearly(), bound_to(engine, tenant_id) as connection:
            _reduce_orders_of(connection, tenant_id, on_progress)


def reduced(order: dict[str, Any]) -> dict[str, Any]:
    """What is to be stored of a stored order."""
    stored_on_purpose = not _CUSTOMER_FIELDS.isdisjoint(order)
    return without_credentials(order) if stored_on_purpose else without_customer_data(order)


def _reduce_orders_of(connection: sa.Connection, tenant_id: str, on_progress: OnProgress) -> None:
    with connection.begin():
        total = int(connection.execute(_COUNT, {"tenant": tenant_id}).scalar_one())
    checked = changed = 0
    shop, order = "", ""
    while True:
        with connection.begin():
            position = {"tenant": tenant_id, "shop": shop, "order": order, "rows": BATCH_ROWS}
            rows = connection.execute(_BATCH, position).all()
            if not rows:
                return
            changed += _update(connection, tenant_id, [(row[0], row[1], row[2]) for row in rows])
        checked += len(rows)
        shop, order = rows[-1][0], rows[-1][1]
        on_progress(Progress(tenant_id, checked, total, changed))


def _update(connection: sa.Connection, tenant_id: str, rows: Collection[tuple[str, str, str]]) -> int:
    """Write the rows that change, and return their number."""
    changes = []
    for shop_id, order_id, text in rows:
        stored = json.loads(text, parse_float=Decimal)
        if (kept := reduced(stored)) != stored:
            changes.append((shop_id, order_id, json_text(kept)))
    if changes:
        shops, orders, data = zip(*changes, strict=True)
        parameters = {"tenant": tenant_id, "shops": list(shops), "orders": list(orders), "data": list(data)}
        connection.execute(_UPDATE, parameters)
    return len(changes)
