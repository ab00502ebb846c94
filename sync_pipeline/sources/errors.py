"""What the two APIs can answer instead of data, one type per thing that a user does about it.

Every error says where it happened, what the API said, and what to do. None holds a secret: whatever text comes from
outside is redacted before it gets here.
"""

from dataclasses import dataclass
from datetime import date
from typing import Any, ClassVar

from sync_pipeline.errors import SyncPipelineError


@dataclass(frozen=True, slots=True)
class Place:
    """What was being asked for. `source` is meta or pos; for a single day `since` and `until` are the same.

    `key` is the place of the API key that was sent, such as the name of its environment variable; never its value.
    """

    tenant: str
    source: str
    account_id: str | None = None
    shop_id: str | None = None
    since: date | None = None
    until: date | None = None
    key: str | None = None

    def __str__(self) -> str:
        named = [self.source, f"tenant {self.tenant}"]
        if self.key is not None:
            named.append(f"key in {self.key}")
        if self.account_id is not None:
            named.append(f"account {self.account_id}")
        if self.shop_id is not None:
            named.append(f"shop {self.shop_id}")
        if (days := self.days()) is not None:
            named.append(days.replace("/", " to "))
        return ", ".join(named)

    def days(self) -> str | None:
        """The day as YYYY-MM-DD, a window as since/until (an ISO 8601 interval), None where no day was asked for."""
        first, last = self.since or self.until, self.until or self.since
        if first is None or last is None:
            return None
        return first.isoformat() if first == last else f"{first.isoformat()}/{last.isoformat()}"


class SourceError(SyncPipelineError):
    """An API did not give what was asked for.

    `what` says what happened in a few words; `code`, `subcode`, `api_message` and `fbtrace_id` are the API's own,
    `retry_after_s` is how long it asked to wait, in seconds; None where it did not say. `outline` is size and type of a
    response that has no message of the API: its content is never quoted. `transient` types may pass when the same
    request is sent again later.
    """

    advice: ClassVar[str] = "Look the API's message up in its documentation."
    transient: ClassVar[bool] = False

    def __init__(
        self,
        place: Place,
        what: str,
        *,
        http_status: int | None = None,
        code: int | str | None = None,
        subcode: int | None = None,
        api_message: str | None = None,
        fbtrace_id: str | None = None,
        retry_after_s: float | None = None,
        outline: str | None = None,
    ) -> None:
        super().__init__(place, what)
        self.place = place
        self.what = what
        self.http_status = http_status
        self.code = code
        self.subcode = subcode
        self.api_message = api_message
        self.fbtrace_id = fbtrace_id
        self.retry_after_s = retry_after_s
        self.outline = outline

    def __str__(self) -> str:
        said = [
            f"HTTP {self.http_status}" if self.http_status is not None else "",
            f"code {self.code}" if self.code is not None else "",
            f"subcode {self.subcode}" if self.subcode is not None else "",
            f"fbtrace_id {self.fbtrace_id}" if self.fbtrace_id else "",
            self.outline or "",
        ]
        line = f"{self.what} ({self.place})"
        if self.api_message:
            line += f': "{self.api_message}"'
        if any(said):
            line += f" [{', '.join(part for part in said if part)}]"
        return f"{line}. {self.advice}"

    def metadata(self) -> dict[str, str | int]:
        """The error as flat values, for a failed run: only what is known, `date` as `Place.days` writes it."""
        named = {
            "source": self.place.source,
            "date": self.place.days(),
            "account_id": self.place.account_id,
            "shop_id": self.place.shop_id,
            "key": self.place.key,
            "http_status": self.http_status,
            "error_code": self.code,
            "error_subcode": self.subcode,
            "error_message": self.api_message or self.what,
            "fbtrace_id": self.fbtrace_id,
            "response": self.outline,
        }
        return {name: value for name, value in named.items() if value is not None}


class TokenError(SourceError):
    """The token or key is refused: Graph 190 and 102, Pancake 403 with error code 105."""

    advice = "Renew the Meta token or Pancake api_key and put the new one where the tenant file says it is."


class AppProofError(SourceError):
    """Graph 104: the app demands an appsecret_proof and none came, or a wrong one."""

    advice = "Set meta.app_secret in the tenant file to the secret of the app that the token belongs to."


