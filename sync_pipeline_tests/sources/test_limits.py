"""An API that wants to take the memory, the time or the disk of the machine."""

import gzip
import json
import re
import signal
import threading
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.sources import errors, json_text, limits
from sync_pipeline.sources.answers import Answer, error_page
from sync_pipeline.sources.errors import LimitExceededError, Place, ResponseFormatError
from sync_pipeline.sources.graph import next_cursor
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sources.json_text import parse_json
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.paging import PageProgress, WindowBudget, key_of
from sync_pipeline.sources.pancake import OrderListing, PancakeClient
from sync_pipeline_tests.sources.conftest import Bench
from sync_pipeline_tests.sources.hostile import HostileServer, Sender, outcome_of, response
from sync_pipeline_tests.sources.scripted import Reply, ScriptedServer, graph_page

MakeBench = Callable[..., Bench]
DAY = date(2026, 10, 25)
NOON = datetime(2026, 10, 25, 12, tzinfo=UTC)
PLACE = Place("acme", "meta", account_id="11", since=DAY, until=DAY)
MOST_MEMORY_MB = 400
MIB = 2**20
NO_DELAY = Pacing(delay_s=0)
MEASURED = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="needs the peak of memory that Linux notes"
)


# Memory


def deflate_bomb(mebibytes: int) -> bytes:
    """Blocks that do not refer to each other, so that one may be repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)) * mebibytes


def endless(start: bytes, part: bytes) -> Iterator[bytes]:
    yield start
    while True:
        yield part


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
# A stored block without data, and a member of gzip without data: bytes received that decompress to nothing.
EMPTY_MEMBER = gzip.compress(b"")
BOMB = gzip.compress(bytes(MIB)) * 1024
MEMORY_ATTACKS: dict[str, tuple[Sender, str]] = {
    "gzip": (lambda: response(BOMB, "Content-Encoding: gzip"), "body exceeds 16 MiB"),
    "x-gzip": (lambda: response(BOMB, "Content-Encoding: x-gzip"), "body exceeds 16 MiB"),
    "deflate": (
        lambda: response(deflate_bomb(1024), "Content-Encoding: deflate"),
        "body exceeds 16 MiB",
    ),
    "gzip of gzip": (
        lambda: response(gzip.compress(BOMB), "Content-Encoding: gzip, gzip"),
        "Content-Encoding gzip, gzip, which was not requested",
    ),
    "brotli": (lambda: response(b"x" * 99, "Content-Encoding: br"), "Content-Encoding br, which was not requested"),
    "gzip of an error": (
        lambda: response(BOMB, "Content-Encoding: gzip", status="500 Oh"),
        "body exceeds 1 MiB",
    ),
    "gzip that yields nothing": (
        lambda: endless(HEAD + b"Content-Encoding: gzip\r\n\r\n", EMPTY_MEMBER * 1000),
        "exceeds 32 MiB as sent",
    ),
    "endless body": (lambda: endless(HEAD + b"\r\n", b" " * 65536), "body exceeds 16 MiB"),
    "endless body of small chunks": (
        lambda: endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"8\r\n        \r\n" * 8192),
        "body exceeds 16 MiB",
    ),
    "endless trailers": (
        lambda: endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X: y\r\n" * 8192),
        "exceeds 32 MiB as sent",
    ),
    "large headers": (lambda: endless(HEAD, b"X: " + b"y" * 60_000 + b"\r\n"), "headers exceed 256 KiB"),
    "endless continuing": (lambda: endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "headers exceed 256 KiB"),
    "many headers": (lambda: endless(HEAD, b"X: y\r\n"), "more than 100 headers"),
}


@MEASURED
@pytest.mark.parametrize("attack", MEMORY_ATTACKS)
def test_a_response_over_a_limit_ends_in_one_error(attack: str) -> None:
    sender, said = MEMORY_ATTACKS[attack]
    outcome = outcome_of(sender)
    assert outcome.kind in {"LimitExceededError", "ResponseFormatError"}
    assert said in outcome.message
    assert "account 11, 2026-10-25" in outcome.message
    assert "base URL" in outcome.message
    assert outcome.peak_mb < MOST_MEMORY_MB


def data_of(entry: str, size: int) -> bytes:
    entries = size // (len(entry.encode()) + 1)
    return f'{{"data":[{",".join([entry] * entries)}]}}'.encode()


LARGE = 15 * MIB
JSON_ATTACKS: dict[str, Callable[[], bytes]] = {
    "arrays": lambda: data_of("[]", LARGE),
    "nested arrays": lambda: data_of("[" * 50 + "]" * 50, LARGE),
    "nested objects": lambda: data_of('{"":' * 50 + "0" + "}" * 50, LARGE),
    "small objects": lambda: data_of('{"a":1}', LARGE),
    "fractions": lambda: b'{"data":[{"x":[' + b"1.1," * (LARGE // 4) + b"0]}]}",
    "distinct keys": lambda: b'{"data":[{%s}]}' % b",".join(b'"%x":1.1' % n for n in range(LARGE // 13)),
    "a text with an emoji": lambda: b'{"data":[{"ad_name":"\xf0\x9f\x98\x80' + b"a" * LARGE + b'"}]}',
    "a text of escapes": lambda: b'{"data":[{"ad_name":"' + b"\\u4e00" * (LARGE // 6) + b'"}]}',
    "a long message with an emoji": lambda: b'{"error":{"message":"\xf0\x9f\x98\x80' + b"a " * (LARGE // 2) + b'"}}',
    "a next page with many parameters": lambda: (
        b'{"data":[],"paging":{"next":"http://x/?' + b"a=b&" * (LARGE // 4) + b'"}}'
    ),
    "quotes": lambda: b'{"data":[' + b'"' * LARGE,
    "brackets in texts": lambda: b'{"data":[' + b'"]",' * (LARGE // 4) + b"0]}",
}


@MEASURED
@pytest.mark.parametrize("attack", JSON_ATTACKS)
@pytest.mark.parametrize("call", ["insights", "products"])
def test_no_json_takes_more_memory_than_allowed(attack: str, call: str) -> None:
    body = JSON_ATTACKS[attack]()
    outcome = outcome_of(lambda: response(body), call)
    assert outcome.peak_mb < MOST_MEMORY_MB


def test_json_that_would_take_too_much_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="it would take more than 100 MB of memory"):
        parse_json(data_of('{"a":1}', 4 * MIB))


def test_large_pages_of_documented_rows_are_parsed() -> None:
    action = {"action_type": "offsite_conversion.fb_pixel_purchase", "value": "12"}
    row = {"ad_id": "120210000000000001", "ad_name": "SERUM VIDEO 😀", "spend": "14.35", "actions": [action] * 60}
    body = json.dumps({"data": [row] * 1000}, ensure_ascii=False).encode()
    assert len(body) > 4 * MIB
    assert len(parse_json(body)["data"]) == 1000


@MEASURED
def test_endless_pages_of_new_rows_stay_within_memory() -> None:
    numbers = count()

    def pages() -> Iterator[bytes]:
        number = next(numbers)
        rows = ",".join(f'{{"id":"{number}-{row}"}}' for row in range(100_000))
        return response(f'{{"data":[{rows}],"total_pages":1000000000000}}'.encode())

    outcome = outcome_of(pages, "orders")
    assert outcome.limit == "MAX_LISTED_ENTRIES"
    assert "there are more than 500000 orders" in outcome.message
    assert outcome.peak_mb < MOST_MEMORY_MB


@MEASURED
def test_endless_ad_accounts_stay_within_memory() -> None:
    numbers = count()

    def pages() -> Iterator[bytes]:
        number = next(numbers)
        rows = [{"account_id": f"{number}{row:04}", "name": "n" * 400} for row in range(1000)]
        return response(json.dumps(graph_page(rows, after=f"c{number}")).encode())

    outcome = outcome_of(pages, "accounts")
    assert outcome.limit == "MAX_ACCOUNTS"
    assert outcome.peak_mb < MOST_MEMORY_MB


# Time


class TickingClock:
    """A clock that moves on by a second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def dripping(start: bytes, drops: threading.Event) -> Sender:
    """One byte after the other, as fast as they are read; `drops` is never set."""

    def send() -> Iterator[bytes]:
        yield start
        while not drops.wait(0.002):
            yield b"x"

    return send


