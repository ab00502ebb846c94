"""Figures on both sides of every check of a stored day: what the API said, what is stored, what was made of it."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa

from sync_pipeline.rates import RateSchedule
from sync_pipeline.rows.statuses import EXCLUDED, STATUS_GROUPS, numbers_sql
from sync_pipeline.warehouse.completeness import WAS_OVER, IncompleteDay, incomplete_days
from sync_pipeline.warehouse.exclusions import AD_ACCOUNTS, SHOPS, counted
from sync_pipeline.warehouse.performance import AD_DAYS, day_parameters
from sync_pipeline.warehouse.rejected import RejectedRow, rejected_of_days, rejected_products


@dataclass(frozen=True, slots=True)
class AccountSpend:
    """A day's spend of an ad account: its own total as Meta reported it, and the sum of its stored ads.

    `reported` is None where the total could not be fetched or read. `was_over` says whether the day was over, in all of
    its timezones, when both were fetched.
    """

    day: date
    account_id: str
    reported: Decimal | None
    stored: Decimal
    was_over: bool


@dataclass(frozen=True, slots=True)
class OrderCount:
    """A day's orders as fetched and as stored, and of the window it was fetched in what was counted and listed.

    `counted` is Pancake's `total_entries`, None where it gave none. Abandoned checkouts are listed but not stored.
    Stored orders whose newer version is rejected are not counted.
    """

    day: date
    fetched: int
    stored: int
    window: str
    counted: int | None
    listed: int


@dataclass(frozen=True, slots=True)
class RejectedOfDay:
    """The rows of a day that could not be read, beside the number of those that could."""

    day: date
    rows: int
    rejected: tuple[RejectedRow, ...]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One figure of a day in `ad_performance` and in the table it comes from."""

    day: date
    figure: str
    source: Decimal
    performance: Decimal


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a day's whole, such as orders without an ad."""

    day: date
    part: Decimal
    whole: Decimal

    @property
    def percent(self) -> Decimal:
        """The part in percent of the whole, 0 where there is none."""
        return 100 * self.part / self.whole if self.whole else Decimal(0)


