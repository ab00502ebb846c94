"""Ad cost, orders and margins per ad and day: computed in SQL from insights, orders and the tenant's rates."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa

from sync_pipeline.rates import RateSchedule
from sync_pipeline.rows.statuses import COUNTED, DELIVERED, SETTLED, group_sql
from sync_pipeline.warehouse.exclusions import AD_ACCOUNTS, SHOPS, counted
from sync_pipeline.warehouse.figures import DELIVERY_DAYS, OF_ADS, OF_ORDERS, SETTLED_SHARE, summed
from sync_pipeline.warehouse.schema import ad_performance

_HUNDREDTH: Final = Decimal("0.01")
_ONE_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DayFigures:
    """The sums of one day's performance. Money in the tenant's currency.

    A ratio is None where its denominator is 0. Margins are None where a migration could not compute them.
    """

    day: date
    rows: int
    spend: Decimal
    ad_cost: Decimal
    orders: int
    revenue: Decimal
    cogs: Decimal
    realised_margin: Decimal | None
    projected_margin: Decimal | None
    contribution_margin: Decimal | None
    roas: Decimal | None
    delivered_roas: Decimal | None
    delivery_rate: Decimal | None
    return_rate: Decimal | None
    settled_share: Decimal | None


@dataclass(frozen=True, slots=True)
class Earner:
    """An ad or a marketing associate on a day, for a table of the best."""

    name: str
    ad_cost: Decimal
    orders: int
    revenue: Decimal
    roas: Decimal | None
    projected_margin: Decimal | None


# The arrays of `day_parameters`. Ad cost and its taxes are rounded per ad and account, so that their sums are exact.
DAY_RATES: Final = """
    SELECT * FROM unnest(
        CAST(:days AS date[]), CAST(:outbound_fees AS numeric[]), CAST(:return_fees AS numeric[]),
        CAST(:cod_shares AS numeric[]), CAST(:lost_shares AS numeric[]), CAST(:ad_tax_shares AS numeric[]),
        CAST(:return_rates AS numeric[]), CAST(:day_rules AS text[])
    ) AS r (date, outbound_fee, return_fee, cod_share, lost_share, ad_tax_share, return_rate, rules)
"""
AD_DAYS: Final = f"""
    SELECT *, round(ad_cost * ad_tax_share, 2) AS ad_taxes
    FROM (
        SELECT i.*, round(i.spend * coalesce(m.multiplier, 1), 2) AS ad_cost, r.ad_tax_share
        FROM meta_ad_insights AS i
        JOIN ({DAY_RATES}) AS r ON r.date = i.date
        LEFT JOIN unnest(
            CAST(:multiplier_days AS date[]), CAST(:accounts AS text[]), CAST(:multipliers AS numeric[])
        ) AS m (date, account_id, multiplier) ON m.date = i.date AND m.account_id = i.account_id
        WHERE i.tenant_id = :tenant AND i.date BETWEEN :since AND :until AND {counted(AD_ACCOUNTS, "i")}
    ) AS costed
