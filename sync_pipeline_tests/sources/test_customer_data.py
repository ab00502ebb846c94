"""Nothing of a response of a data endpoint is quoted by an error: it may hold names and phone numbers of customers."""

import json
import logging
import pickle
import socketserver
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime

import pytest

from sync_pipeline.sources import errors
from sync_pipeline.sources.answers import Answer, error_page
from sync_pipeline.sources.errors import SourceError
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline_tests.sources.conftest import Bench
from sync_pipeline_tests.sources.scripted import Reply

MakeBench = Callable[..., Bench]
DAY = date(2026, 10, 25)
NOON = datetime(2026, 10, 25, 12, tzinfo=UTC)
NAME, PHONE = "MARIA-MARKER", "0917-MARKER"
CUSTOMER = {"bill_full_name": NAME, "bill_phone_number": PHONE, "id": 1}
ORDERS = json.dumps({"data": [CUSTOMER], "success": True})
NOT_A_NUMBER = ORDERS.replace('"id": 1', '"id": 1, "partner_fee": NaN')


def reply(body: object, status: int = 200, content_type: str | None = "application/json") -> Reply:
    return Reply(body, status, content_type=content_type)


RESPONSES = {
    "not a number": reply(NOT_A_NUMBER),
    "cut off in an object": reply(ORDERS[:-16]),
    "cut off in a name": reply(ORDERS[: ORDERS.index(NAME) + 8]),
    "text after the end": reply(ORDERS + NAME),
    "not UTF-8": reply(ORDERS.encode().replace(b"0917", b"\xff0917")),
    "a number that is too long": reply(ORDERS.replace("1}", "9" * 5000 + "}")),
    "a list": reply([CUSTOMER]),
    "a text": reply(f'"{NAME} {PHONE}"'),
    "a refusal with the order": reply({"success": False, "order": CUSTOMER}),
    "a refusal whose message is an object": reply({"success": False, "message": CUSTOMER}),
    "a refusal whose code is a name": reply({"success": False, "message": "no", "error_code": f"{NAME} {PHONE}"}),
    "a failure with the order": reply(CUSTOMER, 500),
    "a failure as plain text": reply(f"{NAME} {PHONE}", 502, "text/plain"),
    "a failure with part of the orders": reply(ORDERS[5:], 503),
    "data labelled as a page": reply(ORDERS, 200, "text/html"),
    "a failure with data labelled as a page": reply(ORDERS, 500, "text/html"),
    "XML": reply(f"<order><title>{NAME}</title>{PHONE}</order>", 500, "application/xml"),
    "a page that is no error": reply(f"<html><title>{NAME} {PHONE}</title></html>", 200, "text/html"),
    "no list": reply({"data": CUSTOMER}),
    "a list of something else": reply({"data": [NAME, PHONE]}),
    "an id that is a name": reply({"data": [{"id": CUSTOMER}]}),
    "a count that is a name": reply({"data": [], "total_pages": f"{NAME} {PHONE}"}),
    "a refusal that is rate limited": reply({"order": CUSTOMER}, 429),
}


def everything_said(error: BaseException | None) -> Iterator[str]:
    """The error and all that hangs on it, as a log or a crash report would print them."""
    if error is None:
        return
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
    yield "".join(traceback.format_exception(error))
    yield from everything_said(error.__cause__)
    yield from everything_said(error.__context__)


