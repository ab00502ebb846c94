"""Asynchronous insight reports: the slow way for what Graph refuses to answer directly."""

from collections.abc import Iterator
from typing import Any

from sync_pipeline.rows.values import MAX_ID_LENGTH
from sync_pipeline.sources.answers import entries, one_line, whole_number
from sync_pipeline.sources.errors import BadRequestError, Place, ReportFailedError, ResponseFormatError
from sync_pipeline.sources.graph import Graph, Params
from sync_pipeline.sources.paging import RowKey, WindowBudget
from sync_pipeline.sources.waits import backoff

FIRST_POLL_S = 2.0
LONGEST_POLL_S = 30.0
MAX_REPORT_S = 1800.0
# A run just created may be unknown for a moment (100/33), but not for this many polls.
UNKNOWN_POLLS = 5
_STATUS_FIELDS = "async_status,async_percent_completion,error_code,error_message,error_user_msg"


def start_report(graph: Graph, place: Place, account_id: str, params: Params) -> str:
    """Start a report of these insight parameters and return the id of its run."""
    found = graph.post(place, f"act_{account_id}/insights", params).get("report_run_id")
    run_id = str(found) if isinstance(found, int) and not isinstance(found, bool) else found
    if not isinstance(run_id, str) or not (run_id.isascii() and run_id.isdigit() and len(run_id) <= MAX_ID_LENGTH):
        raise ResponseFormatError(place, "the answer has no report_run_id")
    return run_id


def finish_report(graph: Graph, place: Place, run_id: str) -> None:
    """Wait until the report is done: Job Completed AND 100 percent.

    Raises `ReportFailedError` where it failed, was skipped, or is not done after 30 minutes of polling.
    """
    waited_s, polls = 0.0, 0
    progress = "it has not started"
    while waited_s < MAX_REPORT_S:
        seconds = backoff(FIRST_POLL_S, polls, LONGEST_POLL_S)
        graph.session.wait(place, seconds, f"report {run_id} of {place}: {progress}")
        waited_s, polls = waited_s + seconds, polls + 1
        status = _poll(graph, place, run_id, polls)
        if status is None:
            continue
        state = one_line(str(status.get("async_status")), 60)
        percent = whole_number(status.get("async_percent_completion"))
        if state.lower() in {"job failed", "job skipped"}:
            raise _failed(graph, place, run_id, state, status)
        if state.lower() == "job completed" and percent == 100:
            return
        progress = f"{state}, {percent or 0} %"
    raise ReportFailedError(place, f"report {run_id} did not end within {MAX_REPORT_S:g} s: {progress}")


def report_rows(
    graph: Graph, place: Place, run_id: str, page_size: int, *, key: RowKey, budget: WindowBudget
) -> Iterator[list[Any]]:
    """The rows of a report that is done; their page is 25 unless the limit is given here."""
    path = f"{run_id}/insights"
    return graph.pages(place, path, {"limit": page_size}, key=key, budget=budget, read=entries)


def _poll(graph: Graph, place: Place, run_id: str, polls: int) -> dict[str, Any] | None:
    try:
        return graph.get(place, run_id, {"fields": _STATUS_FIELDS})
    except BadRequestError as error:
        if error.subcode == 33 and polls < UNKNOWN_POLLS:
            return None
        raise


def _failed(graph: Graph, place: Place, run_id: str, state: str, status: dict[str, Any]) -> ReportFailedError:
    messages = [status.get("error_message"), status.get("error_user_msg")]
    said = " / ".join(dict.fromkeys(message for message in messages if isinstance(message, str) and message))
    return ReportFailedError(
        place,
        f"report {run_id} ended as {state}",
        code=whole_number(status.get("error_code")),
        api_message=one_line(graph.redact(said)) or None,
    )
