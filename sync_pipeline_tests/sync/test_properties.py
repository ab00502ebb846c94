"""What holds however the rows are cut into pages, windows and repetitions, and whatever comes in their place."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sync_pipeline.rows.errors import UnrequestedRowError
from sync_pipeline.sandbox.exchange import Reply
from sync_pipeline.sandbox.faults import Effect, Fault, http_error, json_body
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sources.errors import SourceError
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sync import META, POS
from sync_pipeline.sync.errors import RowRejectedError, SyncError
from sync_pipeline.sync.supplements import ends_sync
from sync_pipeline_tests.sandboxes import demanding
from sync_pipeline_tests.sync.bench import (
    SECOND_ACCOUNT,
    SECOND_SHOP,
    Bench,
    Tables,
    days_from,
    demo_tenant,
    small_world,
)

DAYS = days_from(date(2026, 10, 5), 4)
DAY = DAYS[0]
unhurried = settings(deadline=None)


@pytest.fixture(scope="module")
def shared(shared_engine: sa.Engine, tenant_files: Path) -> Iterator[Bench]:
    """A bench that never waits for a rate limit."""
    with SandboxServer(world=small_world(ads=6, orders=10), behaviour=demanding()) as sandbox:
        yield Bench(sandbox, shared_engine, demo_tenant(tenant_files), pacing=Pacing(delay_s=0, max_wait_s=0))


@dataclass(frozen=True, repr=False)
class Undisturbed:
    """What the tables hold after an undisturbed sync."""

    tables: Tables


@pytest.fixture(scope="module")
def day_by_day(shared: Bench, tenant_files: Path) -> Undisturbed:
    """The tables of a sync that asks for one day at a time, in pages that hold it whole."""
    shared.tenant = demo_tenant(tenant_files, meta_days=1, pos_days=1)
    shared.insights_page, shared.orders_page = 500, 500
    shared.start_over()
    shared.sync(DAYS)
    assert shared.sandbox.requests.count("orders") == 2 * len(DAYS)
    return Undisturbed(shared.tables())


# Pages, windows, repetitions

page_sizes = st.integers(1, 12)
days_per_request = st.integers(1, 5)


@settings(unhurried, max_examples=10)
@given(insights_page=page_sizes, orders_page=page_sizes, meta_days=days_per_request, pos_days=days_per_request)
def test_any_pages_and_windows_give_the_tables_of_a_sync_day_by_day(
    shared: Bench,
    day_by_day: Undisturbed,
    tenant_files: Path,
    insights_page: int,
    orders_page: int,
    meta_days: int,
    pos_days: int,
) -> None:
    shared.start_over()
    shared.tenant = demo_tenant(tenant_files, meta_days=meta_days, pos_days=pos_days)
    shared.insights_page, shared.orders_page = insights_page, orders_page
    shared.sync(DAYS)
    assert shared.tables() == day_by_day.tables


@settings(unhurried, max_examples=8)
@given(
    until=st.integers(0, 3),
    overlap=st.integers(0, 3),
    later_first=st.booleans(),
    pages=page_sizes,
    meta_days=days_per_request,
    repeats=st.integers(1, 2),
)
def test_overlapping_and_repeated_syncs_in_any_order_give_the_tables_of_one(
    shared: Bench,
    day_by_day: Undisturbed,
    tenant_files: Path,
    until: int,
    overlap: int,
    later_first: bool,
    pages: int,
    meta_days: int,
    repeats: int,
) -> None:
    shared.start_over()
    shared.tenant = demo_tenant(tenant_files, meta_days=meta_days)
    shared.insights_page = shared.orders_page = pages + 2
    ranges = [DAYS[: until + 1], DAYS[max(0, until + 1 - overlap) :]]
    if later_first:
        ranges.reverse()
    for days in ranges * repeats:
        shared.sync(days)
    assert shared.tables() == day_by_day.tables
    if repeats > 1:
        assert {(r.changed, r.removed) for r in shared.committed} <= {(0, 0)}


# Whatever comes as a body

texts = st.text(st.characters(exclude_categories=()), max_size=12)
numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 10**30, 2**63, 1e300])
scalars = st.none() | st.booleans() | numbers | texts
jsons = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
envelopes = st.dictionaries(
    st.sampled_from(["data", "orders", "paging", "error", "success", "message", "total_entries", "total_pages"]),
    jsons
    | st.just([])
    | st.lists(st.dictionaries(st.sampled_from(["id", "ad_id", "date_start", "status"]), jsons, max_size=4), max_size=3)
    | st.fixed_dictionaries({"next": texts, "cursors": st.fixed_dictionaries({"after": jsons})})
    | st.fixed_dictionaries({"code": jsons, "message": jsons, "error_subcode": jsons, "is_transient": jsons}),
    max_size=4,
)
bodies = st.binary(max_size=60) | (jsons | envelopes).map(lambda found: json.dumps(found).encode())

PLACES: dict[str, tuple[str, dict[str, str]]] = {
    "insights page 1": (META, {"path": f"/act_{SECOND_ACCOUNT}/insights$", "query": r"^(?!.*(^|&)after=)"}),
    "insights page 2": (META, {"path": f"/act_{SECOND_ACCOUNT}/insights$", "query": "(^|&)after="}),
    "statuses": (META, {"path": f"/act_{SECOND_ACCOUNT}/ads$"}),
    "orders page 1": (POS, {"path": f"/shops/{SECOND_SHOP}/orders$", "query": "(^|&)page_number=1(&|$)"}),
    "orders page 2": (POS, {"path": f"/shops/{SECOND_SHOP}/orders$", "query": "(^|&)page_number=2(&|$)"}),
}


PLACES_OF_ROWS = [place for place in PLACES if place != "statuses"]


def outcome_at(shared: Bench, place: str, effect: Effect) -> SourceError | SyncError | None:
    """Sync one day with the effect at the place. None where it was stored; else nothing of it is, and why.

    Any other exception than the two typed ones goes through and fails the test.
    """
    source, where = PLACES[place]
    shared.execute("DELETE FROM tenants")
    shared.sandbox.faults.clear()
    fault = shared.sandbox.faults.add(Fault(effect, times=None, **where))  # type: ignore[arg-type]
    shared.insights_page = shared.orders_page = 4
    error = None
    try:
        shared.sync([DAY], [source])
    except (SourceError, SyncError) as raised:
        error = raised
    finally:
        shared.sandbox.faults.clear()
    assert fault.hits > 0
    if error is not None:
        assert (error.place.source, error.place.since, error.place.until) == (source, DAY, DAY)
        assert str(error).isprintable()
        assert shared.tables() == ([], [])
        assert shared.query("SELECT count(*) FROM sync_log") == [(0,)]
    return error


@pytest.mark.parametrize("place", PLACES_OF_ROWS)
@settings(unhurried, max_examples=20)
@given(body=bodies, status=st.sampled_from([200, 200, 200, 400, 429, 500]))
@example(body=b"", status=200)
@example(body=b"\xff\xfe\x00", status=200)
@example(body=b'{"data": [[]], "success": true}', status=200)
@example(body=b"[" * 100_000, status=200)
@example(body=b'{"data": [{"id": ' + b"9" * 5000 + b"}]}", status=200)
@example(body=b'{"data": null, "orders": []}', status=200)
@example(body=b'{"data": [], "paging": {"next": "http://x.example/?after=x"}, "total_pages": 999}', status=200)
def test_any_body_is_data_or_ends_the_day_with_a_typed_error(
    shared: Bench, day_by_day: Undisturbed, place: str, body: bytes, status: int
) -> None:
    error = outcome_at(shared, place, Effect(lambda: Reply(status, body)))
    if error is None:
        # Only a body of the documented shape is an answer, and none of these holds a row of its own.
        assert status == 200
        found = json.loads(body)
        assert isinstance(found.get("data"), list) or (PLACES[place][0] == POS and isinstance(found["orders"], list))
        assert not found.get("error") or PLACES[place][0] == POS
        keys = {row[:4] for rows in day_by_day.tables for row in rows}
        stored = {row[:4] for rows in shared.tables() for row in rows}
        assert stored <= keys


@pytest.mark.parametrize("place", PLACES_OF_ROWS)
@settings(unhurried, max_examples=8)
@given(data=st.binary(max_size=200))
def test_bytes_that_are_no_json_never_store_anything(shared: Bench, place: str, data: bytes) -> None:
    assert outcome_at(shared, place, Effect(lambda: Reply(200, b"\x80" + data))) is not None


@settings(unhurried, max_examples=30)
@given(body=bodies | st.binary(max_size=200).map(b"\x80".__add__), status=st.sampled_from([200, 200, 400, 500]))
@example(body=b"", status=200)
@example(body=b'{"data": [[]]}', status=200)
@example(body=b'{"data": [], "paging": {"next": "http://x.example/?after=x"}}', status=200)
def test_any_body_about_statuses_costs_no_insight(
    shared: Bench, day_by_day: Undisturbed, body: bytes, status: int
) -> None:
    error = outcome_at(shared, "statuses", Effect(lambda: Reply(status, body)))
    if error is None:
        ads = {row[:4] for row in day_by_day.tables[0] if row[0] == DAY}
        assert {row[:4] for row in shared.tables()[0]} == ads
    else:
        assert isinstance(error, SourceError)
        assert ends_sync(error)


# Rows that are good but for one field

INSIGHT: dict[str, Any] = {
    "account_id": SECOND_ACCOUNT,
    "account_currency": "PHP",
    "campaign_id": "120230001",
    "campaign_name": "PH_CONV_ABO_LUMINA_SERUM_01",
    "adset_id": "120220001",
    "adset_name": "PH broad",
    "ad_id": "120210001",
    "ad_name": "SERUM_UGC_1001_ALY_001",
    "spend": "14.35",
    "impressions": "185",
    "clicks": "9",
    "inline_link_clicks": "7",
    "actions": [{"action_type": "lead", "value": "2"}],
    "date_start": DAY.isoformat(),
    "date_stop": DAY.isoformat(),
}
ORDER: dict[str, Any] = {
    "id": 900001,
    "inserted_at": "2026-10-05T02:49:22.963202",
    "updated_at": "2026-10-05T04:51:42",
    "status": 1,
    "status_name": "submitted",
    "total_price": 1198,
    "total_price_after_sub_discount": 1100,
    "cod": 0,
    "order_currency": "PHP",
    "items": [{"product_id": "p", "quantity": 2, "note_product": "Serum-100", "variation_info": {"display_id": "S"}}],
    "p_utm_content": "120210001",
    "partner": {"extend_code": "TRK1"},
    "tags": [],
    "shopify_abandon_checkout_id": None,
}
ROWS: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "insights page 1": (INSIGHT, lambda row: {"data": [{**INSIGHT, "ad_id": "120210002"}, row]}),
    "orders page 1": (ORDER, lambda row: {"data": [{**ORDER, "id": 900002}, row], "total_pages": 1, "success": True}),
}


@pytest.mark.parametrize("place", ROWS)
def test_the_rows_to_be_spoilt_are_good(shared: Bench, place: str) -> None:
    row, page = ROWS[place]
    assert outcome_at(shared, place, json_body(page(row))) is None
    stored = {row[3] for rows in shared.tables() for row in rows}
    assert stored >= ({"120210001", "120210002"} if row is INSIGHT else {"900001", "900002"})


@pytest.mark.parametrize("place", ROWS)
@settings(unhurried, max_examples=35)
@given(data=st.data())
def test_a_row_with_a_strange_field_costs_no_other_row(shared: Bench, place: str, data: st.DataObject) -> None:
    good, page = ROWS[place]
    field = data.draw(st.sampled_from(sorted(good)))
    strange = data.draw(
        jsons | st.sampled_from(["", " ", "-1", "1e400", "9" * 40, "0000-00-00", "2026-10-06", "2026-02-30T25:00:00"])
    )
    error = outcome_at(
        shared, place, http_error(200, json.dumps(page({**good, field: strange})), content_type="application/json")
    )
    if error is None:
        stored = [row for rows in shared.tables() for row in rows]
        assert {row[0] for row in stored} == {DAY}
        assert {"120210002", "900002"} & {row[3] for row in stored}, "the good row beside it"
        return
    # Only a response that is none, or that answers another request, ends the day.
    unrequested = isinstance(error, RowRejectedError) and isinstance(error.error, UnrequestedRowError)
    assert unrequested or type(error) is SyncError or "is not JSON" in str(error), error
