"""An ad that comes twice on one day, in different ad sets or campaigns: as parts, repeats or unreadable rows."""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Effect, Fault
from sync_pipeline.sync import META
from sync_pipeline.sync.errors import RowRejectedError
from sync_pipeline_tests.sync.bench import SECOND_ACCOUNT, Bench, Row

MONDAY = date(2026, 10, 5)
TUESDAY = MONDAY + timedelta(days=1)
INSIGHTS = f"/act_{SECOND_ACCOUNT}/insights$"
TOO_MUCH = faults.graph_error("too_much_data")
AD = "120210001"


def part(adset_id: str, spend: object, *, day: date = MONDAY, **changes: Any) -> dict[str, Any]:
    """A row of the ad as Meta sends it."""
    row = {
        "account_id": SECOND_ACCOUNT,
        "account_currency": "PHP",
        "campaign_id": "120230001",
        "campaign_name": "PH_CONV_ABO_LUMINA_SERUM_01",
        "adset_id": adset_id,
        "adset_name": f"ad set {adset_id}",
        "ad_id": AD,
        "ad_name": "SERUM_UGC_1001_ALY_001",
        "spend": spend,
        "impressions": "185",
        "clicks": "9",
        "inline_link_clicks": "7",
        "actions": [{"action_type": "lead", "value": "2"}],
        "date_start": day.isoformat(),
        "date_stop": day.isoformat(),
    }
    return row | changes


def page(rows: Sequence[object], after: str | None = None) -> Effect:
    """A page of rows, with a next one where `after` is given."""
    paging: dict[str, Any] = {"cursors": {"before": "b", "after": after or "last"}}
    if after is not None:
        paging["next"] = f"https://graph.facebook.com/v26.0/act_1/insights?after={after}"
    return faults.json_body({"data": list(rows), "paging": paging})


def serve(bench: Bench, effect: Effect, *, after: str = "", day: date | None = None, times: int | None = None) -> None:
    """Answer insights of the account's ads: the page at a cursor, of one day alone where one is given."""
    wanted = rf"(?=.*(^|&)after={after}(&|$))" if after else r"(?!.*(^|&)after=)"
    alone = rf'(?=.*"since": "{day}", "until": "{day}")' if day else ""
    query = rf"^(?=.*(^|&)level=ad(&|$)){wanted}{alone}"
    bench.sandbox.faults.add(Fault(effect, path=INSIGHTS, query=query, times=times))


def stored(bench: Bench) -> list[Row]:
    return bench.query(
        "SELECT date, spend, clicks, link_clicks, leads, impressions, adset_id FROM meta_ad_insights "
        f"WHERE account_id = '{SECOND_ACCOUNT}' ORDER BY 1"
    )


def whole(day: date, adset_id: str = "3") -> Row:
    """What is stored of 40 in ad set 2 and 60 in ad set 3."""
    return (day, Decimal("100.00"), 18, 14, 4, 370, adset_id)


def test_parts_on_two_pages_are_added_up(bench: Bench) -> None:
    serve(bench, page([part("2", "40")], after="c1"))
    serve(bench, page([part("3", "60.00")]), after="c1")
    [result] = bench.sync([MONDAY], [META])
    assert stored(bench) == [whole(MONDAY)]
    assert bench.query(f"SELECT adset_name FROM meta_ad_insights WHERE ad_id = '{AD}'") == [("ad set 3",)]
    [(rows,)] = bench.query("SELECT count(*) FROM meta_ad_insights")
    assert result.rows == rows


def test_a_part_that_is_listed_again_under_a_new_name_counts_once(bench: Bench) -> None:
    serve(bench, page([part("2", "40"), part("3", "60")], after="c1"))
    serve(bench, page([part("2", "40", adset_name="renamed", ad_name="renamed")]), after="c1")
    bench.sync([MONDAY], [META])
    assert stored(bench) == [whole(MONDAY)]


def test_a_window_that_is_halved_counts_no_part_twice(bench: Bench) -> None:
    serve(bench, page([part("2", "39", day=day) for day in (MONDAY, TUESDAY)], after="c1"), times=1)
    serve(bench, TOO_MUCH, after="c1", times=1)
    for day in (MONDAY, TUESDAY):
        serve(bench, page([part("2", "40", day=day), part("3", "60", day=day)]), day=day)
    bench.sync([MONDAY, TUESDAY], [META])
    assert stored(bench) == [whole(MONDAY), whole(TUESDAY)]


@pytest.mark.parametrize("first", [{"campaign_id": ["x"], "adset_id": ["y"]}, {"adset_id": "9"}], ids=["bad", "moved"])
def test_a_row_that_a_halved_window_lacks_does_not_count(bench: Bench, first: dict[str, Any]) -> None:
    gone = [part("2", "7", day=day) | first for day in (MONDAY, TUESDAY)]
    serve(bench, page(gone, after="c1"), times=1)
    serve(bench, TOO_MUCH, after="c1", times=1)
    for day in (MONDAY, TUESDAY):
        serve(bench, page([part("2", "40", day=day), part("3", "60", day=day)]), day=day)
    results = bench.sync([MONDAY, TUESDAY], [META])
    assert stored(bench) == [whole(MONDAY), whole(TUESDAY)]
    assert [result.rejected for result in results] == [0, 0]


