"""Async reports: started, polled several times, then read page by page."""

from dataclasses import dataclass
from itertools import count

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.entities import AdAccount, Json, Tenant
from sync_pipeline.sandbox.exchange import Call, Reply, json_reply
from sync_pipeline.sandbox.graph_errors import RefusedError
from sync_pipeline.sandbox.graph_insights import Insights, InsightsQuery

_POLLS: tuple[tuple[str, int], ...] = (
    ("Job Not Started", 0),
    ("Job Running", 40),
    # Completed below 100 %: the rows are not all there yet.
    ("Job Completed", 90),
    ("Job Completed", 100),
)


@dataclass
class _Report:
    tenant: Tenant
    query: InsightsQuery
    polls: int = 0
    unseen_polls: int = 0


class Reports:
    """The reports started since the server is up."""

    def __init__(self, insights: Insights, behaviour: Behaviour) -> None:
        self._insights = insights
        self._behaviour = behaviour
        self._reports: dict[str, _Report] = {}
        self._ids = count(7_000_000_000_000_001)

    def __contains__(self, name: str) -> bool:
        return name in self._reports

    def start(self, call: Call, tenant: Tenant, account: AdAccount) -> Reply:
        """Starts a report and answers its id."""
        number = next(self._ids)
        query = self._insights.read(call, account)
        self._reports[str(number)] = _Report(tenant, query, unseen_polls=self._behaviour.reports_invisible_polls)
        # The id comes as a number or as text.
        return json_reply({"report_run_id": str(number) if number % 2 else number})

    def _find(self, call: Call, name: str, tenant: Tenant) -> _Report:
        report = self._reports[name]
        if report.tenant.name != tenant.name:
            raise RefusedError(errors.no_such_object(call.method, name))
        return report

    def poll(self, call: Call, name: str, tenant: Tenant) -> Reply:
        """How far the report is; every poll brings it on."""
        report = self._find(call, name, tenant)
        if report.unseen_polls > 0:
            report.unseen_polls -= 1
            raise RefusedError(errors.no_such_object(call.method, name))
        status, percent = _POLLS[min(report.polls, len(_POLLS) - 1)]
        report.polls += 1
        body: Json = {"id": name, "account_id": report.query.account.account_id}
        outcome = self._behaviour.report_outcome
        if outcome != "completed" and report.polls > 2:
            status, percent = f"Job {outcome.capitalize()}", 0
            if outcome == "failed":
                body |= {
                    "error_code": 2,
                    "error_message": "An unexpected error has occurred. Please retry your request later.",
                    "error_user_msg": "The report could not be finished.",
                }
        return json_reply({**body, "async_status": status, "async_percent_completion": percent})

    def rows(self, call: Call, name: str, tenant: Tenant) -> Reply:
        """One page of a finished report's rows."""
        report = self._find(call, name, tenant)
        if report.polls < len(_POLLS) or self._behaviour.report_outcome != "completed":
            raise RefusedError(errors.bad_parameter("The report is not ready yet"))
        return self._insights.page(call, report.query)
