"""Meta's client against a scripted Graph: accounts, paging, splitting, reports, statuses."""

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.sources.errors import (
    BadRequestError,
    Place,
    ReportFailedError,
    ResponseFormatError,
    TokenError,
    TooMuchDataError,
    TransientError,
)
from sync_pipeline.sources.insights import EFFECTIVE_STATUSES
from sync_pipeline.sources.meta import AdAccount, AdStatus, MetaClient, TokenInfo, User
from sync_pipeline.sources.reports import MAX_STANDSTILL_S
from sync_pipeline_tests.sources.conftest import MARKER, Bench
from sync_pipeline_tests.sources.scripted import Reply, graph_error, graph_page

MakeBench = Callable[..., Bench]
DAY = date(2026, 10, 25)
TOO_MUCH = Reply(graph_error(1, message="Please reduce the amount of data you're asking for, then retry"), 500)
ACCOUNT = {
    "id": "act_11",
    "account_id": "11",
    "name": "Acme PH",
    "currency": "PHP",
    "timezone_name": "Asia/Manila",
    "account_status": 1,
}


def rows_of(client: MetaClient, since: date = DAY, until: date = DAY) -> list[dict[str, Any]]:
    return [row for page in client.insights("11", since, until) for row in page]


def windows_of(bench: Bench) -> list[tuple[str, str]]:
    asked = [json.loads(query) for query in bench.server.queries("time_range") if query]
    return [(window["since"], window["until"]) for window in asked]


def test_the_token_travels_in_the_header_and_not_in_the_url(bench: MakeBench) -> None:
    b = bench(graph_page([ACCOUNT]))
    b.meta().ad_accounts()
    asked = b.server.asked[0]
    assert asked.headers["Authorization"] == f"Bearer {MARKER}"
    assert asked.path == "/v26.0/me/adaccounts"
    assert set(asked.query) == {"fields", "limit"}


def test_an_app_secret_adds_the_proof_to_every_request_posts_too(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, {"report_run_id": 7}, done_report(), graph_page([]))
    rows_of(b.meta(app_secret="shh", page_size=25))
    proof = hmac.new(b"shh", MARKER.encode(), hashlib.sha256).hexdigest()
    assert [asked.method for asked in b.server.asked] == ["GET", "POST", "GET", "GET"]
    assert b.server.queries("appsecret_proof") == [proof] * 4


