"""The webserver in a test's hands."""

import json
import time
import urllib.request
from dataclasses import dataclass
from typing import Any

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
