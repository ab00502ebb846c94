"""How long to wait: what responses say, what usage headers predict, and how waits grow without either.

All pure: no clock is read and nothing sleeps here. Seconds everywhere.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal, TypeAlias

from sync_pipeline.sources.errors import Place

MIN_WAIT_S = 1.0
FIRST_BACKOFF_S = 5.0
MAX_BACKOFF_S = 300.0
# The first wait after a response whose headers say 0: access returns soon, but the API does not know when.
SOON_S = 5.0
FIRST_RETRY_S = 1.0
MAX_RETRY_S = 60.0

LOW_USAGE = 50.0
BLOCK_NEAR = 95.0
SLOWEST_S = 30.0
# Meta's score of calls decays over 300 s.
DECAY_S = 300.0

AccessTier: TypeAlias = Literal["standard", "development"]
# How long Meta blocks an app that has used up its score. Calls during a block restart it.
BLOCK_S: Final[Mapping[AccessTier, float]] = {"standard": 60.0, "development": 300.0}
# Meta renamed the tiers in May 2026; its headers still have the old names.
_TIERS: Final[Mapping[str, AccessTier]] = {
    "standard": "standard",
    "full": "standard",
    "development": "development",
    "limited": "development",
}

_USAGE_HEADERS: Final = (
    "X-Business-Use-Case-Usage",
    "X-Ad-Account-Usage",
    "X-App-Usage",
    "X-FB-Ads-Insights-Throttle",
)
_PERCENTS: Final = ("call_count", "total_cputime", "total_time", "acc_id_util_pct", "app_id_util_pct")
_MAX_HEADER_DEPTH: Final = 6

_SECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pacing:
    """How fast a client may go.

    `delay_s` is waited between the end of one request and the start of the next (0: no wait). With `pacing`
    "adaptive" the API's usage headers decide instead; where an answer has none, the delay holds. `max_wait_s` bounds
    what ONE request waits for rate limits in total, so that a long backfill is not ended by the sum of many short
    waits. `max_retries` is how often one request is sent again after a transient error.
    """

    delay_s: float = 3.0
    pacing: Literal["fixed", "adaptive"] = "fixed"
    max_wait_s: float = 1800.0
    max_retries: int = 0

    def __post_init__(self) -> None:
        for name in ("delay_s", "max_wait_s", "max_retries"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be 0 or more, found {value!r}")
        if self.pacing not in ("fixed", "adaptive"):
            raise ValueError(f"pacing must be fixed or adaptive, found {self.pacing!r}")


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait that is about to begin, other than the delay between requests."""

    place: Place
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The share of a quota that is used, in percent, and in how many seconds access returns, if the API says so."""

    percent: float
    regain_s: float | None

    @property
    def near_block(self) -> bool:
        """Whether the next request may be refused."""
        return self.percent >= BLOCK_NEAR or bool(self.regain_s)


class RateLimitWaits:
    """The waits of one request that is refused for a rate limit, one time or more in a row."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self._refusals = 0
        self._soon = False
        self._blocks = 0

    def next(self, asked_s: float | None, *, blocked: bool, tier: AccessTier | None, left_s: float) -> float:
        """Return the wait after one more refusal, and count it.

        `asked_s` is the wait that the response named (None: none), `blocked` whether calls prolong the limit, `left_s`
        how long the request may still wait. A wait that the API did not name is cut to that; a named one is returned
        as it is, since the same request would be refused before its end.
        """
        if asked_s is not None and asked_s >= MIN_WAIT_S:
            seconds = asked_s
        else:
            seconds = self._unnamed(soon=asked_s is not None, blocked=blocked, tier=tier)
            if left_s >= MIN_WAIT_S:
                seconds = min(seconds, left_s)
        self._refusals += 1
        self.total_s += seconds
        return seconds

    def _unnamed(self, *, soon: bool, blocked: bool, tier: AccessTier | None) -> float:
        if soon and not self._soon:
            self._soon = True
            return SOON_S
        if not blocked:
            return backoff(FIRST_BACKOFF_S, self._refusals, MAX_BACKOFF_S)
        self._blocks += 1
        # Of an unknown tier the first wait assumes the shorter block.
        return BLOCK_S[tier or ("standard" if self._blocks == 1 else "development")]


