"""Stored rows that were derived by other rules or settings than now, found by their fingerprint."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from sync_pipeline.rates import RateSchedule
from sync_pipeline.warehouse.schema import ad_performance, meta_ad_insights, pos_orders, pos_shops

ORDER_COLUMNS: Final = (
    "date_local",
    "total",
    "cod",
    "currency",
    "cogs",
    "uncosted_quantity",
    "total_quantity",
    "mapping",
    "utm_ad_id",
    "ad_candidates",
)
INSIGHT_COLUMNS: Final = ("marketing_associate", "mapping")

# Steps from one fingerprint to the next in the index on them, however many rows have each.
_FINGERPRINTS: Final = """
    WITH RECURSIVE found (rules) AS (
        (SELECT rules FROM {table} WHERE tenant_id = :tenant AND rules IS NOT NULL ORDER BY rules LIMIT 1)
        UNION ALL
        SELECT (
            SELECT t.rules FROM {table} AS t WHERE t.tenant_id = :tenant AND t.rules > found.rules
            ORDER BY t.rules LIMIT 1
        )
        FROM found WHERE found.rules IS NOT NULL
    )
    SELECT rules FROM found WHERE rules IS NOT NULL
    UNION ALL SELECT NULL WHERE EXISTS (SELECT FROM {table} WHERE tenant_id = :tenant AND rules IS NULL)
"""
# LEAST ignores nulls.
_RECOMPUTE_SHOP: Final = """
    UPDATE pos_shops SET recompute_from = LEAST(recompute_from, (
        SELECT min(entered.day) FROM unnest(CAST(:days AS date[])) AS entered (day)
        WHERE NOT EXISTS (SELECT FROM ad_performance AS p WHERE p.tenant_id = :tenant AND p.date = entered.day)
    ))
    WHERE tenant_id = :tenant AND shop_id = :shop
