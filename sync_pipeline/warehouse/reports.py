"""What a tenant's ads brought over a range of days: sums of `ad_performance`, and ratios of these sums."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa

from sync_pipeline.date_ranges import DayRange
from sync_pipeline.warehouse.database import bound_to, failing_clearly
from sync_pipeline.warehouse.schema import STATUS_GROUPS

MOST_ADS: Final = 20


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over some rows of `ad_performance`, and ratios computed over the sums; a ratio of nothing is None.

    `spend` is in the ad accounts' currencies, all other money in the tenant's. `cogs` is of all orders, `fees` are
    order and COD fees. The contribution margin is that of orders neither cancelled nor returned, less all fees and
    the ad cost. The rates are shares, 1 being all.
    """

    spend: Decimal
    ad_cost: Decimal
    orders: int
    revenue: Decimal
    cogs: Decimal
    fees: Decimal
    contribution_margin: Decimal
    roas: Decimal | None
    cost_per_order: Decimal | None
    delivery_rate: Decimal | None
    return_rate: Decimal | None
    uncosted_quantity: Decimal


@dataclass(frozen=True, slots=True)
class Line:
    """The figures of one associate, ad, campaign or mapping. `key` is None for what belongs to none of them.

    `name` is the latest name of the range, the key itself where it has no other.
    """

    key: str | None
    name: str | None
    figures: Figures


@dataclass(frozen=True, slots=True)
class StatusGroup:
    """The orders of one group of statuses, with the sum of their totals."""

    group: str
    orders: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a range of days. Lines come by contribution margin, the highest first.

    `daily` has the days with rows, oldest first, `missing` the others; `ads` only the best `MOST_ADS`.
    """

    days: DayRange
    total: Figures
    daily: dict[date, Figures]
    missing: tuple[date, ...]
    associates: tuple[Line, ...]
    ads: tuple[Line, ...]
    campaigns: tuple[Line, ...]
    mappings: tuple[Line, ...]
    statuses: tuple[StatusGroup, ...]


_SUMS: Final = """
    sum(spend) AS spend, sum(ad_cost) AS ad_cost, sum(orders)::bigint AS orders, sum(revenue) AS revenue,
    sum(cogs) AS cogs, sum(order_fees + cod_fees) AS fees, sum(contribution_margin) AS contribution_margin,
    round(sum(revenue) / NULLIF(sum(ad_cost), 0), 4) AS roas,
    round(sum(ad_cost) / NULLIF(sum(orders), 0), 2) AS cost_per_order,
    round(sum(delivered_orders) / NULLIF(sum(shipped_orders + delivered_orders + returned_orders), 0), 4)
        AS delivery_rate,
    round(sum(returned_orders) / NULLIF(sum(shipped_orders + delivered_orders + returned_orders), 0), 4)
        AS return_rate,
    sum(uncosted_quantity) AS uncosted_quantity
"""
_ROWS: Final = "FROM ad_performance WHERE tenant_id = :tenant AND date BETWEEN :since AND :until"
_STATUSES: Final = ", ".join(
    f"sum({group}_orders)::bigint AS {group}_orders, sum({group}_amount) AS {group}_amount" for group in STATUS_GROUPS
)


def report(engine: sa.Engine, tenant_id: str, days: DayRange) -> Report | None:
    """The report of these days, all of it of one moment; None where no day has any rows.

    Raises `WarehouseFailedError`.
    """
    bound = {"tenant": tenant_id, "since": days.since, "until": days.until}
    # A sync may commit a day between two of these queries: all of them see the same state.
    with failing_clearly(), bound_to(engine, tenant_id) as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        daily = {
            row.date: _figures(row)
            for row in connection.execute(sa.text(f"SELECT date, {_SUMS} {_ROWS} GROUP BY date ORDER BY date"), bound)
        }
        if not daily:
            return None
        totals = connection.execute(sa.text(f"SELECT {_SUMS}, {_STATUSES} {_ROWS}"), bound).one()
        return Report(
            days=days,
            total=_figures(totals),
            daily=daily,
            missing=tuple(day for day in days if day not in daily),
            associates=_lines(connection, bound, "marketing_associate"),
            ads=_lines(connection, bound, "ad_id", name="ad_name", most=MOST_ADS),
            campaigns=_lines(connection, bound, "campaign_id", name="campaign_name"),
            mappings=_lines(connection, bound, "mapping"),
            statuses=tuple(
                StatusGroup(group, getattr(totals, f"{group}_orders"), getattr(totals, f"{group}_amount"))
                for group in STATUS_GROUPS
            ),
        )


def _lines(
    connection: sa.Connection, bound: dict[str, Any], key: str, *, name: str | None = None, most: int | None = None
) -> tuple[Line, ...]:
    """One line per value of `key`, or only the best `most`, and then none for the rows without a key."""
    named = f"(array_agg({name} ORDER BY date DESC, {name}) FILTER (WHERE {name} IS NOT NULL))[1]" if name else "NULL"
    query = f"""
        SELECT {key} AS key, coalesce({named}, {key}) AS name, {_SUMS}
        {_ROWS} {f"AND {key} IS NOT NULL" if most else ""}
        GROUP BY {key} ORDER BY contribution_margin DESC, ad_cost DESC, key LIMIT :most
    """
    found = connection.execute(sa.text(query), {**bound, "most": most})
    return tuple(Line(row.key, row.name, _figures(row)) for row in found)


def _figures(row: sa.Row[Any]) -> Figures:
    return Figures(**{name: getattr(row, name) for name in Figures.__slots__})
