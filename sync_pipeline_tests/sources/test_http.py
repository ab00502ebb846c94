"""Pace, waits for rate limits, retries and failures of the connection, on a clock that only sleeps move."""

import json
import signal
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from sync_pipeline.sources import errors
from sync_pipeline.sources.errors import ClockError
from sync_pipeline.sources.http import PacedSession, Pacing, Request
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.redaction import Redactor
from sync_pipeline.sources.waits import usage
from sync_pipeline_tests.sources.conftest import Bench
from sync_pipeline_tests.sources.scripted import Reply, ScriptedServer, graph_error

MakeBench = Callable[..., Bench]
ME = {"id": "1"}
LIMITED = graph_error(17, 2446079, "User request limit reached", is_transient=False)
FAILED = Reply(graph_error(2), 503)
ADAPTIVE = Pacing(pacing="adaptive")


def with_usage(**headers: object) -> Reply:
    return Reply(ME, headers={name.replace("_", "-"): json.dumps(value) for name, value in headers.items()})


# Pace


def test_the_default_delay_is_three_seconds_between_requests_and_none_before_the_first(bench: MakeBench) -> None:
    b = bench(ME, ME, ME)
    client = b.meta(Pacing())
    for _ in range(3):
        client.me()
    assert b.clock.slept == [3.0, 3.0]
    assert b.waits == []


def test_time_that_the_caller_spent_counts_towards_the_delay(bench: MakeBench) -> None:
    b = bench(ME, ME, ME)
    client = b.meta(Pacing(delay_s=2))
    client.me()
    b.clock.now += 0.5
    client.me()
    b.clock.now += 60
    client.me()
    assert b.clock.slept == [1.5]


def test_the_delay_counts_from_the_end_of_a_request_that_failed_too(bench: MakeBench) -> None:
    b = bench(Reply(graph_error(100), 400), ME)
    client = b.meta(Pacing(delay_s=2))
    with pytest.raises(errors.BadRequestError):
        client.me()
    client.me()
    assert b.clock.slept == [2.0]


def test_a_delay_of_0_is_none(bench: MakeBench) -> None:
    b = bench(ME, ME)
    client = b.meta(Pacing(delay_s=0))
    client.me()
    client.me()
    assert b.clock.slept == []


@pytest.mark.parametrize("wrong", [{"delay_s": -1}, {"max_wait_s": float("nan")}, {"max_retries": -1}, {"pacing": "x"}])
def test_a_pace_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Pacing(**wrong)


def test_requests_share_one_connection_unless_it_was_idle_for_long(bench: MakeBench) -> None:
    b = bench(ME, ME, ME)
    client = b.meta(Pacing(delay_s=3))
    client.me()
    client.me()
    b.clock.now += 5
    client.me()
    first, second, third = (asked.connection for asked in b.server.asked)
    assert first == second != third


@pytest.mark.parametrize(
    ("usage", "seconds"),
    [
        ({"X_App_Usage": {"call_count": 49, "total_time": 3, "total_cputime": 1}}, 0.0),
        ({"X_App_Usage": {"call_count": 50, "total_time": 3, "total_cputime": 1}}, 0.0),
        ({"X_App_Usage": {"call_count": 1, "total_time": 72.5, "total_cputime": 1}}, 7.5),
        ({"X_App_Usage": {"call_count": 95}}, 300.0),
        ({"X_Ad_Account_Usage": {"acc_id_util_pct": 96.5, "reset_time_duration": 120}}, 120.0),
        ({"X_FB_Ads_Insights_Throttle": {"app_id_util_pct": 10, "acc_id_util_pct": 72.5}}, 7.5),
        ({"X_Business_Use_Case_Usage": {"11": [{"type": "ads_insights", "total_cputime": 72.5}]}}, 7.5),
        ({"X_Business_Use_Case_Usage": {"11": [{"call_count": 100, "estimated_time_to_regain_access": 7}]}}, 420.0),
        ({"X_Business_Use_Case_Usage": {"11": [{"call_count": 9, "estimated_time_to_regain_access": 7}]}}, 420.0),
        ({"X_Ad_Account_Usage": {"acc_id_util_pct": 9.67, "reset_time_duration": 3600}}, 0.0),
        ({"X_Ad_Account_Usage": {"acc_id_util_pct": "9.67", "reset_time_duration": "3600"}}, 0.0),
        (
            {
                "X_App_Usage": {"call_count": 96},
                "X_Ad_Account_Usage": {"acc_id_util_pct": 9, "reset_time_duration": 86400},
            },
            300.0,
        ),
        ({"X_App_Usage": {"call_count": 10}, "X_Ad_Account_Usage": {"acc_id_util_pct": "72.5"}}, 7.5),
        ({"X_App_Usage": "odd", "X_Business_Use_Case_Usage": {"11": ["odd", {"call_count": []}]}}, 3.0),
        ({}, 3.0),
    ],
)
def test_adaptive_pace_follows_the_fullest_quota_and_without_headers_the_delay(
    bench: MakeBench, usage: dict[str, object], seconds: float
) -> None:
    b = bench(with_usage(**usage), ME)
    client = b.meta(ADAPTIVE)
    client.me()
    client.me()
    assert sum(b.clock.slept) == pytest.approx(seconds)
    assert [wait.seconds for wait in b.waits] == ([seconds] if seconds > 30 else [])


