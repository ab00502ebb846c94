"""Reading Graph's answers: which of its errors is which of ours. By code first, only then by HTTP status."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from sync_pipeline.sources.answers import Answer, error_page, expect_object, one_line, whole_number
from sync_pipeline.sources.errors import (
    ApiError,
    ApiVersionError,
    AppProofError,
    BadRequestError,
    HistoryLimitError,
    PermissionDeniedError,
    Place,
    PolicyBlockedError,
    RateLimitedError,
    SourceError,
    TokenError,
    TooMuchDataError,
    TransientError,
)
from sync_pipeline.sources.waits import asked_wait, retry_after

RATE_LIMIT_CODES = {4, 17, 32, 341, 613, *range(80000, 80010), 80014}
TOO_MUCH_DATA_SUBCODES = {(100, 1487534), (100, 1504018), (2, 1504038)}
TOO_MUCH_DATA_TEXT = "reduce the amount of data"
TOKEN_CODES = {190, 102}
PERMISSION_CODES = {10, *range(200, 300)}
BAD_REQUEST_CODES = {100, 2500, 2642}
TRANSIENT_CODES = {1, 2, 960}
HISTORY_MONTHS = 37
HTTP_TOO_MANY_REQUESTS = 429
HTTP_UNAUTHORIZED = 401

_SAID = {
    TooMuchDataError: "too much data for one request",
    RateLimitedError: "rate limited",
    TokenError: "the access token is not accepted",
    AppProofError: "the app demands a valid appsecret_proof",
    PermissionDeniedError: "no permission, or no such object",
    BadRequestError: "Meta does not accept the request",
    PolicyBlockedError: "blocked by a policy of Meta",
    ApiVersionError: "the API version is no longer served",
    TransientError: "Meta failed on its side",
    ApiError: "Meta refused the request",
}


def read_graph(place: Place, answer: Answer, clean: Callable[[str], str]) -> dict[str, Any]:
    """The JSON object that Graph answered. Raises the `SourceError` of what it answered instead.

    An error body counts under any HTTP status, 200 included.
    """
    found = answer.json_object()
    error = found.get("error") if found is not None else None
    if error:
        raise graph_error(place, answer, error, clean)
    if not answer.ok:
        raise _status_error(place, answer, clean)
    return expect_object(place, answer, clean)


def graph_error(place: Place, answer: Answer, error: object, clean: Callable[[str], str]) -> SourceError:
    """The typed error of an `error` that Graph put into a body."""
    said = error if isinstance(error, dict) else {"message": error}
    code, subcode = whole_number(said.get("code")), whole_number(said.get("error_subcode"))
    message = _message(said, clean)
    fbtrace_id = said.get("fbtrace_id")
    kind = _kind(code, subcode, message.lower(), answer.status, transient=said.get("is_transient") is True)
    return kind(
        place,
        _what(kind),
        http_status=answer.status,
        code=code,
        subcode=subcode,
        api_message=message or None,
        fbtrace_id=one_line(clean(fbtrace_id), 60) if isinstance(fbtrace_id, str) else None,
        retry_after_s=_asked_wait(kind, answer),
        outline=None if message else answer.outline(clean),
    )


def first_day_of_history(now: datetime) -> date:
    """The first day whose insights can be asked for: 37 months back.

    The limit counts in the account's timezone; counted from where the day is furthest, it holds for every account.
    """
    today = now.astimezone(timezone(timedelta(hours=14))).date()
    month = today.year * 12 + today.month - 1 - HISTORY_MONTHS
    last_of_month = date((month + 1) // 12, (month + 1) % 12 + 1, 1) - timedelta(days=1)
    return last_of_month.replace(day=min(today.day, last_of_month.day))


def _kind(code: int | None, subcode: int | None, message: str, status: int, *, transient: bool) -> type[SourceError]:
    if (code, subcode) in TOO_MUCH_DATA_SUBCODES or (code == 1 and TOO_MUCH_DATA_TEXT in message):
        return TooMuchDataError
    if code in RATE_LIMIT_CODES:
        return RateLimitedError
    if transient:
        return TransientError
    if code is not None and (kind := _lasting(code, message)) is not None:
        return kind
    if status == HTTP_TOO_MANY_REQUESTS:
        return RateLimitedError
    if code in TRANSIENT_CODES or status >= 500:
        return TransientError
    return ApiError


def _lasting(code: int, message: str) -> type[SourceError] | None:
    """The errors that the same request will meet again, until someone does something."""
    if code in TOKEN_CODES:
        return TokenError
    # A wrong proof has also been seen as a bad parameter.
    if code == 104 or (code == 100 and "appsecret_proof" in message):
        return AppProofError
    if code in PERMISSION_CODES:
        return PermissionDeniedError
    if code in BAD_REQUEST_CODES:
        return BadRequestError
    return {368: PolicyBlockedError, 2635: ApiVersionError, 3018: HistoryLimitError}.get(code)


def _status_error(place: Place, answer: Answer, clean: Callable[[str], str]) -> SourceError:
    """The error of an answer that is no success and has no Graph error in it, as a proxy in the way gives it."""
    kind: type[SourceError] = ApiError
    if answer.status == HTTP_TOO_MANY_REQUESTS:
        kind = RateLimitedError
    elif answer.status >= 500:
        kind = TransientError
    elif answer.status == HTTP_UNAUTHORIZED:
        kind = TokenError
    message = error_page(answer, clean)
    return kind(
        place,
        _what(kind),
        http_status=answer.status,
        api_message=message,
        retry_after_s=_asked_wait(kind, answer),
        outline=None if message else answer.outline(clean),
    )


def _what(kind: type[SourceError]) -> str:
    if kind is HistoryLimitError:
        first_day = first_day_of_history(datetime.now(UTC))
        return f"Meta keeps {HISTORY_MONTHS} months of insights; the first day that can be asked for is {first_day}"
    return _SAID[kind]


def _asked_wait(kind: type[SourceError], answer: Answer) -> float | None:
    now = datetime.now(UTC)
    return asked_wait(answer.headers, now) if kind is RateLimitedError else retry_after(answer.headers, now)


def _message(said: dict[str, Any], clean: Callable[[str], str]) -> str:
    """Graph's message and, where it has one, what it would tell a user: that often says more."""
    parts = [said.get("message"), said.get("error_user_title"), said.get("error_user_msg")]
    shown = [part.strip() for part in parts if isinstance(part, str) and part.strip()]
    return one_line(clean(" / ".join(dict.fromkeys(shown))))