@pytest.mark.parametrize("start", [HEAD + b"\r\n", HEAD + b"X: ", b"", b"HTTP/1.1 100 Continue\r\nX: "])
def test_a_response_that_never_ends_is_timed_out(start: bytes) -> None:
    with HostileServer(dripping(start, threading.Event())) as server:
        client = MetaClient(tenant="acme", graph_url=server.url, token="EAABx", clock=TickingClock())
        with pytest.raises(errors.TimedOutError, match="did not end within 300 s in total"):
            client.me()
        assert server.closed_early.wait(10)


def test_the_wait_for_the_next_bytes_ends_at_the_deadline() -> None:
    with ScriptedServer(Reply(ending="silent")) as server:
        client = MetaClient(tenant="acme", graph_url=server.url, token="EAABx", max_response_s=0.05)
        with pytest.raises(errors.TimedOutError, match=r"did not end within 0\.05 s in total"):
            client.me()


def test_time_between_requests_does_not_count(bench: MakeBench) -> None:
    b = bench({"id": "1"}, {"id": "1"})
    client = b.meta()
    client.me()
    b.clock.now += 10 * limits.MAX_RESPONSE_S
    assert client.me().user_id == "1"


@pytest.mark.parametrize("start", [HEAD + b"\r\n", HEAD + b"X: "])
def test_an_interrupt_ends_a_dripping_response(start: bytes) -> None:
    class Cancelled(BaseException):
        pass

    def cancel(*_: object) -> None:
        raise Cancelled

    ident = threading.main_thread().ident
    assert ident is not None
    before = signal.signal(signal.SIGUSR1, cancel)
    dripped = 0

    def send() -> Iterator[bytes]:
        nonlocal dripped
        for part in dripping(start, threading.Event())():
            dripped += 1
            if dripped == 20:
                signal.pthread_kill(ident, signal.SIGUSR1)
            yield part

    try:
        with HostileServer(send) as server:
            client = MetaClient(tenant="acme", graph_url=server.url, token="EAABx")
            with pytest.raises(Cancelled):
                client.me()
            assert server.closed_early.wait(10)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_cookies_are_not_kept(bench: MakeBench) -> None:
    b = bench(Reply({"id": "1"}, headers={"Set-Cookie": "a=b"}), {"id": "1"})
    client = b.meta()
    client.me()
    client.me()
    assert "Cookie" not in b.server.asked[1].headers