"""


@dataclass(frozen=True, slots=True)
class OutdatedOrder:
    """A stored order that was read by other rules: its data, and its columns in the order of `ORDER_COLUMNS`."""

    shop_id: str
    pos_order_id: str
    data: str
    columns: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class OutdatedInsight:
    """A stored insight whose names were read by other rules; `columns` are in the order of `INSIGHT_COLUMNS`."""

    account_id: str
    ad_id: str
    rules: str | None
    ad_name: str | None
    campaign_name: str | None
    columns: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class RowSpan:
    """How many rows, and from which day to which."""

    rows: int
    since: date
    until: date


class Recomputation:
    """Reads and writes one tenant's outdated rows, each call in a transaction of its own."""

    def __init__(self, connection: sa.Connection, tenant_id: str) -> None:
        self._connection = connection
        self._tenant_id = tenant_id

    def order_rules(self) -> set[str | None]:
        """Return every fingerprint that stored orders have; None stands for orders without one."""
        return self._fingerprints(pos_orders)

    def insight_rules(self) -> set[str | None]:
        """Return every fingerprint that stored insights have; None stands for insights without one."""
        return self._fingerprints(meta_ad_insights)

    def key_sources(self) -> dict[str, str | None]:
        """Return every stored shop with the place that its key was last read from."""
        c = pos_shops.c
        statement = sa.select(c.shop_id, c.api_key_variable).where(c.tenant_id == self._tenant_id)
        with self._connection.begin():
            return {row[0]: row[1] for row in self._connection.execute(statement)}

    def order_shops(self) -> list[str]:
        """Return every shop that stored orders are of."""
        c = pos_orders.c
        with self._connection.begin():
            found = self._connection.execute(sa.select(c.shop_id).distinct().where(c.tenant_id == self._tenant_id))
            return sorted(found.scalars())

    def outdated_orders(
        self, shop_id: str, rules: Collection[str | None], after: str | None, limit: int
    ) -> list[OutdatedOrder]:
        """Return the next orders of a shop with one of these fingerprints, by id, that come after the id `after`."""
        c = pos_orders.c
        statement = sa.select(c.pos_order_id, sa.cast(c.data, sa.Text), *(c[name] for name in ORDER_COLUMNS)).where(
            c.tenant_id == self._tenant_id, c.shop_id == shop_id, _has_rules(pos_orders, rules)
        )
        if after is not None:
            statement = statement.where(c.pos_order_id > after)
        with self._connection.begin():
            found = self._connection.execute(statement.order_by(c.pos_order_id).limit(limit))
            return [OutdatedOrder(shop_id, row[0], row[1], tuple(row[2:])) for row in found]

    def store_orders(
        self,
        shop_id: str,
        rows: Sequence[tuple[str, tuple[Any, ...]]],
        removed: Collection[str],
        rules: str,
        days: Collection[date],
        entered: Collection[date] = (),
    ) -> None:
        """Write the columns of these orders by id, remove those that are no orders, and mark the days' performance.

        `entered` are the days among them that orders have moved to.
        """
        with self._connection.begin():
            if rows:
                statement = _update(pos_orders, ("pos_order_id",), ORDER_COLUMNS, {"shop_id": shop_id, "rules": rules})
                values = [(order_id, *columns) for order_id, columns in rows]
                self._connection.execute(
                    statement, self._arrays(("pos_order_id", *ORDER_COLUMNS), values, shop_id=shop_id, rules=rules)
                )
            if removed:
                c = pos_orders.c
                self._connection.execute(
                    sa.delete(pos_orders).where(
                        c.tenant_id == self._tenant_id, c.shop_id == shop_id, c.pos_order_id.in_(list(removed))
                    )
                )
            self._mark(days)
            self._mark_days_without_performance(shop_id, entered)

    def count_orders(self, shop_id: str) -> int:
        """Return how many orders of a shop are stored."""
        c = pos_orders.c
        statement = sa.select(sa.func.count()).where(c.tenant_id == self._tenant_id, c.shop_id == shop_id)
        with self._connection.begin():
            return self._connection.execute(statement).scalar_one()

    def outdated_insight_days(self, rules: Collection[str | None]) -> list[date]:
        """Return the days of insights with one of these fingerprints, oldest first."""
        c = meta_ad_insights.c
        statement = (
            sa.select(c.date)
            .distinct()
            .where(c.tenant_id == self._tenant_id, _has_rules(meta_ad_insights, rules))
            .order_by(c.date)
        )
        with self._connection.begin():
            return list(self._connection.execute(statement).scalars())

    def outdated_insights(self, day: date, rules: Collection[str | None]) -> list[OutdatedInsight]:
        """Return the insights of a day with one of these fingerprints."""
        c = meta_ad_insights.c
        columns = (c.account_id, c.ad_id, c.rules, c.ad_name, c.campaign_name, *(c[name] for name in INSIGHT_COLUMNS))
        statement = sa.select(*columns).where(
            c.tenant_id == self._tenant_id, c.date == day, _has_rules(meta_ad_insights, rules)
        )
        with self._connection.begin():
            return [
                OutdatedInsight(row[0], row[1], row[2], row[3], row[4], tuple(row[5:]))
                for row in self._connection.execute(statement)
            ]

    def store_insights(
        self, day: date, rows: Sequence[tuple[str, str, str, tuple[Any, ...]]], *, changed: bool
    ) -> None:
        """Write account, ad, fingerprint and columns of a day's insights; mark its performance where any changed."""
        names = ("account_id", "ad_id", "rules", *INSIGHT_COLUMNS)
        statement = _update(meta_ad_insights, names[:2], names[2:], {"date": day})
        with self._connection.begin():
            values = [(account_id, ad_id, rules, *columns) for account_id, ad_id, rules, columns in rows]
            self._connection.execute(statement, self._arrays(names, values, date=day))
            self._mark([day] if changed else [])

    def mark_orders_without_delivery(self) -> None:
        """Have the performance of days recomputed on which ads had orders, but no insight.

        Their names come from insights of other days.
        """
        p, i = ad_performance.c, meta_ad_insights.c
        delivered = sa.select(i.ad_id).where(i.tenant_id == p.tenant_id, i.ad_id == p.ad_id, i.date == p.date)
        statement = sa.update(ad_performance).where(
            p.tenant_id == self._tenant_id, p.ad_id.is_not(None), p.rules.is_not(None), ~delivered.exists()
        )
        with self._connection.begin():
            self._connection.execute(statement.values(rules=None))

    def insight_span(self, rules: Collection[str | None]) -> RowSpan | None:
        """Return how many insights have one of these fingerprints, and of which days; None where none has."""
        c = meta_ad_insights.c
        statement = sa.select(sa.func.count(), sa.func.min(c.date), sa.func.max(c.date)).where(
            c.tenant_id == self._tenant_id, _has_rules(meta_ad_insights, rules)
        )
        with self._connection.begin():
            rows, since, until = self._connection.execute(statement).one()
            return RowSpan(rows, since, until) if rows else None

    def _fingerprints(self, table: sa.Table) -> set[str | None]:
        with self._connection.begin():
            statement = sa.text(_FINGERPRINTS.format(table=table.name))
            return set(self._connection.execute(statement, {"tenant": self._tenant_id}).scalars())

    def _mark(self, days: Collection[date]) -> None:
        """Have the performance of these days recomputed, also where this run does not get that far."""
        c = ad_performance.c
        if days:
            marked = sa.update(ad_performance).where(c.tenant_id == self._tenant_id, c.date.in_(list(days)))
            self._connection.execute(marked.values(rules=None))

    def _mark_days_without_performance(self, shop_id: str, days: Collection[date]) -> None:
        """Have the performance of these days computed where it has no row that could be marked."""
        if days:
            self._connection.execute(
                sa.text(_RECOMPUTE_SHOP), {"tenant": self._tenant_id, "shop": shop_id, "days": list(days)}
            )

    def _arrays(self, names: Sequence[str], rows: Sequence[tuple[Any, ...]], **fixed: Any) -> dict[str, Any]:
        arrays = {f"{name}_array": [row[place] for row in rows] for place, name in enumerate(names)}
        return {"tenant": self._tenant_id, **arrays, **fixed}


