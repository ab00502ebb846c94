"""No secret in any text: messages, reprs, causes, log records, whatever goes wrong."""

import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.sources.errors import SourceError
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sources.limits import MAX_REDACTED_LENGTH
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline.sources.redaction import Redactor, Secret, hide_credentials, hide_parameters
from sync_pipeline_tests.sources.conftest import MARKER, Bench
from sync_pipeline_tests.sources.scripted import Reply, graph_error

MakeBench = Callable[..., Bench]
APP_SECRET = "MARKER-app-secret"
FORMS = {MARKER, quote(MARKER), quote(MARKER, safe=""), quote_plus(MARKER), APP_SECRET, "MARKER"}
ECHO = f"you sent api_key={quote_plus(MARKER)} and {MARKER} and {quote(MARKER, safe='')}"


def assert_clean(text: str) -> None:
    for form in FORMS:
        assert form not in text


def everything_said(error: BaseException) -> Iterator[str]:
    """The error and all that hangs on it, as a log or a crash report would print them."""
    yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
    yield "".join(traceback.format_exception(error))
    for linked in (error.__cause__, error.__context__):
        if linked is not None:
            yield from everything_said(linked)


FAILURES = [
    Reply(ending="reset"),
    Reply({"data": []}, ending="cut"),
    Reply(graph_error(999, message=ECHO, error_user_msg=ECHO, fbtrace_id=MARKER), 400),
    Reply(graph_error(190, message=f"x{MARKER}y" * 60), 400),
    Reply({"error": ECHO}, 400),
    Reply({"success": False, "message": ECHO, "error_code": MARKER}, 403),
    Reply(f'{{"broken": "{ECHO}"', 200),
    Reply(f"<html><title>{ECHO}</title>", 200),
    Reply(ECHO, 500),
    Reply(ECHO.encode(), 200, content_type=f"text/html; x={MARKER}"),
    Reply("", 302, {"Location": f"https://x.example/?api_key={quote_plus(MARKER)}&access_token={quote(MARKER)}"}),
    Reply("", 429, {"Retry-After": "7200"}),
    Reply(b"\x1f\x8b broken", 200, {"Content-Encoding": "gzip"}),
]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("source", ["meta", "pancake"])
def test_no_failure_says_a_secret_anywhere(
    bench: MakeBench, caplog: pytest.LogCaptureFixture, source: str, failure: Reply
) -> None:
    caplog.set_level(logging.DEBUG)
    b = bench(failure, failure)
    pacing = Pacing(delay_s=0, max_retries=1)
    ask = b.meta(pacing, app_secret=APP_SECRET).debug_token if source == "meta" else b.pancake(pacing).shops
    with pytest.raises(SourceError) as caught:
        ask()
    for text in everything_said(caught.value):
        assert_clean(text)
    assert_clean(pickle.dumps(caught.value).decode("latin-1"))
    assert_clean(str(caught.value.metadata()))
    assert_clean(repr(b.waits))
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    for record in caplog.records:
        assert_clean(f"{record.getMessage()} {record.args!r} {record.msg}")
    assert_clean(caplog.text)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid", "nonsense", "http://127.0.0.1:99999"])
def test_no_failure_to_connect_says_a_secret(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    meta = MetaClient(tenant="acme", graph_url=url, token=MARKER, app_secret=APP_SECRET)
    pancake = PancakeClient(tenant="acme", api_url=url, api_key=MARKER)
    for call in (meta.debug_token, pancake.shops):
        with pytest.raises(SourceError) as caught:
            call()
        for text in everything_said(caught.value):
            assert_clean(text)
        assert caught.value.__context__ is None
    assert_clean(caplog.text)


def test_urllib3s_debug_lines_stay_readable_without_the_key(bench: MakeBench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench({"shops": []}).pancake().shops()
    assert '"GET /api/v1/shops?api_key=*** HTTP/1.1" 200' in caplog.text


def test_a_notice_says_no_secret(bench: MakeBench) -> None:
    b = bench(Reply({"id": "1"}, headers={"X-Ad-Api-Version-Warning": f"access_token={MARKER} {MARKER}"}))
    b.meta().me()
    assert b.notices == ["API version warning of Meta: access_token=*** ***"]


def test_a_secret_shows_in_no_repr_and_in_no_pickle() -> None:
    secret = Secret(MARKER)
    assert_clean(f"{secret} {secret!r} {[secret]}")
    with pytest.raises(TypeError, match="not to be stored"):
        pickle.dumps(secret)
    assert_clean(repr(vars(Redactor([secret]))))


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("/shops?api_key=abc&page=1", "/shops?api_key=***&page=1"),
        ("https://x/?a=1&access_token=EAAB|x", "https://x/?a=1&access_token=***"),
        ("INPUT_TOKEN=abc appsecret_proof=12", "INPUT_TOKEN=*** appsecret_proof=***"),
        ("next%3Faccess_token%3DEAAB%26limit", "next%3Faccess_token%3D***"),
        ('{"access_token": "EAAB", "id": 1}', '{"access_token": "***", "id": 1}'),
        ("Authorization: Bearer EAABabcdef123", "Authorization: Bearer ***"),
        ("api_key is invalid", "api_key is invalid"),
    ],
)
def test_values_of_secret_parameters_are_hidden_even_if_unknown(text: str, hidden: str) -> None:
    assert hide_parameters(text) == hidden


