from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest
import requests

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Effect, Fault
from sync_pipeline.sandbox.graph_errors import NAMED
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.sandbox.asking import (
    MAIN,
    MANILA_SHOP,
    QUIET_ON_SUNDAYS,
    control,
    daily_insights,
    error_of,
    graph,
    pancake,
    window,
)
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

FIFTH = date(2026, 10, 5)


def test_skip_and_times_count_the_requests_that_match(sandbox: SandboxServer) -> None:
    fault = sandbox.faults.add(Fault(faults.http_error(502), path=r"/shops$", skip=1, times=2))
    graph(sandbox, "me")
    assert [pancake(sandbox, "shops").status_code for _ in range(4)] == [200, 502, 502, 200]
    assert fault.hits == 2


def test_always_until_cleared(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.http_error(503), times=None))
    assert {pancake(sandbox, "shops").status_code for _ in range(3)} == {503}
    sandbox.faults.clear()
    assert pancake(sandbox, "shops").ok


def test_a_page_can_be_picked_by_the_decoded_query(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.http_error(500), query=r"page_number=2\b.*filter_status\[\]=3"))
    asked = {**window(FIFTH), "filter_status[]": 3}
    statuses = [pancake(sandbox, f"shops/{MANILA_SHOP}/orders", page_number=n, **asked).status_code for n in (1, 2, 3)]
    assert statuses == [200, 500, 200]


@pytest.mark.parametrize("name", ["report_not_ready", "no_such_object"])
def test_rows_of_a_report_may_be_unreadable_for_a_while(sandbox: SandboxServer, name: str) -> None:
    sandbox.behaviour.reports_unfinished_polls = 0
    sandbox.faults.add(Fault(faults.graph_error(name), kind="report_rows", times=2))
    wanted = daily_insights("2026-11-01", "2026-11-01")
    run = graph(sandbox, f"act_{MAIN}/insights", method="POST", **wanted).json()["report_run_id"]
    assert graph(sandbox, run).json()["async_percent_completion"] == 100
    answers = [graph(sandbox, f"{run}/insights") for _ in range(3)]
    assert [answer.ok for answer in answers] == [False, False, True]
    assert error_of(answers[0])[1:] == (NAMED[name].code, NAMED[name].subcode)


def test_totals_can_be_refused_while_ads_insights_are_answered(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.graph_error("no_permission"), kind="account_insights", times=None))
    wanted = daily_insights("2026-11-01", "2026-11-01")
    assert graph(sandbox, f"act_{MAIN}/insights", **wanted).ok
    assert error_of(graph(sandbox, f"act_{MAIN}/insights", **{**wanted, "level": "account"})) == (403, 200, None)


def test_one_account_can_be_refused_for_good(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.graph_error("no_permission"), path=f"act_{MAIN}", times=None))
    assert [graph(sandbox, f"act_{MAIN}/{edge}").status_code for edge in ("insights", "ads", "")] == [403, 403, 403]
    assert graph(sandbox, f"act_{QUIET_ON_SUNDAYS}/ads").ok


def test_one_incomplete_creative_refuses_the_list_of_ads(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.graph_error("incomplete_creative"), kind="ads"))
    assert error_of(graph(sandbox, f"act_{MAIN}/ads")) == (400, 100, 2446289)
    assert graph(sandbox, f"act_{MAIN}/ads").ok


def test_pancake_limits_requests_in_the_body_under_any_status(sandbox: SandboxServer) -> None:
    for status in (200, 429):
        sandbox.faults.add(Fault(faults.pancake_rate_limited(status)))
        answer = pancake(sandbox, "shops")
        assert (answer.status_code, answer.json()["error_code"], answer.json()["success"]) == (status, 106, False)


def test_insights_can_be_picked_by_a_day_they_cover(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.graph_error("unavailable"), covers_day=FIFTH, times=None))
    ranges = [("2026-10-01", "2026-10-04"), ("2026-10-04", "2026-10-08"), ("2026-10-06", "2026-10-06")]
    answers = [graph(sandbox, f"act_{MAIN}/insights", **daily_insights(*stretch)).status_code for stretch in ranges]
    assert answers == [200, 503, 200]
    assert graph(sandbox, f"act_{MAIN}/insights", method="POST", **daily_insights(*ranges[1])).status_code == 503
    assert graph(sandbox, "me").ok


def test_orders_can_be_picked_by_a_local_day_they_cover(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.http_error(500), covers_day=FIFTH, times=None))
    days = (date(2026, 10, 4), FIFTH, date(2026, 10, 6))
    asked = [pancake(sandbox, f"shops/{MANILA_SHOP}/orders", **window(day)).status_code for day in days]
    assert asked == [200, 500, 200]
    wide = pancake(sandbox, f"shops/{MANILA_SHOP}/orders", **window(date(2026, 10, 1), days=9))
    assert wide.status_code == 500


@pytest.mark.parametrize("name", NAMED)
def test_every_error_of_the_graph_api_can_be_injected(sandbox: SandboxServer, name: str) -> None:
    sandbox.faults.add(Fault(faults.graph_error(name)))
    expected = NAMED[name]
    answer = graph(sandbox, "me")
    assert error_of(answer) == (expected.status, expected.code, expected.subcode)
    assert answer.json()["error"].get("is_transient") == expected.is_transient


def test_an_error_may_hide_behind_http_200(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.graph_error_code(613, 1487742, status=200)))
    assert error_of(graph(sandbox, "me")) == (200, 613, 1487742)


