"""What `sync-pipeline report` prints and writes: the associates' table on the terminal and as CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from sync_pipeline.cli.tables import table
from sync_pipeline.date_ranges import DayRange, explicit, spans, today_in
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.rows.statuses import SETTLED
from sync_pipeline.sync.refusals import MissingScope
from sync_pipeline.tenants import Tenant
from sync_pipeline.terminal import write_file
from sync_pipeline.text_safety import printable_line, spreadsheet_text
from sync_pipeline.warehouse.figures import FIGURES, SETTLED_SHARE, Unit
from sync_pipeline.warehouse.reports import Figures, Line, Report

DEFAULT_DAYS: Final = 7
STDOUT: Final = "-"
NONE: Final = "(none)"
TOTAL: Final = "TOTAL"


class NoFiguresError(SyncPipelineError):
    """No day of the range has performance figures. `remedy` is what makes them."""

    def __init__(self, tenant_id: str, days: DayRange, remedy: str) -> None:
        super().__init__(f"{tenant_id} has no figures for {_range(days)}; {remedy}")
        self.tenant_id = tenant_id
        self.since = days.since
        self.until = days.until
        self.remedy = remedy


class UnwritableFileError(SyncPipelineError):
    """A file that a report should go to cannot be written."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file} cannot be written: {reason}")
        self.file = file
        self.reason = reason


def _amount(value: Decimal) -> str:
    return f"{value:,.2f}"


def _count(value: Decimal) -> str:
    return f"{value:,}"


def _ratio(value: Decimal) -> str:
    return f"{value:.2f}"


def _percent(value: Decimal) -> str:
    return f"{100 * value:.1f}%"


_SHOWN_BY_UNIT: Final[dict[Unit, Callable[[Decimal], str]]] = {
    Unit.ORDERS: _count,
    Unit.ACCOUNT_CURRENCY: _amount,
    Unit.TENANT_CURRENCY: _amount,
    Unit.RATIO: _ratio,
    Unit.SHARE: _percent,
}


@dataclass(frozen=True, slots=True)
class Column:
    """One of the figures: its field, its title, and whether tables for people have it."""

    field: str
    title: str
    in_tables: bool = True

    def value(self, figures: Figures) -> Decimal | int | None:
        """The figure itself, None where there is none."""
        found: Decimal | int | None = getattr(figures, self.field)
        return found

    def text(self, figures: Figures) -> str:
        """The figure for people, blank where there is none."""
        value = self.value(figures)
        return "" if value is None else _SHOWN_BY_UNIT[FIGURES[self.field].unit](Decimal(value))

    def plain(self, figures: Figures) -> str:
        """The figure for machines, blank where there is none."""
        value = self.value(figures)
        return "" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)

    @property
    def explanation(self) -> str:
        """The meaning of the figure in a sentence."""
        return f"{self.title}: {FIGURES[self.field].note}."


COLUMNS: Final = (
    Column("spend", "Spend"),
    Column("ad_cost", "Ad cost"),
    Column("orders", "Orders"),
    Column("revenue", "Revenue"),
    Column("cogs", "COGS"),
    Column("realised_margin", "Realised"),
    Column("projected_margin", "Projected"),
    Column("margin_at_return_rate", "Margin at return rate", in_tables=False),
    Column("roas", "ROAS"),
    Column("delivered_roas", "Delivered ROAS", in_tables=False),
    Column("break_even_roas", "Break-even ROAS", in_tables=False),
    Column("cost_per_order", "Cost/order"),
    Column("cost_per_delivered_order", "Cost/delivered order", in_tables=False),
    Column("delivery_rate", "Delivered"),
    Column("return_rate", "Returned"),
    Column("settled_share", "Settled", in_tables=False),
)
# The columns of earlier versions first, in their order.
CSV_FIELDS: Final = (
    *("spend", "ad_cost", "orders", "revenue", "cogs", "fees", "contribution_margin", "roas", "cost_per_order"),
    *("delivery_rate", "return_rate", "realised_margin", "projected_margin", "margin_at_return_rate"),
    *("delivered_roas", "break_even_roas", "cost_per_delivered_order", "settled_share"),
)
_EXPLAINED: Final = ("realised_margin", "projected_margin", "roas", "delivery_rate", "return_rate")


def requested_days(tenant: Tenant, since: date | None, until: date | None) -> DayRange:
    """The days from `since` to `until`, or without them the last seven up to yesterday, none before `start_date`.

    Both are given or neither. Raises `DateRangeError`.
    """
    today = today_in(tenant.timezone)
    if since is None or until is None:
        until = today - timedelta(days=1)
        since = max(tenant.start_date, today - timedelta(days=DEFAULT_DAYS))
    return explicit(since, until, today=today, start_date=tenant.start_date)


def remedy(tenant: Tenant, days: Sequence[date]) -> str:
    """What to do about days without figures: the command that syncs them."""
    if not tenant.workflows:
        return "materialize these days in the Dagster UI"
    workflow = max(tenant.workflows, key=lambda one: len(one.sources))
    return f"run: sync-pipeline trigger {tenant.tenant_id} {workflow.name} --since {min(days)} --until {max(days)}"


