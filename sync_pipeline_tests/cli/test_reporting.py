"""`sync-pipeline report`: the associates' table in the terminal, as CSV, and as a page that needs no network."""

import csv
import io
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest
import sqlalchemy as sa
from click.testing import Result

from sync_pipeline.cli import reporting
from sync_pipeline.cli.reporting import NoFiguresError, UnwritableFileError, requested_days
from sync_pipeline.cli.tables import table
from sync_pipeline.date_ranges import DateRangeError, DayRange
from sync_pipeline.rates import Rates
from sync_pipeline.tenants import Tenant, find_tenant, load_tenants
from sync_pipeline.warehouse import performance
from sync_pipeline.warehouse.database import bound_to
from sync_pipeline_tests.cli.installed import Installed
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.waiting import lasting_today
from sync_pipeline_tests.warehouse.test_performance import add_insight, add_order

FIRST, GAP, LAST = date(2026, 10, 5), date(2026, 10, 6), date(2026, 10, 7)
RANGE = ("--since", "2026-10-05", "--until", "2026-10-07")
NASTY = "<script>alert(1)</script>"
SERUM, TONER = "11111111", "22222222"

Fill = Callable[[Rates], None]


@pytest.fixture
def fill(installed: Installed) -> Fill:
    """Puts two associates' days into the warehouse and computes their performance; nothing is there on 6 October."""

    def filled(rates: Rates) -> None:
        with bound_to(installed.warehouse.engine, "lumina") as connection:
            with connection.begin():
                connection.execute(sa.text("INSERT INTO tenants VALUES ('lumina', 'L', 'Asia/Manila')"))
                delivered = ("serum", NASTY, "=ALY, the 1st", "1200.00", 100, 5, 3, 1)
                add_insight(connection, "lumina", ("111", SERUM, FIRST, "C1", *delivered))
                add_insight(connection, "lumina", ("222", TONER, LAST, "C2", None, "T", NASTY, "50.00", 9, 2, 1, 0))
                order = ("s1", "1", SERUM, None, 3, "4500.50", "4500.50", "900.00", 1, 0, "serum")
                add_order(connection, "lumina", order, FIRST)
                add_order(connection, "lumina", ("s1", "2", None, None, 1, "20.00", "0", "0", 3, 3, None), LAST)
            performance.recompute(connection, "lumina", FIRST, LAST, rates)

    return filled


@pytest.fixture
def lumina(shell: Shell) -> Tenant:
    return find_tenant(load_tenants(shell.tenants), "lumina")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def reported(installed: Installed, *arguments: str) -> Result:
    result = installed.command("report", "lumina", *RANGE, *arguments)
    assert result.exit_code == 0, result.output
    return result


def test_the_associates_table_ends_with_the_total(installed: Installed, fill: Fill) -> None:
    # Fees are 2 % of 4500.50 collected: 90.01. Margin 4500.50 - 900 - 90.01 - 1200. Four fifths of 20 are expected.
    fill(Rates(cod_percent=Decimal("2.00")))
    title, _, header, *lines = reported(installed).stdout.splitlines()
    assert title == "Lumina Skin (lumina), 2026-10-05 to 2026-10-07"
    assert cells(header) == [
        "ASSOCIATE",
        "SPEND",
        "ORDERS",
        "REVENUE",
        "COGS",
        "REALISED",
        "PROJECTED",
        "ROAS",
        "COST/ORDER",
        "DELIVERED",
        "RETURNED",
    ]
    assert [cells(line) for line in lines[: lines.index("")]] == [
        [
            *("=ALY, the 1st", "1,200.00", "1", "4,500.50", "900.00", "2,310.49"),
            *("2,310.49", "3.75", "1,200.00", "100.0%", "0.0%"),
        ],
        ["(none)", "0.00", "1", "20.00", "0.00", "0.00", "16.00", "-", "0.00", "-", "-"],
        [NASTY, "50.00", "0", "0.00", "0.00", "-50.00", "-50.00", "0.00", "-", "-", "-"],
        ["TOTAL", "1,250.00", "2", "4,520.50", "900.00", "2,260.49", "2,276.49", "3.62", "625.00", "100.0%", "0.0%"],
    ]


