"""Every row of the table of Graph's errors, and what an engineer is told of it."""

import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.sources import errors
from sync_pipeline.sources.errors import Place, SourceError
from sync_pipeline.sources.graph_errors import first_day_of_history
from sync_pipeline.sources.http import Pacing
from sync_pipeline_tests.sources.conftest import Bench
from sync_pipeline_tests.sources.scripted import Reply, graph_error

MakeBench = Callable[..., Bench]
DAY = date(2026, 10, 25)
NO_WAITS = Pacing(delay_s=0, max_wait_s=0)
TOO_MUCH = "Please reduce the amount of data you're asking for, then retry your request"
NO_OBJECT = (
    "Unsupported get request. Object with ID '7' does not exist, cannot be loaded due to missing permissions, or does "
    "not support this operation"
)
LIMIT = "Application request limit reached"

TABLE: list[tuple[int, object, type[SourceError]]] = [
    *[(400, graph_error(190, sub), errors.TokenError) for sub in (None, 458, 459, 460, 463, 464, 467, 492)],
    (401, graph_error(190), errors.TokenError),
    (400, graph_error(102), errors.TokenError),
    (400, graph_error(104), errors.AppProofError),
    (400, graph_error(100, message="Invalid appsecret_proof provided in the API argument"), errors.AppProofError),
    *[(403, graph_error(code), errors.PermissionDeniedError) for code in (10, 200, 272, 294, 299)],
    (400, graph_error(100), errors.BadRequestError),
    (400, graph_error(100, 33), errors.BadRequestError),
    (400, graph_error(2500), errors.BadRequestError),
    (400, graph_error(2642), errors.BadRequestError),
    (500, graph_error(100, message="The ids query parameter is deprecated in v26.0+."), errors.BadRequestError),
    *[(400, graph_error(code), errors.RateLimitedError) for code in (4, 17, 32, 341, 613, 80000, 80004, 80009, 80014)],
    (403, graph_error(4, 1504022, is_transient=True), errors.RateLimitedError),
    (400, graph_error(4, 1504039), errors.RateLimitedError),
    (400, graph_error(17, 2446079, is_transient=False), errors.RateLimitedError),
    (400, graph_error(613, 1487742), errors.RateLimitedError),
    (429, graph_error(1), errors.RateLimitedError),
    (429, "Too many requests", errors.RateLimitedError),
    (400, graph_error(80010), errors.ApiError),
    (500, graph_error(1, message="Please reduce the amount of data you're asking for"), errors.TooMuchDataError),
    (400, graph_error(100, 1487534), errors.TooMuchDataError),
    (400, graph_error(100, 1504018), errors.TooMuchDataError),
    (500, graph_error(2, 1504038, is_transient=True), errors.TooMuchDataError),
    (500, graph_error(1, message=TOO_MUCH, is_transient=False), errors.TooMuchDataError),
    *[(400, graph_error(code), errors.TooMuchDataError) for code in (2637, 1487534, 1504018, 1504038)],
    *[(400, graph_error(1, sub), errors.TooMuchDataError) for sub in (2637, 1487534, 1504018, 1504038)],
    *[(400, graph_error(code, message=TOO_MUCH), errors.TooMuchDataError) for code in (2, 100, 960, 2601, 80004)],
    (500, graph_error(2, message=TOO_MUCH, is_transient=True), errors.TooMuchDataError),
    (400, graph_error(100, message="Invalid parameter", error_user_msg=TOO_MUCH), errors.TooMuchDataError),
    (400, {"error": {"message": TOO_MUCH}}, errors.TooMuchDataError),
    (500, {"error": TOO_MUCH}, errors.TooMuchDataError),
    (200, {"error": {"message": TOO_MUCH, "code": "1"}}, errors.TooMuchDataError),
    *[(status, {"error": LIMIT}, errors.RateLimitedError) for status in (200, 400, 403, 500)],
    (400, {"error": {"message": "User request limit reached", "type": "OAuthException"}}, errors.RateLimitedError),
    (400, {"error": {"message": "(#17) Too busy"}}, errors.RateLimitedError),
    (500, graph_error(2, message=LIMIT, is_transient=True), errors.RateLimitedError),
    (400, graph_error(190, message=LIMIT), errors.TokenError),
    (403, graph_error(200, message=LIMIT), errors.PermissionDeniedError),
    *[
        (400, graph_error(100, message=f"(#100) Missing {it}"), errors.PermissionDeniedError)
        for it in ("permissions", "Permission")
    ],
    (400, graph_error(100, 1870090, message="Missing permissions"), errors.PermissionDeniedError),
    (400, graph_error(100, 33, message=NO_OBJECT), errors.BadRequestError),
    (400, graph_error(100, message=NO_OBJECT), errors.BadRequestError),
    *[(status, graph_error(1, 2853001, is_transient=False), errors.ApiError) for status in (400, 500)],
    (500, graph_error(1, is_transient=False), errors.ApiError),
    (500, graph_error(1, 99, is_transient=False), errors.TransientError),
    (503, graph_error(2, is_transient=False), errors.TransientError),
    (500, graph_error(1, 99), errors.TransientError),
    (500, graph_error(1), errors.TransientError),
    (503, graph_error(2), errors.TransientError),
    (400, graph_error(960), errors.TransientError),
    (400, graph_error(100, is_transient=True), errors.TransientError),
    (400, graph_error(999, is_transient=True), errors.TransientError),
    (500, graph_error(999), errors.TransientError),
    (502, "<html><title>Bad gateway</title></html>", errors.TransientError),
    (503, "", errors.TransientError),
    (400, graph_error(368), errors.PolicyBlockedError),
    (400, graph_error(2635), errors.ApiVersionError),
    (400, graph_error(3018), errors.HistoryLimitError),
    (400, graph_error(999), errors.ApiError),
    (400, "no", errors.ApiError),
    (401, "no", errors.TokenError),
    (401, {"error": "unauthorized"}, errors.TokenError),
    (400, {"error": "invalid_request"}, errors.ApiError),
    (400, {"error": {"code": "190"}}, errors.TokenError),
    (400, {"error": {"code": [], "message": {}, "fbtrace_id": 5, "error_subcode": "x"}}, errors.ApiError),
    (400, {"error": {"code": True}}, errors.ApiError),
]