def _has_rules(table: sa.Table, rules: Collection[str | None]) -> sa.ColumnElement[bool]:
    named = table.c.rules.in_([one for one in rules if one is not None])
    return sa.or_(named, table.c.rules.is_(None)) if None in rules else named


def _update(table: sa.Table, key: Sequence[str], columns: Sequence[str], fixed: dict[str, Any]) -> sa.TextClause:
    """Return the statement that sets columns of many rows from arrays; `fixed` is in the key, or `rules` for all."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    names = (*key, *columns)
    arrays = ", ".join(f"CAST(:{name}_array AS {table.c[name].type.compile(dialect)}[])" for name in names)
    changes = [f"{name} = n.{name}" for name in columns] + (["rules = :rules"] if "rules" in fixed else [])
    joined = [f"t.{name} = n.{name}" for name in key] + [f"t.{name} = :{name}" for name in fixed if name != "rules"]
    return sa.text(
        f"UPDATE {table.name} AS t SET {', '.join(changes)} FROM unnest({arrays}) AS n ({', '.join(names)}) "
        f"WHERE t.tenant_id = :tenant AND {' AND '.join(joined)}"
    )


def outdated_performance_days(connection: sa.Connection, tenant_id: str, rates: RateSchedule) -> list[date]:
    """Return the days of `ad_performance` that were computed by other rules or rates than theirs, or are marked."""
    c = ad_performance.c
    statement = sa.select(c.date, c.rules).distinct().where(c.tenant_id == tenant_id)
    with connection.begin():
        found = connection.execute(statement).all()
    return sorted({day for day, rules in found if rules != rates.on(day).fingerprint})
