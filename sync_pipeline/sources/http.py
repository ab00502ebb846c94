"""One API's requests, one after the other, at the pace the workflow allows.

Rate limits are waits, everything else that is wrong is an error of `sources.errors`. All sleeping is in one place and
plain, so that an exception raised by a signal handler ends it at once.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, LineTooLong
from typing import Any

import requests
import urllib3.exceptions
from requests.auth import AuthBase

from sync_pipeline.sources.answers import Answer, one_line
from sync_pipeline.sources.errors import (
    ClockError,
    ConnectionFailedError,
    LimitExceededError,
    Place,
    RateLimitedError,
    RedirectError,
    ResponseFormatError,
    SourceError,
    TimedOutError,
    TruncatedResponseError,
)
from sync_pipeline.sources.limits import MAX_RESPONSE_S
from sync_pipeline.sources.redaction import Redactor, guard_logs
from sync_pipeline.sources.transport import (
    ACCEPT_ENCODING,
    BudgetAdapter,
    ResponseBudget,
    ResponseRefusedError,
    ResponseTooSlowError,
    UnknownEncodingError,
    read_body,
)
from sync_pipeline.sources.usage import ApiUsage, WaitClass
from sync_pipeline.sources.waits import (
    FIRST_RETRY_S,
    MAX_RETRY_S,
    AccessTier,
    Pacing,
    RateLimitWaits,
    Wait,
    access_tier,
    adaptive_delay,
    backoff,
    http_date,
    usage,
)

__all__ = ["PacedSession", "Pacing", "Request", "Wait"]

# To connect, and to wait for the next bytes of an answer: Pancake takes 9 s for a page on a good day.
TIMEOUTS_S = (10.0, 120.0)
# Servers drop idle connections, some after 5 s, and one dropped while it is taken up again looks like a failed request.
MAX_IDLE_S = 4.0

# Far more than an answer takes to arrive, and less than the windows of late changes overlap.
LARGEST_CLOCK_ERROR = timedelta(minutes=10)

# What `http.client` reads; its own constant is private.
MAX_HEADERS = 100
_NOT_A_URL = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    urllib3.exceptions.LocationParseError,
)

Judge = Callable[[Place, Answer], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request without its credentials; `form` makes it a POST, a sequence among `params` a repeated parameter."""

    place: Place
    url: str
    # Meta's question about a token has the token in it.
    params: Mapping[str, str | int | Sequence[int]] = field(default_factory=dict, repr=False)
    form: Mapping[str, str | int] | None = None


