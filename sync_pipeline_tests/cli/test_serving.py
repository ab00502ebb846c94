"""`sync-pipeline dev` as the UI uses it: backfills launched over GraphQL, their days, and edits of tenant files."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from sqlalchemy.engine import URL
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.warehouse import database
from sync_pipeline_tests import templates
from sync_pipeline_tests.cli.conftest import opened_shell, serving
from sync_pipeline_tests.cli.shell import Shell, query
from sync_pipeline_tests.cli.ui import REPOSITORY, TERMINATE, WEEK, Ui
from sync_pipeline_tests.pipeline import rendered
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.slow

SCHEDULES = """query ($selector: RepositorySelector!) {
  schedulesOrError(repositorySelector: $selector) {
    ... on Schedules { results { name cronSchedule scheduleState { status } } }
  }
}"""
BROKEN = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
  assetNodes { groupName description }
} } } }"""


@dataclass
class Dev:
    """A running `dev` of the demo tenants, and what it works on."""

    shell: Shell
    ui: Ui
    process: "subprocess.Popen[str]"
    sandbox: SandboxServer
    warehouse_url: URL


@pytest.fixture(scope="module")
def dev(server: URL, dagster_database: URL, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """One `dev` for all tests, in their order: starting its six processes takes most of a minute.

    A test leaves no fault and no edit behind. The last one ends it.
    """
    url = server.set(database=f"served_{os.getpid()}")
    templates.copy(server, url)
    with (
        SandboxServer(ads=12, orders=20, now=lambda: datetime(2026, 10, 20, 7, 0, tzinfo=UTC)) as sandbox,
        opened_shell(sandbox, url, dagster_database, tmp_path_factory.mktemp("dev")) as shell,
        serving(shell) as (ui, process),
    ):
        yield Dev(shell, ui, process, sandbox, url)
    templates.drop(url)


def test_a_page_of_another_site_cannot_drive_dev(dev: Dev) -> None:
    ui = dev.ui
    address = ui.url.removesuffix("/graphql")
    own = f"127.0.0.1:{urlsplit(ui.url).port}"
    stop = {"query": 'mutation { setConcurrencyLimit(concurrencyKey: "attack", limit: 1) }'}
    attacks: dict[str, tuple[str, dict[str, Any]]] = {
        "a foreign Host": ("POST", {"json": stop, "headers": {"Host": "evil.test"}}),
        "a foreign Origin": ("POST", {"json": stop, "headers": {"Origin": "http://evil.test"}}),
        "another port's Origin": ("POST", {"json": stop, "headers": {"Origin": "http://127.0.0.1:1"}}),
        "a GET": ("GET", {"params": stop}),
        "a form": ("POST", {"params": stop, "data": stop}),
        "plain text": ("POST", {"params": stop, "data": json.dumps(stop), "headers": {"Content-Type": "text/plain"}}),
    }
    refused = {}
    for attack, (method, how) in attacks.items():
        refused[attack] = requests.request(method, ui.url, timeout=60, **how).status_code
    assert refused == {
        "a foreign Host": 403,
        "a foreign Origin": 403,
        "another port's Origin": 403,
        "a GET": 405,
        "a form": 405,
        "plain text": 405,
    }
    assert requests.get(address, headers={"Host": "evil.test"}, timeout=60).status_code == 403
    for headers in ({"Origin": "http://evil.test"}, {"Host": "evil.test"}):
        with pytest.raises(InvalidStatus), connect(f"ws://{own}/graphql", additional_headers=headers, proxy=None):
            pass
    own_page = {"Origin": f"http://{own}"}
    limits = {"query": "{ instance { concurrencyLimits { concurrencyKey } } }"}
    answer = requests.post(ui.url, json=limits, headers=own_page, timeout=60)
    assert answer.ok
    assert "attack" not in answer.text
    assert requests.post(ui.url, json=stop, headers=own_page, timeout=60).ok
    assert "attack" in requests.post(ui.url, json=limits, timeout=60).text


def test_a_run_terminated_in_the_ui_ends_in_the_midst_of_a_wait_and_the_next_one_starts(dev: Dev) -> None:
    ui, sandbox = dev.ui, dev.sandbox
    file = dev.shell.tenants / "lumina.yaml"
    before = file.read_text()
    file.write_text(before.replace("  accounts: all", "  days_per_request: 1\n  accounts: all"))
    waiting = Fault(faults.rate_limited("600"), path="insights", query="2026-10-06", times=None)
    sandbox.faults.add(waiting)
    run = ui.start("lumina__daily_sync", "2026-10-05", "2026-10-07")
    second = ui.start("lumina__meta_only", "2026-10-05", "2026-10-05")
    wait_until(lambda: waiting.hits)
    assert ui.wait_for_run(second, "QUEUED", "STARTED") == "QUEUED", "one run of a tenant at a time"

    assert ui.ask(TERMINATE, id=run)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    asked = time.monotonic()
    assert ui.wait_for_run(run, "CANCELED", "SUCCESS", "FAILURE") == "CANCELED"
    print(f"\nterminated within {time.monotonic() - asked:.1f} s of being asked to")
    assert ui.days("lumina/pos_orders").get("MATERIALIZED") == ("2026-10-05", "2026-10-05")
    assert query(dev.warehouse_url, "SELECT DISTINCT day::text FROM sync_log") == [("2026-10-05",)]
    sandbox.faults.clear()
    assert ui.wait_for_run(second, "CANCELED", "SUCCESS", "FAILURE") == "SUCCESS"
    file.write_text(before)


def test_edits_reach_a_running_dev_by_themselves(dev: Dev) -> None:
    ui, sandbox, shell = dev.ui, dev.sandbox, dev.shell
    url = ui.url.removesuffix("/graphql")
    storage = database.beside(dev.warehouse_url, "_dagster")
    log = shell.folder / "dev.log"
    logged = len(log.read_text())
    file = shell.tenants / "lumina.yaml"

    def told(text: str) -> bool:
        return any("has changed" in line and text in line for line in log.read_text()[logged:].splitlines())

    def schedules() -> dict[str, tuple[str, str]]:
        results = ui.ask(SCHEDULES, selector=REPOSITORY)["schedulesOrError"]["results"]
        return {one["name"]: (one["cronSchedule"], one["scheduleState"]["status"]) for one in results}

    # A run waits for its rate limit while the file of its tenant is edited; another one is queued behind it.
    waiting = Fault(faults.rate_limited("2"), path="insights", times=None)
    sandbox.faults.add(waiting)
    running = ui.start("lumina__daily_sync", "2026-10-05", "2026-10-06")
    wait_until(lambda: waiting.hits)
    queued = ui.start("lumina__meta_only", "2026-10-05", "2026-10-05")

    before = file.read_text()
    [nightly] = re.findall(r'schedule: "(0 2 .+)"', before)
    later, extra = nightly.replace("0 2", "30 4"), nightly.replace("0 2", "7 3")
    workflow = f"""
  - name: extra
    sources: [pos]
    date_range: {{type: rolling, offset_days: 0}}
    schedule: "{extra}"
"""
    file.write_text(before.replace(nightly, later) + workflow)
    wait_until(lambda: told("tenants loaded: lumina, mekong"))
    # The log line may be about the reload after an earlier edit.
    wait_until(lambda: schedules()["lumina__daily_sync_schedule"] == (later, "RUNNING"))
    assert schedules()["lumina__extra_schedule"] == (extra, "RUNNING")
    # The daemon notes a schedule that begins switched on the first time it looks at it.
    seen = "SELECT count(*) FROM instigators WHERE instigator_body LIKE '%lumina__extra_schedule%'"
    wait_until(lambda: query(storage, seen) == [(1,)])

    # The switch on the command line is the switch in the UI.
    assert shell.run("workflows", "disable", "lumina", "extra").returncode == 0
    assert schedules()["lumina__extra_schedule"][1] == "STOPPED"
    ui.switch_off("lumina__daily_sync_schedule")
    assert "schedule     off" in shell.run("workflows", "show", "lumina", "daily_sync").stdout
    assert shell.run("workflows", "enable", "lumina", "daily_sync").returncode == 0
    assert schedules()["lumina__daily_sync_schedule"][1] == "RUNNING"

    # An edit that does not validate leaves everything as it was, and says so.
    file.write_text(file.read_text().replace("offset_days: 1", "offset_days: -1"))
    wait_until(lambda: told("the last good version of lumina, from 20"))
    assert schedules()["lumina__daily_sync_schedule"] == (later, "RUNNING")
    [node] = ui.ask(BROKEN)["repositoriesOrError"]["nodes"]
    [shown] = [asset for asset in node["assetNodes"] if asset["groupName"] == "broken_tenant_files"]
    description = rendered(shown["description"])
    assert "offset_days" in description
    assert "is in use" in description
    reloaded = shell.run("reload", "--url", url)
    assert (reloaded.returncode, reloaded.stdout) == (1, "tenants loaded: lumina, mekong\n")
    assert reloaded.stderr.startswith("error: ")
    assert "workflows.0.date_range.offset_days" in reloaded.stderr
    assert shell.run("check").returncode == 1

    # Runs that were there before all this are cancelled and finished as if nothing had happened.
    cancelled = shell.run("cancel", queued)
    assert (cancelled.returncode, cancelled.stdout) == (0, f"execution {queued} is CANCELLED: taken from the queue\n")
    sandbox.faults.clear()
    assert ui.wait_for_run(running, "CANCELED", "SUCCESS", "FAILURE") == "SUCCESS"

    file.write_text(before)
    wait_until(lambda: "lumina__extra_schedule" not in schedules())
    reloaded = shell.run("reload", "--url", url)
    assert (reloaded.returncode, reloaded.stderr) == (0, "")

    # A run in progress whose code server has been replaced twice since it was launched can still be cancelled.
    sandbox.faults.add(waiting)
    waiting.hits = 0
    launched = ui.start("lumina__daily_sync", "2026-10-08", "2026-10-08")
    wait_until(lambda: waiting.hits)
    assert shell.run("reload", "--url", url).returncode == 0
    cancelled = shell.run("cancel", launched[:13])
    assert cancelled.returncode == 0, cancelled.stderr
    assert cancelled.stdout.startswith(f"execution {launched} is CANCELLED: stopped")
    shown_again = json.loads(shell.run("executions", "show", launched, "--json").stdout)
    assert (shown_again["status"], shown_again["tenant"], shown_again["committed_days"]) == ("CANCELLED", "lumina", [])
    sandbox.faults.clear()


def test_ranges_launched_in_the_ui_are_one_run_each_and_show_what_became_of_each_day(dev: Dev) -> None:
    ui, sandbox = dev.ui, dev.sandbox
    # Every address of 127.0.0.0/8 is this machine, so what answers on another one listens on all of them.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", urlsplit(ui.url).port), timeout=PATIENCE_S)
    lumina = [{"path": ["lumina", "meta_ad_insights"]}, {"path": ["lumina", "pos_orders"]}]

    # The fourth day of one tenant fails; the other tenant's job runs beside it.
    sandbox.faults.add(
        Fault(faults.http_error(500), path="shops/31.*/orders", covers_day=date(2026, 10, 8), times=None)
    )
    failing = ui.launch(assetSelection=lumina)
    of_a_job = ui.launch(
        selector={"partitionSetName": "mekong__daily_sync_partition_set", "repositorySelector": REPOSITORY}
    )
    assert ui.wait(failing)["status"] == "COMPLETED_FAILED"
    assert ui.days("lumina/pos_orders") == {
        "MATERIALIZED": ("2026-10-05", "2026-10-07"),
        "FAILED": ("2026-10-08", "2026-10-11"),
    }
    assert ui.days("lumina/meta_ad_insights") == {
        "MATERIALIZED": ("2026-10-05", "2026-10-08"),
        "FAILED": ("2026-10-09", "2026-10-11"),
    }

    ended = ui.wait(of_a_job)
    [run] = ended["runs"]
    tags = {tag["key"]: tag["value"] for tag in run["tags"]}
    assert (ended["status"], run["status"], tags["days_processed"]) == ("COMPLETED_SUCCESS", "SUCCESS", "7/7")
    assert (tags["tenant"], tags["workflow"], tags["trigger"]) == ("mekong", "daily_sync", "manual")
    assert ui.days("mekong/pos_orders") == {"MATERIALIZED": ("2026-10-05", "2026-10-11")}

    # Once the API is well again, the same range fills the gap.
    sandbox.faults.clear()
    ended = ui.wait(ui.launch(assetSelection=lumina))
    [run] = ended["runs"]
    assert (ended["status"], run["status"]) == ("COMPLETED_SUCCESS", "SUCCESS")
    assert ui.days("lumina/pos_orders") == {"MATERIALIZED": ("2026-10-05", "2026-10-11")}
    stored = query(
        dev.warehouse_url,
        "SELECT date_local::text, count(*) FROM pos_orders WHERE tenant_id = 'lumina' GROUP BY 1 ORDER BY 1",
    )
    assert [day for day, _ in stored] == WEEK
    assert ui.rows("lumina/pos_orders") == {day: rows for day, rows in stored if day in ("2026-10-05", "2026-10-07")}

    dev.process.send_signal(signal.SIGTERM)
    assert dev.process.wait(PATIENCE_S) == 0
    with pytest.raises(urllib.error.URLError):
        ui.ask("{ version }")