def test_a_netrc_entry_for_the_host_does_not_replace_the_token(
    bench: MakeBench, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login intruder password intruder\n")
    monkeypatch.setenv("NETRC", str(netrc))
    b = bench(graph_page([ACCOUNT]), {"success": True, "shops": []})
    b.meta().ad_accounts()
    b.pancake().shops()
    assert b.server.asked[0].headers["Authorization"] == f"Bearer {MARKER}"
    assert "Authorization" not in b.server.asked[1].headers


@pytest.mark.parametrize("token", ["", "  ", "EAAB\nX-Evil: 1", "EAABé"])
def test_a_token_that_cannot_be_one_is_refused_before_anything_is_sent(token: str) -> None:
    with pytest.raises(TokenError, match="empty or holds characters"):
        MetaClient(tenant="acme", graph_url="http://127.0.0.1:1", token=token)


def test_a_token_read_with_its_line_end_works(bench: MakeBench) -> None:
    b = bench({"id": "1", "name": "Ann"})
    client = MetaClient(tenant="acme", graph_url=b.server.url + "/", token="EAAB\n")
    assert client.me() == User("1", "Ann")
    assert b.server.asked[0].headers["Authorization"] == "Bearer EAAB"


def test_ad_accounts_come_from_all_pages_once_each(bench: MakeBench) -> None:
    second = {**ACCOUNT, "id": "act_12", "account_id": 12, "name": None, "account_status": "2"}
    b = bench(graph_page([ACCOUNT], after="p2"), graph_page([ACCOUNT, second]))
    assert b.meta().ad_accounts() == [
        AdAccount("11", "Acme PH", "PHP", "Asia/Manila", 1),
        AdAccount("12", None, "PHP", "Asia/Manila", 2),
    ]
    assert b.server.queries("after") == [None, "p2"]


@pytest.mark.parametrize(
    "first", [graph_page([]), {"data": []}, Reply(graph_error(100, message="nonexisting field (adaccounts)"), 400)]
)
def test_a_system_users_accounts_are_asked_for_where_a_person_has_none(bench: MakeBench, first: object) -> None:
    b = bench(first, graph_page([ACCOUNT]))
    assert [account.account_id for account in b.meta().ad_accounts()] == ["11"]
    assert b.server.paths == ["/v26.0/me/adaccounts", "/v26.0/me/assigned_ad_accounts"]


def test_no_account_at_all_is_an_empty_list_even_if_a_person_has_no_assigned_edge(bench: MakeBench) -> None:
    b = bench(graph_page([]), Reply(graph_error(100), 400))
    assert b.meta().ad_accounts() == []


def test_where_neither_edge_exists_the_error_is_told(bench: MakeBench) -> None:
    b = bench(Reply(graph_error(100), 400), Reply(graph_error(2500), 400))
    with pytest.raises(BadRequestError):
        b.meta().ad_accounts()


def test_an_account_named_in_the_tenant_file_is_read_by_its_id_with_or_without_act(bench: MakeBench) -> None:
    b = bench(ACCOUNT, {"id": "act_11"})
    assert b.meta().ad_account("act_11") == AdAccount("11", "Acme PH", "PHP", "Asia/Manila", 1)
    assert b.meta().ad_account("11") == AdAccount("11", None, None, None, None)
    assert b.server.paths == ["/v26.0/act_11"] * 2


def test_insights_ask_for_every_day_and_status_of_the_window_in_one_request(bench: MakeBench) -> None:
    b = bench(graph_page([{"ad_id": "1", "spend": "14.35"}]))
    rows = rows_of(b.meta(), DAY, date(2026, 10, 31))
    query = b.server.asked[0].query
    assert rows == [{"ad_id": "1", "spend": "14.35"}]
    assert b.server.asked[0].path == "/v26.0/act_11/insights"
    assert json.loads(query["time_range"]) == {"since": "2026-10-25", "until": "2026-10-31"}
    assert (query["level"], query["time_increment"], query["limit"]) == ("ad", "1", "500")
    (statuses,) = json.loads(query["filtering"])
    assert (statuses["field"], statuses["operator"]) == ("ad.effective_status", "IN")
    assert statuses["value"] == list(EFFECTIVE_STATUSES)
    assert len(set(EFFECTIVE_STATUSES)) == 12
    assert set(query["fields"].split(",")) == {
        *("ad_id", "ad_name", "adset_id", "adset_name", "campaign_id", "campaign_name", "spend", "impressions"),
        *("clicks", "inline_link_clicks", "actions", "account_id", "account_currency", "date_start", "date_stop"),
    }


def test_paging_goes_on_over_an_empty_page_and_ends_where_next_is_absent(bench: MakeBench) -> None:
    b = bench(
        graph_page([{"ad_id": "1"}], after="c1"),
        graph_page([], after="c2"),
        graph_page([{"ad_id": "2"}]),
    )
    assert [row["ad_id"] for row in rows_of(b.meta())] == ["1", "2"]
    assert b.server.queries("after") == [None, "c1", "c2"]
    assert all("access_token" not in asked.query for asked in b.server.asked)


def test_a_next_without_after_uses_the_cursor_beside_it(bench: MakeBench) -> None:
    first = {"data": [{"ad_id": "1"}], "paging": {"next": "https://x/?limit=25", "cursors": {"after": "c1"}}}
    b = bench(first, {"data": []})
    rows_of(b.meta())
    assert b.server.queries("after") == [None, "c1"]


def test_the_cursor_in_next_goes_before_the_one_beside_it(bench: MakeBench) -> None:
    paging = {"next": "https://x/?after=c1&limit=25", "cursors": {"before": "c0", "after": "other"}}
    b = bench({"data": [{"ad_id": "1"}], "paging": paging}, {"data": []})
    rows_of(b.meta())
    assert b.server.queries("after") == [None, "c1"]


@pytest.mark.parametrize("paging", [None, {}, {"cursors": {"after": "x"}}, {"next": None}, {"next": ""}])
def test_without_next_a_page_is_the_last_whatever_its_cursors(bench: MakeBench, paging: object) -> None:
    b = bench({"data": [{"ad_id": "1"}], "paging": paging})
    assert len(rows_of(b.meta())) == 1
    assert len(b.server.asked) == 1


@pytest.mark.parametrize(
    "paging", [{"next": "https://x/"}, {"next": 5}, {"next": "http://["}, [], "x", {"next": "?after=%C3%A9"}]
)
def test_a_next_page_without_a_usable_cursor_is_an_error_not_the_end(bench: MakeBench, paging: object) -> None:
    b = bench({"data": [{"ad_id": "1"}], "paging": paging})
    with pytest.raises(ResponseFormatError):
        rows_of(b.meta())


def test_a_cursor_that_comes_back_is_an_error_not_an_endless_loop(bench: MakeBench) -> None:
    b = bench(*[graph_page([{"ad_id": "1"}], after=cursor) for cursor in ("c1", "c2", "c1")])
    with pytest.raises(ResponseFormatError, match="already read"):
        rows_of(b.meta())


def test_numbers_with_a_fraction_come_as_decimals(bench: MakeBench) -> None:
    b = bench(b'{"data": [{"spend": 0.1, "ad_id": 120210000000000000123456789}]}')
    assert rows_of(b.meta()) == [{"spend": Decimal("0.1"), "ad_id": 120210000000000000123456789}]


def test_too_much_data_halves_the_window_and_remembers_it_for_the_account(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, *[graph_page([{"ad_id": str(n)}]) for n in range(3)], graph_page([]), graph_page([]))
    client = b.meta()
    assert [row["ad_id"] for row in rows_of(client, DAY, date(2026, 10, 31))] == ["0", "1", "2"]
    assert windows_of(b)[1:] == [
        ("2026-10-25", "2026-10-27"),
        ("2026-10-28", "2026-10-30"),
        ("2026-10-31", "2026-10-31"),
    ]
    list(client.insights("11", DAY, date(2026, 10, 30)))
    assert windows_of(b)[4:] == [("2026-10-25", "2026-10-27"), ("2026-10-28", "2026-10-30")]


def test_another_account_is_still_asked_for_the_whole_window(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, graph_page([]), graph_page([]), graph_page([]))
    client = b.meta()
    list(client.insights("11", DAY, date(2026, 10, 26)))
    list(client.insights("12", DAY, date(2026, 10, 26)))
    assert windows_of(b)[-1] == ("2026-10-25", "2026-10-26")


def test_too_much_data_on_a_later_page_asks_for_the_smaller_window_from_its_start(bench: MakeBench) -> None:
    b = bench(
        graph_page([{"ad_id": "1"}], after="c1"),
        TOO_MUCH,
        graph_page([{"ad_id": "1"}]),
        graph_page([{"ad_id": "2"}]),
    )
    assert [row["ad_id"] for row in rows_of(b.meta(), DAY, date(2026, 10, 26))] == ["1", "1", "2"]


@pytest.mark.parametrize("edge", ["adaccounts", "assigned_ad_accounts"])
def test_account_lists_halve_a_page_that_is_too_much(bench: MakeBench, edge: str) -> None:
    second = {**ACCOUNT, "id": "act_12", "account_id": "12"}
    before = [] if edge == "adaccounts" else [graph_page([])]
    b = bench(*before, TOO_MUCH, TOO_MUCH, graph_page([ACCOUNT], after="c1"), TOO_MUCH, graph_page([second]))
    assert [account.account_id for account in b.meta(page_size=100).ad_accounts()] == ["11", "12"]
    asked = b.server.asked[len(before) :]
    assert {one.path for one in asked} == {f"/v26.0/me/{edge}"}
    assert [one.query["limit"] for one in asked] == ["100", "50", "25", "25", "12"]
    assert [one.query.get("after") for one in asked] == [None, None, None, "c1", "c1"]


def test_statuses_by_id_halve_a_page_that_is_too_much(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, graph_page(statuses_of(["1"]), after="c1"), TOO_MUCH, graph_page(statuses_of(["2"])))
    pages = list(b.meta(page_size=200).ad_statuses("11", ["1", "2"]))
    assert [status.ad_id for page in pages for status in page] == ["1", "2"]
    assert b.server.queries("limit") == ["200", "100", "100", "50"]
    assert b.server.queries("after") == [None, None, "c1", "c1"]
    assert asked_by_id(b) == [["1", "2"]] * 4


def test_statuses_by_list_halve_a_page_that_is_too_much(bench: MakeBench) -> None:
    wanted = [f"1{n:03}" for n in range(150)]
    b = bench(
        TOO_MUCH,
        graph_page(statuses_of(wanted[:100]), after="c1"),
        graph_page(statuses_of(wanted[100:])),
    )
    found = [status.ad_id for page in b.meta(page_size=200).ad_statuses("11", wanted) for status in page]
    assert found == wanted
    assert b.server.queries("limit") == ["200", "100", "100"]


def test_the_page_of_statuses_is_remembered_per_account(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, *[graph_page(statuses_of(["1"]))] * 3)
    client = b.meta(page_size=200)
    for account in ("11", "11", "12"):
        list(client.ad_statuses(account, ["1"]))
    assert b.server.queries("limit") == ["200", "100", "100", "200"]


@pytest.mark.parametrize(
    ("call", "limits"),
    [
        (lambda meta: meta.ad_accounts(), [100, 50, 25, 12, 6, 3, 1]),
        (lambda meta: list(meta.ad_statuses("11", ["1"])), [100, 50, 25, 12, 6, 3, 1]),
        (lambda meta: list(meta.ad_statuses("11", [str(n) for n in range(60)])), [100, 50, 25, 12, 6, 3, 1]),
    ],
    ids=["accounts", "statuses by id", "statuses by list"],
)
def test_a_list_that_refuses_even_one_row_is_too_much(
    bench: MakeBench, call: Callable[[MetaClient], object], limits: list[int]
) -> None:
    b = bench(*[TOO_MUCH] * 20)
    with pytest.raises(TooMuchDataError):
        call(b.meta(page_size=100))
    assert b.server.queries("limit") == [str(limit) for limit in limits]


@pytest.mark.parametrize(
    "refusal",
    [
        graph_error(2637),
        graph_error(1, 1504018),
        graph_error(1487534),
        graph_error(2, 1504038, is_transient=True),
        graph_error(960, message="Please reduce the amount of data you're asking for, then retry your request"),
        {"error": "Please reduce the amount of data you're asking for, then retry your request"},
    ],
)
def test_each_form_of_too_much_data_halves_a_list(bench: MakeBench, refusal: object) -> None:
    b = bench(Reply(refusal, 400), graph_page([ACCOUNT]))
    assert len(b.meta().ad_accounts()) == 1
    assert b.server.queries("limit") == ["500", "250"]


@pytest.mark.parametrize("refusal", [graph_error(1), graph_error(1, 99), graph_error(2), graph_error(960)])
def test_a_transient_error_halves_no_page(bench: MakeBench, refusal: object) -> None:
    b = bench(Reply(refusal, 500), graph_page([ACCOUNT]))
    with pytest.raises(TransientError):
        b.meta().ad_accounts()
    assert b.server.queries("limit") == ["500"]


@pytest.mark.parametrize("call", ["insights", "account_days"])
def test_a_later_page_of_a_day_is_halved_at_its_cursor(bench: MakeBench, call: str) -> None:
    b = bench(graph_page([{"ad_id": "1"}], after="c1"), TOO_MUCH, TOO_MUCH, graph_page([{"ad_id": "2"}]))
    pages = list(getattr(b.meta(page_size=200), call)("11", DAY, DAY))
    assert pages == [[{"ad_id": "1"}], [{"ad_id": "2"}]]
    assert b.server.queries("limit") == ["200", "200", "100", "50"]
    assert b.server.queries("after") == [None, "c1", "c1", "c1"]


def test_the_page_of_an_account_s_reports_is_remembered(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, TOO_MUCH, {"report_run_id": 7}, done_report(), TOO_MUCH, graph_page([]))
    b.server.then({"report_run_id": 8}, done_report(), graph_page([]))
    client = b.meta(page_size=50)
    rows_of(client)
    rows_of(client)
    assert b.server.queries("limit") == ["50", "25", None, None, "50", "25", None, None, "25"]


def done_report(**more: object) -> dict[str, object]:
    return {"id": "7", "async_status": "Job Completed", "async_percent_completion": 100, **more}


def test_a_day_that_is_too_much_gets_smaller_pages_then_a_report(bench: MakeBench) -> None:
    b = bench(
        *[TOO_MUCH] * 6,
        {"report_run_id": 7},
        done_report(),
        graph_page([{"ad_id": "1"}], after="c1"),
        graph_page([{"ad_id": "2"}]),
    )
    assert [row["ad_id"] for row in rows_of(b.meta())] == ["1", "2"]
    assert b.server.queries("limit") == ["500", "250", "125", "62", "31", "25", None, None, "500", "500"]
    post = b.server.asked[6]
    assert (post.method, post.path, post.query) == ("POST", "/v26.0/act_11/insights", {})
    direct = b.server.asked[0].query
    assert post.form == {name: value for name, value in direct.items() if name != "limit"}
    assert b.server.paths[7:] == ["/v26.0/7", "/v26.0/7/insights", "/v26.0/7/insights"]


def test_the_account_that_needed_a_report_gets_one_at_once_on_the_next_day(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, {"report_run_id": "7"}, done_report(), graph_page([]))
    b.server.then({"report_run_id": "8"}, done_report(), graph_page([]))
    client = b.meta(page_size=25)
    rows_of(client)
    rows_of(client, date(2026, 10, 26), date(2026, 10, 26))
    assert [asked.method for asked in b.server.asked] == ["GET", "POST", "GET", "GET", "POST", "GET", "GET"]


def test_a_report_is_done_at_completed_and_100_and_may_be_unknown_at_first(bench: MakeBench) -> None:
    b = bench(
        TOO_MUCH,
        {"report_run_id": 7},
        Reply(graph_error(100, 33, "Object with ID '7' does not exist"), 400),
        {"async_status": "Job Not Started", "async_percent_completion": 0},
        {"async_status": "Job Running", "async_percent_completion": 100},
        {"async_status": "Job Completed", "async_percent_completion": 97},
        {"async_status": "Job Completed", "async_percent_completion": "100"},
        graph_page([{"ad_id": "1"}]),
    )
    assert len(rows_of(b.meta(page_size=25))) == 1
    assert b.clock.slept == [2.0, 4.0, 8.0, 16.0, 30.0]
    assert "97 %" in b.waits[-1].reason


NOT_LOADED = Reply(graph_error(2601, 1815107, "Error accessing adreport job.", is_transient=True), 400)
UNKNOWN = Reply(graph_error(100, 33, "Object with ID '7' does not exist"), 400)
RUNNING = {"async_status": "Job Running", "async_percent_completion": 40}


@pytest.mark.parametrize("refusal", [NOT_LOADED, UNKNOWN, Reply(graph_error(100, 33, is_transient=True), 400)])
def test_unreadable_rows_are_waited_for_without_retries(bench: MakeBench, refusal: Reply) -> None:
    b = bench(TOO_MUCH, {"report_run_id": 7}, done_report(), *[refusal] * 6, graph_page([{"ad_id": "1"}]))
    assert rows_of(b.meta(page_size=25)) == [{"ad_id": "1"}]
    assert b.clock.slept == [2.0, *(2.0, 4.0, 8.0, 16.0, 30.0, 30.0)]
    assert [wait.reason for wait in b.waits[1:]] == [
        f"report 7 of meta, tenant acme, account 11, {DAY}: its rows cannot be read yet"
    ] * 6
    assert b.server.paths[3:] == ["/v26.0/7/insights"] * 7


def test_rows_that_become_unreadable_are_read_on_at_their_cursor(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, TOO_MUCH, {"report_run_id": 7}, done_report(), graph_page([{"ad_id": "1"}], after="c1"))
    b.server.then(NOT_LOADED, TOO_MUCH, UNKNOWN, graph_page([{"ad_id": "2"}]))
    assert rows_of(b.meta(page_size=50)) == [{"ad_id": "1"}, {"ad_id": "2"}]
    assert b.server.queries("after")[4:] == [None, "c1", "c1", "c1", "c1"]
    assert b.server.queries("limit")[4:] == ["50", "50", "50", "25", "25"]


@pytest.mark.parametrize("refusal", [NOT_LOADED, UNKNOWN])
def test_rows_that_stay_unreadable_fail_after_half_an_hour(bench: MakeBench, refusal: Reply) -> None:
    b = bench(TOO_MUCH, {"report_run_id": 7}, *[RUNNING] * 30, done_report(), *[refusal] * 80)
    with pytest.raises(ReportFailedError, match="has ended but could not be read within 1800 s: its rows") as caught:
        rows_of(b.meta(page_size=25))
    found = refusal.body["error"]  # type: ignore[index]
    assert (caught.value.code, caught.value.subcode) == (found["code"], found["error_subcode"])
    assert caught.value.api_message == found["message"]
    assert 1800 <= sum(b.clock.slept) < 1830


def test_rows_refused_for_another_reason_are_not_waited_for(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, {"report_run_id": 7}, done_report(), Reply(graph_error(100), 400))
    with pytest.raises(BadRequestError):
        rows_of(b.meta(page_size=25))
    assert b.clock.slept == [2.0]


def test_a_status_that_cannot_be_loaded_yet_is_polled_again(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, {"report_run_id": 7}, *[NOT_LOADED] * 9, done_report(), graph_page([{"ad_id": "1"}]))
    assert rows_of(b.meta(page_size=25)) == [{"ad_id": "1"}]


def test_a_report_may_be_unknown_again_for_a_moment(bench: MakeBench) -> None:
    polls = [*[UNKNOWN] * 4, *[RUNNING] * 3, *[UNKNOWN] * 4, done_report()]
    b = bench(TOO_MUCH, {"report_run_id": 7}, *polls, graph_page([{"ad_id": "1"}]))
    assert rows_of(b.meta(page_size=25)) == [{"ad_id": "1"}]


def completed(percent: object) -> dict[str, object]:
    return {"async_status": "Job Completed", "async_percent_completion": percent}


@pytest.mark.parametrize("percent", [0, 97, "97", None])
def test_a_report_that_stays_completed_below_100_is_read(bench: MakeBench, percent: object) -> None:
    polls = 1 + len(list(waits_until(MAX_STANDSTILL_S)))
    b = bench(TOO_MUCH, {"report_run_id": 7}, *[completed(percent)] * polls, graph_page([{"ad_id": "1"}]))
    assert rows_of(b.meta(page_size=25)) == [{"ad_id": "1"}]
    assert MAX_STANDSTILL_S <= sum(b.clock.slept) < MAX_STANDSTILL_S + 60
    [notice] = b.notices
    assert notice == (
        "a report that stays completed below 100 % is read as it is: report 7 of meta, tenant acme, account 11, "
        f"{DAY}, {int(percent or 0)} % for 300 s"  # type: ignore[call-overload]
    )


def waits_until(seconds: float) -> Iterator[float]:
    """The waits between polls after the first one, until they add up to `seconds`."""
    waited, wait = 0.0, 2.0
    while waited < seconds:
        wait = min(30.0, 2 * wait)
        waited += wait
        yield wait


def test_progress_or_another_state_restarts_the_standstill(bench: MakeBench) -> None:
    almost = len(list(waits_until(MAX_STANDSTILL_S))) - 1
    polls = [*[completed(97)] * almost, completed(98), *[completed(97)] * 9, RUNNING, *[completed(98)] * 9]
    b = bench(TOO_MUCH, {"report_run_id": 7}, *polls, completed(100), graph_page([{"ad_id": "1"}]))
    assert rows_of(b.meta(page_size=25)) == [{"ad_id": "1"}]
    assert sum(b.clock.slept) > 2 * MAX_STANDSTILL_S
    assert b.notices == []


def test_a_report_that_runs_at_100_percent_is_not_done(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, {"report_run_id": 7}, *[{**RUNNING, "async_percent_completion": 100}] * 80)
    with pytest.raises(ReportFailedError, match="did not end within 1800 s: Job Running, 100 %"):
        rows_of(b.meta(page_size=25))


def test_a_report_that_stays_unknown_is_told(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, {"report_run_id": 7}, *[Reply(graph_error(100, 33), 400)] * 5)
    with pytest.raises(BadRequestError):
        rows_of(b.meta(page_size=25))


@pytest.mark.parametrize("state", ["Job Failed", "Job Skipped"])
def test_a_failed_report_ends_at_once_with_metas_reason(bench: MakeBench, state: str) -> None:
    status = {"async_status": state, "error_code": 2601, "error_message": "boom", "error_user_msg": "Try a day"}
    b = bench(TOO_MUCH, {"report_run_id": 7}, status)
    with pytest.raises(ReportFailedError, match="boom / Try a day") as caught:
        rows_of(b.meta(page_size=25))
    assert caught.value.code == 2601
    assert caught.value.place == Place("acme", "meta", account_id="11", since=DAY, until=DAY)


def test_a_report_that_never_ends_is_given_up_after_half_an_hour(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, {"report_run_id": 7}, *[{"async_status": "Job Running", "async_percent_completion": 3}] * 80)
    with pytest.raises(ReportFailedError, match="did not end within 1800 s: Job Running, 3 %"):
        rows_of(b.meta(page_size=25))
    assert 1800 <= sum(b.clock.slept) < 1830


def test_report_rows_that_are_too_much_get_smaller_pages_and_at_last_an_error(bench: MakeBench) -> None:
    b = bench(TOO_MUCH, TOO_MUCH, {"report_run_id": 7}, done_report(), TOO_MUCH, TOO_MUCH)
    with pytest.raises(TooMuchDataError):
        rows_of(b.meta(page_size=50))
    assert b.server.queries("limit") == ["50", "25", None, None, "50", "25"]


@pytest.mark.parametrize("run_id", [None, True, "", "7/../me", 1.5, []])
def test_a_report_without_an_id_is_an_error(bench: MakeBench, run_id: object) -> None:
    b = bench(TOO_MUCH, {"report_run_id": run_id})
    with pytest.raises(ResponseFormatError, match="report_run_id"):
        rows_of(b.meta(page_size=25))


def test_a_few_statuses_are_asked_for_by_id_over_all_pages(bench: MakeBench) -> None:
    ids = [str(120210000000000000 + n) for n in range(50)]
    known = {"id": ids[0], "status": "PAUSED", "effective_status": "CAMPAIGN_PAUSED"}
    b = bench(graph_page([known], after="c1"), graph_page([{"id": int(ids[1])}]))
    pages = list(b.meta(page_size=10).ad_statuses("11", ids, DAY))
    assert pages == [[AdStatus(ids[0], "PAUSED", "CAMPAIGN_PAUSED")], [AdStatus(ids[1], None, None)]]
    filters = [json.loads(query or "") for query in b.server.queries("filtering")]
    assert [wanted["value"] for wanted, _ in filters] == [ids, ids]
    assert {statuses["field"] for _, statuses in filters} == {"ad.effective_status"}
    assert b.server.queries("limit") == ["50", "50"]
    assert set(b.server.paths) == {"/v26.0/act_11/ads"}


@pytest.mark.parametrize(
    "unreadable",
    [None, {"status": "ACTIVE"}, {"id": "2", "status": ["ACTIVE"]}, {"id": "2", "effective_status": {}}],
)
def test_an_unreadable_status_costs_no_other_ad_its_own(bench: MakeBench, unreadable: object) -> None:
    b = bench({"data": [unreadable, {"id": "1", "status": "PAUSED"}]})
    pages = list(b.meta().ad_statuses("11", ["1", "2"], DAY))
    assert pages == [[AdStatus("1", "PAUSED", None)]]
    [notice] = b.notices
    assert notice == f"ad statuses that cannot be read keep their stored value: meta, tenant acme, account 11, {DAY}"


def test_a_row_that_is_no_object_is_passed_on_beside_others(bench: MakeBench) -> None:
    b = bench(graph_page([None, {"ad_id": "1"}], after="c1"), graph_page([{"ad_id": "2"}, 7]))
    assert rows_of(b.meta()) == [None, {"ad_id": "1"}, {"ad_id": "2"}, 7]


@pytest.mark.parametrize("rows", [[None], [7, []]])
def test_rows_none_of_which_is_an_object_are_a_format_error(bench: MakeBench, rows: list[object]) -> None:
    with pytest.raises(ResponseFormatError, match="something else than objects"):
        rows_of(bench({"data": rows}).meta())


def test_an_account_that_is_no_object_is_a_format_error(bench: MakeBench) -> None:
    with pytest.raises(ResponseFormatError, match="something else than objects"):
        bench({"data": [{"account_id": "1"}, None]}).meta().ad_accounts()


def statuses_of(ids: Sequence[str]) -> list[dict[str, str]]:
    return [{"id": one, "status": "ACTIVE", "effective_status": "ACTIVE"} for one in ids]


def asked_by_id(b: Bench) -> list[list[str]]:
    """The ids of each request for statuses; none where the whole account was asked for."""
    filters = [json.loads(query or "") for query in b.server.queries("filtering")]
    return [each["value"] for one in filters for each in one if each["field"] == "ad.id"]


def test_many_statuses_are_read_from_the_account_s_list_until_few_are_left(bench: MakeBench) -> None:
    wanted, others = [f"1{n:03}" for n in range(300)], [f"2{n:03}" for n in range(600)]
    b = bench(
        graph_page(statuses_of(wanted[:120] + others[:80]), after="c1"),
        graph_page(statuses_of(wanted[120:270]), after="c2"),
        graph_page(statuses_of(wanted[270:])),
    )
    found = [status.ad_id for page in b.meta(page_size=200).ad_statuses("11", wanted, DAY) for status in page]
    assert found == wanted, "and none of the others"
    assert b.server.queries("limit") == ["200"] * 3
    assert asked_by_id(b) == [wanted[270:]]


def test_a_list_with_few_of_the_wanted_ads_is_not_read_on(bench: MakeBench) -> None:
    wanted, others = [f"1{n:03}" for n in range(120)], [f"2{n:03}" for n in range(500)]
    b = bench(
        graph_page(statuses_of(others[:499] + wanted[:1]), after="c1"),
        *(graph_page(statuses_of(wanted[start : start + 50])) for start in (1, 51, 101)),
    )
    found = [status.ad_id for page in b.meta(page_size=500).ad_statuses("11", wanted, DAY) for status in page]
    assert found == wanted
    assert asked_by_id(b) == [wanted[1:51], wanted[51:101], wanted[101:]]


def test_a_list_that_holds_them_all_is_all_that_is_asked_for(bench: MakeBench) -> None:
    wanted = [f"1{n:03}" for n in range(200)]
    b = bench(graph_page(statuses_of(wanted), after="c1"))
    assert [len(page) for page in b.meta(page_size=500).ad_statuses("11", wanted, DAY)] == [200]
    assert len(b.server.asked) == 1


def test_no_ads_no_request(bench: MakeBench) -> None:
    b = bench()
    assert list(b.meta().ad_statuses("11", [])) == []
    assert b.server.asked == []


def test_the_tokens_expiry_and_scopes_are_read(bench: MakeBench) -> None:
    b = bench(
        {"data": {"is_valid": True, "expires_at": 1798761600, "data_access_expires_at": 0, "scopes": ["ads_read"]}}
    )
    assert b.meta().debug_token() == TokenInfo(
        is_valid=True,
        expires_at=datetime(2027, 1, 1, tzinfo=UTC),
        data_access_expires_at=None,
        scopes=("ads_read",),
    )
    assert b.server.asked[0].query["input_token"] == MARKER


@pytest.mark.parametrize("body", [{"data": []}, {}, {"data": {"expires_at": 99999999999999999}}])
def test_an_odd_answer_about_the_token_is_a_format_error(bench: MakeBench, body: object) -> None:
    with pytest.raises(ResponseFormatError):
        bench(body).meta().debug_token()


def test_metas_version_and_its_warning_are_told_once_each(bench: MakeBench) -> None:
    headers = {"facebook-api-version": "v25.0", "X-Ad-Api-Version-Warning": "v23.0 is gone, using v25.0"}
    b = bench(*[Reply({"id": "1"}, headers=headers)] * 3)
    client = b.meta()
    for _ in range(3):
        client.me()
    assert sorted(b.notices) == [
        "API version warning of Meta: v23.0 is gone, using v25.0",
        "Meta answers with API version: v25.0",
    ]
    assert client.requests_made == 3


def test_account_days_ask_for_the_account_s_own_totals_and_filter_nothing(bench: MakeBench) -> None:
    b = bench(graph_page([{"spend": "1.00"}], after="p2"), graph_page([{"spend": "2.00"}]))
    pages = list(b.meta(page_size=50).account_days("act_11", DAY, date(2026, 10, 31)))
    assert pages == [[{"spend": "1.00"}], [{"spend": "2.00"}]]
    assert b.server.paths == ["/v26.0/act_11/insights"] * 2
    query = b.server.asked[0].query
    assert json.loads(query["time_range"]) == {"since": "2026-10-25", "until": "2026-10-31"}
    assert (query["level"], query["time_increment"], query["limit"]) == ("account", "1", "50")
    assert query["fields"] == "account_id,account_currency,spend,date_start,date_stop"
    assert "filtering" not in query


def test_account_days_that_fail_say_whose_and_of_which_days(bench: MakeBench) -> None:
    with pytest.raises(BadRequestError) as caught:
        list(bench(Reply(graph_error(100), 400)).meta().account_days("11", DAY, date(2026, 10, 31)))
    assert caught.value.place == Place("acme", "meta", account_id="11", since=DAY, until=date(2026, 10, 31))
