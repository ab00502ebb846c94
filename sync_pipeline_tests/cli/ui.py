"""The webserver in a test's hands."""

import json
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

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
SWITCH_OFF = """mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename } }"""
SCHEDULE_ID = """query ($selector: ScheduleSelector!) {
  scheduleOrError(scheduleSelector: $selector) { ... on Schedule { scheduleState { id } } }
}"""
READY = """{
  repositoriesOrError { ... on RepositoryConnection { nodes { name } } }
  instance { daemonHealth { allDaemonStatuses { required healthy } } }
}"""
REPOSITORY = {"repositoryLocationName": "sync_pipeline", "repositoryName": "__repository__"}
ENDED = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED"}


@dataclass
class Ui:
    """The webserver's GraphQL, as the UI speaks it."""

    url: str

    def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """Execute a GraphQL document once."""
        body = json.dumps({"query": document, "variables": variables}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
            return data

    def launch(self, **params: Any) -> str:
        launched = self.ask(LAUNCH, params={"partitionNames": WEEK, **params})["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def wait(self, backfill: str) -> dict[str, Any]:
        """Wait for the end of a backfill."""

        def shown() -> dict[str, Any]:
            found: dict[str, Any] = self.ask(BACKFILL, id=backfill)["partitionBackfillOrError"]
            return found

        return wait_until(shown, lambda found: found["status"] in ENDED, ignored=(OSError,))

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
        """Wait until the run has one of the statuses."""
        return wait_until(
            lambda: str(self.ask(RUN, id=run_id)["runOrError"]["status"]),
            lambda status: status in statuses,
            ignored=(OSError,),
        )

    def switch_off(self, schedule: str) -> None:
        """Stop a schedule, as the switch on its page does."""
        selector = {**REPOSITORY, "scheduleName": schedule}
        state = self.ask(SCHEDULE_ID, selector=selector)["scheduleOrError"]["scheduleState"]
        stopped = self.ask(SWITCH_OFF, id=state["id"])["stopRunningSchedule"]
        assert stopped["__typename"] == "ScheduleStateResult", stopped

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


def wait_until_served(ui: Ui, process: "subprocess.Popen[str]", log: Path) -> None:
    """Wait until the webserver has loaded the code location and the daemon is at work."""

    def ready() -> bool:
        data = ui.ask(READY)
        daemons = [one for one in data["instance"]["daemonHealth"]["allDaemonStatuses"] if one["required"]]
        return bool(data["repositoriesOrError"].get("nodes")) and all(daemon["healthy"] for daemon in daemons)

    try:
        wait_until(ready, process=process, ignored=(OSError,))
    except AssertionError as error:
        raise AssertionError(f"{error}\n{log.read_text()}") from None
