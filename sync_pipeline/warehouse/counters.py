"""Totals of each source since its first sync: the table `sync_counters`, which metrics are read from.

They only grow. Rows and days are counted in the transaction that commits a day, API requests by the run that made them.
"""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sync_pipeline.warehouse.database import bound_to, failing_clearly
from sync_pipeline.warehouse.schema import sync_counters, tenants

ROWS: Final = "rows"
DAYS: Final = "days"
NO_CLASS: Final = ""

# Counter and class, such as ("errors", "rate_limited").
Counts = Mapping[tuple[str, str], float]


def add_counts(connection: sa.Connection, tenant_id: str, source: str, counts: Counts) -> None:
    """Add to the totals of a source; the connection is in a transaction that is bound to the tenant."""
    # In one order everywhere, so that two transactions cannot wait for each other.
    rows = [
        {"tenant_id": tenant_id, "source": source, "counter": counter, "class": name, "total": amount}
        for (counter, name), amount in sorted(counts.items())
        if amount > 0
    ]
    if not rows:
        return
    statement = insert(sync_counters).values(rows)
    total = sync_counters.c.total + statement.excluded.total
    connection.execute(
        statement.on_conflict_do_update(index_elements=list(sync_counters.primary_key), set_={"total": total})
    )


def store_counts(engine: sa.Engine, tenant_id: str, source: str, counts: Counts) -> None:
    """Add to the totals of a source of a stored tenant, outside of its runs. Raises `WarehouseFailedError`."""
    stored = sa.select(tenants.c.tenant_id).where(tenants.c.tenant_id == tenant_id)
    with failing_clearly(), bound_to(engine, tenant_id) as connection, connection.begin():
        if connection.execute(stored).all():
            add_counts(connection, tenant_id, source, counts)