@given(
    st.text(min_size=6).filter(lambda text: "*" not in text),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_a_known_secret_is_hidden_raw_and_quoted(secret: str, before: str, after: str) -> None:
    try:
        forms = [secret, quote(secret), quote(secret, safe=""), quote_plus(secret)]
    except UnicodeEncodeError:
        return
    redact = Redactor([Secret(secret)])
    for form in forms:
        assert form not in redact(f"{before} {form} {after}")


@pytest.mark.parametrize("echo", ["ab%2fcd%2bef%3d%3d12", "ab/cd%2bef%3d%3d12", r"ab\/cd+ef==12"])
def test_a_known_secret_is_hidden_as_other_servers_write_it(echo: str) -> None:
    assert Redactor([Secret("ab/cd+ef==12")])(f"no key {echo} here") == "no key *** here"


@pytest.mark.parametrize("secrets", [("abcdefgh", "x-abcdefgh-y"), ("x-abcdefgh-y", "abcdefgh")])
def test_a_secret_that_contains_another_is_hidden_whole(secrets: tuple[str, str]) -> None:
    redact = Redactor([Secret(secret) for secret in secrets])
    assert redact("no x-abcdefgh-y and no abcdefgh") == "no *** and no ***"


PASSWORDS = ["S3CRET", "S3C/S3CRET", "S3C@S3CRET", "S3C:S3CRET", "S3C%40S3CRET", "S3C//S3CRET", "S3C%2FS3CRET"]
PREFIXES = ["", "//", "postgresql://", "postgresql+psycopg2://", "postgresql+psycopg2:", "https://", "https:/", "url="]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_password_of_any_url_is_hidden(prefix: str, password: str) -> None:
    for text in (f"{prefix}user:{password}@host:5432/db", f'no "{prefix}user:{password}@host/a?b=c", sorry'):
        hidden = Redactor([])(text)
        assert "S3C" not in hidden
        assert "@host" in hidden


@pytest.mark.parametrize(
    "text",
    ["user%3AS3CRET%40host", "https%3A%2F%2Fuser%3AS3CRET%40host", "https://S3CRET@host", "İİİİİİuser%3aS3CRET@host"],
)
def test_encoded_urls_and_tokens_as_users_are_hidden(text: str) -> None:
    assert "S3C" not in hide_credentials(text)


@pytest.mark.parametrize("text", ["ask foo@bar.example", "https://x.example/a?mail=foo@bar.example", "at 12:30", "a@b"])
def test_addresses_without_a_password_are_kept(text: str) -> None:
    assert hide_credentials(text) == text


@pytest.mark.parametrize("base", ["user:S3CRET@127.0.0.1:1", "//user:S3CRET@127.0.0.1:1", "ftp:user:S3CRET@host"])
def test_a_base_url_without_a_scheme_is_not_quoted(base: str) -> None:
    meta = MetaClient(tenant="acme", graph_url=base, token=MARKER)
    pancake = PancakeClient(tenant="acme", api_url=base, api_key=MARKER)
    for call in (meta.me, pancake.shops):
        with pytest.raises(SourceError, match="the base URL is not an http or https URL") as caught:
            call()
        for text in everything_said(caught.value):
            assert "S3CRET" not in text


def test_a_secret_at_the_cut_of_a_long_text_is_hidden() -> None:
    secret = "S3CRET-0123456789-abcdef"
    redact = Redactor([Secret(secret)])
    for visible in range(1, len(secret)):
        text = " api_key=" + "x" * (MAX_REDACTED_LENGTH - 10 - visible) + " " + secret
        assert redact(text) == " api_key=*** "


@pytest.mark.parametrize(
    "part",
    [
        "api_key=",
        'api_key"',
        'api_key" ',
        "Bearer ",
        "Bearer  x",
        "Bearer",
        "a:b@",
        "//a@",
        "%40",
        "@",
        "://",
        ":",
        " ",
    ],
)
def test_redaction_takes_linear_time(part: str) -> None:
    # With quadratic time this would take hours.
    text = part * (2**20 // len(part))
    for longer in (text, part + " " * 2**20, part + "a" * 2**20, "a" * 2**20 + part):
        hide_credentials(hide_parameters(longer))