@pytest.mark.parametrize(("status", "body", "kind"), TABLE)
def test_each_error_of_the_table_is_its_own_type(
    bench: MakeBench, status: int, body: object, kind: type[SourceError]
) -> None:
    b = bench(Reply(body, status))
    with pytest.raises(SourceError) as caught:
        b.meta(NO_WAITS).me()
    assert type(caught.value) is kind
    assert caught.value.http_status == status
    assert kind.advice in str(caught.value)
    assert b.clock.slept == []


@pytest.mark.parametrize("code", [190, 200, 100, 999])
def test_an_error_counts_under_http_200_too(bench: MakeBench, code: int) -> None:
    with pytest.raises(SourceError) as caught:
        bench({"data": [], **graph_error(code)}).meta().me()
    assert caught.value.code == code
    assert caught.value.http_status == 200


def test_an_error_that_is_null_is_none(bench: MakeBench) -> None:
    assert bench({"id": "1", "error": None}).meta().me().user_id == "1"


def test_the_message_says_what_where_and_what_to_do_in_one_line(bench: MakeBench) -> None:
    body = graph_error(
        190, 463, "Session has\nexpired", error_user_title="Log in", error_user_msg="Session has\nexpired"
    )
    with pytest.raises(errors.TokenError) as caught:
        list(bench(Reply(body, 401)).meta().insights("act_11", DAY, DAY))
    assert str(caught.value) == (
        "the access token is not accepted (meta, tenant acme, account 11, 2026-10-25): "
        '"Session has expired / Log in" [HTTP 401, code 190, subcode 463, fbtrace_id Atrace]. '
        "Renew the Meta token or Pancake api_key and put the new one where the tenant file says it is."
    )
    assert caught.value.metadata() == {
        "source": "meta",
        "date": "2026-10-25",
        "account_id": "11",
        "http_status": 401,
        "error_code": 190,
        "error_subcode": 463,
        "error_message": "Session has expired / Log in",
        "fbtrace_id": "Atrace",
    }