# The line that made the day what it is.
_LATEST: Final = """
    SELECT DISTINCT ON (day) * FROM sync_log
    WHERE tenant_id = :tenant AND source = '{source}' AND day = ANY(:days) ORDER BY day, id DESC
"""
_ACCOUNT_SPEND: Final = f"""
    SELECT l.day, said.account_id, said.spend::numeric AS reported, coalesce((
        SELECT sum(i.spend) FROM meta_ad_insights AS i
        WHERE i.tenant_id = :tenant AND i.date = l.day AND i.account_id = said.account_id
    ), 0) AS stored, {WAS_OVER} AS was_over
    FROM ({_LATEST.format(source="meta")}) AS l
    JOIN tenants AS t ON t.tenant_id = l.tenant_id
    CROSS JOIN LATERAL jsonb_each_text(coalesce(l.reported, '{{}}')) AS said (account_id, spend)
    ORDER BY 1, 2
"""
_ORDER_COUNTS: Final = f"""
    SELECT
        log.day, log.rows AS fetched,
        (
            SELECT count(*) FROM pos_orders AS o
            WHERE o.tenant_id = :tenant AND o.date_local = log.day
            AND o.shop_id IN (SELECT jsonb_object_keys(coalesce(log.reported, '{{}}')))
            AND NOT EXISTS (
                SELECT FROM rejected_rows AS r
                WHERE r.tenant_id = :tenant AND r.source = 'pos' AND r.kind = 'order' AND r.day = log.day
                AND r.shop_id = o.shop_id AND r.row_id = o.pos_order_id
            )
        ) AS stored,
        concat(min(said.window ->> 'since'), ' to ', max(said.window ->> 'until')) AS window,
        CASE
            WHEN bool_and(said.window ->> 'counted' IS NOT NULL) THEN sum((said.window ->> 'counted')::bigint)::bigint
        END AS counted,
        coalesce(sum((said.window ->> 'listed')::bigint), 0)::bigint AS listed
    FROM ({_LATEST.format(source="pos")}) AS log
    LEFT JOIN LATERAL jsonb_each(log.reported) AS said (shop_id, "window") ON true
    GROUP BY log.day, log.rows, log.reported
    ORDER BY 1
"""
_IS_EXCLUDED: Final = f"(status IN {numbers_sql((EXCLUDED,))}) IS TRUE"
_RECONCILED: Final = f"""
    WITH ad_days AS ({AD_DAYS}),
    sums_of_ads AS (
        SELECT date, sum(spend) AS spend, sum(ad_cost) AS ad_cost, sum(ad_taxes) AS ad_taxes FROM ad_days GROUP BY date
    ),
    sums_of_orders AS (
        SELECT date_local AS date,
            count(*) FILTER (WHERE NOT {_IS_EXCLUDED}) AS orders,
            count(*) FILTER (WHERE {_IS_EXCLUDED}) AS excluded_orders,
            coalesce(sum(total) FILTER (WHERE NOT {_IS_EXCLUDED}), 0) AS revenue,
            coalesce(sum(cod) FILTER (WHERE NOT {_IS_EXCLUDED}), 0) AS cod,
            coalesce(sum(cogs) FILTER (WHERE NOT {_IS_EXCLUDED}), 0) AS cogs
        FROM pos_orders AS o
        WHERE tenant_id = :tenant AND date_local BETWEEN :since AND :until AND {counted(SHOPS, "o")}
        GROUP BY date_local
    ),
    sources AS (
        SELECT s.date, f.figure, f.amount FROM sums_of_ads AS s
        CROSS JOIN LATERAL (VALUES ('spend', s.spend), ('ad_cost', s.ad_cost), ('ad_taxes', s.ad_taxes))
            AS f (figure, amount)
        UNION ALL SELECT s.date, f.figure, f.amount FROM sums_of_orders AS s
        CROSS JOIN LATERAL (VALUES
            ('orders', s.orders::numeric), ('excluded_orders', s.excluded_orders::numeric), ('revenue', s.revenue),
            ('cod', s.cod), ('cogs', s.cogs)
        ) AS f (figure, amount)
    ),
    made AS (
        SELECT p.date, f.figure, sum(f.amount) AS amount
        FROM ad_performance AS p
        CROSS JOIN LATERAL (VALUES
            ('spend', p.spend), ('ad_cost', p.ad_cost), ('ad_taxes', coalesce(p.ad_taxes, 0)),
            ('orders', p.orders::numeric), ('excluded_orders', p.excluded_orders::numeric), ('revenue', p.revenue),
            ('cod', p.cod), ('cogs', p.cogs)
        ) AS f (figure, amount)
        WHERE p.tenant_id = :tenant AND p.date BETWEEN :since AND :until GROUP BY p.date, f.figure
    )
    SELECT coalesce(sources.date, made.date) AS day, coalesce(sources.figure, made.figure) AS figure,
        coalesce(sources.amount, 0) AS source, coalesce(made.amount, 0) AS performance
    FROM sources FULL JOIN made ON made.date = sources.date AND made.figure = sources.figure
    ORDER BY 1, 2
"""
_OUTDATED: Final = """
    SELECT p.date AS day, count(*) FILTER (WHERE p.rules IS DISTINCT FROM expected.rules) AS part, count(*) AS whole
    FROM ad_performance AS p
    JOIN unnest(CAST(:days AS date[]), CAST(:day_rules AS text[])) AS expected (date, rules) USING (date)
    WHERE p.tenant_id = :tenant GROUP BY 1 ORDER BY 1
"""
_KNOWN_NUMBERS: Final = numbers_sql(tuple(STATUS_GROUPS))
_UNKNOWN_STATUSES: Final = f"""
    SELECT date_local AS day, status, count(*) FILTER (WHERE (status IN {_KNOWN_NUMBERS}) IS NOT TRUE) AS orders
    FROM pos_orders AS o WHERE tenant_id = :tenant AND date_local = ANY(:days) AND {counted(SHOPS, "o")}
    GROUP BY 1, 2 ORDER BY 1, 2
"""
_UNCOSTED: Final = f"""
    SELECT date_local AS day, count(*) FILTER (WHERE uncosted_quantity > 0) AS part,
        count(*) FILTER (WHERE total_quantity > 0) AS whole
    FROM pos_orders AS o
    WHERE tenant_id = :tenant AND date_local = ANY(:days) AND NOT {_IS_EXCLUDED} AND {counted(SHOPS, "o")}
    GROUP BY 1 ORDER BY 1
"""
_SPEND_WITHOUT_ASSOCIATE: Final = """
    SELECT date AS day, coalesce(sum(ad_cost) FILTER (WHERE marketing_associate IS NULL), 0) AS part,
        sum(ad_cost) AS whole
    FROM ad_performance WHERE tenant_id = :tenant AND date = ANY(:days) GROUP BY 1 ORDER BY 1
"""
_ORDERS_WITHOUT_AD: Final = """
    SELECT date AS day, coalesce(sum(orders) FILTER (WHERE ad_id IS NULL), 0) AS part, sum(orders) AS whole
    FROM ad_performance WHERE tenant_id = :tenant AND date = ANY(:days) GROUP BY 1 ORDER BY 1
"""
_CURRENCIES: Final = f"""
    SELECT date AS day, 'ad account ' || account_id AS place, currency
    FROM meta_ad_insights AS i WHERE tenant_id = :tenant AND date = ANY(:days) AND spend <> 0 AND currency IS NOT NULL
        AND (date, account_id) NOT IN (
            SELECT * FROM unnest(CAST(:multiplier_days AS date[]), CAST(:accounts AS text[]))
        ) AND {counted(AD_ACCOUNTS, "i")}
    UNION SELECT date_local, 'shop ' || shop_id, currency
    FROM pos_orders AS o WHERE tenant_id = :tenant AND date_local = ANY(:days) AND total <> 0 AND currency IS NOT NULL
        AND {counted(SHOPS, "o")}
    ORDER BY 1, 2, 3
"""


