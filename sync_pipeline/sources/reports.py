"""Asynchronous insight reports, for days that Graph refuses to answer directly."""

from collections.abc import Iterator
from typing import Any, Self

from sync_pipeline.rows.values import MAX_ID_LENGTH
from sync_pipeline.sources.answers import entries, one_line, whole_number
from sync_pipeline.sources.errors import Place, ReportFailedError, ResponseFormatError, SourceError
from sync_pipeline.sources.graph import Graph, Params
from sync_pipeline.sources.graph_errors import UNKNOWN_OBJECT
from sync_pipeline.sources.paging import PageSize, RowKey, WindowBudget
from sync_pipeline.sources.waits import backoff

FIRST_POLL_S = 2.0
LONGEST_POLL_S = 30.0
# Of all waits for one report: those for its end and those for its rows together.
MAX_REPORT_S = 1800.0
# A completed report normally reaches 100 % within seconds. Some stay below it for good, with all rows in them.
MAX_STANDSTILL_S = 300.0
# A run just created may be unknown for a moment, but not for this many polls in a row.
UNKNOWN_POLLS = 5
# "Error accessing adreport job": the report exists, but it cannot be loaded yet.
NOT_LOADED = (2601, 1815107)
_STATUS_FIELDS = "async_status,async_percent_completion,error_code,error_message,error_user_msg"


class Report:
    """One report run. All waits for it together are bounded by `MAX_REPORT_S`."""

    def __init__(self, graph: Graph, place: Place, run_id: str) -> None:
        self._graph = graph
        self._place = place
        self._run_id = run_id
        self._waited_s = 0.0
        self._waits = 0
        self._unknown_polls = 0
        # The highest percentage since the report is completed, and when it was first seen.
        self._highest: int | None = None
        self._highest_since_s = 0.0

    @classmethod
    def start(cls, graph: Graph, place: Place, account_id: str, params: Params) -> Self:
        """Start a report of these insight parameters."""
        found = graph.post(place, f"act_{account_id}/insights", params).get("report_run_id")
        run_id = str(found) if isinstance(found, int) and not isinstance(found, bool) else found
        if not isinstance(run_id, str) or not (run_id.isascii() and run_id.isdigit() and len(run_id) <= MAX_ID_LENGTH):
            raise ResponseFormatError(place, "the answer has no report_run_id")
        return cls(graph, place, run_id)

    def finish(self) -> None:
        """Wait until the report is done: Job Completed and 100 percent.

        A report that stays completed below 100 percent, without progress for `MAX_STANDSTILL_S`, counts as done. Raises
        `ReportFailedError` if the report failed, was skipped, or is not done in time.
        """
        progress = "it has not started"
        while True:
            self._wait(progress, "did not end")
            if (status := self._poll()) is None:
                continue
            state = one_line(str(status.get("async_status")), 60)
            percent = whole_number(status.get("async_percent_completion")) or 0
            progress = f"{state}, {percent} %"
            if state.lower() in {"job failed", "job skipped"}:
                raise self._failed(state, status)
            if state.lower() != "job completed":
                self._highest = None
            elif percent >= 100 or self._stands_still(percent):
                return

    def _poll(self) -> dict[str, Any] | None:
        """Return the status of the report, None while it cannot be read yet."""
        try:
            status = self._graph.get(self._place, self._run_id, {"fields": _STATUS_FIELDS})
        except SourceError as error:
            self._unknown_polls += _codes(error) == UNKNOWN_OBJECT
            if not _not_ready(error) or self._unknown_polls >= UNKNOWN_POLLS:
                raise
            return None
        self._unknown_polls = 0
        return status

    def _stands_still(self, percent: int) -> bool:
        """Note the percentage of a completed report. Returns whether it has not risen for `MAX_STANDSTILL_S`."""
        if self._highest is None or percent > self._highest:
            self._highest, self._highest_since_s = percent, self._waited_s
        if self._waited_s - self._highest_since_s < MAX_STANDSTILL_S:
            return False
        text = f"report {self._run_id} of {self._place}, {percent} % for {MAX_STANDSTILL_S:g} s"
        self._graph.notice("a report that stays completed below 100 % is read as it is", text, warning=True)
        return True

    def rows(self, size: PageSize, *, key: RowKey, budget: WindowBudget) -> Iterator[list[Any]]:
        """Yield the pages of the report, and wait while they cannot be read yet.

        The page size is always sent: without it Graph gives 25 rows per page. Raises `ReportFailedError` if a page
        cannot be read in time.
        """
        path = f"{self._run_id}/insights"
        return self._graph.pages(
            self._place, path, {}, size=size, key=key, budget=budget, read=entries, fetch=self._fetch_page
        )

    def _fetch_page(self, place: Place, path: str, params: Params) -> dict[str, Any]:
        self._waits = 0
        while True:
            try:
                return self._graph.get(place, path, params)
            except SourceError as error:
                if not _not_ready(error):
                    raise
                self._wait("its rows cannot be read yet", "has ended but could not be read", error)

    def _wait(self, progress: str, failure: str, cause: SourceError | None = None) -> None:
        """Wait before the next request. Raises `ReportFailedError` with `failure` if the time is up."""
        if self._waited_s >= MAX_REPORT_S:
            raise ReportFailedError(
                self._place,
                f"report {self._run_id} {failure} within {MAX_REPORT_S:g} s: {progress}",
                http_status=cause.http_status if cause else None,
                code=cause.code if cause else None,
                subcode=cause.subcode if cause else None,
                api_message=cause.api_message if cause else None,
                fbtrace_id=cause.fbtrace_id if cause else None,
            ) from cause
        seconds = backoff(FIRST_POLL_S, self._waits, LONGEST_POLL_S)
        self._graph.session.wait(self._place, seconds, f"report {self._run_id} of {self._place}: {progress}", "report")
        self._waited_s += seconds
        self._waits += 1

    def _failed(self, state: str, status: dict[str, Any]) -> ReportFailedError:
        messages = [status.get("error_message"), status.get("error_user_msg")]
        said = " / ".join(dict.fromkeys(message for message in messages if isinstance(message, str) and message))
        return ReportFailedError(
            self._place,
            f"report {self._run_id} ended as {state}",
            code=whole_number(status.get("error_code")),
            api_message=one_line(self._graph.redact(said)) or None,
        )


def _codes(error: SourceError) -> tuple[int | str | None, int | None]:
    return error.code, error.subcode


def _not_ready(error: SourceError) -> bool:
    return _codes(error) in {UNKNOWN_OBJECT, NOT_LOADED}