def test_a_window_is_named_by_both_ends(bench: MakeBench) -> None:
    with pytest.raises(errors.BadRequestError) as caught:
        list(bench(Reply(graph_error(100), 400)).meta().insights("11", DAY, date(2026, 10, 31)))
    assert caught.value.metadata()["date"] == "2026-10-25/2026-10-31"
    assert "account 11, 2026-10-25 to 2026-10-31" in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [graph_error(100), graph_error(100, 33, NO_OBJECT), graph_error(2500), graph_error(2642), graph_error(999)],
)
def test_no_error_of_meta_blames_this_project(bench: MakeBench, body: object) -> None:
    with pytest.raises(SourceError) as caught:
        bench(Reply(body, 400)).meta().me()
    assert not any(blame in str(caught.value).lower() for blame in ("defect", "bug", "report it"))


def test_an_unknown_object_names_all_three_possible_causes(bench: MakeBench) -> None:
    with pytest.raises(errors.BadRequestError) as caught:
        bench(Reply(graph_error(100, 33, NO_OBJECT), 400)).meta().ad_account("7")
    assert caught.value.what == (
        "Meta does not return the object: it may not exist, the token may lack the permission for it, or calls may be "
        "throttled"
    )
    assert "run it again later" in str(caught.value)


def test_a_gone_version_names_the_setting(bench: MakeBench) -> None:
    with pytest.raises(errors.ApiVersionError, match=r"Set meta\.api_version"):
        bench(Reply(graph_error(2635), 400)).meta().me()


def test_a_day_beyond_history_names_the_first_day_that_can_be_asked_for(bench: MakeBench) -> None:
    before = first_day_of_history(datetime.now(UTC))
    with pytest.raises(errors.HistoryLimitError) as caught:
        list(bench(Reply(graph_error(3018), 400)).meta().insights("11", date(2020, 1, 1), date(2020, 1, 1)))
    after = first_day_of_history(datetime.now(UTC))
    assert any(f"the first day that can be asked for is {day}" in str(caught.value) for day in (before, after))


@pytest.mark.parametrize(
    ("now", "first"),
    [
        ("2026-11-23T09:00:00+00:00", date(2023, 10, 23)),
        ("2026-11-23T10:00:00+00:00", date(2023, 10, 24)),
        ("2026-10-31T00:00:00+00:00", date(2023, 9, 30)),
        ("2026-01-15T00:00:00+00:00", date(2022, 12, 15)),
        ("2027-03-31T00:00:00+00:00", date(2024, 2, 29)),
    ],
)
def test_history_reaches_37_months_back_wherever_the_account_is(now: str, first: date) -> None:
    assert first_day_of_history(datetime.fromisoformat(now)) == first


@given(st.datetimes(min_value=datetime(2010, 1, 1), max_value=datetime(2100, 1, 1)))  # noqa: DTZ001
def test_history_is_never_more_than_37_months_and_never_a_month_less(moment: datetime) -> None:
    first = first_day_of_history(moment.replace(tzinfo=UTC))
    today = (moment + timedelta(hours=14)).date()
    assert (today.year * 12 + today.month) - (first.year * 12 + first.month) == 37
    assert first.day == today.day or (first + timedelta(days=1)).day == 1


def test_a_long_message_is_cut(bench: MakeBench) -> None:
    with pytest.raises(errors.ApiError) as caught:
        bench(Reply(graph_error(999, message="x" * 100_000), 400)).meta().me()
    assert caught.value.api_message == "x" * 499 + "…"


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SourceError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_pickling(kind: type[SourceError]) -> None:
    place = Place("acme", "pos", shop_id="7", since=DAY, until=DAY)
    error = kind(
        place, "it broke", http_status=403, code=105, subcode=1, api_message="no", fbtrace_id="A", retry_after_s=2.5
    )
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is kind
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)
    assert copy.metadata() == error.metadata()


def test_what_may_pass_by_itself_is_a_property_of_the_type() -> None:
    assert {kind.__name__ for kind in KINDS if kind.transient} == {
        "TransientError",
        "ConnectionFailedError",
        "TimedOutError",
        "TruncatedResponseError",
    }