def test_the_columns_are_explained_as_they_are_defined(installed: Installed, fill: Fill) -> None:
    fill(Rates())
    said = reported(installed).stdout.splitlines()[-7:]
    assert said[:6] == [
        "Realised: margin of delivered and returned orders, less all ad cost with taxes.",
        "Projected: realised margin and the expected margin of open orders.",
        "ROAS: revenue of all orders per ad cost.",
        "Delivered: delivered orders among settled orders.",
        "Returned: returned orders among settled orders.",
        "Settled orders are delivered, partly returned, returned or cancelled. "
        "Revenue and COGS are those of all orders.",
    ]


def test_ad_cost_is_shown_where_it_differs_from_spend(installed: Installed, fill: Fill) -> None:
    fill(Rates(spend_multipliers={"222": Decimal("58.5")}))
    lines = [cells(line) for line in reported(installed).stdout.splitlines()]
    assert lines[2][1:3] == ["SPEND", "AD COST"]
    assert [line[1:3] for line in lines if line[:1] in ([NASTY], ["TOTAL"])] == [
        ["50.00", "2,925.00"],
        ["1,250.00", "4,125.00"],
    ]


def test_numbers_are_aligned_right_and_names_left() -> None:
    assert table(("NAME", "SPEND"), (("a", "1.00"), ("bb", "1,000.00"), ("c", "")), right={1}).splitlines() == [
        "NAME     SPEND",
        "a         1.00",
        "bb    1,000.00",
        "c            -",
    ]


def test_what_is_missing_is_said_on_stderr_with_the_command_that_fetches_it(installed: Installed, fill: Fill) -> None:
    fill(Rates())
    assert reported(installed).stderr.splitlines() == [
        "warning: figures of 2026-10-05, 2026-10-07 were computed by other rules or settings; "
        "materialize lumina/order_costs to recompute them",
        "warning: fewer than 80 % of the orders are settled on 2026-10-07; "
        "the rates and realised margins of these days will change",
        "warning: no figures for 2026-10-06; "
        "run: sync-pipeline trigger lumina daily_sync --since 2026-10-06 --until 2026-10-06",
        "warning: 3 units of unknown cost were ordered; they count 0",
    ]


def store_meta_too_early(installed: Installed) -> None:
    """Log the first day of Meta as complete, and the last one as fetched before it was over."""
    with bound_to(installed.warehouse.engine, "lumina") as connection, connection.begin():
        for day, fetched in ((FIRST, "2026-10-06T07:00Z"), (LAST, "2026-10-08T06:59Z")):
            connection.execute(
                sa.text(
                    "INSERT INTO sync_log (tenant_id, source, day, run_id, rows, changed, removed, excluded, amount, "
                    "requests, complete, started, finished, over_at) VALUES ('lumina', 'meta', :day, 'run', 1, 1, 0, "
                    "0, 0, 1, true, :fetched, :fetched, (CAST(:day AS date) + interval '31 hours') AT TIME ZONE 'UTC')"
                ),
                {"day": day, "fetched": fetched},
            )


def test_a_day_that_was_not_over_is_named_and_marked(installed: Installed, fill: Fill, tmp_path: Path) -> None:
    fill(Rates(cod_percent=Decimal("2.00")))
    store_meta_too_early(installed)
    file = tmp_path / "report.html"
    result = reported(installed, "--html", str(file))
    sentence = (
        "not complete: meta of 2026-10-07; these days were not over in all of their timezones when they were fetched, "
        "or not all of them could be read, so their figures will change"
    )
    assert f"warning: {sentence}" in result.stderr.splitlines()
    page = Page(file.read_text(encoding="utf-8"))
    assert sentence in page.texts
    assert page.texts[page.texts.index("2026-10-07") + 1] == "not complete, fewer than 80 % settled"
    assert sum("not complete" in text for text in page.texts) == 2