"""

_NAMES = ("account_id", "campaign_id", "campaign_name", "adset_id", "adset_name", "ad_name", "marketing_associate")
_LARGEST = [f"(array_agg({name} ORDER BY spend DESC, account_id))[1] AS {name}" for name in (*_NAMES, "mapping")]
_STORED = ", ".join(figure.name for figure in (*OF_ADS, *OF_ORDERS))
# Many figures are sums of the same, over other groups of orders.
_SUMS = {
    expression: f"sum_{number}"
    for number, expression in enumerate(dict.fromkeys(figure.expression for figure in OF_ORDERS))
}

# An ad with orders on a day without delivery has the names that it had on the nearest day.
_INSERT: Final = f"""
WITH day_rates AS ({DAY_RATES}),
ad_days AS ({AD_DAYS}),
ads AS (
    SELECT
        date, ad_id,
        {", ".join(_LARGEST)},
        {", ".join(f"{figure.total(figure.expression)} AS {figure.name}" for figure in OF_ADS)}
    FROM ad_days GROUP BY date, ad_id
),
latest_rates AS (
    SELECT DISTINCT ON (shop_id) shop_id, delivery_rate, as_of FROM delivery_rates
    WHERE tenant_id = :tenant ORDER BY shop_id, as_of DESC
),
order_values AS (
    SELECT
        a.*, r.outbound_fee, r.return_fee, a.cod * r.cod_share AS cod_fee, a.cogs * r.lost_share AS lost_goods,
        r.return_rate AS r, coalesce(l.delivery_rate, 1 - r.return_rate) AS p, l.as_of
    FROM order_attribution AS a
    JOIN day_rates AS r ON r.date = a.date
    LEFT JOIN latest_rates AS l ON l.shop_id = a.shop_id
    WHERE a.tenant_id = :tenant AND a.date BETWEEN :since AND :until AND {counted(SHOPS, "a", "date")}
),
sums AS (
    SELECT
        date, ad_id,
        CASE WHEN ad_id IS NULL THEN shop_id END AS shop_id,
        CASE WHEN ad_id IS NULL THEN mapping END AS mapping,
        matched_by, status_group, max(as_of) AS as_of,
        {", ".join(f"sum({expression}) AS {column}" for expression, column in _SUMS.items())}
    FROM order_values
    GROUP BY 1, 2, 3, 4, 5, 6
),
orders AS (
    SELECT
        date, ad_id, shop_id, mapping,
        string_agg(DISTINCT matched_by, '+' ORDER BY matched_by DESC) AS matched_by,
        max(as_of) AS projection_date,
        {", ".join(f"{figure.total(_SUMS[figure.expression])} AS {figure.name}" for figure in OF_ORDERS)}
    FROM sums
    GROUP BY 1, 2, 3, 4
)
INSERT INTO ad_performance (
    tenant_id, date, ad_id, shop_id, mapping, {", ".join(_NAMES)}, matched_by, {_STORED}, projection_date, rules
)
SELECT
    :tenant, coalesce(ads.date, orders.date), coalesce(ads.ad_id, orders.ad_id), orders.shop_id,
    CASE
        WHEN ads.ad_id IS NOT NULL THEN ads.mapping WHEN orders.ad_id IS NOT NULL THEN near.mapping
        ELSE orders.mapping
    END,
    {", ".join(f"CASE WHEN ads.ad_id IS NOT NULL THEN ads.{name} ELSE near.{name} END" for name in _NAMES)},
    orders.matched_by,
    {", ".join(f"coalesce(ads.{figure.name}, 0)" for figure in OF_ADS)},
    {", ".join(f"coalesce(orders.{figure.name}, 0)" for figure in OF_ORDERS)},
    orders.projection_date, day_rates.rules
FROM ads
FULL JOIN orders ON orders.date = ads.date AND orders.ad_id = ads.ad_id
JOIN day_rates ON day_rates.date = coalesce(ads.date, orders.date)
LEFT JOIN LATERAL (
    SELECT * FROM meta_ad_insights AS i
    WHERE ads.ad_id IS NULL AND i.tenant_id = :tenant AND i.ad_id = orders.ad_id
    ORDER BY abs(i.date - orders.date), i.date, i.account_id LIMIT 1
) AS near ON true
"""
_SAVE_SETTINGS: Final = f"""
INSERT INTO figure_settings (
    tenant_id, date, outbound_fee, return_fee, cod_percent, lost_share, ad_tax_percent, return_rate
)
SELECT :tenant, date, outbound_fee, return_fee, 100 * cod_share, lost_share, 100 * ad_tax_share, return_rate
FROM ({DAY_RATES}) AS rates
ON CONFLICT (tenant_id, date) DO UPDATE SET
    outbound_fee = excluded.outbound_fee, return_fee = excluded.return_fee, cod_percent = excluded.cod_percent,
    lost_share = excluded.lost_share, ad_tax_percent = excluded.ad_tax_percent, return_rate = excluded.return_rate
