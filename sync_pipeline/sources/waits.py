"""How long to wait: what the APIs ask for, what their usage headers foretell, and how waits grow where nothing says.

All pure: no clock is read and nothing sleeps here. Seconds everywhere.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from sync_pipeline.sources.errors import Place

MIN_WAIT_S = 1.0
FIRST_BACKOFF_S = 5.0
MAX_BACKOFF_S = 300.0
FIRST_RETRY_S = 1.0
MAX_RETRY_S = 60.0

LOW_USAGE = 50.0
BLOCK_NEAR = 95.0
SLOWEST_S = 30.0
# Meta's score of calls decays over 300 s.
DECAY_S = 300.0

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
    """How much of its quota a caller has used, in percent, and when it is free again as far as the API says."""

    percent: float
    regain_s: float | None

    @property
    def near_block(self) -> bool:
        """Whether so little is left that the next request may be refused."""
        return self.percent >= BLOCK_NEAR


def backoff(first_s: float, repeats: int, longest_s: float) -> float:
    """`first_s` doubled `repeats` times, at most `longest_s`."""
    return min(longest_s, first_s * 2.0 ** min(repeats, 32))


def rate_limit_wait(asked_s: float | None, repeats: int) -> float:
    """How long to wait after a request was refused for its rate limit for the `repeats + 1`th time in a row.

    What the API asked for; 5 s doubling up to 5 minutes where it did not say; and where it asks for next to nothing
    again and again, 1 s doubling: an honest 0 costs a second, a false one does not end in a busy loop.
    """
    if asked_s is None:
        return backoff(FIRST_BACKOFF_S, repeats, MAX_BACKOFF_S)
    if asked_s < MIN_WAIT_S:
        return backoff(MIN_WAIT_S, repeats, MAX_BACKOFF_S)
    return asked_s


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """The longest wait that a refusal's headers ask for, in seconds, None where they do not say."""
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
    """When Meta gives access again: estimated_time_to_regain_access is minutes, reset_time_duration seconds."""
    said = [entry.get("estimated_time_to_regain_access", 0.0) * 60 for entry in _use_cases(headers)]
    said.append(_figures(_parsed(headers, "X-Ad-Account-Usage")).get("reset_time_duration", 0.0))
    return max((seconds for seconds in said if seconds > 0), default=None)


def usage(headers: Mapping[str, str]) -> Usage | None:
    """The fullest of all quotas in Meta's four usage headers, None where there is none (they may be absent)."""
    percents = [
        entry[name]
        for entry in [*_use_cases(headers), _figures(_parsed(headers, "X-App-Usage"))]
        for name in ("call_count", "total_cputime", "total_time")
        if name in entry
    ]
    for header in ("X-Ad-Account-Usage", "X-FB-Ads-Insights-Throttle"):
        entry = _figures(_parsed(headers, header))
        percents += [entry[name] for name in ("acc_id_util_pct", "app_id_util_pct") if name in entry]
    return Usage(max(percents), regain(headers)) if percents else None


def adaptive_delay(found: Usage) -> float:
    """The wait between two requests at this usage: none below 50 %, up to 30 s below 95 %, then until it has decayed.

    Calling while blocked prolongs the block (facts on Meta's quota), so the last five percent are left alone.
    """
    if found.percent < LOW_USAGE:
        return 0.0
    if not found.near_block:
        return SLOWEST_S * ((found.percent - LOW_USAGE) / (BLOCK_NEAR - LOW_USAGE)) ** 2
    return found.regain_s or DECAY_S


def http_date(found: str) -> datetime | None:
    """The instant that a header names, None where it names none."""
    try:
        parsed = parsedate_to_datetime(found)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _use_cases(headers: Mapping[str, str]) -> list[dict[str, float]]:
    parsed = _parsed(headers, "X-Business-Use-Case-Usage")
    lists = parsed.values() if isinstance(parsed, dict) else ()
    return [_figures(entry) for entries in lists if isinstance(entries, list) for entry in entries]


def _parsed(headers: Mapping[str, str], name: str) -> object:
    try:
        return json.loads(headers.get(name) or "null")
    except (ValueError, RecursionError):
        return None


def _figures(found: object) -> dict[str, float]:
    return dict(_finite(found)) if isinstance(found, dict) else {}


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
