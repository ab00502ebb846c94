"""Rows that an API sent and that cannot be read: the table `rejected_rows`, which never holds what was sent.

A stored row whose newer version is rejected stays as it is and is not removed as missing. The rejected rows of a day
are those of its last fetch, so that they vanish when the day is read without any.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Final

import sqlalchemy as sa

from sync_pipeline.warehouse.database import bound_to, failing_clearly
from sync_pipeline.warehouse.schema import DailyTable, meta_ad_accounts, pos_shops, rejected_rows

NAMED_AT_MOST: Final = 5


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that cannot be read. `row_id` is None where it has no readable id; `reason` quotes no text of the row."""

    kind: str
    field: str
    reason: str
    row_id: str | None = None
    account_id: str | None = None
    shop_id: str | None = None

    def __str__(self) -> str:
        place = f"account {self.account_id}" if self.account_id is not None else f"shop {self.shop_id}"
        return f"{self.kind} {self.row_id or 'without a readable id'} of {place}: {self.field} {self.reason}"


def sentence(rows: Sequence[RejectedRow], noun: str = "row") -> str:
    """Say in one line how many rows are rejected, and describe the first few; `noun` is what one of them is called."""
    count = f"1 {noun} cannot be read and is" if len(rows) == 1 else f"{len(rows)} {noun}s cannot be read and are"
    more = f" and {len(rows) - NAMED_AT_MOST} more" if len(rows) > NAMED_AT_MOST else ""
    return f"{count} left out: {'; '.join(map(str, rows[:NAMED_AT_MOST]))}{more}"


_COLUMNS: Final = [rejected_rows.c[name] for name in RejectedRow.__dataclass_fields__]


def replace_of_day(
    connection: sa.Connection,
    tenant_id: str,
    target: DailyTable,
    source: str,
    day: date,
    rows: Sequence[RejectedRow],
    *,
    run_id: str,
    scopes: Collection[str],
) -> None:
    """Make these the rejected rows of a day, those of other accounts or shops than `scopes` aside.

    Runs in a transaction of the caller.
    """
    c = rejected_rows.c
    connection.execute(
        sa.delete(rejected_rows).where(
            c.tenant_id == tenant_id, c.source == source, c.day == day, c[target.scope].in_(list(scopes))
        )
    )
    _insert(connection, tenant_id, source, day, rows, run_id)


def replace_products(
    connection: sa.Connection,
    tenant_id: str,
    source: str,
    rows: Sequence[RejectedRow],
    *,
    run_id: str,
    kept_shops: Collection[str] = (),
) -> None:
    """Make these the rejected products, in a transaction; those of `kept_shops` stay."""
    c = rejected_rows.c
    with connection.begin():
        connection.execute(
            sa.delete(rejected_rows).where(
                c.tenant_id == tenant_id, c.source == source, c.day.is_(None), c.shop_id.not_in(list(kept_shops))
            )
        )
        _insert(connection, tenant_id, source, None, rows, run_id)


def is_rejected(
    target: DailyTable, row: sa.FromClause, tenant_id: str, source: str, day: date | None = None
) -> sa.ColumnElement[bool]:
    """Whether a row of the target table, or of one with its key columns, has a newer version that is rejected.

    With `day`, only rejections on that day count.
    """
    c = rejected_rows.c
    same = [
        c.tenant_id == tenant_id,
        c.source == source,
        c.kind == target.kind,
        c[target.scope] == row.c[target.scope],
        c.row_id == row.c[target.row_id],
    ]
    if target.day in target.table.primary_key.columns:
        same.append(c.day == row.c[target.day])
    if day is not None:
        same.append(c.day == day)
    return sa.exists().where(*same)


def rejected_of_days(
    connection: sa.Connection, tenant_id: str, source: str, days: Collection[date]
) -> dict[date, list[RejectedRow]]:
    """Return the rejected rows of each of these days that has any, in a transaction."""
    c = rejected_rows.c
    statement = (
        sa.select(c.day, *_COLUMNS)
        .where(c.tenant_id == tenant_id, c.source == source, c.day.in_(list(days)))
        .order_by(c.day, c.id)
    )
    found: defaultdict[date, list[RejectedRow]] = defaultdict(list)
    with connection.begin():
        for day, *values in connection.execute(statement):
            found[day].append(RejectedRow(*values))
    return dict(found)


def rejected_products(connection: sa.Connection, tenant_id: str, source: str) -> list[RejectedRow]:
    """Return the rejected products, in a transaction."""
    c = rejected_rows.c
    statement = sa.select(*_COLUMNS).where(c.tenant_id == tenant_id, c.source == source, c.day.is_(None)).order_by(c.id)
    with connection.begin():
        return [RejectedRow(*values) for values in connection.execute(statement)]


@dataclass(frozen=True, slots=True)
class RejectedSummary:
    """How many rows of a source are rejected, from which day to which (None: products alone), and the latest ones."""

    rows: int
    since: date | None
    until: date | None
    latest: tuple[RejectedRow, ...]


def rejected_by_source(engine: sa.Engine, tenant_id: str) -> dict[str, RejectedSummary]:
    """Summarize a tenant's rejected rows by source, without accounts and shops that are disabled.

    Raises `WarehouseFailedError`.
    """
    c = rejected_rows.c
    disabled = [
        sa.exists().where(table.c.tenant_id == c.tenant_id, table.c[scope] == c[scope], ~table.c.enabled)
        for table, scope in ((meta_ad_accounts, "account_id"), (pos_shops, "shop_id"))
    ]
    counted = (
        sa.func.count().over(partition_by=c.source),
        sa.func.min(c.day).over(partition_by=c.source),
        sa.func.max(c.day).over(partition_by=c.source),
        sa.func.row_number().over(partition_by=c.source, order_by=(c.day.desc().nulls_last(), c.id)).label("number"),
    )
    ranked = sa.select(c.source, *_COLUMNS, *counted).where(c.tenant_id == tenant_id, ~sa.or_(*disabled)).subquery()
    statement = sa.select(ranked).where(ranked.c.number <= NAMED_AT_MOST).order_by(ranked.c.source, ranked.c.number)
    found: dict[str, RejectedSummary] = {}
    with failing_clearly(), bound_to(engine, tenant_id) as connection:
        for source, *values, rows, since, until, _ in connection.execute(statement):
            before = found[source].latest if source in found else ()
            found[source] = RejectedSummary(rows, since, until, (*before, RejectedRow(*values)))
    return found


def _insert(
    connection: sa.Connection,
    tenant_id: str,
    source: str,
    day: date | None,
    rows: Sequence[RejectedRow],
    run_id: str,
) -> None:
    if rows:
        fixed = {"tenant_id": tenant_id, "source": source, "day": day, "run_id": run_id}
        connection.execute(sa.insert(rejected_rows), [{**fixed, **asdict(row)} for row in rows])
