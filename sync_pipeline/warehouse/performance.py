"""What each ad cost and brought per day: computed in SQL from insights, orders and the tenant's fees."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Final

import sqlalchemy as sa

from sync_pipeline.rules import fingerprint
from sync_pipeline.warehouse.exclusions import AD_ACCOUNTS, SHOPS, counted
from sync_pipeline.warehouse.schema import STATUS_GROUPS, ad_performance


@dataclass(frozen=True, slots=True)
class Rates:
    """What a tenant's figures are computed with: fees in its currency, and multipliers of spend by ad account.

    `per_order` is for each order that is not cancelled, `cod_percent` of the cash collected for delivered ones.
    """

    per_order: Decimal = Decimal(0)
    cod_percent: Decimal = Decimal(0)
    spend_multipliers: Mapping[str, Decimal] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of rows that are computed with these rates."""
        return fingerprint(repr(self))


@dataclass(frozen=True, slots=True)
class DayFigures:
    """The sums of one day's performance. Money in the tenant's currency; `roas` is None without spend."""

    day: date
    rows: int
    spend: Decimal
    ad_cost: Decimal
    orders: int
    revenue: Decimal
    cogs: Decimal
    contribution_margin: Decimal
    roas: Decimal | None


@dataclass(frozen=True, slots=True)
class Earner:
    """An ad or a marketing associate over some days, for a table of the best."""

    name: str
    ad_cost: Decimal
    orders: int
    revenue: Decimal
    roas: Decimal | None
    contribution_margin: Decimal


# `:accounts` and `:multipliers` go in step. Ad cost is rounded per ad and account, so that its sums are exact.
AD_DAYS: Final = f"""
    SELECT i.*, round(i.spend * coalesce(m.multiplier, 1), 2) AS ad_cost
    FROM meta_ad_insights AS i
    LEFT JOIN unnest(CAST(:accounts AS text[]), CAST(:multipliers AS numeric[])) AS m (account_id, multiplier)
        ON m.account_id = i.account_id
    WHERE i.tenant_id = :tenant AND i.date BETWEEN :since AND :until
    AND {counted(AD_ACCOUNTS, "i")}
"""

_GROUP_SUMS = ",\n        ".join(
    f"count(*) FILTER (WHERE status_group = '{group}') AS {group}_orders, "
    f"coalesce(sum(total) FILTER (WHERE status_group = '{group}'), 0) AS {group}_amount"
    for group in STATUS_GROUPS
)
_GROUP_COLUMNS = [f"{group}_{what}" for group in STATUS_GROUPS for what in ("orders", "amount")]
_NAMES = ("account_id", "campaign_id", "campaign_name", "adset_id", "adset_name", "ad_name", "marketing_associate")
_LARGEST = [f"(array_agg({name} ORDER BY spend DESC, account_id))[1] AS {name}" for name in (*_NAMES, "mapping")]
_OF_ADS = ("spend", "ad_cost", "impressions", "clicks", "link_clicks", "leads")
_OF_ORDERS = (
    "orders",
    "quantity",
    "uncosted_quantity",
    "revenue",
    "collected",
    "cogs",
    "net_cogs",
    "order_fees",
    "cod_fees",
    *_GROUP_COLUMNS,
)

# An ad with orders on a day without delivery goes by the names it had nearest to that day.
_INSERT: Final = f"""
WITH ad_days AS ({AD_DAYS}),
ads AS (
    SELECT
        date, ad_id,
        {", ".join(_LARGEST)},
        {", ".join(f"sum({name}) AS {name}" for name in _OF_ADS)}
    FROM ad_days GROUP BY date, ad_id
),
orders AS (
    SELECT
        date, ad_id,
        CASE WHEN ad_id IS NULL THEN shop_id END AS shop_id,
        CASE WHEN ad_id IS NULL THEN mapping END AS mapping,
        string_agg(DISTINCT matched_by, '+' ORDER BY matched_by DESC) AS matched_by,
        count(*) AS orders,
        sum(total_quantity) AS quantity,
        sum(uncosted_quantity) AS uncosted_quantity,
        sum(total) AS revenue,
        coalesce(sum(cod) FILTER (WHERE status_group = 'delivered'), 0) AS collected,
        sum(cogs) AS cogs,
        coalesce(sum(cogs) FILTER (WHERE status_group NOT IN ('cancelled', 'returned')), 0) AS net_cogs,
        round(:per_order * count(*) FILTER (WHERE status_group <> 'cancelled'), 2) AS order_fees,
        round(
            CAST(:cod_percent AS numeric) / 100 * coalesce(sum(cod) FILTER (WHERE status_group = 'delivered'), 0), 2
        ) AS cod_fees,
        {_GROUP_SUMS}
    FROM order_attribution
    WHERE tenant_id = :tenant AND date BETWEEN :since AND :until
    AND {counted(SHOPS, "order_attribution", "date")}
    GROUP BY 1, 2, 3, 4
)
INSERT INTO ad_performance (
    tenant_id, date, ad_id, shop_id, mapping, {", ".join(_NAMES)}, matched_by, {", ".join((*_OF_ADS, *_OF_ORDERS))},
    rules
)
SELECT
    :tenant, coalesce(ads.date, orders.date), coalesce(ads.ad_id, orders.ad_id), orders.shop_id,
    CASE
        WHEN ads.ad_id IS NOT NULL THEN ads.mapping WHEN orders.ad_id IS NOT NULL THEN near.mapping
        ELSE orders.mapping
    END,
    {", ".join(f"CASE WHEN ads.ad_id IS NOT NULL THEN ads.{name} ELSE near.{name} END" for name in _NAMES)},
    orders.matched_by,
    {", ".join(f"coalesce(ads.{name}, 0)" for name in _OF_ADS)},
    {", ".join(f"coalesce(orders.{name}, 0)" for name in _OF_ORDERS)},
    :rules
FROM ads
FULL JOIN orders ON orders.date = ads.date AND orders.ad_id = ads.ad_id
LEFT JOIN LATERAL (
    SELECT * FROM meta_ad_insights AS i
    WHERE ads.ad_id IS NULL AND i.tenant_id = :tenant AND i.ad_id = orders.ad_id
    ORDER BY abs(i.date - orders.date), i.date, i.account_id LIMIT 1
) AS near ON true
"""

