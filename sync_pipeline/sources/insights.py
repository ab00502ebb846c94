"""A window of insights in as few requests as Meta allows, made smaller only where it says that it is too much."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from sync_pipeline.sources.answers import entries
from sync_pipeline.sources.errors import TooMuchDataError
from sync_pipeline.sources.graph import Graph, Params
from sync_pipeline.sources.paging import WindowBudget, key_of
from sync_pipeline.sources.reports import finish_report, report_rows, start_report

EFFECTIVE_STATUSES: Final = (
    "ACTIVE",
    "PAUSED",
    "DELETED",
    "ARCHIVED",
    "CAMPAIGN_PAUSED",
    "ADSET_PAUSED",
    "PENDING_REVIEW",
    "DISAPPROVED",
    "PREAPPROVED",
    "WITH_ISSUES",
    "IN_PROCESS",
    "PENDING_BILLING_INFO",
)
# Meta leaves archived and deleted ads out by default, and their spend with them.
ANY_STATUS: Final[Mapping[str, object]] = {
    "field": "ad.effective_status",
    "operator": "IN",
    "value": EFFECTIVE_STATUSES,
}
FIELDS: Final = (
    "account_id",
    "account_currency",
    "campaign_id",
    "campaign_name",
    "adset_id",
    "adset_name",
    "ad_id",
    "ad_name",
    "spend",
    "impressions",
    "clicks",
    "inline_link_clicks",
    "actions",
    "date_start",
    "date_stop",
)
ACCOUNT_FIELDS: Final = ("account_id", "account_currency", "spend", "date_start", "date_stop")
SMALLEST_PAGE = 25


@dataclass(slots=True)
class _Fit:
    """What an account's requests have been cut down to: days a window (None: any), rows a page, at last reports."""

    page_size: int
    days: int | None = None
    reports: bool = False

    def shrink(self, days: int) -> bool:
        """The next smaller way to ask, after a window of `days` was too much; False where there is none."""
        if days > 1:
            self.days = days // 2
        elif self.page_size > SMALLEST_PAGE:
            self.page_size = max(SMALLEST_PAGE, self.page_size // 2)
        elif not self.reports:
            self.reports = True
        else:
            return False
        return True


class InsightReader:
    """Reads windows of insights, and remembers per account which size Meta took, for as long as it lives.

    `query` gives the parameters of a window: of ads (`ad_days`) or of accounts as a whole (`account_days`).
    """

    def __init__(self, graph: Graph, page_size: int, query: Callable[[date, date], Params]) -> None:
        self._graph = graph
        self._query = query
        self._key = key_of("ad_id", "date_start")
        self._page_size = page_size
        self._fits: dict[str, _Fit] = {}

    def read(self, account_id: str, since: date, until: date) -> Iterator[list[Any]]:
        """The rows of the window page by page; those of a part that had to be asked for again come again.

        Raises `TooMuchDataError` where Meta refuses even the report of a single day, `LimitExceededError` where the
        pages do not end.
        """
        fit = self._fits.setdefault(account_id, _Fit(self._page_size))
        budget = WindowBudget(self._graph.place(account_id, since, until))
        start = since
        while start <= until:
            days = (until - start).days + 1
            if fit.days is not None:
                days = min(days, fit.days)
            end = start + timedelta(days=days - 1)
            try:
                if fit.reports:
                    yield from self._report(account_id, start, budget)
                else:
                    yield from self._direct(account_id, start, end, budget)
            except TooMuchDataError:
                if not fit.shrink(days):
                    raise
            else:
                start = end + timedelta(days=1)

    def _direct(self, account_id: str, since: date, until: date, budget: WindowBudget) -> Iterator[list[Any]]:
        params = {**self._query(since, until), "limit": self._fits[account_id].page_size}
        place = self._graph.place(account_id, since, until)
        path = f"act_{account_id}/insights"
        return self._graph.pages(place, path, params, key=self._key, budget=budget, read=entries)

    def _report(self, account_id: str, day: date, budget: WindowBudget) -> Iterator[list[Any]]:
        place = self._graph.place(account_id, day, day)
        run_id = start_report(self._graph, place, account_id, self._query(day, day))
        finish_report(self._graph, place, run_id)
        page_size = self._page_size
        while True:
            try:
                yield from report_rows(self._graph, place, run_id, page_size, key=self._key, budget=budget)
            except TooMuchDataError:
                if page_size <= SMALLEST_PAGE:
                    raise
                page_size = max(SMALLEST_PAGE, page_size // 2)
            else:
                return


def ad_days(since: date, until: date) -> Params:
    """What asks for one row per ad and day with delivery, whatever became of the ad since."""
    return {**_daily("ad", FIELDS, since, until), "filtering": json.dumps([ANY_STATUS])}


def account_days(since: date, until: date) -> Params:
    """What asks for one row per day of the account as a whole. Unfiltered: it holds what any ad has spent."""
    return _daily("account", ACCOUNT_FIELDS, since, until)


def _daily(level: str, fields: Sequence[str], since: date, until: date) -> Params:
    return {
        "level": level,
        "time_increment": 1,
        "time_range": json.dumps({"since": since.isoformat(), "until": until.isoformat()}),
        "fields": ",".join(fields),
    }
