"""Whatever bytes come as a body: data of the documented shape, or a typed error."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.sources import errors
from sync_pipeline.sources.answers import Answer, whole_number
from sync_pipeline.sources.errors import Place, SourceError
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline_tests.sources.conftest import Bench
from sync_pipeline_tests.sources.scripted import Reply, ScriptedServer

MakeBench = Callable[..., Bench]
DAY = date(2026, 10, 25)
NOON = datetime(2026, 10, 25, 12, tzinfo=UTC)
NO_WAITS = Pacing(delay_s=0, max_wait_s=0)

CALLS: dict[str, Callable[[MetaClient, PancakeClient], object]] = {
    "ad_accounts": lambda meta, _: meta.ad_accounts(),
    "ad_account": lambda meta, _: meta.ad_account("11"),
    "insights": lambda meta, _: list(meta.insights("11", DAY, DAY)),
    "account days": lambda meta, _: list(meta.account_days("11", DAY, DAY)),
    "ad_statuses": lambda meta, _: list(meta.ad_statuses("11", ["1"])),
    "me": lambda meta, _: meta.me(),
    "debug_token": lambda meta, _: meta.debug_token(),
    "shops": lambda _, pancake: pancake.shops(),
    "orders": lambda _, pancake: list(pancake.orders("7", DAY, DAY, NOON, NOON)),
    "updated orders": lambda _, pancake: list(pancake.updated_orders("7", NOON, NOON)),
    "products": lambda _, pancake: list(pancake.products("7")),
}


class Repeating(ScriptedServer):
    """Answers every request with `reply`."""

    def __init__(self) -> None:
        super().__init__()
        self.script = _Always()  # type: ignore[assignment]

    def answer_with(self, reply: Reply) -> None:
        self.script.reply = reply  # type: ignore[attr-defined]


class _Always:
    reply = Reply()

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, _: int) -> Reply:
        return self.reply


@pytest.fixture(scope="module")
def repeating() -> Iterator[Repeating]:
    with Repeating() as server:
        yield server


def outcome_of(server: Repeating, call: str) -> object:
    """The result, or the typed error as text; anything else that is raised fails the test."""
    meta = MetaClient(
        tenant="acme", graph_url=server.url, token="EAABx", pacing=NO_WAITS, page_size=25, sleep=lambda _: None
    )
    pancake = PancakeClient(tenant="acme", api_url=server.url, api_key="k" * 9, pacing=NO_WAITS)
    try:
        return CALLS[call](meta, pancake)
    except SourceError as error:
        line = str(error)
        assert line.isprintable()
        assert len(line) < 2000
        line.encode()
        json.dumps(error.metadata())
        return error


UGLY = [
    b"",
    b" \n",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b"<!DOCTYPE html><html><body>Down for maintenance</body></html>",
    b'{"data": [',
    b'{"data": []}trailing',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"data": [{"x": NaN}]}',
    b'{"data": [{"x": -Infinity}]}',
    b'{"data": [{"id": ' + b"9" * 5000 + b"}]}",
    b'{"data": [{"spend": 1e99999999999999999999}]}',
    b"null",
    b"true",
    b'"data"',
    b"5",
    b'{"data": {"0": {}}, "shops": {}}',
    b'{"data": [[]], "shops": [[]]}',
    b'{"data": "x", "shops": "x", "id": [], "account_id": []}',
    b'{"error": "\\ud800\\u0000"}',
    b'{"error": {"message": "\\ud800\\u0000\\u202e\\r\\n", "code": 1e3, "error_subcode": "\\ud800"}}',
    b'{"success": false, "message": "\\udfff", "error_code": "\\ud800"}',
    b'{"data": [], "paging": [], "total_pages": "\\ud800"}',
    b'{"data": [{"id": "\\ud800"}], "paging": {"next": "http://x/?after=\\ud800"}}',
    b'{"data": [{"id": "1"}], "paging": {"next": "\\ud800", "cursors": {"after": "\\ud800"}}}',
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_ugly_bodies_end_in_a_typed_error_or_in_data(repeating: Repeating, call: str, status: int) -> None:
    for body in UGLY:
        repeating.answer_with(Reply(body, status))
        outcome = outcome_of(repeating, call)
        if status != 200:
            assert isinstance(outcome, SourceError), body


@pytest.mark.parametrize("body", UGLY[:3] + UGLY[4:13])
@pytest.mark.parametrize("call", ["insights", "orders"])
def test_bodies_that_are_no_json_object_are_format_errors(repeating: Repeating, call: str, body: bytes) -> None:
    repeating.answer_with(Reply(body))
    assert type(outcome_of(repeating, call)) is errors.ResponseFormatError


@pytest.mark.parametrize("content_type", ["text/html", "application/xml", "image/png", "application/octet-stream"])
def test_another_content_type_is_a_format_error(bench: MakeBench, content_type: str) -> None:
    with pytest.raises(errors.ResponseFormatError, match=content_type):
        bench(Reply({"data": []}, content_type=content_type)).meta().ad_accounts()


@pytest.mark.parametrize("content_type", ["application/json", "text/javascript; charset=UTF-8", "TEXT/JSON", None])
def test_content_types_of_json_and_none_are_taken(bench: MakeBench, content_type: str | None) -> None:
    assert bench(Reply({"id": 5}, content_type=content_type)).meta().me().user_id == "5"


def test_an_encoding_that_is_broken_is_a_format_error(bench: MakeBench) -> None:
    with pytest.raises(errors.ResponseFormatError, match="decompressed"):
        bench(Reply(b"no gzip", headers={"Content-Encoding": "gzip"})).meta().me()


NAMES = [
    "data",
    "paging",
    "next",
    "cursors",
    "after",
    "error",
    "code",
    "message",
    "id",
    "shops",
    "orders",
    "success",
    "total_pages",
    "total_entries",
    "page_size",
    "report_run_id",
    "async_status",
    "error_code",
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)
bodies = st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode())


@settings(max_examples=150, deadline=None)
@given(
    body=bodies, status=st.sampled_from([200, 200, 201, 204, 400, 403, 404, 500, 503]), call=st.sampled_from([*CALLS])
)
def test_any_bytes_as_a_body_end_in_a_typed_error_or_in_data(
    repeating: Repeating, body: bytes, status: int, call: str
) -> None:
    repeating.answer_with(Reply(b"" if status == 204 else body, status))
    outcome_of(repeating, call)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_reading_json_raises_nothing_but_value_errors_with_a_reason(body: bytes) -> None:
    answer, found, refused = Answer(200, {}, body), None, None
    try:
        found = answer.json
    except ValueError as error:
        refused = error
    assert answer.json_object() == (found if isinstance(found, dict) else None)
    if refused is not None:
        assert str(refused)
        assert refused.__context__ is None


@pytest.mark.parametrize(
    ("found", "number"),
    [(7, 7), ("7", 7), (" 07 ", 7), (-7, -7), ("-7", None), (True, None), (7.0, None), ("\u0667", None), (10**18, None),
     (10**18 - 1, 10**18 - 1), (1 - 10**18, 1 - 10**18), (-(10**18), None), ("9" * 18, 10**18 - 1), ("9" * 19, None),
     ("", None), (None, None), ([], None)],
)  # fmt: skip
def test_whole_numbers_are_read_from_texts_too_but_never_guessed(found: object, number: int | None) -> None:
    assert whole_number(found) == number


def test_the_place_of_an_error_names_no_day_where_none_was_asked_for() -> None:
    error = errors.ApiError(Place("acme", "pos"), "it broke")
    assert str(error) == f"it broke (pos, tenant acme). {errors.ApiError.advice}"
    assert error.metadata() == {"source": "pos", "error_message": "it broke"}