_RATIOS = """
    sum(ad_cost) AS ad_cost, sum(orders) AS orders, sum(revenue) AS revenue,
    round(sum(revenue) / NULLIF(sum(ad_cost), 0), 4) AS roas, sum(contribution_margin) AS contribution_margin
"""
_FIGURES: Final = f"""
SELECT date, count(*) AS rows, sum(spend) AS spend, sum(cogs) AS cogs, {_RATIOS}
FROM ad_performance WHERE tenant_id = :tenant AND date = ANY(:days) GROUP BY date ORDER BY date
"""


def recompute(connection: sa.Connection, tenant_id: str, since: date, until: date, rates: Rates) -> int:
    """Make these days of `ad_performance` what insights and orders now say, in one transaction; returns the rows.

    Rows of ad accounts and shops that are disabled on a day do not count. An order counts where its shop does, also
    if it goes to an ad of a disabled account. One row per ad with delivery or orders, and one per shop and mapping of
    the orders that matched no ad. An order goes to the first ad among the tenant's `ad_id_fields` that the tenant has
    insights of.
    """
    parameters = {
        "tenant": tenant_id,
        "since": since,
        "until": until,
        "accounts": list(rates.spend_multipliers),
        "multipliers": list(rates.spend_multipliers.values()),
        "per_order": rates.per_order,
        "cod_percent": rates.cod_percent,
        "rules": rates.fingerprint,
    }
    gone = sa.delete(ad_performance).where(
        ad_performance.c.tenant_id == tenant_id, ad_performance.c.date.between(since, until)
    )
    with connection.begin():
        connection.execute(gone)
        return int(connection.execute(sa.text(_INSERT), parameters).rowcount)


def figures(connection: sa.Connection, tenant_id: str, days: Collection[date]) -> dict[date, DayFigures]:
    """The sums of each of these days that has any rows."""
    with connection.begin():
        found = connection.execute(sa.text(_FIGURES), {"tenant": tenant_id, "days": list(days)})
        return {
            row.date: DayFigures(
                row.date,
                rows=row.rows,
                spend=row.spend,
                ad_cost=row.ad_cost,
                orders=int(row.orders),
                revenue=row.revenue,
                cogs=row.cogs,
                contribution_margin=row.contribution_margin,
                roas=row.roas,
            )
            for row in found
        }


def best_ads(connection: sa.Connection, tenant_id: str, days: Collection[date], most: int) -> dict[date, list[Earner]]:
    """Each day's ads with the highest revenue."""
    return _best(connection, tenant_id, days, most, name="max(coalesce(ad_name, ad_id))", key="ad_id")


def best_associates(
    connection: sa.Connection, tenant_id: str, days: Collection[date], most: int
) -> dict[date, list[Earner]]:
    """Each day's marketing associates with the highest revenue."""
    return _best(connection, tenant_id, days, most, name="marketing_associate", key="marketing_associate")


def _best(
    connection: sa.Connection, tenant_id: str, days: Collection[date], most: int, *, name: str, key: str
) -> dict[date, list[Earner]]:
    query = f"""
        SELECT * FROM (
            SELECT date, {name} AS name, {_RATIOS},
                row_number() OVER (PARTITION BY date ORDER BY sum(revenue) DESC, sum(ad_cost) DESC, {key}) AS place
            FROM ad_performance WHERE tenant_id = :tenant AND date = ANY(:days) AND {key} IS NOT NULL
            GROUP BY date, {key}
        ) AS ranked WHERE place <= :most ORDER BY date, place
    """
    best: dict[date, list[Earner]] = {}
    with connection.begin():
        for row in connection.execute(sa.text(query), {"tenant": tenant_id, "days": list(days), "most": most}):
            earner = Earner(row.name, row.ad_cost, int(row.orders), row.revenue, row.roas, row.contribution_margin)
            best.setdefault(row.date, []).append(earner)
    return best
