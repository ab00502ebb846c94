"""Requests that are made smaller lose no row and no amount, whatever size Meta accepts."""

import json
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.sources.errors import Place, TooMuchDataError
from sync_pipeline.sources.graph import Graph, Params
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sources.insights import SMALLEST_PAGE
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.paging import PageSize, WindowBudget, key_of
from sync_pipeline_tests.sources.scripted import Asked, Reply, ScriptedServer, graph_error, graph_page

PLACE = Place("acme", "meta", account_id="11")
MONDAY = date(2026, 10, 5)
LIMITS = st.integers(1, 120)


class RespondingServer(ScriptedServer):
    """Answers each request with what `respond` makes of it."""

    def __init__(self, respond: Callable[[Asked], Reply | object]) -> None:
        super().__init__()
        self.script = _Responses(self.asked, respond)  # type: ignore[assignment]


class _Responses:
    def __init__(self, asked: Sequence[Asked], respond: Callable[[Asked], Reply | object]) -> None:
        self._asked = asked
        self._respond = respond

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, number: int) -> Reply:
        found = self._respond(self._asked[number])
        return found if isinstance(found, Reply) else Reply(found)


def part_of(rows: Sequence[object], limit: int, after: str | None) -> dict[str, Any]:
    """One page; a cursor is the position of the next row."""
    start = int(after or 0)
    end = start + limit
    return graph_page(rows[start:end], after=str(end) if end < len(rows) else None)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.integers(0, 150),
    page_size=st.integers(1, 200),
    accepted=st.lists(st.integers(1, 200), min_size=1, max_size=8),
)
def test_halved_pages_yield_each_row_once_and_in_order(rows: int, page_size: int, accepted: list[int]) -> None:
    """What Meta accepts may change from one position to the next."""
    listed = [{"id": str(number)} for number in range(rows)]
    limits: list[int] = []

    def fetch(_place: Place, _path: str, params: Params) -> dict[str, Any]:
        limit, after = int(params["limit"]), params.get("after")
        limits.append(limit)
        if limit > accepted[int(after or 0) % len(accepted)]:
            raise TooMuchDataError(PLACE, "too much data")
        return part_of(listed, limit, None if after is None else str(after))

    graph = Graph(tenant="acme", graph_url="http://127.0.0.1:1", api_version="v26.0", token="EAABx", pacing=Pacing())
    size = PageSize(page_size)
    pages = graph.pages(PLACE, "me/x", {}, size=size, key=key_of("id"), budget=WindowBudget(PLACE), fetch=fetch)
    assert [row for page in pages for row in page] == listed
    assert limits == sorted(limits, reverse=True), "a size that was refused is not requested again"
    assert size.rows == limits[-1]


@settings(max_examples=15, deadline=None)
@given(
    ads=st.integers(0, 70),
    days=st.integers(1, 6),
    most_rows=st.integers(0, 300),
    most_report_rows=st.integers(SMALLEST_PAGE, 120),
    page_size=LIMITS,
    cents=st.lists(st.integers(0, 10**9), min_size=1, max_size=5),
)
def test_the_spend_of_a_window_survives_every_split(
    ads: int, days: int, most_rows: int, most_report_rows: int, page_size: int, cents: list[int]
) -> None:
    until = MONDAY + timedelta(days=days - 1)
    window = [(MONDAY + timedelta(days=n)).isoformat() for n in range(days)]
    spend = {
        (str(ad), day): Decimal(cents[(ad + place) % len(cents)]).scaleb(-2)
        for ad in range(ads)
        for place, day in enumerate(window)
    }
    runs: list[list[str]] = []

    def rows_of(asked: Sequence[str]) -> list[dict[str, str]]:
        return [
            {"ad_id": ad, "date_start": day, "spend": str(paid)} for (ad, day), paid in spend.items() if day in asked
        ]

    def days_of(params: dict[str, str]) -> list[str]:
        found = json.loads(params["time_range"])
        return [day for day in window if found["since"] <= day <= found["until"]]

    def respond(asked: Asked) -> Reply | object:
        if asked.method == "POST":
            runs.append(days_of(asked.form))
            return {"report_run_id": len(runs)}
        node = asked.path.removeprefix("/v26.0/").partition("/")[0]
        if "limit" not in asked.query:
            return {"async_status": "Job Completed", "async_percent_completion": 100}
        limit = int(asked.query["limit"])
        direct = node.startswith("act_")
        wanted = days_of(asked.query) if direct else runs[int(node) - 1]
        if (direct and limit * len(wanted) > most_rows) or (not direct and limit > most_report_rows):
            return Reply(graph_error(2637), 500)
        return part_of(rows_of(wanted), limit, asked.query.get("after"))

    with RespondingServer(respond) as server:
        client = MetaClient(
            tenant="acme",
            graph_url=server.url,
            token="EAABx",
            page_size=page_size,
            pacing=Pacing(delay_s=0),
            sleep=lambda _: None,
        )
        pages = list(client.insights("11", MONDAY, until))
    found = {(row["ad_id"], row["date_start"]): Decimal(row["spend"]) for page in pages for row in page}
    assert found == spend
    assert sum(found.values()) == sum(spend.values())


@settings(max_examples=15, deadline=None)
@given(ads=st.integers(0, 120), others=st.integers(0, 60), most_rows=st.integers(4, 120), page_size=LIMITS)
def test_every_status_comes_once_whatever_page_meta_accepts(
    ads: int, others: int, most_rows: int, page_size: int
) -> None:
    wanted = [f"1{number:03}" for number in range(ads)]
    stored = [f"2{number:03}" for number in range(others)] + wanted

    def respond(asked: Asked) -> Reply | object:
        limit = int(asked.query["limit"])
        if limit > most_rows:
            return Reply(graph_error(1, message="Please reduce the amount of data you're asking for"), 500)
        filters = {each["field"]: each["value"] for each in json.loads(asked.query["filtering"])}
        ids = filters.get("ad.id", stored)
        rows = [{"id": one, "status": "ACTIVE", "effective_status": "PAUSED"} for one in stored if one in ids]
        return part_of(rows, limit, asked.query.get("after"))

    with RespondingServer(respond) as server:
        client = MetaClient(
            tenant="acme", graph_url=server.url, token="EAABx", page_size=page_size, pacing=Pacing(delay_s=0)
        )
        found = [status.ad_id for page in client.ad_statuses("11", wanted) for status in page]
    assert sorted(found) == wanted