def assert_clean(text: str) -> None:
    assert "MARKER" not in text
    assert "MARIA" not in text


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize("source", ["meta", "pancake"])
def test_no_error_quotes_a_response_of_a_data_endpoint(
    bench: MakeBench, caplog: pytest.LogCaptureFixture, source: str, response: Reply
) -> None:
    caplog.set_level(logging.DEBUG)
    b = bench(response, response)
    pacing = Pacing(delay_s=0, max_wait_s=1, max_retries=1)
    try:
        if source == "meta":
            list(b.meta(pacing).insights("11", DAY, DAY))
        else:
            list(b.pancake(pacing).orders("7", DAY, DAY, NOON, NOON))
    except SourceError as error:
        for text in everything_said(error):
            assert_clean(text)
        assert_clean(pickle.dumps(error).decode("latin-1"))
        assert_clean(str(error.metadata()))
    else:
        # Graph knows no refusal without an `error`, and reads these as an empty page.
        assert source == "meta"
        assert isinstance(response.body, dict)
    assert_clean(repr(b.waits))
    assert_clean(caplog.text)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("not a number", f"a number that is none at character {NOT_A_NUMBER.index('NaN')}"),
        ("cut off in an object", f"at character {len(ORDERS) - 16}"),
        ("text after the end", f"Extra data at character {len(ORDERS)}"),
        ("not UTF-8", f"not UTF-8 text at byte {ORDERS.index('0917')}"),
    ],
)
def test_a_format_error_says_size_type_and_where_parsing_failed(bench: MakeBench, name: str, where: str) -> None:
    response = RESPONSES[name]
    with pytest.raises(errors.ResponseFormatError) as caught:
        list(bench(response).pancake().orders("7", DAY, DAY, NOON, NOON))
    size = f"{len(response.encoded())} bytes of application/json"
    assert where in str(caught.value)
    assert f"[HTTP 200, {size}]" in str(caught.value)
    assert caught.value.metadata()["response"] == size


def test_nan_within_a_text_is_not_where_parsing_failed(bench: MakeBench) -> None:
    body = '{"data": [{"note": "NaN \\" NaN", "id": -Infinity}]}'
    with pytest.raises(errors.ResponseFormatError, match=f"at character {body.index('-Infinity')} "):
        list(bench(Reply(body)).pancake().orders("7", DAY, DAY, NOON, NOON))


@pytest.mark.parametrize("status", [200, 404, 500])
def test_the_api_s_own_message_and_code_are_shown(bench: MakeBench, status: int) -> None:
    refusal = {"success": False, "message": "Order is locked", "error_code": "E-7", "order": CUSTOMER}
    with pytest.raises(SourceError) as caught:
        list(bench(Reply(refusal, status)).pancake().orders("7", DAY, DAY, NOON, NOON))
    assert (caught.value.api_message, caught.value.code) == ("Order is locked", "E-7")
    assert caught.value.outline is None
    assert_clean(str(caught.value))


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("<!DOCTYPE html><title>Bad \n gateway</title>", "Bad gateway"),
        ("\ufeff\n<HTML lang=en><head><TITLE>502</TITLE>", "502"),
        ("<html><title>Order of 0917 123 4567</title>", "Order of …"),
        ("<html><title>" + "x" * 200 + "</title>", "x" * 99 + "…"),
        ("<html><body>Ana</body>", "an HTML page without a title"),
        ("<htmlx><title>Ana</title>", None),
        ("<order><title>Ana</title>", None),
        ("Ana", None),
        ("", None),
    ],
)
def test_only_the_title_of_an_html_error_page_is_shown(body: str, shown: str | None) -> None:
    assert error_page(Answer(500, {}, body.encode()), str) == shown
    assert error_page(Answer(200, {}, body.encode()), str) is None


def test_what_comes_instead_of_http_is_not_quoted() -> None:
    with not_http(f"{NAME} {PHONE}\r\n\r\n") as url:
        client = PancakeClient(tenant="acme", api_url=url, api_key="k" * 9, pacing=Pacing(delay_s=0))
        with pytest.raises(errors.ResponseFormatError, match="not HTTP") as caught:
            list(client.orders("7", DAY, DAY, NOON, NOON))
    for text in everything_said(caught.value):
        assert_clean(text)


@contextmanager
def not_http(line: str) -> Iterator[str]:
    """A server that sends this instead of a status line."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(line.encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