def test_some_rows_of_the_real_answer_can_be_spoilt(sandbox: SandboxServer) -> None:
    def shown() -> list[Any]:
        found: list[Any] = pancake(sandbox, f"shops/{MANILA_SHOP}/orders", **window(FIFTH)).json()["data"]
        return found

    good = shown()
    spoilt = good[1]["id"]
    sandbox.faults.add(Fault(faults.bad_rows({"status": "Confirmed"}, absent=["inserted_at"], ids=[spoilt])))
    changed = {name: value for name, value in good[1].items() if name != "inserted_at"} | {"status": "Confirmed"}
    assert shown() == [good[0], changed, *good[2:]]
    sandbox.faults.add(Fault(faults.bad_rows(no_object=True, most=2)))
    assert shown() == [None, None, *good[2:]]
    assert shown() == good


def test_insights_can_be_spoilt_by_ad(sandbox: SandboxServer) -> None:
    asked = daily_insights("2026-10-05", "2026-10-05", fields="ad_id,spend")
    rows = graph(sandbox, f"act_{MAIN}/insights", **asked).json()["data"]
    sandbox.faults.add(Fault(faults.bad_rows({"spend": "many"}, ids=[rows[0]["ad_id"]])))
    spoilt = graph(sandbox, f"act_{MAIN}/insights", **asked).json()["data"]
    assert spoilt == [{**rows[0], "spend": "many"}, *rows[1:]]


def test_429_with_and_without_retry_after(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.rate_limited("7")))
    sandbox.faults.add(Fault(faults.rate_limited(None)))
    seen = [pancake(sandbox, "shops") for _ in range(2)]
    assert [(answer.status_code, answer.headers.get("Retry-After")) for answer in seen] == [(429, "7"), (429, None)]


def test_a_slow_answer_is_the_real_one(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.slow(0.2)))
    assert graph(sandbox, "me").json()["name"] == "Lumina Skin system user"
    [request] = sandbox.requests.all("me")
    assert request.seconds >= 0.2


def test_a_held_request_gets_the_real_answer_once_released(sandbox: SandboxServer) -> None:
    fault = sandbox.faults.add(Fault(faults.held(), path="/me$", times=None))
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(f"{sandbox.environment['META_GRAPH_URL']}/v26.0/me", timeout=(60, 0.2))
    with ThreadPoolExecutor() as pool:
        held = [pool.submit(graph, sandbox, "me") for _ in range(3)]
        wait_until(lambda: fault.hits == 4)
        assert pancake(sandbox, "shops").ok, "other requests are answered meanwhile"
        assert not any(one.done() for one in held)
        fault.release()
        assert {one.result().json()["name"] for one in held} == {"Lumina Skin system user"}
    assert graph(sandbox, "me").ok, "a released fault holds no later request"


def test_clearing_the_faults_releases_held_requests(sandbox: SandboxServer) -> None:
    assert control(sandbox, "faults", {"effect": "held", "path": "/me$"}).ok
    with ThreadPoolExecutor() as pool:
        held = pool.submit(graph, sandbox, "me")
        wait_until(lambda: sandbox.faults.all()[0].hits)
        assert control(sandbox, "faults", method="DELETE").ok
        assert held.result().ok


def test_a_request_that_is_never_released_gets_an_error(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.held(longest_hold_s=0.1)))
    answer = graph(sandbox, "me")
    assert (answer.status_code, "not released in time" in answer.text) == (504, True)


def test_a_server_that_stops_releases_held_requests() -> None:
    with ThreadPoolExecutor() as pool:
        with SandboxServer(ads=10) as sandbox:
            fault = sandbox.faults.add(Fault(faults.held()))
            held = pool.submit(graph, sandbox, "me")
            wait_until(lambda: fault.hits)
        assert held.result().ok


def test_a_reset_connection(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.reset()))
    with pytest.raises(requests.exceptions.ConnectionError) as caught:
        graph(sandbox, "me")
    assert "reset" in str(caught.value).lower()
    assert graph(sandbox, "me").ok
    assert [entry.status for entry in sandbox.requests.all("me")] == [0, 200]


def test_a_truncated_body(sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.truncated()))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        pancake(sandbox, f"shops/{MANILA_SHOP}/orders", **window(FIFTH))
    assert pancake(sandbox, f"shops/{MANILA_SHOP}/orders", **window(FIFTH)).ok


@pytest.mark.parametrize(
    ("effect", "status", "content_type", "text"),
    [
        (faults.empty_body(), 200, "application/json", ""),
        (faults.html(502), 502, "text/html", "<html>"),
        (faults.wrong_content_type(), 403, "text/html", "api_key is invalid"),
        (faults.no_json(), 200, "application/json", "{temporarily"),
        (faults.json_body(), 200, "application/json", "null"),
        (faults.redirect("/elsewhere"), 302, "application/json", ""),
        (faults.pancake_bad_key(), 403, "application/json", "105"),
        (faults.pancake_failure("busy"), 200, "application/json", "busy"),
        (faults.http_error(504, "late", X_Cause="gateway"), 504, "text/plain", "late"),
    ],
)
def test_answers_that_are_no_answers(
    sandbox: SandboxServer, effect: Effect, status: int, content_type: str, text: str
) -> None:
    sandbox.faults.add(Fault(effect))
    answer = requests.get(f"{sandbox.environment['PANCAKE_API_URL']}/shops", timeout=PATIENCE_S, allow_redirects=False)
    assert answer.status_code == status
    assert answer.headers["Content-Type"].startswith(content_type)
    assert text in answer.text