def test_the_csv_has_plain_numbers_and_no_formulas(installed: Installed, fill: Fill, tmp_path: Path) -> None:
    fill(Rates(cod_percent=Decimal("2.00")))
    file = tmp_path / "out.csv"
    shown = reported(installed, "--csv", str(file)).stdout
    assert shown.startswith("Lumina Skin")
    to_stdout = reported(installed, "--csv", "-").stdout
    assert to_stdout == file.read_text(encoding="utf-8")
    first, second, third = csv.DictReader(io.StringIO(to_stdout))
    assert first == {
        "marketing_associate": "'=ALY, the 1st",
        "spend": "1200.00",
        "ad_cost": "1200.00",
        "orders": "1",
        "revenue": "4500.50",
        "cogs": "900.00",
        "fees": "90.01",
        "contribution_margin": "2310.49",
        "roas": "3.7504",
        "cost_per_order": "1200.00",
        "delivery_rate": "1.0000",
        "return_rate": "0.0000",
        "realised_margin": "2310.49",
        "projected_margin": "2310.49",
        # 0.8 x (4500.50 - 900 - 90.01) - 1200.
        "margin_at_return_rate": "1608.39",
        "delivered_roas": "3.7504",
        # 4500.50 / (4500.50 - 900 - 90.01).
        "break_even_roas": "1.2820",
        "cost_per_delivered_order": "1200.00",
        "settled_share": "1.0000",
    }
    assert (second["marketing_associate"], second["roas"], second["cost_per_order"]) == ("(none)", "", "0.00")
    assert (third["marketing_associate"], third["contribution_margin"]) == (NASTY, "-50.00")


def test_margins_yet_to_be_computed_are_shown_as_absent(installed: Installed, fill: Fill, tmp_path: Path) -> None:
    fill(Rates())
    with bound_to(installed.warehouse.engine, "lumina") as connection, connection.begin():
        connection.execute(sa.text("UPDATE ad_performance SET open_margin = NULL, return_fees = NULL, rules = NULL"))
    file = tmp_path / "report.html"
    result = reported(installed, "--html", str(file))
    assert cells(result.stdout.splitlines()[-9])[:7] == ["TOTAL", "1,250.00", "2", "4,520.50", "900.00", "-", "-"]
    assert result.stderr.splitlines()[0].startswith("warning: figures of 2026-10-05, 2026-10-07 were computed by other")
    assert Page(file.read_text(encoding="utf-8")).texts.count("4,520.50") == 5
    [first, *_] = csv.DictReader(io.StringIO(reported(installed, "--csv", "-").stdout))
    assert (first["realised_margin"], first["projected_margin"], first["break_even_roas"]) == ("", "", "")


