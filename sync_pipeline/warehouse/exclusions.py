"""Ad accounts and shops that are disabled: whether they are synced, and from which day on figures exclude them.

`enabled` governs syncs, `disabled_from` governs figures. A trigger keeps them in step, and notes in `recompute_from`
the first day whose figures a change concerns, so that a plain UPDATE in SQL is enough: the next run computes these
figures again.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import sqlalchemy as sa

from sync_pipeline.warehouse.database import bound_to, failing_clearly
from sync_pipeline.warehouse.errors import UnknownDirectoryEntryError
from sync_pipeline.warehouse.schema import INSIGHTS, ORDERS, DailyTable, meta_ad_accounts, pos_shops

# What `-infinity` is read as.
ALWAYS: Final = date.min


@dataclass(frozen=True, slots=True)
class Directory:
    """A table of ad accounts or shops: the column of their id, what one is called, and the table of their rows."""

    table: sa.Table
    key: str
    noun: str
    rows: DailyTable


AD_ACCOUNTS: Final = Directory(meta_ad_accounts, "account_id", "ad account", INSIGHTS)
SHOPS: Final = Directory(pos_shops, "shop_id", "shop", ORDERS)
DIRECTORIES: Final = (AD_ACCOUNTS, SHOPS)


def counted(directory: Directory, row: str, day: str | None = None) -> str:
    """Return the SQL condition that figures count a row: a table or alias with tenant, account or shop, and `day`."""
    return f"""NOT EXISTS (
        SELECT FROM {directory.table.name} AS listed
        WHERE listed.tenant_id = {row}.tenant_id AND listed.{directory.key} = {row}.{directory.key}
            AND listed.disabled_from <= {row}.{day or directory.rows.day}
    )"""


@dataclass(frozen=True, slots=True)
class Entry:
    """An ad account or shop; `disabled_from` is None while it is enabled, and `ALWAYS` where figures never count it.

    `currency`, `timezone_name` and `account_status` are those of ad accounts.
    """

    entry_id: str
    name: str | None
    enabled: bool
    disabled_from: date | None
    listed_at: datetime | None
    currency: str | None = None
    timezone_name: str | None = None
    account_status: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """An account or shop before and after it was disabled or enabled."""

    before: Entry
    after: Entry


@dataclass(frozen=True, slots=True)
class Pending:
    """Days whose figures are outdated because accounts or shops were disabled or enabled.

    `markers` are the accounts and shops: directory, id, and the text of both dates when they were read.
    """

    days: Collection[date]
    markers: Collection[tuple[Directory, str, str | None, str]]


def entries(engine: sa.Engine, tenant_id: str, directory: Directory) -> list[Entry]:
    """Return the tenant's ad accounts or shops, ordered by id. Raises `WarehouseFailedError`."""
    with failing_clearly(), bound_to(engine, tenant_id) as connection:
        return list(_entries(connection, tenant_id, directory).values())


def _entries(connection: sa.Connection, tenant_id: str, directory: Directory) -> dict[str, Entry]:
    names = [name for name in Entry.__slots__ if name in directory.table.c]
    statement = (
        sa.select(directory.table.c[directory.key].label("entry_id"), *(directory.table.c[name] for name in names))
        .where(directory.table.c.tenant_id == tenant_id)
        .order_by(directory.table.c[directory.key])
    )
    return {row["entry_id"]: Entry(**row) for row in connection.execute(statement).mappings()}


def disable(
    engine: sa.Engine,
    tenant_id: str,
    directory: Directory,
    entry_id: str,
    first_day: date | None,
    *,
    today: date | None = None,
) -> Change:
    """Exclude an account or shop from syncs, and from figures from `first_day` on.

    `first_day` None is the stored day where it is disabled already, else `today`, which by default is the day in the
    stored timezone of the tenant; the tenant file may name another one by now. Raises `UnknownDirectoryEntryError` and
    `WarehouseFailedError`.
    """
    # The trigger replaces null by today.
    kept_or_given = sa.func.coalesce(_stored(first_day), directory.table.c.disabled_from, _stored(today))
    return _change(engine, tenant_id, directory, entry_id, {"enabled": False, "disabled_from": kept_or_given})


def enable(engine: sa.Engine, tenant_id: str, directory: Directory, entry_id: str) -> Change:
    """Include an account or shop in syncs and figures again.

    Raises `UnknownDirectoryEntryError` and `WarehouseFailedError`.
    """
    return _change(engine, tenant_id, directory, entry_id, {"enabled": True, "disabled_from": None})


def _stored(day: date | None) -> sa.ColumnElement[date]:
    text = None if day is None else "-infinity" if day == ALWAYS else day.isoformat()
    return sa.cast(sa.literal(text, sa.Text), sa.Date)


def _change(
    engine: sa.Engine, tenant_id: str, directory: Directory, entry_id: str, values: Mapping[str, Any]
) -> Change:
    c = directory.table.c
    statement = sa.update(directory.table).where(c.tenant_id == tenant_id, c[directory.key] == entry_id)
    with failing_clearly(), bound_to(engine, tenant_id) as connection, connection.begin():
        before = _entries(connection, tenant_id, directory)
        if entry_id not in before:
            raise UnknownDirectoryEntryError(tenant_id, directory.noun, entry_id, list(before))
        connection.execute(statement.values(**values))
        return Change(before[entry_id], _entries(connection, tenant_id, directory)[entry_id])


def pending(connection: sa.Connection, tenant_id: str) -> Pending:
    """Return the days with rows of accounts and shops that were disabled or enabled since figures were computed."""
    days: set[date] = set()
    markers: list[tuple[Directory, str, str | None, str]] = []
    with connection.begin():
        for directory in DIRECTORIES:
            c, rows = directory.table.c, directory.rows.table.c
            found = connection.execute(
                sa.select(
                    c[directory.key], sa.cast(c.disabled_from, sa.Text), sa.cast(c.recompute_from, sa.Text)
                ).where(c.tenant_id == tenant_id, c.recompute_from.is_not(None))
            ).all()
            if not found:
                continue
            markers += [(directory, row[0], row[1], row[2]) for row in found]
            joined = directory.table.join(
                directory.rows.table,
                sa.and_(rows.tenant_id == c.tenant_id, rows[directory.key] == c[directory.key]),
            )
            day = rows[directory.rows.day]
            days |= set(
                connection.execute(
                    sa.select(day)
                    .distinct()
                    .select_from(joined)
                    .where(c.tenant_id == tenant_id, c.recompute_from <= day)
                ).scalars()
            )
    return Pending(days, markers)


def finish(connection: sa.Connection, tenant_id: str, done: Pending) -> None:
    """Note that figures are computed; accounts and shops that were changed again since `done` was read stay pending."""
    with connection.begin():
        for directory, entry_id, disabled_from, recompute_from in done.markers:
            c = directory.table.c
            connection.execute(
                sa.update(directory.table)
                .where(
                    c.tenant_id == tenant_id,
                    c[directory.key] == entry_id,
                    sa.cast(c.disabled_from, sa.Text).is_not_distinct_from(disabled_from),
                    sa.cast(c.recompute_from, sa.Text) == recompute_from,
                )
                .values(recompute_from=None)
            )