def test_a_window_fetched_again_by_day_counts_no_part_twice(bench: Bench) -> None:
    undated = part("2", "1", date_start=None, date_stop=None)
    rows = [part(adset_id, spend, day=day) for day in (MONDAY, TUESDAY) for adset_id, spend in (("2", 40), ("3", 60))]
    serve(bench, page([*rows, undated]), times=1)
    for day in (MONDAY, TUESDAY):
        serve(bench, page([row for row in rows if row["date_start"] == day.isoformat()]), day=day)
    bench.sync([MONDAY, TUESDAY], [META])
    assert stored(bench) == [whole(MONDAY), whole(TUESDAY)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("unreadable", [{"spend": "many"}, {"adset_id": ["3"]}], ids=["spend", "ad set"])
def test_an_ad_with_an_unreadable_part_stays_as_stored(
    bench: Bench, unreadable: dict[str, object], reverse: bool
) -> None:
    serve(bench, page([part("2", "40"), part("3", "60")]))
    bench.sync([MONDAY], [META])
    bench.sandbox.faults.clear()
    rows = [part("2", "41"), part("3", "61") | unreadable]
    serve(bench, page(rows[::-1] if reverse else rows))
    [result] = bench.sync([MONDAY], [META])
    assert stored(bench) == [whole(MONDAY)]
    assert (result.rejected, result.removed) == (1, 0)
    assert bench.query("SELECT row_id, kind FROM rejected_rows") == [(AD, "insight")]


def test_a_part_that_is_readable_when_listed_again_counts(bench: Bench) -> None:
    serve(bench, page([part("3", "many"), part("2", "40")], after="c1"))
    serve(bench, page([part("3", "60")]), after="c1")
    [result] = bench.sync([MONDAY], [META])
    assert stored(bench) == [whole(MONDAY)]
    assert result.rejected == 0


def test_unreadable_parts_of_few_ads_do_not_fail_the_day(bench: Bench) -> None:
    """21 rows are less than a tenth of all rows, though they are of a fifth of the ads."""
    ads = [str(120210100 + number) for number in range(100)]
    rows = [part(adset_id, "1.00", ad_id=ad_id) for ad_id in ads for adset_id in ("2", "3")]
    bad = [part("4", "many", ad_id=ad_id) for ad_id in ads[:21]]
    serve(bench, page([*rows, *bad]))
    [result] = bench.sync([MONDAY], [META])
    assert result.rejected == 21
    [(spend,)] = bench.query(f"SELECT sum(spend) FROM meta_ad_insights WHERE account_id = '{SECOND_ACCOUNT}'")
    assert spend == 2 * (100 - 21)


LARGEST = {"spend": "999999999999.99", "clicks": str(2**63 - 1), "impressions": str(2**63 - 1)}


@pytest.mark.parametrize("figure", LARGEST)
def test_a_sum_too_large_to_store_rejects_only_its_ad(bench: Bench, figure: str) -> None:
    other = part("2", "5", ad_id="120210002")
    serve(bench, page([part("2", "40"), part("3", "60"), other]))
    bench.sync([MONDAY], [META])
    bench.sandbox.faults.clear()
    serve(bench, page([part("2", "40") | {figure: LARGEST[figure]}, part("3", "60"), other | {"spend": "6"}]))
    [result] = bench.sync([MONDAY], [META])
    assert whole(MONDAY) in stored(bench)
    assert bench.query("SELECT spend FROM meta_ad_insights WHERE ad_id = '120210002'") == [(Decimal("6.00"),)]
    assert (result.rejected, result.removed) == (1, 0)
    [(row_id, field, reason)] = bench.query("SELECT row_id, field, reason FROM rejected_rows")
    assert (row_id, field) == (AD, figure)
    assert reason.startswith("of all its parts is too large to be stored, found a number of ")


def test_a_sum_of_the_largest_size_is_stored(bench: Bench) -> None:
    serve(bench, page([part("2", "999999999999.98", clicks=str(2**63 - 2)), part("3", "0.01", clicks="1")]))
    bench.sync([MONDAY], [META])
    [(spend, clicks)] = bench.query(f"SELECT spend, clicks FROM meta_ad_insights WHERE ad_id = '{AD}'")
    assert (spend, clicks) == (Decimal("999999999999.99"), 2**63 - 1)


def test_in_strict_mode_a_sum_too_large_to_store_fails(bench: Bench) -> None:
    bench.tenant = bench.tenant.model_copy(update={"on_bad_row": "fail"})
    serve(bench, page([part("2", LARGEST["spend"]), part("3", "60")]))
    with pytest.raises(RowRejectedError, match="spend of all its parts is too large to be stored"):
        bench.sync([MONDAY], [META])
    assert stored(bench) == []
