"""Windows of insights in as few requests as Meta allows, made smaller only where Meta refuses them as too much data."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

from sync_pipeline.sources.answers import entries
from sync_pipeline.sources.errors import TooMuchDataError
from sync_pipeline.sources.graph import Graph, Params
from sync_pipeline.sources.paging import PageSize, WindowBudget, key_of
from sync_pipeline.sources.reports import Report

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
# Meta's own default. What is too much at this size is requested as a report.
SMALLEST_PAGE = 25


@dataclass(slots=True)
class _Fit:
    """The size of an account's requests that Meta accepts: days per window (None: any), rows per page, or reports."""

    page: PageSize
    report_page: PageSize
    days: int | None = None
    reports: bool = False

    def shrink(self, days: int) -> bool:
        """Choose the next smaller request after a window of `days` was refused. Returns False if there is none."""
        if days > 1:
            self.days = days // 2
        elif not self.reports:
            self.reports = True
        else:
            return False
        return True


class InsightReader:
    """Reads windows of insights and remembers, per account, the size of request that Meta accepts.

    `query` gives the parameters of a window: of ads (`ad_days`) or of accounts as a whole (`account_days`).
    """

    def __init__(self, graph: Graph, page_size: int, query: Callable[[date, date], Params]) -> None:
        self._graph = graph
        self._query = query
        self._key = key_of("ad_id", "date_start")
        self._page_size = page_size
        self._fits: dict[str, _Fit] = {}

    def read(
        self, account_id: str, since: date, until: date, on_restart: Callable[[date, date], None] = lambda *_: None
    ) -> Iterator[list[Any]]:
        """Yield the rows of the window page by page.

        A part that is refused after some of its pages is requested again from its start. `on_restart` is called before
        with its first and last day: the rows that came of these days are to be forgotten.

        Raises `TooMuchDataError` if Meta refuses even the report of a single day, `LimitExceededError` if the pages do
        not end.
        """
        fit = self._fits.get(account_id) or _Fit(self._largest_page(), self._largest_page())
        self._fits[account_id] = fit
        budget = WindowBudget(self._graph.place(account_id, since, until))
        start = since
        while start <= until:
            days = (until - start).days + 1
            if fit.days is not None:
                days = min(days, fit.days)
            end = start + timedelta(days=days - 1)
            try:
                if fit.reports:
                    yield from self._report(account_id, start, fit.report_page, budget)
                else:
                    # A window of several days is shortened before its pages are.
                    size = fit.page if start == end else fit.page.fixed()
                    yield from self._direct(account_id, start, end, size, budget)
            except TooMuchDataError:
                if not fit.shrink(days):
                    raise
                on_restart(start, end)
            else:
                start = end + timedelta(days=1)

    def _largest_page(self) -> PageSize:
        return PageSize(self._page_size, smallest=SMALLEST_PAGE)

    def _direct(
        self, account_id: str, since: date, until: date, size: PageSize, budget: WindowBudget
    ) -> Iterator[list[Any]]:
        place = self._graph.place(account_id, since, until)
        path, params = f"act_{account_id}/insights", self._query(since, until)
        return self._graph.pages(place, path, params, size=size, key=self._key, budget=budget, read=entries)

    def _report(self, account_id: str, day: date, size: PageSize, budget: WindowBudget) -> Iterator[list[Any]]:
        place = self._graph.place(account_id, day, day)
        report = Report.start(self._graph, place, account_id, self._query(day, day))
        report.finish()
        return report.rows(size, key=self._key, budget=budget)


def ad_days(since: date, until: date) -> Params:
    """Return the parameters for one row per ad and day with delivery, archived and deleted ads included."""
    return {**_daily("ad", FIELDS, since, until), "filtering": json.dumps([ANY_STATUS])}


def account_days(since: date, until: date) -> Params:
    """Return the parameters for one row per day of the account as a whole, unfiltered: the spend of every ad."""
    return _daily("account", ACCOUNT_FIELDS, since, until)


def _daily(level: str, fields: Sequence[str], since: date, until: date) -> Params:
    return {
        "level": level,
        "time_increment": 1,
        "time_range": json.dumps({"since": since.isoformat(), "until": until.isoformat()}),
        "fields": ",".join(fields),
    }
