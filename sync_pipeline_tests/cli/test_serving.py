"""`sync-pipeline dev` as the UI uses it: backfills asked for over GraphQL, and what is shown of their days."""

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest
from sqlalchemy.engine import URL

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.cli.shell import Shell, query

WEEK = [f"2026-10-{day:02}" for day in range(5, 12)]
LAUNCH = """mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
BACKFILL = """query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status runs { id status tags { key value } } }
  }
}"""
START = """mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message }
  }
}"""
TERMINATE = """mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"""
RUN = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"""
STATUSES = """query ($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode {
      assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startKey endKey } } }
      assetMaterializations(partitions: ["2026-10-05", "2026-10-07"]) {
        partition metadataEntries { label ... on IntMetadataEntry { intValue } }
      }
    }
  }
}"""
REPOSITORY = {"repositoryLocationName": "sync_pipeline", "repositoryName": "__repository__"}
ENDED = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED"}


@dataclass
class Ui:
    """The webserver's GraphQL, as the UI speaks it."""

    url: str

    def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": document, "variables": variables}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
            return data

    def launch(self, **params: Any) -> str:
        launched = self.ask(LAUNCH, params={"partitionNames": WEEK, **params})["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def wait(self, backfill: str) -> dict[str, Any]:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            shown: dict[str, Any] = self.ask(BACKFILL, id=backfill)["partitionBackfillOrError"]
            if shown["status"] in ENDED:
                return shown
            time.sleep(1)
        raise AssertionError(f"the backfill did not end: {shown}")

    def start(self, job: str, since: str, until: str) -> str:
        """Launch a job over a range of days, as its Partitions page does, and return the run's id."""
        selector = {**REPOSITORY, "jobName": job}
        tags = [
            {"key": "dagster/asset_partition_range_start", "value": since},
            {"key": "dagster/asset_partition_range_end", "value": until},
        ]
        params = {"selector": selector, "mode": "default", "executionMetadata": {"tags": tags}}
        launched = self.ask(START, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["id"])

    def wait_for_run(self, run_id: str, *statuses: str) -> str:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            status = str(self.ask(RUN, id=run_id)["runOrError"]["status"])
            if status in statuses:
                return status
            time.sleep(0.2)
        raise AssertionError(f"the run is {status}")

    def days(self, asset: str) -> dict[str, tuple[str, str]]:
        """Status to its first and last day; in these tests every status is one stretch of days."""
        node = self.ask(STATUSES, key={"path": asset.split("/")})["assetNodeOrError"]
        return {r["status"]: (r["startKey"], r["endKey"]) for r in node["assetPartitionStatuses"]["ranges"]}

    def rows(self, asset: str) -> dict[str, int]:
        """Row count per day, as the asset's page shows it for two of the days."""
        node = self.ask(STATUSES, key={"path": asset.split("/")})["assetNodeOrError"]
        return {
            shown["partition"]: entry["intValue"]
            for shown in node["assetMaterializations"]
            for entry in shown["metadataEntries"]
            if entry["label"] == "dagster/partition_row_count"
        }


@pytest.fixture
def served(shell: Shell) -> Iterator[tuple[Ui, "subprocess.Popen[str]"]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (shell.folder / "dev.log").open("w") as log:
        process = shell.start("dev", "--port", str(port), to=log)
    ui = Ui(f"http://127.0.0.1:{port}/graphql")
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            assert process.poll() is None, (shell.folder / "dev.log").read_text()
            try:
                ui.ask("{ version }")
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        yield ui, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def test_ranges_launched_in_the_ui_are_one_run_each_and_show_what_became_of_each_day(
    served: tuple[Ui, "subprocess.Popen[str]"], sandbox: SandboxServer, warehouse_url: URL
) -> None:
    ui, process = served
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
    assert process.wait(60) == 0
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
    deadline = time.monotonic() + 120
    while not waiting.hits and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ui.wait_for_run(second, "QUEUED", "STARTED") == "QUEUED", "one run of a tenant at a time"

    assert ui.ask(TERMINATE, id=run)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    asked = time.monotonic()
    assert ui.wait_for_run(run, "CANCELED", "SUCCESS", "FAILURE") == "CANCELED"
    print(f"\nterminated within {time.monotonic() - asked:.1f} s of being asked to")
    assert ui.days("lumina/pos_orders").get("MATERIALIZED") == ("2026-10-05", "2026-10-05")
    assert query(warehouse_url, "SELECT DISTINCT day::text FROM sync_log") == [("2026-10-05",)]
    sandbox.faults.clear()
    assert ui.wait_for_run(second, "CANCELED", "SUCCESS", "FAILURE") == "SUCCESS"
