"""What the Dagster UI makes, in a real browser, of names that are Markdown."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from sync_pipeline.assets.checks import ONE_CURRENCY
from sync_pipeline.assets.performance import performance_materialization
from sync_pipeline.assets.tables import LONGEST_CELL, metadata_table
from sync_pipeline.assets.verdicts import Verdict, evaluation
from sync_pipeline.cli.installation import project_file
from sync_pipeline.tenants import Tenant, find_tenant, load_tenants
from sync_pipeline_tests.cli.installed import Installed
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.cli.ui import Ui
from sync_pipeline_tests.ports import reserve_port
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ATTACK = "![](/auth/logout) [a](https://evil.test/1) **b** https://evil.test/2 www.evil.test me@evil.test"
DAY = date(2026, 10, 5)
PATIENCE_MS = 120_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install Debian's package `chromium`"),
]


@pytest.fixture
def lumina(shell: Shell) -> Tenant:
    """Lumina, whose name is Markdown; the file is written before anything loads it."""
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("name: Lumina Skin", f"name: '{ATTACK}'"))
    return find_tenant(load_tenants(shell.tenants), "lumina")


@pytest.fixture
def address(lumina: Tenant, installed: Installed) -> Iterator[str]:
    """A webserver that shows an evaluation and a materialization with the attack in them."""
    wrong = Verdict(passed=False, sentence=f"shop {ATTACK}, not in PHP")
    installed.instance.report_runless_asset_event(evaluation(lumina, ONE_CURRENCY, wrong))
    figures = {"best_ads": metadata_table([("Ad", str), ("Orders", int)], [(ATTACK, 1)])}
    installed.instance.report_runless_asset_event(performance_materialization(lumina, DAY, figures))
    port = reserve_port()
    command = [sys.executable, "-m", "dagster_webserver", "-w", str(project_file("workspace.yaml")), "-p", str(port)]
    process = subprocess.Popen(command, env=os.environ)
    try:
        ui = Ui(f"http://127.0.0.1:{port}/graphql")
        wait_until(lambda: ui.ask("{ version }"), process=process, ignored=(OSError,))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        switches = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=switches)
        page = browser.new_page(base_url=address, viewport={"width": 1500, "height": 950})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield page
        browser.close()


def test_the_ui_shows_markdown_in_names_literally(page: Page) -> None:
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    description = page.locator(".dagster-markdown")

    page.goto("/assets/lumina/meta_ad_accounts")
    expect(description.first).to_contain_text("![](/auth/logout) [a](https://")
    # Our own Markdown around the name is rendered, so this is where Dagster would render the name.
    expect(description.locator("code", has_text="accounts disable").first).to_be_visible()
    assert_literal(page)

    page.goto("/assets/lumina/ad_performance?view=checks&checkDetail=one_currency")
    expect(description.filter(has_text="shop ![](/auth/logout)").first).to_be_visible()
    assert_literal(page)

    page.goto(f"/assets/lumina/ad_performance?view=partitions&partition={DAY}")
    expect(page.get_by_role("cell", name=ATTACK[:LONGEST_CELL], exact=True).first).to_be_visible()
    assert_literal(page)
    assert not [url for url in requested if "logout" in url or "evil" in url]


def assert_literal(page: Page) -> None:
    assert page.locator("img[src*='logout']").count() == 0
    assert page.locator("a[href*='evil']").count() == 0
    assert page.locator(".dagster-markdown strong").count() == 0