def backoff(first_s: float, repeats: int, longest_s: float) -> float:
    """`first_s` doubled `repeats` times, at most `longest_s`."""
    return min(longest_s, first_s * 2.0 ** min(repeats, 32))


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the longest wait that the headers of a refusal name, in seconds; None if they name none."""
    asked = [retry_after(headers, now), regain(headers)]
    return max((seconds for seconds in asked if seconds is not None), default=None)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """`Retry-After` in seconds: a number, or an HTTP date against the server's own `Date` (else `now`); 0 if past."""
    found = (headers.get("Retry-After") or "").strip()
    if _SECONDS.fullmatch(found):
        return float(found)
    if (until := http_date(found)) is None:
        return None
    return max(0.0, (until - (http_date(headers.get("Date") or "") or now)).total_seconds())


def regain(headers: Mapping[str, str]) -> float | None:
    """Return in how many seconds Meta gives access again, 0 if soon, None if its headers do not say."""
    named = (_regain_of(entry) for header in _USAGE_HEADERS for entry in _figures_of(headers, header))
    return max((seconds for seconds in named if seconds is not None), default=None)


def usage(headers: Mapping[str, str]) -> Usage | None:
    """Return the fullest of all quotas in Meta's four usage headers; None without such a header."""
    entries = [entry for header in _USAGE_HEADERS for entry in _figures_of(headers, header)]
    percents = [entry[name] for entry in entries for name in _PERCENTS if name in entry]
    return Usage(max(percents), regain(headers)) if percents else None


def access_tier(headers: Mapping[str, str]) -> AccessTier | None:
    """Return the app's access tier for the Marketing API, from Meta's usage headers; None if they do not name it.

    If they name both, the one with the longer block counts.
    """
    named = (entry.get("ads_api_access_tier") for header in _USAGE_HEADERS for entry in _objects_of(headers, header))
    tiers = {_TIERS.get(name.strip().lower().removesuffix("_access")) for name in named if isinstance(name, str)}
    return max((tier for tier in tiers if tier), key=BLOCK_S.__getitem__, default=None)


def adaptive_delay(found: Usage) -> float:
    """Return the wait between two requests at this usage.

    It is 0 below 50 %, up to 30 s below 95 %, and then as long as the quota takes to recover: calls while blocked
    prolong the block, so the last five percent stay unused.
    """
    if found.near_block:
        return found.regain_s or DECAY_S
    if found.percent < LOW_USAGE:
        return 0.0
    return SLOWEST_S * ((found.percent - LOW_USAGE) / (BLOCK_NEAR - LOW_USAGE)) ** 2


def http_date(found: str) -> datetime | None:
    """The instant that a header names, None where it names none."""
    try:
        parsed = parsedate_to_datetime(found)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _regain_of(entry: Mapping[str, float]) -> float | None:
    """Return what one quota says: minutes until access returns, or seconds until an account's score is 0 again.

    The score of an account that is not blocked decays too, so its seconds count only at the block.
    """
    minutes, seconds = entry.get("estimated_time_to_regain_access"), entry.get("reset_time_duration")
    if entry.get("acc_id_util_pct", BLOCK_NEAR) < BLOCK_NEAR:
        seconds = None
    named = [found for found in (None if minutes is None else minutes * 60, seconds) if found is not None]
    return max((found for found in named if found >= 0 and math.isfinite(found)), default=None)


def _figures_of(headers: Mapping[str, str], name: str) -> list[dict[str, float]]:
    return [dict(_finite(entry)) for entry in _objects_of(headers, name)]


def _objects_of(headers: Mapping[str, str], name: str) -> list[Mapping[object, object]]:
    """Return all JSON objects in a usage header: it may hold an object, a list of them, or a text with either."""
    text = headers.get(name) or ""
    found = _parsed(text)
    # A header that is sent more than once arrives as one, with commas between the values.
    return list(_objects_in(_parsed(f"[{text}]") if found is None else found, _MAX_HEADER_DEPTH))


def _objects_in(found: object, depth: int) -> Iterator[Mapping[object, object]]:
    if depth == 0:
        return
    inner: Iterable[object] = ()
    if isinstance(found, str):
        inner = [_parsed(found)]
    elif isinstance(found, list):
        inner = found
    elif isinstance(found, dict):
        yield found
        inner = found.values()
    for value in inner:
        yield from _objects_in(value, depth - 1)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _finite(found: Mapping[object, object]) -> Iterator[tuple[str, float]]:
    for name, value in found.items():
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int | float | str):
            continue
        try:
            number = float(value)
        except (ValueError, OverflowError):
            continue
        if math.isfinite(number):
            yield name, number