class PermissionDeniedError(SourceError):
    """Graph 10, 200 to 299, and 100 "Missing permissions": no access, or an ad account that does not exist."""

    advice = "Grant the token's user access to it, or correct the id in the tenant file."


class BadRequestError(SourceError):
    """Graph 100, 2500, 2642: a parameter, object, path or cursor that Graph does not know; HTTP 404 of Pancake.

    The same codes come for objects that the token may not read and, at times, while calls are throttled, so none of
    them proves a wrong request.
    """

    advice = (
        "Check the id in the tenant file and the access of the token or key to it; if both are right, run it again "
        "later, since this may be a passing fault or limit of the API."
    )


class RateLimitedError(SourceError):
    """The API still refused the request for its rate limit after `max_wait_s`, or asks for a wait longer than that.

    `calls_prolong_it`: the caller is blocked, and each call during the block restarts it.
    """

    advice = "Run it again later, with a longer delay between requests."

    def __init__(self, place: Place, what: str, *, calls_prolong_it: bool = False, **known: Any) -> None:
        super().__init__(place, what, **known)
        self.calls_prolong_it = calls_prolong_it


class TooMuchDataError(SourceError):
    """Graph refuses the request as too large, and it cannot be made smaller."""

    advice = "Run it again later; if Meta still refuses even the smallest page, ask its support why."


class ReportFailedError(SourceError):
    """An asynchronous report failed, was skipped, or did not end in time."""

    advice = "Run the day again later; Meta gives up on reports when it is busy."


class TransientError(SourceError):
    """The API failed on its side: Graph 1, 2, 960 and errors marked is_transient, HTTP 5xx."""

    advice = "Run it again; a workflow may also allow retries."
    transient = True


class PolicyBlockedError(SourceError):
    """Graph 368: the user or app is blocked by policy for now."""

    advice = "See Meta's Business Support Home for the reason of the block; calling on prolongs it."


class ApiVersionError(SourceError):
    """Graph 2635: the API version has expired."""

    advice = "Set meta.api_version in the tenant file to a version that Meta still serves."


class HistoryLimitError(SourceError):
    """Graph 3018: insights before the last 37 months are gone. `what` names the first day that can be asked for."""

    advice = "Move start_date in the tenant file, or since of the date range, to that day or later."


class ResponseFormatError(SourceError):
    """The answer is not what the API documents: HTML, empty, not JSON, another content type, another shape."""

    advice = "Look whether a proxy or an outage is in the way, and whether the base URL is right."


class LimitExceededError(ResponseFormatError):
    """The API sent more than any documented answer: bytes, headers, pages or rows.

    `limit` is the name of the limit in `sources.limits`, `maximum` its value.
    """

    advice = (
        "The documented API stays far below this limit: check that the base URL (META_GRAPH_URL or PANCAKE_API_URL) "
        "and any proxy are the right ones; if they are, report the limit as too low."
    )

    def __init__(self, place: Place, what: str, *, limit: str = "", maximum: float = 0, **known: Any) -> None:
        super().__init__(place, what, **known)
        self.limit = limit
        self.maximum = maximum


class TruncatedResponseError(ResponseFormatError):
    """The connection ended before the answer was whole."""

    advice = "Run it again; a workflow may also allow retries."
    transient = True


class ConnectionFailedError(SourceError):
    """No answer: a name that does not resolve, a refused or reset connection, a TLS failure."""

    advice = "Check network, proxy and the base URL, then run it again."
    transient = True


class TimedOutError(SourceError):
    """The API did not answer, or its response did not end, within the time limit."""

    advice = "Run it again; a workflow may also allow retries."
    transient = True


class ClockError(SourceError):
    """This machine's clock is far from the API's: which days there are, and which changes are late, is told by it."""

    advice = "Set the clock of this machine right (by NTP), then run it again."


class RedirectError(SourceError):
    """The API answered with a redirect, which is never followed: it would carry the credentials elsewhere."""

    advice = "Correct the base URL (META_GRAPH_URL or PANCAKE_API_URL)."


class ApiError(SourceError):
    """Any other refusal; the API's own words are all there is to know."""
