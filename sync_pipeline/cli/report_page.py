"""The report as one HTML page that opens offline: Plotly is inside it, and nothing is loaded from anywhere."""

import html
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from sync_pipeline.cli.reporting import (
    COLUMNS,
    TOTAL,
    Column,
    display_name,
    explanations,
    shown_columns,
    warnings,
)
from sync_pipeline.tenants import Tenant
from sync_pipeline.text_safety import printable_line
from sync_pipeline.warehouse.figures import SETTLED_SHARE
from sync_pipeline.warehouse.reports import MOST_ADS, Figures, Line, Report

SPENT, EARNED, GAINED, LOST, PLAIN = "#d97706", "#2563eb", "#15803d", "#b91c1c", "#475569"
HEIGHT: Final = 300
BAR_HEIGHT: Final = 30
LONGEST_LABEL: Final = 24
FEW_DAYS: Final = 8
DAY_MS: Final = 24 * 60 * 60 * 1000
CHART_CONFIG: Final = {"displayModeBar": False, "responsive": True}
TOTALS: Final = (
    "spend",
    "ad_cost",
    "revenue",
    "realised_margin",
    "projected_margin",
    "margin_at_return_rate",
    "roas",
    "delivered_roas",
    "break_even_roas",
    "orders",
    "cost_per_order",
    "cost_per_delivered_order",
    "delivery_rate",
    "return_rate",
    "settled_share",
)
INCOMPLETE: Final = "not complete"
UNSETTLED: Final = f"fewer than {100 * Decimal(SETTLED_SHARE):.0f} % settled"
EXPLAINED: Final = (
    "realised_margin",
    "projected_margin",
    "margin_at_return_rate",
    "roas",
    "delivered_roas",
    "break_even_roas",
    "cost_per_delivered_order",
    "delivery_rate",
    "return_rate",
    "settled_share",
)

# The browser itself is told to load nothing, whatever a name may hold.
_POLICY: Final = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_STYLE: Final = """
:root { color-scheme: light; --ink: #0f172a; --quiet: #64748b; --line: #e2e8f0; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1320px; padding: 24px 20px 48px; color: var(--ink); background: #f8fafc;
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { margin: 0; font-size: 26px; }
h2 { margin: 0 0 8px; font-size: 16px; }
header p, footer p { margin: 4px 0; color: var(--quiet); }
header .warning { margin: 16px 0 0; padding: 10px 14px; border-left: 4px solid #d97706; background: #fef3c7;
  color: #78350f; overflow-wrap: anywhere; }
.totals { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0; }
.totals div { flex: 1 1 100px; }
.totals div, section { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.totals dt { color: var(--quiet); font-size: 13px; }
.totals dd { margin: 2px 0 0; font-size: 17px; font-weight: 600; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 16px; }
section { min-width: 0; margin-top: 16px; }
.charts section { margin-top: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 600; }
th:first-child, td:first-child { position: sticky; left: 0; background: inherit; text-align: left; white-space: normal;
  overflow-wrap: anywhere; min-width: 180px; max-width: 320px; }
tr { background: #fff; }
tbody tr:nth-child(even) { background: #f8fafc; }
tfoot td { font-weight: 600; border-bottom: 0; }
.negative { color: #b91c1c; }
td small { display: block; color: var(--quiet); }
footer { margin-top: 20px; font-size: 13px; }
@media (max-width: 800px) {
  .charts { grid-template-columns: minmax(0, 1fr); }
  th:first-child, td:first-child { min-width: 140px; max-width: 160px; }
}
@page { size: A4 landscape; margin: 12mm; }
@media print {
  body { max-width: none; padding: 0; background: #fff; font-size: 11px; -webkit-print-color-adjust: exact;
    print-color-adjust: exact; }
  .charts { display: block; }
  .charts section { margin-top: 16px; break-inside: avoid; }
  .wide { overflow: visible; }
  table { font-size: 10px; }
  th, td, th:first-child, td:first-child { position: static; padding: 3px 5px; }
  thead { display: table-header-group; }
  tfoot { display: table-row-group; }
  tr, .totals { break-inside: avoid; }
}
"""