class PacedSession:
    """Sends requests one by one with the credentials of `auth`, and gives back what `judge` makes of the answers.

    `judge` returns an answer's JSON object or raises a `SourceError`; a `RateLimitedError` of its makes the session
    wait and ask again. Not for use by several threads at once.
    """

    def __init__(
        self,
        *,
        auth: AuthBase,
        judge: Judge,
        redact: Redactor,
        pacing: Pacing,
        on_wait: Callable[[Wait], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        timeouts_s: tuple[float, float] = TIMEOUTS_S,
        max_response_s: float = MAX_RESPONSE_S,
    ) -> None:
        self.requests_made = 0
        self.usage = ApiUsage()
        self.pacing = pacing
        self._judge = judge
        self._redact = redact
        self._on_wait = on_wait or (lambda _: None)
        self._sleep = sleep
        self._clock = clock
        self._timeouts_s = timeouts_s
        self._last_end: float | None = None
        self._last_headers: Mapping[str, str] = {}
        # Only some responses name it: the last one that did counts.
        self._access_tier: AccessTier | None = None
        self._http = PlainSession()
        # With an auth of its own requests does not look into .netrc, whose entry would replace our header.
        self._http.auth = auth
        self._http.headers.update(
            {"User-Agent": "sync-pipeline", "Accept": "application/json", "Accept-Encoding": ACCEPT_ENCODING}
        )
        self._budget = ResponseBudget(clock, max_response_s)
        adapter = BudgetAdapter(self._budget)
        self._http.mount("http://", adapter)
        self._http.mount("https://", adapter)
        guard_logs()

    def send(self, request: Request) -> dict[str, Any]:
        """Send it, after the due delay, until it is answered or must fail.

        Raises `RateLimitedError` once this request would have waited longer than `max_wait_s`, `ClockError` where the
        answer's `Date` is far from ours, and the other errors at once, or transient ones after `max_retries` repeats.
        """
        limits, retries = RateLimitWaits(), 0
        wait_class: WaitClass
        while True:
            try:
                return self._judged(request)
            except RateLimitedError as error:
                self.usage.count_error(error)
                wait_class = "rate_limit"
                seconds = self._rate_limit_wait(error, limits)
                reason = f"rate limit of {request.place}: {error.api_message or error.what}"
            except SourceError as error:
                self.usage.count_error(error)
                wait_class = "retry"
                too_long = (error.retry_after_s or 0.0) > self.pacing.max_wait_s
                if not error.transient or too_long or retries >= self.pacing.max_retries:
                    raise
                retries += 1
                seconds = _retry_wait(error, retries)
                reason = f"retry {retries} of {self.pacing.max_retries} after: {error.what}, {request.place}"
            self.wait(request.place, seconds, reason, wait_class)
            # The wait has allowed for the usage that the response reported: the adaptive pace must not prolong it.
            self._last_headers = {}

    def wait(self, place: Place, seconds: float, reason: str, wait_class: WaitClass) -> None:
        """Tell `on_wait`, then sleep."""
        self._on_wait(Wait(place, seconds, reason))
        self._sleep_for(seconds, wait_class)

    def _sleep_for(self, seconds: float, wait_class: WaitClass) -> None:
        began = self._clock()
        try:
            self._sleep(seconds)
        finally:
            self.usage.count_wait(wait_class, max(0.0, self._clock() - began))

    def _judged(self, request: Request) -> dict[str, Any]:
        answer = self._exchange(request)
        found = self._judge(request.place, answer)
        _check_clock(request.place, answer.headers)
        return found

    def _rate_limit_wait(self, error: RateLimitedError, limits: RateLimitWaits) -> float:
        waited_s = limits.total_s
        left_s = self.pacing.max_wait_s - waited_s
        seconds = limits.next(
            error.retry_after_s, blocked=error.calls_prolong_it, tier=self._access_tier, left_s=left_s
        )
        if seconds > left_s:
            waited = f"{error.what}, still after {waited_s:g} s of waits" if waited_s else error.what
            error.what = f"{waited}; {seconds:g} s more would exceed max_wait_s of {self.pacing.max_wait_s:g}"
            raise error
        return seconds

    def _pause(self, place: Place) -> None:
        if self._last_end is None:
            return
        delay_s = self.pacing.delay_s
        found = usage(self._last_headers) if self.pacing.pacing == "adaptive" else None
        if found is not None:
            # Near the block, but not refused: after the longest wait allowed the API itself decides.
            delay_s = min(adaptive_delay(found), self.pacing.max_wait_s)
        due_s = delay_s - (self._clock() - self._last_end)
        if due_s <= 0:
            return
        if found is not None and found.near_block:
            self.wait(place, due_s, f"{found.percent:g} % of the API's quota is used, {place}", "quota")
        else:
            self._sleep_for(due_s, "delay")

    def _exchange(self, request: Request) -> Answer:
        self._pause(request.place)
        if self._last_end is not None and self._clock() - self._last_end > MAX_IDLE_S:
            self._http.close()
        self.requests_made += 1
        self.usage.count_request()
        # The error is raised outside of `except`, so that it does not carry the original, whose text holds the URL.
        try:
            outcome = self._answer(request)
        finally:
            self._last_end = self._clock()
        if isinstance(outcome, SourceError):
            raise outcome
        self._last_headers = outcome.headers
        self._access_tier = access_tier(outcome.headers) or self._access_tier
        if 300 <= outcome.status < 400:
            location = one_line(self._redact(outcome.headers.get("Location") or "nowhere"))
            raise RedirectError(request.place, f"redirected to {location}", http_status=outcome.status)
        return outcome

    def _answer(self, request: Request) -> Answer | SourceError:
        self._budget.start()
        status = None
        try:
            # Always closed, so that the next request cannot read the rest of this response.
            with self._http.request(
                "GET" if request.form is None else "POST",
                request.url,
                params=dict(request.params),
                data=None if request.form is None else dict(request.form),
                timeout=self._timeouts_s,
                allow_redirects=False,
                stream=True,
            ) as response:
                status = response.status_code
                return Answer(status, response.headers, read_body(response, self._budget))
        except ResponseTooSlowError as error:
            return TimedOutError(request.place, error.what, http_status=status)
        except ResponseRefusedError as error:
            return LimitExceededError(
                request.place, error.what, limit=error.limit, maximum=error.maximum, http_status=status
            )
        except UnknownEncodingError as error:
            encoding = one_line(self._redact(str(error)), 60)
            what = f"the response has the Content-Encoding {encoding}, which was not requested"
            return ResponseFormatError(request.place, what, http_status=status)
        except (OSError, ValueError, HTTPException, urllib3.exceptions.HTTPError) as error:
            return self._failure(request.place, error)

    def _failure(self, place: Place, error: Exception) -> SourceError:
        inner = error.args[0] if error.args else None
        reason = getattr(inner, "reason", None) or inner or error
        connect_s, read_s = self._timeouts_s
        if isinstance(error, requests.exceptions.InvalidProxyURL):
            return ConnectionFailedError(place, "the proxy's URL is not valid; see HTTP_PROXY and HTTPS_PROXY")
        if isinstance(error, _NOT_A_URL):
            # Their text quotes the URL, which may have a password in it.
            return ConnectionFailedError(place, "the base URL is not an http or https URL")
        if (limit := _header_limit(inner)) is not None:
            what = f"the response has more than {limit} headers, or a header that is too long"
            return LimitExceededError(place, what, limit="MAX_HEADERS", maximum=limit)
        if isinstance(error, requests.ConnectTimeout):
            return TimedOutError(place, f"no connection within {connect_s:g} s")
        if isinstance(error, requests.Timeout) or isinstance(inner, urllib3.exceptions.ReadTimeoutError):
            return TimedOutError(place, f"no answer within {read_s:g} s")
        if isinstance(error, requests.exceptions.ChunkedEncodingError):
            return TruncatedResponseError(place, "the answer broke off")
        if isinstance(error, requests.exceptions.ContentDecodingError):
            return ResponseFormatError(place, "the answer cannot be decompressed")
        if isinstance(error, UnicodeError | requests.exceptions.InvalidHeader):
            # Their text quotes what could not be sent or read, and that may be a credential.
            return ConnectionFailedError(
                place, "the request or its answer has a header or URL that HTTP does not allow"
            )
        if isinstance(inner, urllib3.exceptions.ProtocolError) and any(
            isinstance(cause, HTTPException) for cause in inner.args
        ):
            # Its text quotes what came instead of a status line.
            return ResponseFormatError(place, "the answer is not HTTP")
        what = "TLS failed" if isinstance(error, requests.exceptions.SSLError) else "no connection"
        return ConnectionFailedError(place, f"{what}: {one_line(self._redact(str(reason)), 200)}")


class PlainSession(requests.Session):
    """A session without redirects: even with `allow_redirects=False` requests would parse where they lead."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:  # noqa: ARG002
        return None


def _header_limit(error: object) -> int | None:
    """The number of headers that `http.client` reads, where it has refused a response for them."""
    causes = error.args if isinstance(error, urllib3.exceptions.ProtocolError) else ()
    return MAX_HEADERS if any(type(cause) in {HTTPException, LineTooLong} for cause in causes) else None


def _retry_wait(error: SourceError, retry: int) -> float:
    # Jitter spreads clients that failed together; nothing secret depends on it.
    jittered = backoff(FIRST_RETRY_S, retry - 1, MAX_RETRY_S) * random.uniform(0.5, 1.0)  # noqa: S311
    return max(jittered, error.retry_after_s or 0.0)


def _check_clock(place: Place, headers: Mapping[str, str]) -> None:
    there = http_date(headers.get("Date") or "")
    if there is None:
        return
    ahead = datetime.now(UTC) - there
    if abs(ahead) > LARGEST_CLOCK_ERROR:
        way = "ahead of" if ahead > timedelta() else "behind"
        minutes = round(abs(ahead).total_seconds() / 60)
        raise ClockError(place, f"this machine's clock is {minutes} minutes {way} the API's")