class DayChecks:
    """Reads what the checks of a tenant's stored days compare."""

    def __init__(self, connection: sa.Connection, tenant_id: str, rates: RateSchedule) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._rates = rates

    def account_spend(self, days: Collection[date]) -> list[AccountSpend]:
        """Each account's spend of each of these days, on both sides."""
        return [AccountSpend(*row) for row in self._rows(_ACCOUNT_SPEND, days)]

    def incomplete(self, days: Collection[date]) -> list[IncompleteDay]:
        """Return which of these days are not complete, for each source that has them."""
        with self._connection.begin():
            return incomplete_days(self._connection, self._tenant_id, days)

    def order_counts(self, days: Collection[date]) -> list[OrderCount]:
        """The number of orders of each of these days, on both sides."""
        return [OrderCount(*row) for row in self._rows(_ORDER_COUNTS, days)]

    def rejected(self, source: str, days: Collection[date]) -> list[RejectedOfDay]:
        """Return the rejected rows of each of these days that the source was synced of."""
        rows = {row.day: row.rows for row in self._rows(_LATEST.format(source=source), days)}
        found = rejected_of_days(self._connection, self._tenant_id, source, rows)
        return [RejectedOfDay(day, rows[day], tuple(found.get(day, ()))) for day in sorted(rows)]

    def rejected_products(self, source: str) -> list[RejectedRow]:
        """Return the products that could not be read when the catalogues were last listed."""
        return rejected_products(self._connection, self._tenant_id, source)

    def reconciled(self, days: Collection[date]) -> list[Reconciled]:
        """Sums of ads and orders of each of these days, in the sources and in the performance."""
        wanted = set(days)
        parameters = day_parameters(self._tenant_id, min(days), max(days), self._rates)
        with self._connection.begin():
            found = self._connection.execute(sa.text(_RECONCILED), parameters)
            return [Reconciled(*row) for row in found if row.day in wanted]

    def outdated(self, days: Collection[date]) -> list[Share]:
        """Rows that were computed by other rules or settings than those of the day, among all."""
        rules = {day: self._rates.on(day).fingerprint for day in days}
        return self._shares(_OUTDATED, rules, day_rules=list(rules.values()))

    def unknown_statuses(self, days: Collection[date]) -> dict[date, dict[int | None, int]]:
        """The orders of each of these days, by status, whose status is in no group; None is an order without one."""
        found: dict[date, dict[int | None, int]] = {}
        for day, status, orders in self._rows(_UNKNOWN_STATUSES, days):
            of_day = found.setdefault(day, {})
            if orders:
                of_day[status] = orders
        return found

    def uncosted(self, days: Collection[date]) -> list[Share]:
        """Orders with a quantity that has no cost, among those with a quantity."""
        return self._shares(_UNCOSTED, days)

    def spend_without_associate(self, days: Collection[date]) -> list[Share]:
        """Ad cost of ads whose name holds no marketing associate."""
        return self._shares(_SPEND_WITHOUT_ASSOCIATE, days)

    def orders_without_ad(self, days: Collection[date]) -> list[Share]:
        """Orders that matched no ad."""
        return self._shares(_ORDERS_WITHOUT_AD, days)

    def currencies(self, days: Collection[date]) -> list[tuple[date, str, str]]:
        """Day, ad account or shop, and currency; without accounts that have a multiplier on that day."""
        multiplied = [(day, account) for day in days for account in self._rates.on(day).spend_multipliers]
        found = self._rows(
            _CURRENCIES,
            days,
            multiplier_days=[day for day, _ in multiplied],
            accounts=[account for _, account in multiplied],
        )
        return [tuple(row) for row in found]

    def _shares(self, query: str, days: Collection[date], **values: Any) -> list[Share]:
        return [Share(day, Decimal(part), Decimal(whole)) for day, part, whole in self._rows(query, days, **values)]

    def _rows(self, query: str, days: Collection[date], **values: Any) -> list[Any]:
        parameters = {"tenant": self._tenant_id, "days": list(days), **values}
        with self._connection.begin():
            return list(self._connection.execute(sa.text(query), parameters))