"""


def _among(groups: Iterable[str]) -> str:
    return ", ".join(f"'{group}'" for group in groups)


# Days of a shop, and of all shops together where shop_id is null.
_SAVE_DELIVERY_RATES: Final = f"""
WITH days AS (
    SELECT
        shop_id, date_local,
        count(*) FILTER (WHERE status_group IN ({_among(COUNTED)})) AS counted,
        count(*) FILTER (WHERE status_group IN ({_among(SETTLED)})) AS settled,
        count(*) FILTER (WHERE status_group IN ({_among(DELIVERED)})) AS delivered
    FROM (
        SELECT shop_id, date_local, {group_sql("status")} AS status_group FROM pos_orders AS o
        WHERE tenant_id = :tenant AND {counted(SHOPS, "o")}
    ) AS orders
    GROUP BY GROUPING SETS ((shop_id, date_local), (date_local))
),
settled_days AS (
    SELECT *, row_number() OVER (PARTITION BY shop_id ORDER BY date_local DESC) AS place
    FROM days WHERE counted > 0 AND settled >= {SETTLED_SHARE} * counted
),
found AS (
    SELECT shop_id, count(*) AS settled_days, sum(settled) AS settled, sum(delivered) AS delivered
    FROM settled_days WHERE place <= {DELIVERY_DAYS} GROUP BY shop_id
),
-- Open orders of one shop may keep every day of all shops together from being settled.
best_of_all AS (
    SELECT 1 AS place, * FROM found WHERE shop_id IS NULL
    UNION ALL SELECT 2, NULL, sum(settled_days), sum(settled), sum(delivered) FROM found WHERE shop_id IS NOT NULL
    ORDER BY place LIMIT 1
),
shops AS (SELECT DISTINCT shop_id FROM days WHERE shop_id IS NOT NULL)
INSERT INTO delivery_rates (
    tenant_id, shop_id, as_of, delivery_rate, source, settled_days, settled_orders, delivered_orders
)
SELECT
    :tenant, shops.shop_id, :as_of,
    CASE WHEN best.settled > 0 THEN round(best.delivered / best.settled, 4) ELSE 1 - CAST(:return_rate AS numeric) END,
    CASE WHEN best.settled IS NULL THEN 'return_rate' WHEN best.shop_id IS NULL THEN 'tenant' ELSE 'shop' END,
    coalesce(best.settled_days, 0), coalesce(best.settled, 0), coalesce(best.delivered, 0)
FROM shops
LEFT JOIN LATERAL (
    SELECT 0 AS place, found.* FROM found WHERE found.shop_id = shops.shop_id
    UNION ALL SELECT * FROM best_of_all
    ORDER BY place LIMIT 1
) AS best ON true
ON CONFLICT (tenant_id, shop_id, as_of) DO UPDATE SET
    delivery_rate = excluded.delivery_rate, source = excluded.source, settled_days = excluded.settled_days,
    settled_orders = excluded.settled_orders, delivered_orders = excluded.delivered_orders
WHERE (delivery_rates.source <> 'shop' OR delivery_rates.settled_days < excluded.settled_days)
    AND (delivery_rates.delivery_rate, delivery_rates.source) IS DISTINCT FROM (excluded.delivery_rate, excluded.source)