def page(tenant: Tenant, report: Report, now: datetime | None = None) -> str:
    """The whole page. `now`, an aware instant, is when the figures were read; by default this moment."""
    columns = shown_columns(report)
    title = _escaped(f"{tenant.name}: {report.days.since} to {report.days.until}")
    drawn = (now or datetime.now(ZoneInfo(tenant.timezone))).astimezone(ZoneInfo(tenant.timezone))
    noted = "".join(f'<p class="warning">{_escaped(warning)}</p>' for warning in warnings(tenant, report))
    explained = "".join(f"<p>{_escaped(sentence)}</p>" for sentence in explanations(tenant, report, EXPLAINED))
    charts = (
        ("Spend and revenue per day", _spend_and_revenue(report)),
        ("ROAS per day", _roas(report)),
        ("Projected margin per associate", _margins(report)),
        ("Orders by status", _statuses(report)),
    )
    tables = (
        _table("Marketing associates", "Associate", report.associates, columns, report.total),
        _table(f"Top {MOST_ADS} ads by projected margin", "Ad", report.ads, columns),
        _table("Campaigns", "Campaign", report.campaigns, columns, report.total),
        _table("Mappings", "Mapping", report.mappings, columns, report.total),
        _table("Days", "Day", _days(report), columns, report.total),
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
<script>{get_plotlyjs()}</script>
</head>
<body>
<header>
<h1>{_escaped(tenant.name)}</h1>
<p>{report.days.since} to {report.days.until}, days in {_escaped(tenant.timezone)}; \
as stored on {drawn:%Y-%m-%d at %H:%M}</p>
{noted}
</header>
<dl class="totals">{_totals(report.total, columns)}</dl>
<div class="charts">
{"".join(_section(heading, _drawn(figure, number)) for number, (heading, figure) in enumerate(charts))}
</div>
{"".join(tables)}
<footer>{explained}</footer>
</body>
</html>
"""


def _days(report: Report) -> list[Line]:
    """One line per day; a day that is not complete, or of which too few orders are settled, has a mark."""
    incomplete = {one.day for one in report.incomplete_days}
    marked = ((INCOMPLETE, incomplete), (UNSETTLED, report.unsettled))
    return [
        Line(", ".join(mark for mark, days in marked if day in days) or None, day.isoformat(), figures)
        for day, figures in report.daily.items()
    ]


def _totals(total: Figures, columns: Sequence[Column]) -> str:
    shown = {column.field: column for column in COLUMNS if column in columns or not column.in_tables}
    return "".join(
        f"<div><dt>{column.title}</dt><dd{_tone(column, total)}>{column.text(total) or '-'}</dd></div>"
        for column in (shown[field] for field in TOTALS if field in shown)
    )


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{_escaped(heading)}</h2>{body}</section>"


def _table(
    heading: str, what: str, lines: Iterable[Line], columns: Sequence[Column], total: Figures | None = None
) -> str:
    head = "".join(f"<th>{column.title}</th>" for column in columns)
    body = "".join(f"<tr><td>{_name(line)}</td>{_cells(line.figures, columns)}</tr>" for line in lines)
    foot = f"<tfoot><tr><td>{TOTAL.capitalize()}</td>{_cells(total, columns)}</tr></tfoot>" if total else ""
    table = f"<table><thead><tr><th>{what}</th>{head}</tr></thead><tbody>{body}</tbody>{foot}</table>"
    return _section(heading, f'<div class="wide">{table}</div>')


def _name(line: Line) -> str:
    identity = f"<small>{_escaped(line.key)}</small>" if line.key and line.key != line.name else ""
    return f"{_escaped(display_name(line))}{identity}"


def _cells(figures: Figures, columns: Sequence[Column]) -> str:
    return "".join(f"<td{_tone(column, figures)}>{column.text(figures) or '-'}</td>" for column in columns)


def _tone(column: Column, figures: Figures) -> str:
    value = column.value(figures)
    return ' class="negative"' if value is not None and value < 0 else ""


def _spend_and_revenue(report: Report) -> go.Figure:
    # Both in the tenant's currency; where the accounts' is another, spend itself could not be set against revenue.
    cost = [column.title for column in shown_columns(report) if column.field in {"spend", "ad_cost"}][-1]
    days = [day.isoformat() for day in report.days]
    series: tuple[tuple[str, str, Callable[[Figures], Decimal]], ...] = (
        (cost, SPENT, lambda figures: figures.ad_cost),
        ("Revenue", EARNED, lambda figures: figures.revenue),
    )
    figure = go.Figure(
        [
            go.Bar(name=name, x=days, y=_per_day(report, amount), marker_color=colour, hovertemplate="%{y:,.2f}")
            for name, colour, amount in series
        ]
    )
    return _over_days(figure, report, barmode="group", legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})


def _roas(report: Report) -> go.Figure:
    values = _per_day(report, lambda figures: figures.roas)
    days = [day.isoformat() for day in report.days]
    line = go.Scatter(x=days, y=values, mode="lines+markers", line_color=PLAIN, hovertemplate="%{y:.2f}", name="ROAS")
    return _over_days(go.Figure(line), report, yaxis_rangemode="tozero")


def _margins(report: Report) -> go.Figure:
    known = [line for line in report.associates if line.figures.projected_margin is not None]
    margins = [float(line.figures.projected_margin or 0) for line in known]
    return _ranked(
        [display_name(line) for line in known],
        margins,
        colours=[GAINED if margin >= 0 else LOST for margin in margins],
        hover="%{x:,.2f}<extra></extra>",
    )


def _statuses(report: Report) -> go.Figure:
    return _ranked(
        [status.group.replace("_", " ") for status in report.statuses],
        [status.orders for status in report.statuses],
        colours=[{"delivered": GAINED, "returned": LOST}.get(status.group, PLAIN) for status in report.statuses],
        hover="%{x:,} orders, %{customdata:,.2f}<extra></extra>",
        extra=[float(status.amount) for status in report.statuses],
    )


def _per_day(report: Report, value: Callable[[Figures], Decimal | None]) -> list[float | None]:
    """One number per day of the range; None, which leaves a gap, where a day has none."""
    found = (value(report.daily[day]) if day in report.daily else None for day in report.days)
    return [None if one is None else float(one) for one in found]


def _over_days(figure: go.Figure, report: Report, **layout: object) -> go.Figure:
    # Of few days Plotly would label the hours.
    every = {"dtick": DAY_MS} if len(report.days) <= FEW_DAYS else {"nticks": FEW_DAYS}
    axis = {"type": "date", "tickformat": "%b %-d", "hoverformat": "%Y-%m-%d", **every}
    figure.update_layout(_layout(HEIGHT), hovermode="x unified", xaxis=axis, **layout)
    return figure


def _ranked(
    names: Sequence[str],
    values: Sequence[float],
    *,
    colours: Sequence[str],
    hover: str,
    extra: Sequence[float] = (),
) -> go.Figure:
    """Horizontal bars, the first at the top. Bars stand on their places, since names may look like numbers or recur."""
    places = list(range(len(names)))
    bars = go.Bar(
        x=values, y=places, orientation="h", marker_color=colours, hovertemplate=hover, customdata=extra or None
    )
    figure = go.Figure(bars)
    labels = {"tickmode": "array", "tickvals": places, "ticktext": [_label(name) for name in names]}
    axis = {**labels, "autorange": "reversed", "automargin": True, "showgrid": False, "zeroline": False}
    figure.update_layout(_layout(max(HEIGHT, BAR_HEIGHT * len(names) + 60)), yaxis=axis)
    return figure


def _label(name: str) -> str:
    # Plotly reads a label as a little HTML of its own.
    return html.escape(name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…", quote=False)


def _layout(height: int) -> dict[str, object]:
    grid = {"gridcolor": "#e2e8f0", "zerolinecolor": "#94a3b8"}
    return {
        "template": {"layout": {"xaxis": grid, "yaxis": grid}},
        "height": height,
        "margin": {"l": 48, "r": 12, "t": 28, "b": 36},
        "paper_bgcolor": "#fff",
        "plot_bgcolor": "#fff",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#334155"},
        "dragmode": False,
    }


def _drawn(figure: go.Figure, number: int) -> str:
    drawn: str = plotly.io.to_html(
        figure,
        config=CHART_CONFIG,
        include_plotlyjs=False,
        full_html=False,
        default_height=f"{figure.layout.height}px",
        div_id=f"chart-{number}",
    )
    return drawn


def _escaped(text: str) -> str:
    return html.escape(printable_line(text))
