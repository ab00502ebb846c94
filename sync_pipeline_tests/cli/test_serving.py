"""`sync-pipeline dev` as the UI uses it: backfills asked for over GraphQL, and what is shown of their days."""

import json
import signal
import socket
import subprocess
import time
import urllib.error
from datetime import date
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
from sync_pipeline_tests.cli.shell import Shell, query
from sync_pipeline_tests.cli.ui import REPOSITORY, TERMINATE, WEEK, Ui
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until


def test_ranges_launched_in_the_ui_are_one_run_each_and_show_what_became_of_each_day(
    served: tuple[Ui, "subprocess.Popen[str]"], sandbox: SandboxServer, warehouse_url: URL
) -> None:
    ui, process = served
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
        warehouse_url,
        "SELECT date_local::text, count(*) FROM pos_orders WHERE tenant_id = 'lumina' GROUP BY 1 ORDER BY 1",
    )
    assert [day for day, _ in stored] == WEEK
    assert ui.rows("lumina/pos_orders") == {day: rows for day, rows in stored if day in ("2026-10-05", "2026-10-07")}

    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    with pytest.raises(urllib.error.URLError):
        ui.ask("{ version }")


def test_a_run_terminated_in_the_ui_ends_in_the_midst_of_a_wait_and_the_next_one_starts(
    shell: Shell, served: tuple[Ui, "subprocess.Popen[str]"], sandbox: SandboxServer, warehouse_url: URL
) -> None:
    ui, _ = served
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("  accounts: all", "  days_per_request: 1\n  accounts: all"))
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
    assert query(warehouse_url, "SELECT DISTINCT day::text FROM sync_log") == [("2026-10-05",)]
    sandbox.faults.clear()
    assert ui.wait_for_run(second, "CANCELED", "SUCCESS", "FAILURE") == "SUCCESS"


def test_a_page_of_another_site_cannot_drive_dev(
    served: tuple[Ui, "subprocess.Popen[str]"], warehouse_url: URL
) -> None:
    ui, _ = served
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