class Page(HTMLParser):
    """What a browser would load, say and run of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self.charts: set[str] = set()
        self.metas: list[dict[str, str | None]] = []
        self._within: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loaded += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]
        if tag in {"link", "iframe", "img", "object"}:
            self.loaded.append(tag)
        if tag == "meta":
            self.metas.append(given)
        if "plotly-graph-div" in (given.get("class") or ""):
            self.charts.add(given["id"] or "")
        if tag == "script":
            self.scripts.append("")
        self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._within[-1:] == ["script"]:
            self.scripts[-1] += data
        elif self._within[-1:] != ["style"] and data.strip():
            self.texts.append(data.strip())


@pytest.fixture
def page(installed: Installed, fill: Fill, tmp_path: Path) -> Page:
    fill(Rates(cod_percent=Decimal("2.00")))
    file = tmp_path / "report.html"
    reported(installed, "--html", str(file))
    return Page(file.read_text(encoding="utf-8"))


def test_the_page_loads_nothing_from_anywhere(page: Page) -> None:
    assert page.loaded == []
    [policy] = [meta["content"] for meta in page.metas if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert any("plotly.js v" in script[:500] for script in page.scripts), "the library is in the page"


def test_the_page_draws_four_charts_and_lists_five_tables(page: Page) -> None:
    assert page.charts == {f"chart-{number}" for number in range(4)}
    for chart in page.charts:
        assert any(f'Plotly.newPlot(                        "{chart}"' in script for script in page.scripts)
    headings = ["Marketing associates", "Top 20 ads by projected margin", "Campaigns", "Mappings", "Days"]
    assert [text for text in page.texts if text in headings] == headings
    assert page.texts.count("2,276.49") == 5, "the total above, and under four of the tables"
    assert page.texts[page.texts.index("2026-10-07") + 1] == "fewer than 80 % settled"
    assert page.texts.count("fewer than 80 % settled") == 1
    assert any("no figures for 2026-10-06;" in text for text in page.texts)


def test_names_on_the_page_are_text_and_never_markup(page: Page) -> None:
    assert page.texts.count(NASTY) == 2, "as an ad and as an associate"
    [chart] = [script for script in page.scripts if '"chart-2"' in script and "newPlot" in script]
    # Plotly reads labels as a little HTML of its own, so the name is escaped for it as well as for the script.
    assert "\\u003cscript" not in chart
    assert "<script" not in chart
    assert "lt;script" in chart


def test_a_range_without_figures_says_what_to_run(installed: Installed) -> None:
    result = installed.command("report", "lumina", *RANGE)
    assert isinstance(result.exception, NoFiguresError)
    assert (result.exception.since, result.exception.until) == (FIRST, LAST)
    assert str(result.exception) == (
        "lumina has no figures for 2026-10-05 to 2026-10-07; "
        "run: sync-pipeline trigger lumina daily_sync --since 2026-10-05 --until 2026-10-07"
    )


@pytest.mark.parametrize("option", ["--csv", "--html"])
def test_a_file_that_cannot_be_written_is_named(installed: Installed, fill: Fill, option: str) -> None:
    fill(Rates())
    result = installed.command("report", "lumina", *RANGE, option, "nowhere/report")
    assert isinstance(result.exception, UnwritableFileError)
    assert result.exception.file == Path("nowhere/report")
    assert str(result.exception) == "nowhere/report cannot be written: No such file or directory"
    assert result.stdout == ""


def test_only_one_of_two_can_have_standard_output(installed: Installed, fill: Fill) -> None:
    fill(Rates())
    both = installed.command("report", "lumina", *RANGE, "--csv", "-", "--html", "-")
    assert both.exit_code == click.UsageError.exit_code
    assert reported(installed, "--html", "-").stdout.endswith("</html>\n")


def test_the_default_is_the_last_seven_days_up_to_yesterday_of_the_tenant(lumina: Tenant) -> None:
    today = lasting_today(lumina.timezone)
    assert requested_days(lumina, None, None) == DayRange(today - timedelta(days=7), today - timedelta(days=1))
    late = lumina.model_copy(update={"start_date": today - timedelta(days=3)})
    assert requested_days(late, None, None) == DayRange(today - timedelta(days=3), today - timedelta(days=1))


def test_days_that_the_tenant_cannot_have_are_refused(installed: Installed, lumina: Tenant) -> None:
    today = lasting_today(lumina.timezone)
    for since, until in ((LAST, FIRST), (date(2025, 12, 31), FIRST), (today, today + timedelta(days=1))):
        with pytest.raises(DateRangeError):
            requested_days(lumina, since, until)
    begins_today = lumina.model_copy(update={"start_date": today})
    with pytest.raises(DateRangeError):
        requested_days(begins_today, None, None)
    assert installed.command("report", "lumina", "--since", "2026-10-05").exit_code == click.UsageError.exit_code


def test_a_name_is_one_line_of_text_whatever_the_ad_holds() -> None:
    from sync_pipeline.warehouse.reports import Figures, Line

    nothing = Figures(**dict.fromkeys(Figures.__slots__, 0))  # type: ignore[arg-type]
    names = {"A\x1b[2J\nB\tC": "A [2J B C", "  ": "(none)", "Nguyễn": "Nguyễn"}
    assert {name: reporting.display_name(Line(name, name, nothing)) for name in names} == names


def test_plotly_is_loaded_for_a_page_alone() -> None:
    program = "import sys, sync_pipeline.cli, sync_pipeline.cli.reporting; print('plotly' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
