"""The fault matrix: everything the APIs are known to answer, at every place a sync asks, one test per cell.

A cell waits and ends with the tables of an undisturbed sync, or asks in smaller pieces and ends with the same, or fails
naming the very place, with the days before committed and nothing of the day that failed. Where statuses cannot be
fetched, a cell ends with the insights of an undisturbed sync and a warning that names the place. In none of them does a
secret show anywhere. `python -m pytest sync_pipeline_tests/sync/test_fault_matrix.py -s` prints the matrix at its end.
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import sqlalchemy as sa

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Effect, Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sandbox.world import World
from sync_pipeline.sources import errors
from sync_pipeline.sources.errors import SourceError
from sync_pipeline.sync import META, POS
from sync_pipeline.sync.errors import SyncFailedError
from sync_pipeline_tests.sandboxes import demanding
from sync_pipeline_tests.sync.bench import (
    LONG_TIMEOUTS_S,
    SECOND_ACCOUNT,
    SECOND_SHOP,
    SHORT_TIMEOUTS_S,
    Bench,
    Tables,
    days_from,
    demo_tenant,
    small_world,
)

INSIGHTS_PAGE, ORDERS_PAGE, BIG_PAGE = 2, 3, 200
TENANT = "lumina"

DISCOVERY, SHOPS = "discovery", "shops"
INSIGHTS_FIRST, INSIGHTS_MIDDLE, STATUSES = "insights page 1", "insights middle page", "statuses"
ORDERS_FIRST, ORDERS_LAST = "orders page 1", "orders last page"
META_PLACES = (DISCOVERY, INSIGHTS_FIRST, INSIGHTS_MIDDLE, STATUSES)
POS_PLACES = (SHOPS, ORDERS_FIRST, ORDERS_LAST)
PLACES = META_PLACES + POS_PLACES
NO_DAY = (DISCOVERY, SHOPS)
# All other errors cost the statuses alone.
END_EVERY_REQUEST = (errors.TokenError, errors.AppProofError, errors.ApiVersionError, errors.PolicyBlockedError)
FIGURES_QUERY = """
    SELECT to_jsonb(i) - 'status' - 'effective_status' FROM meta_ad_insights AS i ORDER BY date, account_id, ad_id
