"""Figures of a tenant's ads over a range of days: sums of `ad_performance`, and ratios of these sums."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa

from sync_pipeline.date_ranges import DayRange
from sync_pipeline.rates import RateSchedule
from sync_pipeline.rows.statuses import ALL_GROUPS
from sync_pipeline.warehouse.completeness import IncompleteDay, incomplete_days
from sync_pipeline.warehouse.database import bound_to, failing_clearly
from sync_pipeline.warehouse.figures import SETTLED_SHARE, summed
from sync_pipeline.warehouse.refusals import missing_of_days

MOST_ADS: Final = 20


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures over some rows of `ad_performance`, each as `warehouse.figures` defines it.

    A ratio is None where its denominator is 0, and a margin or fee where a row has none yet. `fees` are the fees of
    the deprecated contribution margin.
    """

    spend: Decimal
    ad_cost: Decimal
    orders: int
    revenue: Decimal
    cogs: Decimal
    fees: Decimal | None
    contribution_margin: Decimal | None
    roas: Decimal | None
    cost_per_order: Decimal | None
    delivery_rate: Decimal | None
    return_rate: Decimal | None
    uncosted_quantity: Decimal
    realised_margin: Decimal | None
    projected_margin: Decimal | None
    margin_at_return_rate: Decimal | None
    delivered_roas: Decimal | None
    break_even_roas: Decimal | None
    cost_per_delivered_order: Decimal | None
    settled_share: Decimal | None

    @property
    def is_settled(self) -> bool:
        """Whether enough orders are settled for the rates to stay nearly the same."""
        return self.settled_share is None or self.settled_share >= Decimal(SETTLED_SHARE)


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
    """The orders of one group of statuses, with the sums of their totals and of their cash on delivery."""

    group: str
    orders: int
    amount: Decimal
    cod: Decimal


@dataclass(frozen=True, slots=True)
class Report:
    """The figures of a range of days. Lines are ordered by projected margin, the highest first.

    `daily` has the days with rows, oldest first, `missing` the others. Of `unsettled` days too few orders are settled,
    and `outdated` days were computed by other rules or settings; `incomplete` days lack these accounts or shops, as
    (source, id). `incomplete_days` are all days with rows of which a source is not complete, also those that were not
    over when they were fetched. `ads` are only the best `MOST_ADS`.
    """

    days: DayRange
    total: Figures
    daily: dict[date, Figures]
    missing: tuple[date, ...]
    unsettled: tuple[date, ...]
    outdated: tuple[date, ...]
    incomplete: dict[date, list[tuple[str, str]]]
    incomplete_days: tuple[IncompleteDay, ...]
    associates: tuple[Line, ...]
    ads: tuple[Line, ...]
    campaigns: tuple[Line, ...]
    mappings: tuple[Line, ...]
    statuses: tuple[StatusGroup, ...]


_ROWS: Final = "FROM ad_performance WHERE tenant_id = :tenant AND date BETWEEN :since AND :until"
_RULES: Final = f"SELECT DISTINCT date, rules {_ROWS}"


def report(engine: sa.Engine, tenant_id: str, days: DayRange, rates: RateSchedule) -> Report | None:
    """Return the report of these days, all of it of one moment; None where no day has any rows.

    `rates` are the tenant's present ones: days that were computed by others are named. Raises `WarehouseFailedError`.
    """
    bound = {"tenant": tenant_id, "since": days.since, "until": days.until}
    # A sync may commit a day between two of these queries: all of them see the same state.
    with failing_clearly(), bound_to(engine, tenant_id) as connection:
        connection.execution_options(isolation_level="REPEATABLE READ")
        of_days = connection.execute(sa.text(f"{summed(_ROWS, ['date'])} ORDER BY date"), bound)
        daily = {row.date: _figures(row) for row in of_days}
        if not daily:
            return None
        totals = connection.execute(sa.text(summed(_ROWS)), bound).one()
        rules = connection.execute(sa.text(_RULES), bound).all()
        return Report(
            days=days,
            total=_figures(totals),
            daily=daily,
            missing=tuple(day for day in days if day not in daily),
            unsettled=tuple(day for day, figures in daily.items() if not figures.is_settled),
            outdated=tuple(sorted({day for day, computed_by in rules if computed_by != rates.on(day).fingerprint})),
            incomplete=missing_of_days(connection, tenant_id, days.days),
            incomplete_days=tuple(incomplete_days(connection, tenant_id, daily)),
            associates=_lines(connection, bound, "marketing_associate"),
            ads=_lines(connection, bound, "ad_id", name="ad_name", most=MOST_ADS),
            campaigns=_lines(connection, bound, "campaign_id", name="campaign_name"),
            mappings=_lines(connection, bound, "mapping"),
            statuses=tuple(
                StatusGroup(
                    group,
                    int(getattr(totals, f"{group}_orders")),
                    getattr(totals, f"{group}_amount"),
                    getattr(totals, f"{group}_cod"),
                )
                for group in ALL_GROUPS
            ),
        )


def _lines(
    connection: sa.Connection, bound: dict[str, Any], key: str, *, name: str | None = None, most: int | None = None
) -> tuple[Line, ...]:
    """One line per value of `key`, or only the best `most`, and then none for the rows without a key."""
    named = f"(array_agg({name} ORDER BY date DESC, {name}) FILTER (WHERE {name} IS NOT NULL))[1]" if name else "NULL"
    source = f"{_ROWS} AND {key} IS NOT NULL" if most else _ROWS
    query = f"""
        {summed(source, [key], [f"{named} AS latest_name"])}
        ORDER BY projected_margin DESC NULLS LAST, ad_cost DESC, {key} LIMIT :most
    """
    found = connection.execute(sa.text(query), {**bound, "most": most}).mappings()
    return tuple(Line(row[key], row["latest_name"] or row[key], _figures(row)) for row in found)


def _figures(row: Any) -> Figures:
    values = row if isinstance(row, Mapping) else row._mapping
    fees = (values["order_fees"], values["cod_fees"])
    named = {name: values[name] for name in Figures.__slots__ if name != "fees"}
    return Figures(**{**named, "orders": int(values["orders"]), "fees": None if None in fees else sum(fees)})