@pytest.mark.parametrize("header", ["{", "[[" * 50_000, '{"call_count": NaN}', '{"call_count": 1e999}', "null", "5"])
def test_usage_headers_that_are_no_json_are_as_good_as_absent(bench: MakeBench, header: str) -> None:
    b = bench(Reply(ME, headers={"X-App-Usage": header[:60_000]}), ME)
    client = b.meta(ADAPTIVE)
    client.me()
    client.me()
    assert b.clock.slept == [3.0]


def test_a_foretold_block_is_waited_for_no_longer_than_allowed(bench: MakeBench) -> None:
    b = bench(with_usage(X_Ad_Account_Usage={"acc_id_util_pct": 99, "reset_time_duration": 86400}), ME)
    client = b.meta(Pacing(pacing="adaptive", max_wait_s=600))
    client.me()
    client.me()
    assert b.clock.slept == [600.0]


# Rate limits


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 12 "}, 12.0),
        ({"Retry-After": "0"}, 5.0),
        ({"Retry-After": "0.4"}, 5.0),
        ({"Retry-After": "Mon, 23 Nov 2026 08:01:30 GMT", "Date": "Mon, 23 Nov 2026 08:00:00 GMT"}, 90.0),
        ({"Retry-After": "Mon, 23 Nov 2026 07:00:00 GMT", "Date": "Mon, 23 Nov 2026 08:00:00 GMT"}, 5.0),
        ({"Retry-After": "Monday, 23-Nov-26 08:01:30 GMT", "Date": "Mon, 23 Nov 2026 08:00:00 GMT"}, 90.0),
        ({"X-Business-Use-Case-Usage": '{"11":[{"estimated_time_to_regain_access":3}]}'}, 180.0),
        ({"X-Business-Use-Case-Usage": '{"11":[{"estimated_time_to_regain_access":0}]}'}, 5.0),
        (
            {
                "X-Business-Use-Case-Usage": '{"11":[{"estimated_time_to_regain_access":0}],'
                '"12":[{"estimated_time_to_regain_access":0},{"estimated_time_to_regain_access":2}]}'
            },
            120.0,
        ),
        ({"X-Ad-Account-Usage": '{"acc_id_util_pct":100,"reset_time_duration":0}'}, 5.0),
        ({"X-Ad-Account-Usage": '{"acc_id_util_pct":100,"reset_time_duration":45}'}, 45.0),
        ({"Retry-After": "7", "X-Ad-Account-Usage": '{"reset_time_duration":45}'}, 45.0),
        ({"Retry-After": "7", "X-Ad-Account-Usage": '{"acc_id_util_pct":9,"reset_time_duration":45}'}, 7.0),
    ],
)
@pytest.mark.parametrize("refusal", [Reply("slow down", 429), Reply(LIMITED, 400), Reply(LIMITED, 200)])
def test_a_rate_limit_is_waited_for_as_long_as_the_answer_says(
    bench: MakeBench, refusal: Reply, headers: dict[str, str], seconds: float
) -> None:
    encoded = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    b = bench(Reply(refusal.body, refusal.status, encoded), ME)
    client = b.meta()
    client.me()
    assert b.clock.slept == [seconds]
    assert [(wait.seconds, wait.place.source) for wait in b.waits] == [(seconds, "meta")]
    assert client.requests_made == 2
    assert b.server.asked[0].target == b.server.asked[1].target


