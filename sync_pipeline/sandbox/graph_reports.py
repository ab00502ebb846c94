"""Asynchronous reports: started, polled several times, then read page by page."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.entities import Json, Tenant
from sync_pipeline.sandbox.exchange import Call, Reply, json_reply
from sync_pipeline.sandbox.graph_errors import RefusedError
from sync_pipeline.sandbox.graph_insights import Insights, InsightsQuery


@dataclass
class _Report:
    tenant: Tenant
    query: InsightsQuery
    started_at: int
    polls: int = 0
    unseen_polls: int = 0


class Reports:
    """The reports started since the server is up. `now` gives the time at which they start."""

    def __init__(self, insights: Insights, behaviour: Behaviour, now: Callable[[], datetime]) -> None:
        self._insights = insights
        self._now = now
        self._behaviour = behaviour
        self._reports: dict[str, _Report] = {}
        self._ids = count(7_000_000_000_000_001)

    def __contains__(self, name: str) -> bool:
        return name in self._reports

    def start(self, tenant: Tenant, query: InsightsQuery) -> Reply:
        """Start a report and answer its id."""
        number = next(self._ids)
        self._reports[str(number)] = _Report(
            tenant, query, int(self._now().timestamp()), unseen_polls=self._behaviour.reports_invisible_polls
        )
        return json_reply({"report_run_id": number if self._behaviour.numeric_report_ids else str(number)})

    def _find(self, call: Call, name: str, tenant: Tenant) -> _Report:
        report = self._reports[name]
        if report.tenant.name != tenant.name:
            raise RefusedError(errors.no_such_object(call.method, name))
        return report

    def poll(self, call: Call, name: str, tenant: Tenant) -> Reply:
        """The state of a report; every poll advances it."""
        report = self._find(call, name, tenant)
        if report.unseen_polls > 0:
            report.unseen_polls -= 1
            raise RefusedError(errors.no_such_object(call.method, name))
        status, percent = self._state(report.polls)
        report.polls += 1
        query = report.query
        body: Json = {
            "id": name,
            "account_id": query.account.account_id,
            "time_ref": report.started_at,
            "async_status": status,
            "async_percent_completion": percent,
            "is_running": status in {"Job Not Started", "Job Running"},
            "date_start": query.since.isoformat(),
            "date_stop": query.until.isoformat(),
        }
        if status == "Job Failed":
            body |= {
                "error_code": 2,
                "error_message": "An unexpected error has occurred. Please retry your request later.",
                "error_user_msg": "The report could not be finished.",
            }
        return json_reply(body)

    def rows(self, call: Call, name: str, tenant: Tenant) -> Reply:
        """One page of a finished report's rows."""
        report = self._find(call, name, tenant)
        first_readable = self._behaviour.reports_unfinished_polls + (self._behaviour.reports_completed_below_100 or 0)
        if report.polls <= first_readable or self._behaviour.report_outcome != "completed":
            raise RefusedError(errors.REPORT_NOT_READY)
        return self._insights.page(call, report.query)

    def _state(self, polls: int) -> tuple[str, int]:
        """Return the status and percentage that a report shows after this number of polls."""
        unfinished, below_100 = self._behaviour.reports_unfinished_polls, self._behaviour.reports_completed_below_100
        if polls < unfinished:
            return ("Job Not Started", 0) if polls == 0 else ("Job Running", 40)
        if self._behaviour.report_outcome != "completed":
            return f"Job {self._behaviour.report_outcome.capitalize()}", 0
        return "Job Completed", 90 if below_100 is None or polls < unfinished + below_100 else 100
