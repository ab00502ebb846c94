"""Waiting for a state, and for a moment at which a calendar day is not about to end."""

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

# A state that comes within a second on an idle machine may take this long on a loaded one.
PATIENCE_S = 180.0
LOOK_EVERY_S = 0.05
# The longest that a test takes which reads the clock again after asking for today.
DAY_LASTS = timedelta(minutes=2)

Seen = TypeVar("Seen")


def wait_until(
    look: Callable[[], Seen],
    good: Callable[[Seen], object] = bool,
    *,
    patience_s: float = PATIENCE_S,
    process: "subprocess.Popen[Any] | None" = None,
    ignored: tuple[type[Exception], ...] = (),
) -> Seen:
    """Look until the result is good, and return it.

    Fails with the last result when the patience ends, and at once when `process` has ended. An exception in `ignored`
    counts as a result that is not good.
    """
    deadline = time.monotonic() + patience_s
    while True:
        last: object
        ended = process is not None and process.poll() is not None
        try:
            last = seen = look()
            if good(seen):
                return seen
        except ignored as error:
            last = error
        if ended:
            raise AssertionError(f"the process has ended; last result: {last!r}")
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {patience_s:g} s; last result: {last!r}")
        time.sleep(LOOK_EVERY_S)


def lasting(
    day_at: Callable[[datetime], date],
    lasts: timedelta = DAY_LASTS,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> date:
    """Return the day that is due at this moment, after waiting for the next one if that is due sooner than `lasts`.

    Tests use it where the code under test reads the real clock, so that both mean the same day.
    """
    while True:
        moment = now()
        if (day := day_at(moment)) == day_at(moment + lasts):
            return day
        sleep(1)


def lasting_today(
    timezone: str,
    lasts: timedelta = DAY_LASTS,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> date:
    """Return today in a timezone, after waiting for midnight if the day ends sooner than `lasts`."""
    zone = ZoneInfo(timezone)
    return lasting(lambda moment: moment.astimezone(zone).date(), lasts, now=now, sleep=sleep)
