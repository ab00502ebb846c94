"""Pancake's client against a scripted API: shops, order and product listings, refusals."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sync_pipeline.sources import errors
from sync_pipeline.sources.errors import Place, SourceError
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sources.pancake import OrderListing, PancakeClient, Shop
from sync_pipeline_tests.sources.conftest import MARKER, Bench
from sync_pipeline_tests.sources.scripted import Reply

MakeBench = Callable[..., Bench]
DAY = date(2026, 10, 25)
MANILA = ZoneInfo("Asia/Manila")
START = datetime(2026, 10, 25, tzinfo=MANILA)
END = START + timedelta(days=1, seconds=-1)


def page(*ids: object, **counters: object) -> dict[str, object]:
    return {"success": True, "data": [{"id": order_id} for order_id in ids], **counters}


def listing_of(client: PancakeClient) -> OrderListing:
    return client.orders("100200", DAY, DAY, START, END)


def ids_of(listing: OrderListing) -> list[list[object]]:
    return [[order["id"] for order in orders] for orders in listing]


def test_shops_are_under_shops_with_ids_as_text(bench: MakeBench) -> None:
    b = bench({"success": True, "shops": [{"id": 100200, "name": "Acme"}, {"id": "7", "name": None, "pages": []}]})
    assert b.pancake().shops() == [Shop("100200", "Acme"), Shop("7", None)]
    assert b.server.asked[0].path == "/api/v1/shops"
    assert b.server.asked[0].query == {"api_key": MARKER}


def test_orders_are_asked_for_by_insertion_in_unix_seconds_with_the_page_size_said(bench: MakeBench) -> None:
    b = bench(page(1, total_entries=1, total_pages=1))
    list(listing_of(b.pancake()))
    assert b.server.asked[0].path == "/api/v1/shops/100200/orders"
    assert b.server.asked[0].query == {
        "api_key": MARKER,
        "page_number": "1",
        "page_size": "200",
        "updateStatus": "inserted_at",
        "startDateTime": str(int(datetime(2026, 10, 24, 16, tzinfo=UTC).timestamp())),
        "endDateTime": str(int(datetime(2026, 10, 25, 15, 59, 59, tzinfo=UTC).timestamp())),
    }


def test_a_window_without_a_timezone_is_a_mistake_of_the_caller(bench: MakeBench) -> None:
    with pytest.raises(ValueError, match="timezone"):
        bench().pancake().orders("1", DAY, DAY, START.replace(tzinfo=None), END)


def test_every_page_up_to_total_pages_is_read_also_where_counters_are_texts(bench: MakeBench) -> None:
    b = bench(
        page(3, 2, total_entries="3", total_pages="2", page_number="1"),
        {"orders": [{"id": 1}], "total_entries": "3", "total_pages": "2"},
    )
    listing = listing_of(b.pancake(page_size=2))
    assert ids_of(listing) == [[3, 2], [1]]
    assert (listing.total_entries, listing.distinct, listing.complete) == (3, 3, True)
    assert b.server.queries("page_number") == ["1", "2"]


def test_an_order_pushed_to_the_next_page_comes_once(bench: MakeBench) -> None:
    b = bench(
        page(4, 3, total_entries=4, total_pages=2),
        page("3", 2, total_entries=5, total_pages=3),
        page(1, total_entries=5, total_pages=3),
    )
    listing = listing_of(b.pancake(page_size=2))
    assert ids_of(listing) == [[4, 3], [2], [1]]
    assert (listing.total_entries, listing.distinct, listing.complete) == (5, 4, False)


def test_reading_the_listing_again_asks_again_and_counts_anew(bench: MakeBench) -> None:
    b = bench(page(total_entries=1, total_pages=1), page(1, total_entries=1, total_pages=1))
    listing = listing_of(b.pancake())
    assert ids_of(listing) == []
    assert not listing.complete
    assert ids_of(listing) == [[1]]
    assert listing.complete


def test_a_day_without_orders_is_complete(bench: MakeBench) -> None:
    listing = listing_of(bench(page(total_entries=0, total_pages=0)).pancake())
    assert ids_of(listing) == []
    assert (listing.total_entries, listing.complete) == (0, True)


def test_total_pages_is_derived_from_total_entries_and_the_servers_own_page_size(bench: MakeBench) -> None:
    b = bench(page(3, 2, total_entries=3, page_size=2), page(1, total_entries=3, page_size="2"))
    listing = listing_of(b.pancake(page_size=200))
    assert ids_of(listing) == [[3, 2], [1]]
    assert listing.complete


@pytest.mark.parametrize(("orders", "pages"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_without_total_pages_they_follow_from_total_entries(bench: MakeBench, orders: int, pages: int) -> None:
    ids = list(range(orders, 0, -1))
    b = bench(*[page(*ids[start : start + 2], total_entries=orders) for start in range(0, orders, 2)])
    listing = listing_of(b.pancake(page_size=2))
    assert [order_id for of_page in ids_of(listing) for order_id in of_page] == ids
    assert (listing.distinct, listing.complete) == (orders, True)
    assert len(b.server.asked) == pages


def test_without_any_counter_pages_are_read_until_an_empty_one_which_proves_nothing(bench: MakeBench) -> None:
    b = bench(page(2), page(1), page())
    listing = listing_of(b.pancake())
    assert ids_of(listing) == [[2], [1]]
    assert (listing.total_entries, listing.complete) == (None, False)


def test_a_server_that_gives_the_same_page_for_ever_is_left_and_told_incomplete(bench: MakeBench) -> None:
    b = bench(*[page(1)] * 200)
    listing = listing_of(b.pancake())
    assert ids_of(listing) == [[1]]
    assert not listing.complete
    assert len(b.server.asked) == 101


def test_an_empty_page_in_the_middle_does_not_end_the_listing(bench: MakeBench) -> None:
    b = bench(*[page(*ids, total_entries=2, total_pages=3) for ids in ([2], [], [1])])
    listing = listing_of(b.pancake(page_size=1))
    assert ids_of(listing) == [[2], [1]]
    assert listing.complete


def test_a_listing_left_early_is_not_complete(bench: MakeBench) -> None:
    listing = listing_of(bench(page(2, total_entries=1, total_pages=1)).pancake())
    next(iter(listing))
    assert not listing.complete


UNIDENTIFIED: list[Any] = [None, 7, [], {}, {"id": None}, {"id": " "}, {"id": True}, {"id": 1.5}]


@pytest.mark.parametrize("entry", UNIDENTIFIED)
def test_an_entry_without_an_id_is_passed_on_beside_others(bench: MakeBench, entry: Any) -> None:
    pages = [
        {"data": [entry, {"id": 2}], "total_entries": 3, "total_pages": 2},
        page(1, total_entries=3, total_pages=2),
    ]
    listing = listing_of(bench(*pages).pancake())
    [first, second] = list(listing)
    assert len(first) == 2
    assert (first[1], second) == ({"id": 2}, [{"id": 1}])
    assert (listing.distinct, listing.complete) == (3, True)


def test_entries_without_an_id_make_no_progress(bench: MakeBench) -> None:
    b = bench(*[{"data": [None, {"id": 1}]}] * 200)
    listing = listing_of(b.pancake())
    assert len(list(listing)) == 101
    assert len(b.server.asked) == 101
    assert not listing.complete


def test_entries_without_an_id_are_counted_anew_each_time(bench: MakeBench) -> None:
    body = {"data": [None, {"id": 1}], "total_entries": 2, "total_pages": 1}
    listing = listing_of(bench(body, body).pancake())
    for _ in range(2):
        list(listing)
        assert (listing.distinct, listing.complete) == (2, True)


@pytest.mark.parametrize(
    "body",
    [
        {"success": True},
        {"data": None},
        {"data": {}},
        {"data": [1]},
        {"data": [None]},
        {"data": [{}]},
        {"data": [{"id": None}]},
        {"data": [{"id": " "}]},
        {"data": [{"id": True}]},
        {"data": [{"id": 1.5}]},
        {"data": [], "total_pages": "many"},
        {"data": [], "total_pages": -1},
        {"data": [], "total_entries": []},
        {"data": [], "total_entries": 1, "page_size": {}},
        [],
        5,
    ],
)
def test_a_listing_of_another_shape_is_a_format_error(bench: MakeBench, body: object) -> None:
    with pytest.raises(errors.ResponseFormatError) as caught:
        list(listing_of(bench(body).pancake()))
    assert caught.value.place == Place("acme", "pos", shop_id="100200", since=DAY, until=DAY)


@pytest.mark.parametrize(
    "body",
    [
        {"data": []},
        {"shops": [{"name": "x"}]},
        {"shops": [{"id": 1, "name": []}]},
        {"shops": [{"id": "1\n2026-10-05 ERROR forged", "name": "x"}]},
        {"shops": [{"id": "1\u202e2", "name": "x"}]},
    ],
)
def test_shops_of_another_shape_are_a_format_error(bench: MakeBench, body: object) -> None:
    with pytest.raises(errors.ResponseFormatError):
        bench(body).pancake().shops()


BAD_KEY = {"message": "api_key is invalid", "success": False, "error_code": 105}
LIMIT: dict[str, Any] = {"success": False, "message": "You have reached the limit of requests", "error_code": 106}
REFUSALS: list[tuple[int, object, type[SourceError], str | None, int | str | None]] = [
    (403, BAD_KEY, errors.TokenError, "api_key is invalid", 105),
    (200, {**BAD_KEY, "error_code": "105"}, errors.TokenError, "api_key is invalid", 105),
    (200, {"success": False, "message": "Order not found"}, errors.ApiError, "Order not found", None),
    (200, {"success": "false"}, errors.ApiError, None, None),
    (400, {"success": False, "message": "bad", "error_code": "E7"}, errors.ApiError, "bad", "E7"),
    (401, "who?", errors.TokenError, None, None),
    (403, "<html><head><title>Attention\nRequired</title></head></html>", errors.PermissionDeniedError,
     "Attention Required", None),
    (404, "", errors.BadRequestError, None, None),
    (422, "<html>", errors.ApiError, "an HTML page without a title", None),
    (500, {"success": False, "message": "boom"}, errors.TransientError, "boom", None),
    (502, "Bad Gateway", errors.TransientError, None, None),
    (429, "", errors.RateLimitedError, None, None),
    *[(status, LIMIT, errors.RateLimitedError, LIMIT["message"], 106) for status in (200, 400, 401, 403, 404)],
    *[(status, LIMIT, errors.RateLimitedError, LIMIT["message"], 106) for status in (429, 500, 503)],
    (200, {**LIMIT, "error_code": "106"}, errors.RateLimitedError, LIMIT["message"], 106),
    (200, {"error_code": 106}, errors.RateLimitedError, None, 106),
    (200, {"error_code": 105, "data": []}, errors.TokenError, None, 105),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind", "message", "code"), REFUSALS)
def test_each_form_of_refusal_is_its_own_type(
    bench: MakeBench,
    status: int,
    body: object,
    kind: type[SourceError],
    message: str | None,
    code: int | str | None,
) -> None:
    with pytest.raises(SourceError) as caught:
        list(listing_of(bench(Reply(body, status)).pancake(Pacing(delay_s=0, max_wait_s=0))))
    error = caught.value
    assert (type(error), error.http_status, error.api_message, error.code) == (kind, status, message, code)
    assert error.metadata()["shop_id"] == "100200"
    assert error.metadata()["date"] == "2026-10-25"


@pytest.mark.parametrize("status", [200, 403, 429, 500])
def test_a_rate_limit_code_is_waited_out_under_any_status(bench: MakeBench, status: int) -> None:
    b = bench(Reply(LIMIT, status), Reply(LIMIT, status, {"Retry-After": "7"}), page(1, total_entries=1, total_pages=1))
    listing = listing_of(b.pancake())
    assert ids_of(listing) == [[1]]
    assert b.clock.slept == [5, 7]
    assert b.waits[0].reason == (
        "rate limit of pos, tenant acme, shop 100200, 2026-10-25: You have reached the limit of requests"
    )


@pytest.mark.parametrize("code", [0, None, 7, "OK"])
def test_another_error_code_in_a_success_is_no_refusal(bench: MakeBench, code: object) -> None:
    b = bench(page(1, total_entries=1, total_pages=1, error_code=code))
    assert ids_of(listing_of(b.pancake())) == [[1]]


@pytest.mark.parametrize("key", ["", " \n", "a\nb"])
def test_a_key_that_cannot_be_one_is_refused_before_anything_is_sent(key: str) -> None:
    with pytest.raises(errors.TokenError):
        PancakeClient(tenant="acme", api_url="http://127.0.0.1:1", api_key=key)


def test_a_shop_id_cannot_lead_to_another_path(bench: MakeBench) -> None:
    b = bench(page(total_pages=0))
    list(b.pancake().orders("1/../2?x=1", DAY, DAY, START, END))
    assert b.server.asked[0].target.startswith("/api/v1/shops/1%2F..%2F2%3Fx%3D1/orders?")


@settings(max_examples=200, deadline=None)
@given(
    orders=st.integers(0, 40),
    page_size=st.integers(1, 12),
    inserted_before=st.sets(st.integers(2, 20), max_size=4),
)
@example(orders=4, page_size=2, inserted_before={2})
@example(orders=4, page_size=2, inserted_before=set())
def test_no_order_of_a_listing_is_lost_or_doubled_while_new_ones_push_in(
    orders: int, page_size: int, inserted_before: set[int]
) -> None:
    stock = list(range(orders, 0, -1))

    def read(number: int) -> dict[str, object]:
        if number in inserted_before:
            stock.insert(0, len(stock) + 1)
        part = stock[(number - 1) * page_size : number * page_size]
        return page(*part, total_entries=len(stock), total_pages=-(-len(stock) // page_size))

    listing = OrderListing(Place("acme", "pos"), read, page_size)
    seen = [order_id for orders_of_page in ids_of(listing) for order_id in orders_of_page]
    assert len(seen) == len(set(seen)) == listing.distinct
    assert set(range(1, orders + 1)) <= set(seen)
    assert listing.complete == (listing.distinct == len(stock))


def test_updated_orders_are_asked_for_by_update_oldest_first(bench: MakeBench) -> None:
    b = bench(page(1, total_entries=1, total_pages=1))
    listing = b.pancake().updated_orders("100200", START, END)
    assert ids_of(listing) == [[1]]
    assert listing.complete
    assert b.server.asked[0].path == "/api/v1/shops/100200/orders"
    assert b.server.asked[0].query == {
        "api_key": MARKER,
        "page_number": "1",
        "page_size": "200",
        "updateStatus": "updated_at",
        "option_sort": "last_updated_order_asc",
        "startDateTime": str(int(START.timestamp())),
        "endDateTime": str(int(END.timestamp())),
    }


def test_updated_orders_of_some_statuses_repeat_the_parameter(bench: MakeBench) -> None:
    b = bench(page(total_entries=0, total_pages=0))
    list(b.pancake().updated_orders("100200", START, END, statuses=(3, 7)))
    assert parse_qs(urlsplit(b.server.asked[0].target).query)["filter_status[]"] == ["3", "7"]


def test_updated_orders_need_a_timezone_and_say_their_days_in_errors(bench: MakeBench) -> None:
    with pytest.raises(ValueError, match="timezone"):
        bench().pancake().updated_orders("1", START, END.replace(tzinfo=None))
    with pytest.raises(errors.ResponseFormatError) as caught:
        list(bench([]).pancake().updated_orders("100200", START, END))
    assert caught.value.place == Place("acme", "pos", shop_id="100200", since=DAY, until=DAY)


@settings(max_examples=200, deadline=None)
@given(
    orders=st.integers(0, 30),
    page_size=st.integers(1, 8),
    updated=st.dictionaries(st.integers(2, 12), st.integers(0, 29), max_size=3),
)
# An order of the first page leaves, so that the third one is never seen though as many came as are counted.
@example(orders=4, page_size=2, updated={2: 0})
def test_updated_orders_that_leave_the_window_while_paging_are_never_missed_without_being_told(
    orders: int, page_size: int, updated: dict[int, int]
) -> None:
    stock = list(range(orders))

    def read(number: int) -> dict[str, object]:
        if updated.get(number) in stock:
            stock.remove(updated[number])
        part = stock[(number - 1) * page_size : number * page_size]
        return page(*part, total_entries=len(stock), total_pages=-(-len(stock) // page_size))

    listing = OrderListing(Place("acme", "pos"), read, page_size)
    seen = {order_id for orders_of_page in ids_of(listing) for order_id in orders_of_page}
    assert set(stock) <= seen or not listing.complete


def test_products_come_from_all_pages_once_each(bench: MakeBench) -> None:
    b = bench(
        page("p1", "p2", total_entries="3", total_pages="2"),
        {"success": True, "products": [{"id": "p2"}, {"id": "p3"}], "total_entries": "3", "total_pages": "2"},
    )
    listing = b.pancake(page_size=2).products("100200")
    assert [[product["id"] for product in products] for products in listing] == [["p1", "p2"], ["p3"]]
    assert listing.complete
    assert b.server.paths == ["/api/v1/shops/100200/products"] * 2
    assert b.server.asked[1].query == {"api_key": MARKER, "page_number": "2", "page_size": "2"}


def test_products_without_counters_end_at_an_empty_page_and_an_endless_server_is_left(bench: MakeBench) -> None:
    assert list(bench(page("p1"), page()).pancake().products("1")) == [[{"id": "p1"}]]
    b = bench(*[page("p1")] * 200)
    listing = b.pancake().products("1")
    assert list(listing) == [[{"id": "p1"}]]
    assert not listing.complete
    assert len(b.server.asked) == 101


@pytest.mark.parametrize("body", [{"data": None}, {"orders": []}, {"data": [{"name": "x"}]}, []])
def test_products_of_another_shape_are_a_format_error(bench: MakeBench, body: object) -> None:
    with pytest.raises(errors.ResponseFormatError) as caught:
        list(bench(body).pancake().products("100200"))
    assert caught.value.place == Place("acme", "pos", shop_id="100200")