UNNAMED: list[dict[str, str]] = [
    {},
    {"Retry-After": "soon"},
    {"Retry-After": "-5"},
    {"Retry-After": "\u0663"},
    {"X-App-Usage": '{"call_count":100}'},
    {"X-Ad-Account-Usage": '{"acc_id_util_pct":9.67,"reset_time_duration":3600}'},
    {"X-Business-Use-Case-Usage": '{"11":[{"estimated_time_to_regain_access":-1}]}'},
]


@pytest.mark.parametrize("headers", UNNAMED)
@pytest.mark.parametrize("refusal", [Reply("slow down", 429), Reply(graph_error(32), 400), Reply(graph_error(1), 429)])
def test_without_a_named_wait_waits_double_up_to_5_minutes(
    bench: MakeBench, refusal: Reply, headers: dict[str, str]
) -> None:
    encoded = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    b = bench(*[Reply(refusal.body, refusal.status, encoded)] * 9, ME)
    b.meta().me()
    assert b.clock.slept == [5, 10, 20, 40, 80, 160, 300, 300, 300]


BLOCKS = [
    Reply(LIMITED, 400),
    Reply(LIMITED, 200),
    Reply(graph_error(4, 1504022, is_transient=True), 403),
    Reply(graph_error(613, 1487742), 400),
    *[Reply(graph_error(code), 400) for code in (80000, 80004, 80009, 80014)],
    Reply(graph_error(17), 429),
    Reply({"error": "Application request limit reached"}, 403),
]


def tier_named(tier: str) -> dict[str, str]:
    return {"X-FB-Ads-Insights-Throttle": json.dumps({"acc_id_util_pct": 3.5, "ads_api_access_tier": tier})}


@pytest.mark.parametrize("headers", UNNAMED)
def test_a_block_of_an_unknown_tier_is_waited_out_60_then_300_s(bench: MakeBench, headers: dict[str, str]) -> None:
    encoded = {name: value.encode().decode("latin-1") for name, value in headers.items()}
    b = bench(*[Reply(LIMITED, 400, encoded)] * 4, ME)
    b.meta().me()
    assert b.clock.slept == [60, 300, 300, 300]
    assert [wait.seconds for wait in b.waits] == b.clock.slept
    assert {wait.reason for wait in b.waits} == {"rate limit of meta, tenant acme: User request limit reached"}


@pytest.mark.parametrize("refusal", BLOCKS)
@pytest.mark.parametrize(
    ("tier", "seconds"),
    [("standard_access", 60), ("full_access", 60), ("development_access", 300), ("Limited_Access", 300)],
)
def test_a_block_is_waited_out_as_long_as_the_tier_needs(
    bench: MakeBench, refusal: Reply, tier: str, seconds: int
) -> None:
    b = bench(Reply(ME, headers=tier_named(tier)), ME, refusal, refusal, ME)
    client = b.meta()
    for _ in range(3):
        client.me()
    assert b.clock.slept == [seconds, seconds]


@pytest.mark.parametrize("refusal", BLOCKS)
def test_each_code_that_blocks_is_waited_out_without_a_tier(bench: MakeBench, refusal: Reply) -> None:
    b = bench(refusal, refusal, ME)
    b.meta().me()
    assert b.clock.slept == [60, 300]


def test_the_tier_may_come_with_the_refusal_itself(bench: MakeBench) -> None:
    refusals = [Reply(LIMITED, 400, tier_named(tier)) for tier in ("unheard_of", "development_access")]
    b = bench(*refusals, Reply(LIMITED, 400), ME)
    b.meta().me()
    assert b.clock.slept == [60, 300, 300]


def test_of_two_tiers_in_one_response_the_slower_counts(bench: MakeBench) -> None:
    business = {"11": [{"ads_api_access_tier": "development_access"}, {"ads_api_access_tier": "standard_access"}]}
    b = bench(Reply(LIMITED, 400, {"X-Business-Use-Case-Usage": json.dumps(business)}), ME)
    b.meta().me()
    assert b.clock.slept == [300]


