"""Dagster's own reading of cron expressions, in both directions of time.

It is needed to validate a schedule before Dagster sees it, and to know when its ticks were due and when the next one
is: another parser may read an expression, or a change of the clocks, differently.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from dagster._utils.schedules import (
    cron_string_iterator,
    is_valid_cron_string,
    reverse_cron_string_iterator,
)

__all__ = ["has_ticks", "is_valid_cron_string", "last_tick", "next_tick"]


def last_tick(cron: str, timezone: str, until: datetime) -> datetime:
    """Return the last tick, in UTC, at or before an instant."""
    return _first(reverse_cron_string_iterator(until.timestamp(), cron, timezone))


def next_tick(cron: str, timezone: str, since: datetime) -> datetime:
    """Return the first tick, in UTC, at or after an instant."""
    return _first(cron_string_iterator(since.timestamp(), cron, timezone))


def has_ticks(cron: str) -> bool:
    """Return whether a valid expression ever matches a date: `0 0 30 2 *` does not."""
    try:
        next(cron_string_iterator(0, cron, "UTC"))
    except ValueError:
        return False
    return True


def _first(ticks: Iterator[datetime]) -> datetime:
    return next(ticks).astimezone(UTC)
