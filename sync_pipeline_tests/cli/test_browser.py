"""The demo in a real browser: what somebody sees and clicks who opens it for the first time."""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from sqlalchemy.engine import URL

from sync_pipeline.date_ranges import today_in
from sync_pipeline.warehouse import database
from sync_pipeline_tests.cli.shell import Shell, query
from sync_pipeline_tests.cli.ui import Ui, wait_until_served
from sync_pipeline_tests.folders import open_folder_for_server
from sync_pipeline_tests.ports import reserve_port
from sync_pipeline_tests.waiting import PATIENCE_S

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LOCATION = "locations/sync_pipeline"
PATIENCE_MS = PATIENCE_S * 1000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install Debian's package `chromium`"),
]


@dataclass
class Demo:
    """The demo as its command left it: the UI's address and the warehouse behind it."""

    address: str
    warehouse: URL


@pytest.fixture(scope="module")
def demo() -> Iterator[Demo]:
    """`sync-pipeline demo`, running, two days in it."""
    with open_folder_for_server() as folder:
        yield from _demo(folder)


def _demo(folder: Path) -> Iterator[Demo]:
    home = folder / "home"
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    port = reserve_port()
    with (folder / "demo.log").open("w") as log:
        shell = Shell(folder, {**inherited, "SYNC_PIPELINE_HOME": str(home)})
        process = shell.start("demo", "--days", "2", "--port", str(port), to=log)
    try:
        ui = Ui(f"http://127.0.0.1:{port}/graphql")
        wait_until_served(ui, process, folder / "demo.log")
        # On a Monday at 03:00 it would add days to those that a test counts.
        ui.switch_off("lumina__weekly_resync_schedule")
        yield Demo(f"http://127.0.0.1:{port}", database.warehouse_url(None, home))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


@pytest.fixture
def page(demo: Demo, tmp_path: Path) -> Iterator[Page]:
    """A browser's page; how it looked in the end is kept in `tmp_path`."""
    with sync_playwright() as playwright:
        switches = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        page = browser.new_page(base_url=demo.address, viewport={"width": 1500, "height": 950})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield page
        page.screenshot(path=tmp_path / "page.png")
        browser.close()


def test_the_lineage_of_a_tenant_leads_from_the_apis_to_the_performance_of_ads(page: Page) -> None:
    page.goto(f"/{LOCATION}/asset-groups/lumina/lineage")
    for asset in ("meta_ad_accounts", "meta_ad_insights", "pos_shops", "pos_orders", "product_costs", "ad_performance"):
        expect(page.get_by_text(asset, exact=True).first).to_be_visible()


def test_a_backfill_of_three_days_is_launched_by_clicking_and_succeeds(page: Page, demo: Demo) -> None:
    today = today_in("Asia/Manila")
    first, last = today - timedelta(days=13), today - timedelta(days=11)

    page.goto("/assets/lumina/pos_orders?view=partitions")
    expect(page.get_by_text("Materialized (2)")).to_be_visible()
    page.get_by_role("button", name="Materialize…").click()
    dialog = page.get_by_role("dialog")
    days = dialog.get_by_placeholder("No matching partitions")
    days.fill(f"[{first}...{last}]")
    days.press("Enter")
    expect(dialog.get_by_text("3 partitions", exact=True)).to_be_visible()
    dialog.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("View", exact=True).click()
    expect(page.get_by_text(re.compile("^(Success|Succeeded|Completed)$")).first).to_be_visible()

    page.goto("/assets/lumina/pos_orders?view=partitions")
    expect(page.get_by_text("Materialized (5)")).to_be_visible()
    log = "SELECT day FROM sync_log WHERE tenant_id = 'lumina' AND source = 'pos' AND day <= '{}' ORDER BY id"
    assert query(demo.warehouse, log.format(last)) == [(first,), (first + timedelta(days=1),), (last,)]


def test_a_schedule_is_switched_off_and_on(page: Page) -> None:
    switched = "running"
    for wanted in ("stopped", "running"):
        page.goto(f"/{LOCATION}/schedules/lumina__daily_sync_schedule")
        switch = page.locator("input[type=checkbox]")
        expect(switch).to_be_checked(checked=switched == "running")
        switch.locator("xpath=..").click()
        expect(switch).to_be_checked(checked=wanted == "running")
        switched = wanted
    # What the page shows is what the storage holds, not just how the switch was left.
    page.reload()
    expect(page.locator("input[type=checkbox]")).to_be_checked()