# Pages


class Answering(ScriptedServer):
    """Answers each request by what `answer` makes of its number."""

    def __init__(self, answer: Callable[[int], object]) -> None:
        super().__init__()
        self.script = _Script(answer)  # type: ignore[assignment]


class _Script:
    def __init__(self, answer: Callable[[int], object]) -> None:
        self._answer = answer

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, number: int) -> Reply:
        return Reply(self._answer(number))


ROW = {"ad_id": "1", "id": "1", "account_id": "1", "date_start": "2026-10-25", "spend": "1"}
META_CALLS: dict[str, Callable[[MetaClient], object]] = {
    "accounts": lambda meta: meta.ad_accounts(),
    "insights": lambda meta: list(meta.insights("11", DAY, DAY)),
    "account days": lambda meta: list(meta.account_days("11", DAY, DAY)),
    "statuses by list": lambda meta: list(meta.ad_statuses("11", [str(n) for n in range(60)])),
    "statuses by id": lambda meta: list(meta.ad_statuses("11", ["1"])),
}


def meta_of(server: ScriptedServer) -> MetaClient:
    return MetaClient(tenant="acme", graph_url=server.url, token="EAABx", pacing=NO_DELAY)


@pytest.mark.parametrize("rows", [[], [ROW]])
@pytest.mark.parametrize("call", META_CALLS)
def test_fresh_cursors_without_new_rows_end(call: str, rows: list[object]) -> None:
    with Answering(lambda number: graph_page(rows, after=f"c{number}")) as server:
        with pytest.raises(LimitExceededError, match="more than 100 pages in a row brought no new row") as caught:
            META_CALLS[call](meta_of(server))
        assert caught.value.limit == "MAX_PAGES_WITHOUT_NEW_ROWS"
        assert 100 < len(server.asked) < 210