def warnings(tenant: Tenant, report: Report) -> list[str]:
    """What makes the report's figures less than the whole truth, a sentence each."""
    found = []
    if report.outdated:
        found.append(
            f"figures of {named_days(report.outdated)} were computed by other rules or settings; materialize "
            f"{tenant.tenant_id}/order_costs to recompute them"
        )
    for (source, scope), days in _incomplete(report).items():
        missing = MissingScope(tenant.tenant_id, source, scope, tuple(days))
        found.append(f"figures of {named_days(days)} lack {missing.name}, which refused; {missing.remedy}")
    if report.unsettled:
        found.append(
            f"fewer than {100 * Decimal(SETTLED_SHARE):.0f} % of the orders are settled on "
            f"{named_days(report.unsettled)}; the rates and realised margins of these days will change"
        )
    by_source: dict[str, list[date]] = {}
    for one in report.incomplete_days:
        if one.source not in {source for source, _ in report.incomplete.get(one.day, ())}:
            by_source.setdefault(one.source, []).append(one.day)
    if by_source:
        named = ", ".join(f"{source} of {named_days(days)}" for source, days in by_source.items())
        found.append(
            f"not complete: {named}; these days were not over in all of their timezones when they were fetched, or not "
            "all of them could be read, so their figures will change"
        )
    if report.missing:
        found.append(f"no figures for {named_days(report.missing)}; {remedy(tenant, report.missing)}")
    if report.total.uncosted_quantity:
        found.append(f"{report.total.uncosted_quantity:,f} units of unknown cost were ordered; they count 0")
    return found


def _incomplete(report: Report) -> dict[tuple[str, str], list[date]]:
    found: dict[tuple[str, str], list[date]] = {}
    for day, scopes in report.incomplete.items():
        for scope in scopes:
            found.setdefault(scope, []).append(day)
    return found


def named_days(days: Sequence[date]) -> str:
    """Days as the ranges they make up."""
    return ", ".join(map(_range, spans(days)))


def shown_columns(report: Report) -> tuple[Column, ...]:
    """The columns for people: ad cost only where it differs from spend, which is so where currencies do."""
    everything = (report.total, *(line.figures for line in report.associates))
    converted = any(figures.spend != figures.ad_cost for figures in everything)
    return tuple(column for column in COLUMNS if column.in_tables and (converted or column.field != "ad_cost"))


def explanations(tenant: Tenant, report: Report, fields: Sequence[str] = _EXPLAINED) -> list[str]:
    """What these figures mean, a sentence each, and in which currencies all are."""
    said = [column.explanation for column in COLUMNS if column.field in fields]
    *first, last = (group.replace("_", " ") for group in SETTLED)
    said.append(f"Settled orders are {', '.join(first)} or {last}. Revenue and COGS are those of all orders.")
    if any(column.field == "ad_cost" for column in shown_columns(report)):
        said.append("Spend is in the currencies of the ad accounts, all else in the tenant's.")
    if tenant.currency:
        said.append(f"The tenant's currency is {tenant.currency}.")
    return said


def display_name(line: Line) -> str:
    """The name of a line on one line of text: names come from ads, and may hold anything."""
    return printable_line(line.name or "") or NONE


def as_text(tenant: Tenant, report: Report) -> str:
    """The associates' table for a terminal, with a line for the total and what the columns mean."""
    columns = shown_columns(report)
    rows = [(display_name(line), line.figures) for line in report.associates]
    cells = [[name, *(column.text(figures) for column in columns)] for name, figures in (*rows, (TOTAL, report.total))]
    header = ["ASSOCIATE", *(column.title.upper() for column in columns)]
    return "\n\n".join(
        (
            f"{printable_line(tenant.name)} ({tenant.tenant_id}), {_range(report.days)}",
            table(header, cells, right=range(1, len(header))),
            "\n".join(explanations(tenant, report)),
        )
    )


def as_csv(report: Report) -> bytes:
    """The associates' lines in UTF-8 under a header, always the same columns; no total, so that columns can be summed.

    Figures are exact: no thousands separators, rates as shares, blank where there is no ratio. Names are exact except
    for control characters, which are dropped, and for an apostrophe before a name that a spreadsheet would take for a
    formula. Figures are numbers of ours and get none, so that negative ones stay numbers.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [Column(field, field) for field in CSV_FIELDS]
    writer.writerow(["marketing_associate", *CSV_FIELDS])
    for line in report.associates:
        writer.writerow([spreadsheet_text(line.name or NONE), *(column.plain(line.figures) for column in columns)])
    return text.getvalue().encode()


def write(destination: str, content: bytes) -> None:
    """Write to the file of that name, or to standard output where it is `-`. Raises `UnwritableFileError`."""
    if destination == STDOUT:
        write_file(content)
        return
    file = Path(destination)
    try:
        file.write_bytes(content)
    except OSError as error:
        raise UnwritableFileError(file, error.strerror or type(error).__name__) from None


def _range(days: DayRange) -> str:
    return str(days.since) if days.since == days.until else f"{days.since} to {days.until}"