@pytest.mark.parametrize(
    "zero",
    [
        {"Retry-After": "0"},
        {"X-Business-Use-Case-Usage": '{"11":[{"estimated_time_to_regain_access":0}]}'},
        {"X-Ad-Account-Usage": '{"acc_id_util_pct":100,"reset_time_duration":0}'},
    ],
)
@pytest.mark.parametrize(
    ("refusal", "seconds"),
    [(Reply(LIMITED, 400), [5, 60, 300, 300]), (Reply("", 429), [5, 10, 20, 40])],
)
def test_a_0_waits_5_s_once_then_as_without_a_header(
    bench: MakeBench, refusal: Reply, seconds: list[int], zero: dict[str, str]
) -> None:
    b = bench(*[Reply(refusal.body, refusal.status, zero)] * 4, ME)
    b.meta().me()
    assert b.clock.slept == seconds


def test_each_request_may_wait_5_s_for_its_own_first_0(bench: MakeBench) -> None:
    zero = Reply(LIMITED, 400, {"Retry-After": "0"})
    b = bench(zero, zero, ME, zero, ME)
    client = b.meta()
    client.me()
    client.me()
    assert b.clock.slept == [5, 60, 5]


ENTRY = {"acc_id_util_pct": 100, "reset_time_duration": 45, "ads_api_access_tier": "development_access"}
USE_CASE = {"type": "ads_insights", "call_count": 100, "estimated_time_to_regain_access": 3}
SHAPES: dict[str, Callable[[object], object]] = {
    "object": lambda entry: entry,
    "list": lambda entry: [entry],
    "text of an object": json.dumps,
    "text of a list": lambda entry: json.dumps([entry]),
    "list of texts": lambda entry: [json.dumps(entry)],
    "list of a list": lambda entry: [[entry]],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_an_account_header_counts_in_any_shape(bench: MakeBench, shape: str) -> None:
    header = {"X-Ad-Account-Usage": json.dumps(SHAPES[shape](ENTRY))}
    b = bench(Reply(LIMITED, 400, header), Reply(LIMITED, 400), ME)
    b.meta().me()
    assert b.clock.slept == [45, 300]
    assert usage(header) is not None


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("by_id", [True, False])
def test_a_business_header_counts_in_any_shape(bench: MakeBench, shape: str, by_id: bool) -> None:
    found = SHAPES[shape](USE_CASE)
    b = bench(Reply(LIMITED, 400, {"X-Business-Use-Case-Usage": json.dumps({"11": found} if by_id else found)}), ME)
    b.meta().me()
    assert b.clock.slept == [180]


def test_a_header_that_is_repeated_counts_as_a_list(bench: MakeBench) -> None:
    entry = {"acc_id_util_pct": 9, "reset_time_duration": 900}
    b = bench(Reply(LIMITED, 400, {"X-Ad-Account-Usage": f"{json.dumps(entry)}, {json.dumps(ENTRY)}"}), ME)
    b.meta().me()
    assert b.clock.slept == [45]


@pytest.mark.parametrize(
    ("regain", "seconds"), [({}, 60), ({"estimated_time_to_regain_access": 0}, 5)], ids=["no named wait", "0"]
)
def test_the_adaptive_pace_does_not_prolong_the_wait_for_a_block(
    bench: MakeBench, regain: dict[str, int], seconds: int
) -> None:
    usage = {"11": [{"call_count": 100, "ads_api_access_tier": "standard_access", **regain}]}
    b = bench(Reply(LIMITED, 400, {"X-Business-Use-Case-Usage": json.dumps(usage)}), ME)
    b.meta(ADAPTIVE).me()
    assert b.clock.slept == [seconds]


def test_a_wait_for_a_block_stays_within_max_wait_s(bench: MakeBench) -> None:
    b = bench(*[Reply(LIMITED, 400, tier_named("development_access"))] * 3)
    with pytest.raises(errors.RateLimitedError, match=r"still after 400 s of waits; 300 s more.*max_wait_s of 400"):
        b.meta(Pacing(delay_s=0, max_wait_s=400)).me()
    assert b.clock.slept == [300, 100]


def test_after_max_wait_in_total_the_request_fails(bench: MakeBench) -> None:
    b = bench(*[Reply(LIMITED, 400)] * 5)
    with pytest.raises(errors.RateLimitedError, match=r"still after 30 s of waits.*max_wait_s of 30") as caught:
        b.meta(Pacing(delay_s=0, max_wait_s=30)).me()
    assert b.clock.slept == [30]
    assert caught.value.code == 17


def test_waits_that_double_fill_max_wait_and_then_fail(bench: MakeBench) -> None:
    b = bench(*[Reply("", 429)] * 5)
    with pytest.raises(errors.RateLimitedError, match=r"still after 30 s of waits.*max_wait_s of 30"):
        b.meta(Pacing(delay_s=0, max_wait_s=30)).me()
    assert b.clock.slept == [5, 10, 15]


def test_a_wait_longer_than_allowed_fails_at_once(bench: MakeBench) -> None:
    b = bench(Reply("", 429, {"Retry-After": "3600"}))
    with pytest.raises(errors.RateLimitedError, match="3600 s more would exceed max_wait_s of 1800"):
        b.meta().me()
    assert b.clock.slept == []


def test_max_wait_counts_per_request(bench: MakeBench) -> None:
    b = bench(*[Reply("", 429, {"Retry-After": "20"}), ME] * 3)
    client = b.meta(Pacing(delay_s=0, max_wait_s=30))
    for _ in range(3):
        client.me()
    assert sum(wait.seconds for wait in b.waits) == 60


def test_a_wait_for_a_rate_limit_counts_towards_the_delay(bench: MakeBench) -> None:
    b = bench(Reply("", 429, {"Retry-After": "1"}), Reply("", 429, {"Retry-After": "9"}), ME)
    b.meta(Pacing(delay_s=3)).me()
    assert b.clock.slept == [1, 2, 9]


def test_pancakes_429_waits_too(bench: MakeBench) -> None:
    b = bench(Reply("", 429, {"Retry-After": "4"}), Reply({"success": False}, 429), {"shops": []})
    assert b.pancake().shops() == []
    assert b.clock.slept == [4, 10]


# Retries


def test_transient_errors_fail_at_once_by_default(bench: MakeBench) -> None:
    b = bench(FAILED, ME)
    with pytest.raises(errors.TransientError):
        b.meta().me()
    assert (b.clock.slept, len(b.server.asked)) == ([], 1)


def test_a_workflow_may_allow_retries_with_growing_jittered_waits(bench: MakeBench) -> None:
    b = bench(FAILED, Reply(ending="reset"), Reply(ME, ending="cut"), Reply("", 502), ME)
    client = b.meta(Pacing(delay_s=0, max_retries=4))
    assert client.me().user_id == "1"
    assert all(most / 2 <= slept <= most for slept, most in zip(b.clock.slept, (1, 2, 4, 8), strict=True))
    assert "retry 2 of 4 after: no connection" in b.waits[1].reason


def test_retries_end(bench: MakeBench) -> None:
    b = bench(*[FAILED] * 3)
    with pytest.raises(errors.TransientError):
        b.meta(Pacing(delay_s=0, max_retries=2)).me()
    assert len(b.server.asked) == 3


def test_a_failing_server_that_says_when_to_come_back_is_heard(bench: MakeBench) -> None:
    b = bench(Reply("", 503, {"Retry-After": "33"}), Reply("", 503, {"Retry-After": "9999"}))
    with pytest.raises(errors.TransientError):
        b.meta(Pacing(delay_s=0, max_retries=5)).me()
    assert b.clock.slept == [33]


@pytest.mark.parametrize("body", [graph_error(190), graph_error(200), graph_error(100), graph_error(368)])
def test_lasting_errors_are_not_retried(bench: MakeBench, body: object) -> None:
    b = bench(Reply(body, 400), ME)
    with pytest.raises(errors.SourceError):
        b.meta(Pacing(delay_s=0, max_retries=5)).me()
    assert len(b.server.asked) == 1


# The connection


@pytest.mark.parametrize("location", ["https://elsewhere.example/x", "http://[", "", "/v26.0/me?access_token=abc"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_never_followed(bench: MakeBench, status: int, location: str) -> None:
    b = bench(Reply("", status, {"Location": location}), ME)
    with pytest.raises(errors.RedirectError) as caught:
        b.meta().me()
    assert len(b.server.asked) == 1
    assert "abc" not in str(caught.value)


def test_a_reset_is_a_failed_connection(bench: MakeBench) -> None:
    with pytest.raises(errors.ConnectionFailedError, match="no connection: "):
        bench(Reply(ending="reset")).meta().me()


def test_an_answer_that_breaks_off_is_truncated(bench: MakeBench) -> None:
    with pytest.raises(errors.TruncatedResponseError):
        bench(Reply(ME, ending="cut")).meta().me()


def test_a_port_where_nobody_listens_is_a_failed_connection() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        client = MetaClient(tenant="acme", graph_url=f"http://127.0.0.1:{held.getsockname()[1]}", token="EAAB")
        with pytest.raises(errors.ConnectionFailedError, match="refused"):
            client.me()


@pytest.mark.parametrize("url", ["not a url", "ftp://127.0.0.1/", "http://", "http://[", "http://127.0.0.1:99999"])
def test_a_base_url_that_is_none_is_a_failed_connection(url: str) -> None:
    with pytest.raises(errors.ConnectionFailedError):
        MetaClient(tenant="acme", graph_url=url, token="EAAB").me()


def test_plain_http_where_tls_is_spoken_to_is_a_tls_failure(bench: MakeBench) -> None:
    b = bench(ME)
    client = MetaClient(tenant="acme", graph_url=b.server.url.replace("http:", "https:"), token="EAAB")
    with pytest.raises(errors.ConnectionFailedError, match="TLS failed"):
        client.me()


def test_silence_is_timed_out() -> None:
    with ScriptedServer(Reply(ending="silent")) as server:
        session = PacedSession(
            auth=lambda request: request,  # type: ignore[arg-type]
            judge=lambda _place, answer: answer.json,
            redact=Redactor([]),
            pacing=Pacing(),
            timeouts_s=(5, 0.05),
        )
        with pytest.raises(errors.TimedOutError, match=r"no answer within 0\.05 s"):
            session.send(Request(errors.Place("acme", "meta"), server.url))


def test_a_signal_handlers_exception_ends_a_wait_at_once() -> None:
    class Cancelled(BaseException):
        pass

    def cancel(*_: object) -> None:
        raise Cancelled

    before = signal.signal(signal.SIGUSR1, cancel)
    try:
        with ScriptedServer(Reply("", 429, {"Retry-After": "600"})) as server:

            def interrupt(_: object) -> None:
                ident = threading.main_thread().ident
                assert ident is not None
                threading.Timer(0.05, signal.pthread_kill, [ident, signal.SIGUSR1]).start()

            client = MetaClient(tenant="acme", graph_url=server.url, token="EAAB", on_wait=interrupt)
            with pytest.raises(Cancelled):
                client.me()
    finally:
        signal.signal(signal.SIGUSR1, before)


# The clock


@pytest.mark.parametrize(
    ("ahead", "told"), [(timedelta(minutes=60), "60 minutes ahead of"), (timedelta(minutes=-61), "61 minutes behind")]
)
def test_a_clock_far_from_the_apis_is_an_error(bench: MakeBench, ahead: timedelta, told: str) -> None:
    b = bench(Reply(ME, headers={"Date": format_datetime(datetime.now(UTC) - ahead, usegmt=True)}))
    with pytest.raises(ClockError, match=f"this machine's clock is {told} the API's"):
        b.meta().me()


@pytest.mark.parametrize("minutes", [-9, 9])
def test_a_clock_that_is_a_little_off_is_not(bench: MakeBench, minutes: int) -> None:
    there = datetime.now(UTC) + timedelta(minutes=minutes)
    bench(Reply(ME, headers={"Date": format_datetime(there, usegmt=True)})).meta().me()


@pytest.mark.parametrize("said", ["", "today", "Mon, 99 Nov 2026 08:00:00 GMT"])
def test_an_answer_that_does_not_say_when_it_was_made_is_taken(bench: MakeBench, said: str) -> None:
    bench(Reply(ME, headers={"Date": said})).meta().me()