def test_statuses_that_were_not_requested_are_no_progress() -> None:
    with Answering(lambda number: graph_page([{"id": f"x{number}"}], after=f"c{number}")) as server:
        with pytest.raises(LimitExceededError, match="brought no new row"):
            list(meta_of(server).ad_statuses("11", ["1"]))


def test_a_hundred_empty_pages_are_read_over() -> None:
    def answer(number: int) -> object:
        rows = [{**ROW, "ad_id": str(number)}] if number % 101 == 0 else []
        return graph_page(rows, after=f"c{number}" if number < 202 else None)

    with Answering(answer) as server:
        assert len(list(meta_of(server).insights("11", DAY, DAY))) == 3


def test_endless_pages_of_new_rows_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_pipeline.sources.insights.WindowBudget", lambda place: WindowBudget(place, max_pages=150))
    with Answering(lambda number: graph_page([{**ROW, "ad_id": str(number)}], after=f"c{number}")) as server:
        with pytest.raises(LimitExceededError, match="more than 150 pages") as caught:
            list(meta_of(server).insights("11", DAY, DAY))
    assert (caught.value.limit, caught.value.place) == ("MAX_PAGES_PER_WINDOW", PLACE)


def test_a_million_insights_in_pages_of_25_pass() -> None:
    budget, progress = WindowBudget(PLACE), PageProgress(PLACE, key_of("ad_id", "date_start"))
    for page in range(40_000):
        rows = [{"ad_id": str(page * 25 + row), "date_start": "2026-10-25"} for row in range(25)]
        budget.count(len(rows))
        progress.follow(rows)
    with pytest.raises(LimitExceededError, match="100000 pages"):
        for _ in count():
            budget.count(0)


def test_rows_of_a_window_are_limited() -> None:
    budget = WindowBudget(PLACE)
    budget.count(limits.MAX_ROWS_PER_WINDOW)
    with pytest.raises(LimitExceededError, match="more than 10000000 rows"):
        budget.count(1)


@pytest.mark.parametrize("entries", [[], [{"id": 1}]])
@pytest.mark.parametrize("kind", ["orders", "updated orders", "products"])
def test_listings_that_claim_endless_pages_end(kind: str, entries: list[object]) -> None:
    calls: dict[str, Callable[[PancakeClient], object]] = {
        "orders": lambda pancake: list(pancake.orders("7", DAY, DAY, NOON, NOON)),
        "updated orders": lambda pancake: list(pancake.updated_orders("7", NOON, NOON)),
        "products": lambda pancake: list(pancake.products("7")),
    }
    with Answering(lambda _: {"data": entries, "total_pages": 10**12}) as server:
        pancake = PancakeClient(tenant="acme", api_url=server.url, api_key="k" * 9, pacing=NO_DELAY)
        with pytest.raises(LimitExceededError, match="more than 100 pages in a row brought no new row"):
            calls[kind](pancake)
        assert len(server.asked) in {101, 102}


def test_a_listing_of_endless_new_entries_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_pipeline.sources.pancake.WindowBudget", lambda place: WindowBudget(place, max_pages=150))
    listing = OrderListing(PLACE, lambda number: {"data": [{"id": number}], "total_pages": 10**12}, 1)
    with pytest.raises(LimitExceededError, match="more than 150 pages"):
        list(listing)


def test_a_report_that_never_ends_is_left(bench: MakeBench) -> None:
    too_much = {"error": {"code": 100, "error_subcode": 1487534, "message": "too much"}}

    def answer(number: int) -> object:
        if number == 0:
            return too_much
        return {"report_run_id": "7"} if number == 1 else {"async_status": "Job Running"}

    with Answering(answer) as server:
        client = MetaClient(
            tenant="acme", graph_url=server.url, token="EAABx", page_size=25, pacing=NO_DELAY, sleep=lambda _: None
        )
        with pytest.raises(errors.ReportFailedError, match="did not end within 1800 s"):
            list(client.insights("11", DAY, DAY))
        assert len(server.asked) < 100