RETURNING xmax <> 0 AS replaced
"""
_MARK_PROJECTED: Final = """
UPDATE ad_performance SET rules = NULL WHERE tenant_id = :tenant AND projection_date = :as_of
"""
_OF_DAYS: Final = "FROM ad_performance WHERE tenant_id = :tenant AND date = ANY(:days)"


def day_parameters(tenant_id: str, since: date, until: date, rates: RateSchedule) -> dict[str, Any]:
    """Return the parameters of `DAY_RATES` and `AD_DAYS`: the rates of each of these days, as arrays."""
    days = [since + number * _ONE_DAY for number in range((until - since).days + 1)]
    of_days = [rates.on(day) for day in days]
    multipliers = [
        (day, account, multiplier)
        for day, of_day in zip(days, of_days, strict=True)
        for account, multiplier in of_day.spend_multipliers.items()
    ]
    return {
        "tenant": tenant_id,
        "since": since,
        "until": until,
        "days": days,
        "outbound_fees": [one.per_order for one in of_days],
        "return_fees": [one.return_fee for one in of_days],
        "cod_shares": [one.cod_percent * _HUNDREDTH for one in of_days],
        "lost_shares": [one.lost_share for one in of_days],
        "ad_tax_shares": [one.ad_tax_percent * _HUNDREDTH for one in of_days],
        "return_rates": [one.return_rate for one in of_days],
        "day_rules": [one.fingerprint for one in of_days],
        "multiplier_days": [day for day, _, _ in multipliers],
        "accounts": [account for _, account, _ in multipliers],
        "multipliers": [multiplier for _, _, multiplier in multipliers],
    }


def recompute(connection: sa.Connection, tenant_id: str, since: date, until: date, rates: RateSchedule) -> int:
    """Replace these days of `ad_performance` by what insights and orders give, in one transaction; returns the rows.

    Rows of ad accounts and shops that are disabled on a day do not count. An order counts where its shop does, also
    if it belongs to an ad of a disabled account. One row per ad with delivery or orders, and one per shop and mapping
    of the orders that matched no ad. An order belongs to the first ad among the tenant's `ad_id_fields` that the tenant
    has insights of. Open orders are projected with the latest stored delivery rate of their shop.
    """
    parameters = day_parameters(tenant_id, since, until, rates)
    gone = sa.delete(ad_performance).where(
        ad_performance.c.tenant_id == tenant_id, ad_performance.c.date.between(since, until)
    )
    with connection.begin():
        connection.execute(sa.text(_SAVE_SETTINGS), parameters)
        connection.execute(gone)
        return int(connection.execute(sa.text(_INSERT), parameters).rowcount)


def save_delivery_rates(connection: sa.Connection, tenant_id: str, as_of: date, rates: RateSchedule) -> int:
    """Store the delivery rate of each shop's last settled days under the day `as_of`; returns how many were stored.

    A shop without a settled day has the rate of all shops together: of their last common settled days, or of the
    settled days of each where they have none in common. Where no shop has a settled day, the rate is 1 less the
    tenant's `return_rate`. A shop's own rate of the day `as_of` is only replaced by one of more settled days, which a
    backfill may have added, so that runs on one day seldom project the same figures again. Figures that were projected
    with a replaced rate are marked as outdated.
    """
    parameters = {"tenant": tenant_id, "as_of": as_of, "return_rate": rates.on(as_of).return_rate}
    with connection.begin():
        replaced = list(connection.execute(sa.text(_SAVE_DELIVERY_RATES), parameters).scalars())
        if any(replaced):
            connection.execute(sa.text(_MARK_PROJECTED), parameters)
        return len(replaced)


def figures(connection: sa.Connection, tenant_id: str, days: Collection[date]) -> dict[date, DayFigures]:
    """The sums of each of these days that has any rows."""
    query = summed(_OF_DAYS, ["date"], ["count(*) AS rows"])
    with connection.begin():
        found = connection.execute(sa.text(query), {"tenant": tenant_id, "days": list(days)})
        return {row.date: _day_figures(row) for row in found}


def _day_figures(row: sa.Row[Any]) -> DayFigures:
    values = {name: getattr(row, name) for name in DayFigures.__slots__ if name not in {"day", "orders"}}
    return DayFigures(day=row.date, orders=int(row.orders), **values)


def best_ads(connection: sa.Connection, tenant_id: str, days: Collection[date], most: int) -> dict[date, list[Earner]]:
    """Each day's ads with the highest revenue."""
    return _best(connection, tenant_id, days, most, name="max(coalesce(ad_name, ad_id))", key="ad_id")


def best_associates(
    connection: sa.Connection, tenant_id: str, days: Collection[date], most: int
) -> dict[date, list[Earner]]:
    """Each day's marketing associates with the highest revenue."""
    return _best(connection, tenant_id, days, most, name="max(marketing_associate)", key="marketing_associate")


def _best(
    connection: sa.Connection, tenant_id: str, days: Collection[date], most: int, *, name: str, key: str
) -> dict[date, list[Earner]]:
    source = f"{_OF_DAYS} AND {key} IS NOT NULL"
    query = f"""
        SELECT * FROM (
            SELECT *, row_number() OVER (PARTITION BY date ORDER BY revenue DESC, ad_cost DESC, {key}) AS place
            FROM ({summed(source, ["date", key], [f"{name} AS shown_name"])}) AS earners
        ) AS ranked WHERE place <= :most ORDER BY date, place
    """
    best: dict[date, list[Earner]] = {}
    with connection.begin():
        for row in connection.execute(sa.text(query), {"tenant": tenant_id, "days": list(days), "most": most}):
            earner = Earner(row.shown_name, row.ad_cost, int(row.orders), row.revenue, row.roas, row.projected_margin)
            best.setdefault(row.date, []).append(earner)
    return best
