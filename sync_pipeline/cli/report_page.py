"""The report as one HTML page that opens anywhere, offline: its charts and their library are in it."""

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go
import sqlalchemy as sa

from sync_pipeline.date_ranges import DayRange
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.reports import Line, orders_by_status, performance_by, total

BEST = 20
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; padding: 0 1rem; color: #1c1c28 }
table { border-collapse: collapse; width: 100%; margin-bottom: 2rem; font-size: 14px }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left; white-space: normal }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 1rem }
.scroll { overflow-x: auto }
.missing { background: #fff3cd; padding: .5rem 1rem }
@media print { .charts { display: block } }
"""
_COLUMNS = ("Ad cost", "Orders", "Revenue", "COGS", "Fees", "Margin", "ROAS", "Cost/order", "Delivered", "Returned")


def page(
    tenant: Tenant,
    days: DayRange,
    engine: sa.Engine,
    of_days: Sequence[Line],
    associates: Sequence[Line],
    missing: Sequence[str],
) -> str:
    """The whole page. Every name in it is foreign text and escaped."""

    def lines(by: str, most: int | None = None) -> list[Line]:
        return performance_by(engine, tenant.tenant_id, days.since, days.until, by, most)  # type: ignore[arg-type]

    charts = [
        _money_per_day(of_days),
        _roas_per_day(of_days),
        _margin(associates),
        _statuses(orders_by_status(engine, tenant.tenant_id, days.since, days.until)),
    ]
    drawn = [
        chart.to_html(full_html=False, include_plotlyjs=number == 0, config={"displaylogo": False})
        for number, chart in enumerate(charts)
    ]
    currency = f", {escape(tenant.currency)}" if tenant.currency else ""
    note = f'<p class="missing">No performance of {escape(", ".join(missing))}.</p>' if missing else ""
    title = f"{escape(tenant.name)}, {days.since} to {days.until}{currency}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{_STYLE}</style></head><body>
<h1>{title}</h1>{note}
{_table("Total", [total(of_days, "all days")])}
<div class="charts">{"".join(f"<div>{chart}</div>" for chart in drawn)}</div>
{_table("Marketing associates", associates)}
{_table(f"Best {BEST} ads", lines("ad", BEST))}
{_table("Campaigns", lines("campaign"))}
{_table("Mappings", lines("mapping"))}
</body></html>
"""


def _money_per_day(days: Sequence[Line]) -> go.Figure:
    names = [line.name for line in days]
    chart = go.Figure(
        [
            go.Bar(name="revenue", x=names, y=[float(line.revenue) for line in days]),
            go.Bar(name="ad cost", x=names, y=[float(line.ad_cost) for line in days]),
        ]
    )
    return _titled(chart, "Revenue and ad cost per day")


def _roas_per_day(days: Sequence[Line]) -> go.Figure:
    values = [None if line.roas is None else float(line.roas) for line in days]
    return _titled(
        go.Figure(go.Scatter(x=[line.name for line in days], y=values, mode="lines+markers")), "ROAS per day"
    )


def _margin(associates: Sequence[Line]) -> go.Figure:
    names = [escape(line.name or "(none)") for line in associates]
    margins = [float(line.contribution_margin) for line in associates]
    return _titled(go.Figure(go.Bar(x=names, y=margins)), "Contribution margin per associate")


def _statuses(counts: Mapping[str, int]) -> go.Figure:
    names = [group.replace("_", " ") for group in counts]
    return _titled(go.Figure(go.Bar(x=names, y=list(counts.values()))), "Orders by status")


def _titled(chart: go.Figure, title: str) -> go.Figure:
    chart.update_layout(title=title, height=340, margin={"l": 50, "r": 20, "t": 50, "b": 60}, template="plotly_white")
    return chart


def _table(title: str, lines: Sequence[Line]) -> str:
    head = "".join(f"<th>{column}</th>" for column in ("", *_COLUMNS))
    rows = "".join(
        f"<tr><td>{escape(line.name if line.name is not None else '(none)')}</td>"
        + "".join(f"<td>{cell}</td>" for cell in _cells(line))
        + "</tr>"
        for line in lines
    )
    return f'<h2>{escape(title)}</h2><div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _cells(line: Line) -> list[str]:
    return [
        f"{line.ad_cost:,.2f}",
        f"{line.orders:,}",
        *(f"{value:,.2f}" for value in (line.revenue, line.cogs, line.fees, line.contribution_margin)),
        *("" if value is None else f"{value:,.2f}" for value in (line.roas, line.cost_per_order)),
        *("" if value is None else f"{100 * value:.1f} %" for value in (line.delivery_rate, line.return_rate)),
    ]