"""


@dataclass(frozen=True)
class Waits:
    """The cell waits so many seconds, give or take, and then goes on."""

    seconds: float
    tolerance: float = 0.0


@dataclass(frozen=True)
class Smaller:
    """The cell asks for less at a time where that is possible, and fails where it is not."""


Expected = type[SourceError] | Waits | Smaller


@dataclass(frozen=True)
class Row:
    """A fault, and what is expected of it at Meta's and at Pancake's places; None where it is not theirs.

    `effect` is given the token or key that the API was sent.
    """

    name: str
    effect: Callable[[str], Effect]
    meta: Expected | None = None
    pos: Expected | None = None


def row(name: str, effect: Effect, meta: Expected | None = None, pos: Expected | None = None) -> Row:
    return Row(name, lambda _: effect, meta, pos)


def graph(name: str, effect: Effect, expected: Expected) -> Row:
    return row(f"Graph {name}", effect, meta=expected)


def pancake(name: str, effect: Effect, expected: Expected) -> Row:
    return row(f"Pancake {name}", effect, pos=expected)


def either(name: str, effect: Effect, expected: Expected, pos: Expected | None = None) -> Row:
    return row(name, effect, expected, pos or expected)


def regain(minutes: int) -> dict[str, str]:
    entry = {"type": "ads_insights", "call_count": 100, "estimated_time_to_regain_access": minutes}
    return {"X-Business-Use-Case-Usage": json.dumps({SECOND_ACCOUNT: [entry]})}


def reset_in(seconds: int) -> dict[str, str]:
    return {"X-Ad-Account-Usage": json.dumps({"acc_id_util_pct": 100, "reset_time_duration": seconds})}


def told(secret: str) -> str:
    """What an API might say that repeats the credential it was given."""
    return f"{secret} refused at https://x.example/?access_token={secret}&api_key={secret}"


def in_ten_minutes(_: str) -> Effect:
    return faults.rate_limited(format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True))


PANCAKE_LIMIT = {"success": False, "message": "You have reached the limit of requests", "error_code": 106}
code = faults.graph_error_code
named = faults.graph_error
ROWS = [
    graph("190/463 token expired, HTTP 401", named("expired_token"), errors.TokenError),
    Row("Graph 190 token malformed, quoted", lambda token: code(190, message=told(token)), meta=errors.TokenError),
    graph("190 behind HTTP 200", code(190, 460, status=200), errors.TokenError),
    graph("102 session", code(102), errors.TokenError),
    graph("104 appsecret_proof", named("bad_proof"), errors.AppProofError),
    graph("200 no permission, HTTP 403", named("no_permission"), errors.PermissionDeniedError),
    graph("10 no permission", code(10), errors.PermissionDeniedError),
    graph("100 bad parameter", named("bad_parameter"), errors.BadRequestError),
    graph("100/33 no such object", named("no_such_object"), errors.BadRequestError),
    graph("2500 unknown path", named("unknown_path"), errors.BadRequestError),
    graph("2642 bad cursor", named("bad_cursor"), errors.BadRequestError),
    graph("1/99 transient, HTTP 500", named("transient"), errors.TransientError),
    graph("2 unavailable, HTTP 503", named("unavailable"), errors.TransientError),
    graph("960 timed out, HTTP 400", named("timed_out"), errors.TransientError),
    graph("any code, is_transient", code(9999, is_transient=True), errors.TransientError),
    graph("368 policy", named("policy_block"), errors.PolicyBlockedError),
    graph("2635 version gone", named("version_gone"), errors.ApiVersionError),
    graph("3018 before 37 months", named("beyond_history"), errors.HistoryLimitError),
    graph("unknown code", code(9999), errors.ApiError),
    graph("4/1504022, HTTP 403", named("app_limit"), Waits(60)),
    graph("4 behind HTTP 200", code(4, status=200), Waits(60)),
    graph("17/2446079, 3 minutes to regain access", code(17, 2446079, headers=regain(3)), Waits(180)),
    graph("32, reset in 45 s", code(32, headers=reset_in(45)), Waits(45)),
    graph("341, 1 minute or 90 s", code(341, headers=regain(1) | reset_in(90)), Waits(90)),
    graph("613/1487742", named("call_limit"), Waits(60)),
    graph("80000/2446079, 2 minutes", code(80000, 2446079, headers=regain(2)), Waits(120)),
    graph("80014", code(80014), Waits(60)),
    graph("no code, a text alone", faults.json_body({"error": "Application request limit reached"}, 403), Waits(60)),
    graph("100 Missing permissions", code(100, message="(#100) Missing permissions"), errors.PermissionDeniedError),
    graph("1/2853001, not transient", code(1, 2853001, status=500, is_transient=False), errors.ApiError),
    graph("2637 too much data", code(2637), Smaller()),
    graph("1 reduce the amount of data, HTTP 500", named("too_much_data"), Smaller()),
    graph("100/1487534", named("too_much_data_async_hint"), Smaller()),
    graph("100/1504018", named("too_much_data_rows"), Smaller()),
    graph("2/1504038", named("too_much_data_timeout"), Smaller()),
    pancake("403 with 105, bad key", faults.pancake_bad_key(), errors.TokenError),
    pancake("200 success: false", faults.pancake_failure("Shop is locked"), errors.ApiError),
    Row(
        "Pancake 200 success: false quoting the key", lambda key: faults.pancake_failure(told(key)), pos=errors.ApiError
    ),
    pancake("200 with 106, rate limit", faults.json_body(PANCAKE_LIMIT), Waits(5)),
    pancake("403 with 106, rate limit", faults.json_body(PANCAKE_LIMIT, 403), Waits(5)),
    pancake("500 with 106, rate limit", faults.json_body(PANCAKE_LIMIT, 500), Waits(5)),
    pancake("400 JSON", faults.json_body({"success": False, "message": "Invalid"}, 400), errors.ApiError),
    pancake("404 JSON", faults.json_body({"success": False, "message": "Not found"}, 404), errors.BadRequestError),
    pancake("500 JSON", faults.json_body({"success": False, "message": "Oops"}, 500), errors.TransientError),
    pancake("504 text", faults.http_error(504, "Gateway Timeout"), errors.TransientError),
    either("429, Retry-After: 7", faults.rate_limited("7"), Waits(7)),
    Row("429, Retry-After: an HTTP date", in_ten_minutes, Waits(600, 100), Waits(600, 100)),
    either("429, no Retry-After", faults.rate_limited(None), Waits(5)),
    either("400 text", faults.http_error(400, "Bad Request"), errors.ApiError),
    either("401 text", faults.http_error(401, "Unauthorized"), errors.TokenError),
    either("403 text", faults.http_error(403, "Forbidden"), errors.ApiError, errors.PermissionDeniedError),
    Row(
        "500 text quoting token or key",
        lambda secret: faults.http_error(500, told(secret)),
        errors.TransientError,
        errors.TransientError,
    ),
    either("502 HTML", faults.html(502), errors.TransientError),
    either("HTML, HTTP 200", faults.html(), errors.ResponseFormatError),
    either("wrong content type", faults.wrong_content_type(), errors.ResponseFormatError),
    either("empty body", faults.empty_body(), errors.ResponseFormatError),
    either("no JSON", faults.no_json(), errors.ResponseFormatError),
    either("null", faults.json_body(None), errors.ResponseFormatError),
    either("JSON of another shape", faults.json_body({"data": {}, "shops": 5}), errors.ResponseFormatError),
    either("truncated body", faults.truncated(), errors.TruncatedResponseError),
    Row("no answer in time", lambda _: faults.held(), errors.TimedOutError, errors.TimedOutError),
    either("connection reset", faults.reset(), errors.ConnectionFailedError),
    Row(
        "redirect with token or key",
        lambda secret: faults.redirect(f"https://x.example/{secret}?api_key={secret}&access_token={secret}"),
        errors.RedirectError,
        errors.RedirectError,
    ),
]
CELLS = [
    pytest.param(r, place, expected, id=f"{r.name} - {place}")
    for r in ROWS
    for places, expected in ((META_PLACES, r.meta), (POS_PLACES, r.pos))
    if expected is not None
    for place in places
]
# What a workflow with on_error: continue makes of the same: the source ends, the others are stored, or the day fails.
ENDS_SOURCE = (errors.TokenError, errors.AppProofError, errors.PolicyBlockedError, errors.ApiVersionError)
REFUSES_ONE = (errors.PermissionDeniedError, errors.BadRequestError, errors.ApiError)
CONTINUED = [
    pytest.param(r, place, expected, id=f"{r.name} - {place}")
    for r in ROWS
    for place, expected in ((INSIGHTS_FIRST, r.meta), (ORDERS_FIRST, r.pos))
    # Each of several waits for an answer that never comes would take as long as many other cells.
    if isinstance(expected, type) and expected is not errors.TimedOutError
]


@dataclass(frozen=True, repr=False)
class Stage:
    """Five days whose third one is met by the faults, and what they look like undisturbed.

    On the third day the second account has an ad that the days before did not have, so its statuses are asked for
    again, and at least three pages of insights; the second shop has at least two pages of orders.
    """

    bench: Bench
    days: list[date]
    new_ad: str
    middle_cursor: str
    last_page_of_day: int
    last_page_of_window: int
    tables: Tables
    insights_without_status: list[tuple[object, ...]]
    requests: dict[str, int]

    def fault(self, place: str, effect: Effect, *, once: bool) -> Fault:
        """The effect at the place; what covers the third day meets it, be it asked for alone or in a window."""
        third = self.days[2]
        times = 1 if once else None
        insights, orders = f"/act_{SECOND_ACCOUNT}/insights$", f"/shops/{SECOND_SHOP}/orders$"
        last_page = self.last_page_of_window if once else self.last_page_of_day
        match place:
            case "discovery":
                return Fault(effect, path="/me/[a-z_]+$", times=times)
            case "insights page 1":
                first = r"^(?=.*(^|&)level=ad(&|$))(?!.*(^|&)after=)"
                return Fault(effect, path=insights, query=first, method="GET", covers_day=third, times=times)
            case "insights middle page":
                middle = f"(^|&)after={self.middle_cursor}(&|$)"
                return Fault(effect, path=insights, query=middle, method="GET", covers_day=third, times=times)
            case "statuses":
                return Fault(effect, path=f"/act_{SECOND_ACCOUNT}/ads$", query=self.new_ad, times=times)
            case "shops":
                return Fault(effect, path="/shops$", times=times)
            case "orders page 1":
                return Fault(effect, path=orders, query="(^|&)page_number=1(&|$)", covers_day=third, times=times)
            case _:
                last = f"(^|&)page_number={last_page}(&|$)"
                return Fault(effect, path=orders, query=last, covers_day=third, times=times)

    def of_days(self, meta: list[date], pos: list[date]) -> Tables:
        """The undisturbed tables, these days of them alone."""
        insights, orders = self.tables
        return [row for row in insights if row[0] in meta], [row for row in orders if row[0] in pos]


def suitable_days(world: World) -> tuple[list[date], str]:
    """The latest five days that the faults can meet as `Stage` says, and the ad that is new on the third."""
    for back in range(10, 700):
        days = days_from(date(2026, 10, 20) - timedelta(days=back), 5)
        first, second, third = ({r.ad.ad_id for r in world.insights(SECOND_ACCOUNT, day)} for day in days[:3])
        new = third - first - second
        if new and len(third) > 2 * INSIGHTS_PAGE and len(world.orders(int(SECOND_SHOP), days[2])) > ORDERS_PAGE + 1:
            return days, min(new)
    raise AssertionError("this world has no such days")


def asked(bench: Bench, kind: str, path: str, parameter: str) -> list[str]:
    """The values of a parameter in the requests so far."""
    queries = [parse_qs(request.query) for request in bench.sandbox.requests.all(kind, path)]
    return [query[parameter][0] for query in queries if parameter in query]


@pytest.fixture(scope="module")
def stage(shared_engine: sa.Engine, tenant_files: Path) -> Iterator[Stage]:
    world = small_world(ads=6, orders=6)
    with SandboxServer(world=world, behaviour=demanding()) as sandbox:
        bench = Bench(sandbox, shared_engine, demo_tenant(tenant_files))
        days, new_ad = suitable_days(world)
        bench.insights_page, bench.orders_page = INSIGHTS_PAGE, ORDERS_PAGE
        bench.sync([days[2]])
        cursors = asked(bench, "insights", SECOND_ACCOUNT, "after")
        last_of_day = max(map(int, asked(bench, "orders", SECOND_SHOP, "page_number")))
        sandbox.requests.clear()
        bench.sync(days)
        last_of_window = max(map(int, asked(bench, "orders", SECOND_SHOP, "page_number")))
        assert len(cursors) >= 2
        assert 2 <= last_of_day < last_of_window
        tables, requests = bench.tables(), {}
        for place in PLACES:
            page_as_needed(bench, place)
            sandbox.requests.clear()
            bench.sync(days)
            requests[place] = len(sandbox.requests.all())
        assert bench.tables() == tables
        without_status = bench.query(FIGURES_QUERY)
        yield Stage(bench, days, new_ad, cursors[-2], last_of_day, last_of_window, tables, without_status, requests)


def page_as_needed(bench: Bench, place: str) -> None:
    """Small pages where the place is one of several pages, big ones elsewhere, where requests would only take time."""
    bench.insights_page = INSIGHTS_PAGE if place in (INSIGHTS_FIRST, INSIGHTS_MIDDLE) else BIG_PAGE
    bench.orders_page = ORDERS_PAGE if place in (ORDERS_FIRST, ORDERS_LAST) else BIG_PAGE


@pytest.fixture(scope="module")
def matrix() -> Iterator[dict[str, dict[str, str]]]:
    """What came of each cell, by fault and place; printed at the end where output is not captured."""
    found: dict[str, dict[str, str]] = {}
    yield found
    lines = (
        ["fault", *PLACES],
        ["---"] * (len(PLACES) + 1),
        *([n, *(c.get(p, "") for p in PLACES)] for n, c in found.items()),
    )
    sys.stdout.write("\n\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n")


@pytest.mark.parametrize(("fault_row", "place", "expected"), CELLS)
def test_fault(
    stage: Stage,
    matrix: dict[str, dict[str, str]],
    caplog: pytest.LogCaptureFixture,
    fault_row: Row,
    place: str,
    expected: Expected,
) -> None:
    caplog.set_level(logging.DEBUG)
    bench = stage.bench
    bench.execute("DELETE FROM tenants")
    bench.sandbox.faults.clear()
    page_as_needed(bench, place)
    bench.timeouts_s = SHORT_TIMEOUTS_S if expected is errors.TimedOutError else LONG_TIMEOUTS_S
    if place in NO_DAY and not isinstance(expected, Waits):
        bench.sync(stage.days[:2])  # so that there is something to leave alone
    fault = bench.sandbox.faults.add(
        stage.fault(place, fault_row.effect(bench.secret_of(source_of(place))), once=isinstance(expected, Waits))
    )
    bench.sandbox.requests.clear()
    error: Exception | None = None
    try:
        bench.sync(stage.days)
    except Exception as raised:  # noqa: BLE001 - whatever it is, the assertions below say what it had to be
        error = raised

    assert fault.hits > 0
    if isinstance(expected, Waits):
        outcome = waited(stage, place, expected, error, fault)
    elif isinstance(expected, Smaller) and place in (INSIGHTS_FIRST, INSIGHTS_MIDDLE):
        outcome = made_smaller(stage, error)
    else:
        kind = errors.TooMuchDataError if isinstance(expected, Smaller) else expected
        costs_statuses = place == STATUSES and kind not in END_EVERY_REQUEST
        outcome = without_statuses(stage, error) if costs_statuses else failed(stage, place, kind, error)
    written = [
        *logged(caplog),
        *(repr(wait) for wait in bench.waits),
        *bench.unavailable,
        *texts_of(error),
        bench.everything(),
    ]
    assert any("HTTP/1.1" in text for text in written), "the HTTP library's own log is part of this"
    assert [secret for secret in bench.secrets if any(secret in text for text in written)] == []
    matrix.setdefault(fault_row.name, {})[place] = outcome


@pytest.mark.parametrize(("fault_row", "place", "kind"), CONTINUED)
def test_fault_with_continue(stage: Stage, fault_row: Row, place: str, kind: type[SourceError]) -> None:
    bench, days, source = stage.bench, stage.days, source_of(place)
    bench.execute("DELETE FROM tenants")
    bench.sandbox.faults.clear()
    page_as_needed(bench, place)
    bench.timeouts_s = LONG_TIMEOUTS_S
    bench.sync(days[:2])
    bench.sandbox.faults.add(stage.fault(place, fault_row.effect(bench.secret_of(source)), once=False))
    bench.sandbox.requests.clear()
    with pytest.raises(SyncFailedError) as failure:
        bench.sync(days, go_on=True)
    assert [type(error) for error in failure.value.errors] == [kind]
    assert [secret for secret in bench.secrets if secret in str(failure.value) + bench.everything()] == []

    every = stage.of_days(days, days)
    if kind in REFUSES_ONE:
        second = SECOND_ACCOUNT if source == META else SECOND_SHOP
        expected = tuple([row for row in rows if second not in row or row[0] in days[:2]] for rows in every)
        assert [one.scope for one in failure.value.missing] == [second]
        asked = bench.sandbox.requests.count("insights" if source == META else "orders", second)
        # An unclear refusal of the window is looked at day by day until the third one.
        assert asked == 1 or kind in (errors.ApiError, errors.BadRequestError)
    else:
        ends = kind in ENDS_SOURCE
        stored = days[:2] if ends else [day for day in days if day != days[2]]
        meta, pos = (stored, days) if source == META else (days, stored)
        expected = stage.of_days(meta, pos)
        assert failure.value.missing == [] or (source == POS and kind is errors.TokenError)
    assert bench.tables() == expected


def waited(stage: Stage, place: str, expected: Waits, error: Exception | None, fault: Fault) -> str:
    """It waited once, sent the same request again, and nothing else is different from an undisturbed sync."""
    bench = stage.bench
    assert error is None
    assert fault.hits == 1
    [seconds] = bench.slept
    assert abs(seconds - expected.seconds) <= expected.tolerance
    [wait] = bench.waits
    assert (wait.place.tenant, wait.place.source, wait.seconds) == (TENANT, source_of(place), seconds)
    assert len(bench.sandbox.requests.all()) == stage.requests[place] + 1
    assert bench.tables() == stage.tables
    return f"waited {expected.seconds:g} s" if not expected.tolerance else "waited until then"


def made_smaller(stage: Stage, error: Exception | None) -> str:
    """Windows were halved, and at last each day asked for as a report; the tables are those of an undisturbed sync."""
    requests = stage.bench.sandbox.requests
    assert error is None
    assert requests.count("report_start", SECOND_ACCOUNT) > 0
    assert stage.bench.tables() == stage.tables
    return f"smaller: {requests.count('report_start')} reports"


def without_statuses(stage: Stage, error: Exception | None) -> str:
    """It stored everything but statuses of the one account, and said once which and why."""
    bench = stage.bench
    assert error is None
    assert bench.query(FIGURES_QUERY) == stage.insights_without_status
    assert bench.tables()[1] == stage.tables[1]
    assert all(result.complete for result in bench.committed)
    without = bench.query("SELECT DISTINCT account_id FROM meta_ad_insights WHERE status IS NULL")
    assert without == [(SECOND_ACCOUNT,)]
    assert bench.query(f"SELECT DISTINCT status FROM meta_ad_insights WHERE ad_id = '{stage.new_ad}'") == [(None,)]
    [warning] = bench.unavailable
    assert f"account {SECOND_ACCOUNT}, {stage.days[0]} to {stage.days[-1]}" in warning
    return "stored without statuses"


def failed(stage: Stage, place: str, kind: type[SourceError], error: Exception | None) -> str:
    """It failed naming the place; what was committed is whole, and of the day that failed there is nothing."""
    bench, days = stage.bench, stage.days
    assert isinstance(error, SourceError), error
    assert type(error) is kind
    day = None if place in NO_DAY else days[2]
    account_id = SECOND_ACCOUNT if place in (INSIGHTS_FIRST, INSIGHTS_MIDDLE, STATUSES) else None
    shop_id = SECOND_SHOP if place in (ORDERS_FIRST, ORDERS_LAST) else None
    found = error.place
    assert (found.tenant, found.source) == (TENANT, source_of(place))
    assert (found.account_id, found.shop_id) == (account_id, shop_id)
    assert (found.since, found.until) == (day, day)
    for part in (TENANT, account_id, shop_id, None if day is None else day.isoformat()):
        assert part is None or part in str(error)

    if day is None:
        assert bench.steps() == []
        assert bench.tables() == stage.of_days(days[:2], days[:2])
    else:
        # On each day Meta is committed before POS.
        steps = [(day, source) for day in days for source in (META, POS)]
        assert bench.steps() == (steps[:4] if source_of(place) == META else steps[:5])
        meta_days = days[:2] if source_of(place) == META else days[:3]
        assert bench.stored_days() == {META: meta_days, POS: days[:2]}
        assert bench.tables() == stage.of_days(meta_days, days[:2])
    return f"failed: {kind.__name__}"


def source_of(place: str) -> str:
    return META if place in META_PLACES else POS


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    # The sandbox shares this process; what its own server logs is not ours.
    formatter = logging.Formatter()
    return [formatter.format(record) for record in caplog.records if not record.name.startswith("uvicorn")]


def texts_of(error: Exception | None) -> list[str]:
    """All that a program may show of an error."""
    if error is None:
        return []
    shown = [str(error), repr(error), repr(error.args), repr(vars(error)), *traceback.format_exception(error)]
    return [*shown, repr(error.metadata())] if isinstance(error, SourceError) else shown
