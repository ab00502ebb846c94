"""The webserver's GraphQL in a test's hands: queries, launches, and waiting for runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

ENDED = ("SUCCESS", "FAILURE", "CANCELED")

Seen = TypeVar("Seen")

LAUNCH = """mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message }
  }
}"""
RUN = """query ($id: ID!) { runOrError(runId: $id) { ... on Run { status tags { key value } } } }"""
ERRORS = """query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events { __typename
  ... on MessageEvent { message }
  ... on ExecutionStepFailureEvent { error { message causes { message } } failureMetadata { description } }
} } } }"""
SENSORS = """query ($location: String!) {
  sensorsOrError(repositorySelector: {repositoryLocationName: $location, repositoryName: "__repository__"}) {
    ... on Sensors { results { name sensorState { ticks(limit: 50) { status skipReason } } } }
  }
}"""
JOBS = """{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } pipelines { name } } } } }"""
LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries {
  name locationOrLoadError { __typename ... on PythonError { message } } } } } }"""

# A query may be sent again whatever became of it.
QUERY_RETRIES = Retry(
    total=5, backoff_factor=0.5, status_forcelist=[500, 502, 503, 504], allowed_methods=None, raise_on_status=False
)
# A mutation that has reached the webserver may have been done, so only a refused connection is tried again.
MUTATION_RETRIES = Retry(total=5, connect=5, read=False, status=0, other=0, redirect=0, backoff_factor=0.5)


@dataclass(frozen=True)
class Browser:
    """The webserver's GraphQL, for the holder of the service token."""

    url: str
    token: str

    def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        """Execute a GraphQL document. A query is repeated while the webserver is busy, a mutation never."""
        retries = MUTATION_RETRIES if document.startswith("mutation") else QUERY_RETRIES
        with requests.Session() as session:
            session.trust_env = False
            session.mount("http://", HTTPAdapter(max_retries=retries))
            answer = session.post(
                f"{self.url}/graphql",
                json={"query": document, "variables": variables},
                headers={"Dagster-Cloud-Api-Token": self.token},
                timeout=PATIENCE_S,
            )
        answer.raise_for_status()
        told = answer.json()
        assert "errors" not in told, told["errors"]
        data: dict[str, Any] = told["data"]
        return data

    def locations(self) -> dict[str, str | None]:
        """Every code location, and why it cannot be reached, None where it can."""
        found: dict[str, str | None] = {}
        for entry in self.ask(LOCATIONS)["workspaceOrError"]["locationEntries"]:
            loaded = entry["locationOrLoadError"]
            found[entry["name"]] = loaded.get("message") if loaded else "not loaded yet"
        return found

    def launch(self, location: str, job: str, since: str, until: str, **tags: str) -> str:
        """Launch a job over a range of days, as its Partitions page does, and return the run's id."""
        selector = {"repositoryLocationName": location, "repositoryName": "__repository__", "jobName": job}
        wanted = {"dagster/asset_partition_range_start": since, "dagster/asset_partition_range_end": until, **tags}
        metadata = {"tags": [{"key": key, "value": value} for key, value in wanted.items()]}
        params = {"selector": selector, "mode": "default", "executionMetadata": metadata}
        launched = self.ask(LAUNCH, params=params)["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["id"])

    def job_names(self, location: str) -> set[str]:
        nodes = self.ask(JOBS)["repositoriesOrError"]["nodes"]
        return {job["name"] for node in nodes if node["location"]["name"] == location for job in node["pipelines"]}

    def ticks(self, location: str) -> dict[str, list[tuple[str, str]]]:
        """Of every sensor of a location how its ticks ended, and what they said."""
        sensors = self.ask(SENSORS, location=location)["sensorsOrError"].get("results", [])
        return {
            sensor["name"]: [(tick["status"], str(tick["skipReason"])) for tick in sensor["sensorState"]["ticks"]]
            for sensor in sensors
        }

    def status(self, run_id: str) -> str:
        return str(self.ask(RUN, id=run_id)["runOrError"]["status"])

    def tags(self, run_id: str) -> dict[str, str]:
        return {tag["key"]: tag["value"] for tag in self.ask(RUN, id=run_id)["runOrError"]["tags"]}

    def said(self, run_id: str) -> str:
        """What the run's page says of its failure: the messages of its events, and the errors under them."""
        return str(self.ask(ERRORS, id=run_id)["logsForRun"]["events"])

    def wait(self, run_id: str, *statuses: str) -> str:
        return wait_for(lambda: self.status(run_id), lambda status: status in (statuses or ENDED))


def wait_for(look: Callable[[], Seen], good: Callable[[Seen], object] = bool) -> Seen:
    """Look until the result is good, also while no webserver answers; fails with the last result."""
    return wait_until(look, good, ignored=(requests.RequestException,))
