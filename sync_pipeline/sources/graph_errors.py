"""Reading Graph's responses: which of its errors is which of ours. By code first, only then by HTTP status.

Meta lists the codes at https://developers.facebook.com/docs/marketing-api/error-reference and
https://developers.facebook.com/docs/graph-api/guides/error-handling; what is missing there is known from recorded
responses.
"""

import re
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
# With these the caller is blocked, and each call during the block restarts it.
BLOCK_CODES = RATE_LIMIT_CODES - {32, 341}
# Rate limits have come without a code, too, even as a bare string.
RATE_LIMIT_TEXTS = ("request limit reached", "too many calls", "exceeded the rate limit")
# As code or as subcode. Code 1 is the most frequent one, but it also stands for any unknown error.
TOO_MUCH_DATA_CODES = {2637, 1487534, 1504018, 1504038}
TOO_MUCH_DATA_TEXT = "reduce the amount of data"
MISSING_PERMISSION_TEXT = "missing permission"
# Code and subcode for an object that does not exist, that the token may not read, or while calls are throttled.
UNKNOWN_OBJECT = (100, 33)
TOKEN_CODES = {190, 102}
PERMISSION_CODES = {10, *range(200, 300)}
BAD_REQUEST_CODES = {100, 2500, 2642}
TRANSIENT_CODES = {1, 2, 960}
# "Service temporarily unavailable" and "Request timed out" pass, whatever `is_transient` says.
ALWAYS_TRANSIENT_CODES = {2, 960}
UNKNOWN_ERROR_SUBCODE = 99
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
_UNKNOWN_OBJECT_SAID = (
    "Meta does not return the object: it may not exist, the token may lack the permission for it, or calls may be "
    "throttled"
)
_CODE_IN_MESSAGE = re.compile(r"\(#([0-9]{1,9})\)")


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
    if code is None and (found := _CODE_IN_MESSAGE.match(message)):
        code = int(found[1])
    transient = said.get("is_transient")
    kind = _kind(
        code, subcode, message.lower(), answer.status, transient=transient if isinstance(transient, bool) else None
    )
    known = kind(
        place,
        _UNKNOWN_OBJECT_SAID if (code, subcode) == UNKNOWN_OBJECT and kind is BadRequestError else _what(kind),
        http_status=answer.status,
        code=code,
        subcode=subcode,
        api_message=message or None,
        fbtrace_id=one_line(clean(fbtrace_id), 60) if isinstance(fbtrace_id, str) else None,
        retry_after_s=_asked_wait(kind, answer),
        outline=None if message else answer.outline(clean),
    )
    if isinstance(known, RateLimitedError):
        known.calls_prolong_it = code in BLOCK_CODES or _is_limit(message.lower())
    return known


def first_day_of_history(now: datetime) -> date:
    """The first day whose insights can be asked for: 37 months back.

    The limit counts in the account's timezone; counted from where the day is furthest, it holds for every account.
    """
    today = now.astimezone(timezone(timedelta(hours=14))).date()
    month = today.year * 12 + today.month - 1 - HISTORY_MONTHS
    last_of_month = date((month + 1) // 12, (month + 1) % 12 + 1, 1) - timedelta(days=1)
    return last_of_month.replace(day=min(today.day, last_of_month.day))


def _kind(
    code: int | None, subcode: int | None, message: str, status: int, *, transient: bool | None
) -> type[SourceError]:
    if TOO_MUCH_DATA_TEXT in message or not TOO_MUCH_DATA_CODES.isdisjoint({code, subcode}):
        return TooMuchDataError
    if code in RATE_LIMIT_CODES:
        return RateLimitedError
    lasting = None if code is None else _lasting(code, subcode, message)
    if lasting is None and _is_limit(message):
        return RateLimitedError
    if transient:
        return TransientError
    if lasting is not None:
        return lasting
    if status == HTTP_TOO_MANY_REQUESTS:
        return RateLimitedError
    if code is None and status == HTTP_UNAUTHORIZED:
        return TokenError
    if _is_permanent(code, subcode, transient=transient):
        return ApiError
    if code in TRANSIENT_CODES or status >= 500:
        return TransientError
    return ApiError


def _is_permanent(code: int | None, subcode: int | None, *, transient: bool | None) -> bool:
    """Whether Meta marks an error as lasting. The mark counts where code and subcode leave that open."""
    return transient is False and code not in ALWAYS_TRANSIENT_CODES and subcode != UNKNOWN_ERROR_SUBCODE


def _is_limit(message: str) -> bool:
    return any(text in message for text in RATE_LIMIT_TEXTS)


def _lasting(code: int, subcode: int | None, message: str) -> type[SourceError] | None:
    """Return the type of an error that the same request meets again until someone acts, None for other errors."""
    if code in TOKEN_CODES:
        return TokenError
    # A wrong proof has also been seen as a bad parameter.
    if code == 104 or (code == 100 and "appsecret_proof" in message):
        return AppProofError
    if code in PERMISSION_CODES:
        return PermissionDeniedError
    # The message of an unknown object names missing permissions as one of several causes.
    unknown_object = (code, subcode) == UNKNOWN_OBJECT or "does not exist" in message
    if code == 100 and MISSING_PERMISSION_TEXT in message and not unknown_object:
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