# JSON


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"":', "}"), ('{"]":', "}"), ('["]",', ',"["]')])
def test_json_may_be_nested_up_to_the_limit(opening: str, closing: str) -> None:
    def nested(levels: int) -> bytes:
        return (opening * levels + "0" + closing * levels).encode()

    parse_json(nested(limits.MAX_JSON_DEPTH))
    for levels in (limits.MAX_JSON_DEPTH + 1, 500, 100_000):
        with pytest.raises(ValueError, match="it is nested deeper than 64 levels"):
            parse_json(nested(levels))


def depth_of(value: Any) -> int:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(depth_of, inner), default=0)
    return 0


ugly_texts = st.text(alphabet='[]{}"\\a:,\n', max_size=5)
ugly_values = st.recursive(
    ugly_texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ugly_texts, inner, max_size=3)
)


@given(ugly_values)
def test_depth_is_found_whatever_texts_hold(value: Any) -> None:
    body, depth = json.dumps(value).encode(), depth_of(value)
    assert not json_text._is_deeper_than(body, depth)
    assert depth == 0 or json_text._is_deeper_than(body, depth - 1)


@pytest.mark.parametrize("number", ["9" * 401, "-" + "9" * 401, "0." + "1" * 400, "1e" + "0" * 400, "9" * 5_000_000])
def test_a_number_that_is_too_long_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="it holds a number of more than 400 characters"):
        parse_json(f'{{"a": {number}}}'.encode())


def test_digits_in_texts_and_long_numbers_are_kept() -> None:
    body = f'{{"a": "{"7" * 5000}", "b": {"9" * 400}, "c": 0.{"1" * 300}}}'.encode()
    assert parse_json(body) == {"a": "7" * 5000, "b": int("9" * 400), "c": Decimal(f"0.{'1' * 300}")}


def test_a_limit_on_json_is_a_typed_error(bench: MakeBench) -> None:
    with pytest.raises(ResponseFormatError, match=r"not JSON: it is nested deeper than 64 levels \(meta, tenant acme"):
        bench(Reply('{"data":' + "[" * 70 + "]" * 70 + "}")).meta().ad_accounts()


@pytest.mark.parametrize(("length", "limit"), [(65, "MAX_ID_LENGTH"), (10_000, "MAX_ID_LENGTH")])
def test_an_id_that_is_too_long_is_refused(bench: MakeBench, length: int, limit: str) -> None:
    with pytest.raises(LimitExceededError) as caught:
        list(bench({"data": [{"id": "x" * length}], "total_pages": 1}).pancake().products("7"))
    assert caught.value.limit == limit


def test_a_name_that_is_too_long_is_refused(bench: MakeBench) -> None:
    with pytest.raises(LimitExceededError, match="name is longer than 500 characters"):
        bench({"shops": [{"id": 1, "name": "x" * 501}]}).pancake().shops()


# Texts


def test_a_title_is_found_in_linear_time() -> None:
    def title(page: str) -> str | None:
        return error_page(Answer(500, {}, f"<html>{page}".encode()), str)

    for part in ("<title", "<title>", "<title x", "<title>a</titl"):
        assert title(part * (MIB // len(part))) == "an HTML page without a title"
    assert title("<TITLE lang=en> Down </TITLE>" + "<title" * MIB) == "Down"


def test_a_long_url_of_a_next_page_is_not_parsed() -> None:
    urlsplit.cache_clear()
    following = "http://x/?after=" + "a&" * MIB
    with pytest.raises(ResponseFormatError, match="no cursor"):
        next_cursor(PLACE, {"next": following})
    assert urlsplit.cache_info().currsize == 0
    assert parse_qs("after=x")["after"] == ["x"]


def test_an_answer_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def counted(body: bytes) -> object:
        parsed.append(body)
        return parse_json(body)

    monkeypatch.setattr("sync_pipeline.sources.answers.parse_json", counted)
    answer = Answer(200, {}, b"[")
    for _ in range(2):
        with pytest.raises(ValueError, match=re.escape("Expecting value")):
            _ = answer.json
    assert len(parsed) == 1
