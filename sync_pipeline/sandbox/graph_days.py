"""Days of an insights request: its time range, its presets, and the spans that its increment cuts them into."""

import re
from collections.abc import Callable, Mapping
from datetime import date, timedelta

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox.exchange import Call
from sync_pipeline.sandbox.graph_errors import RefusedError
from sync_pipeline.sandbox.graph_parameters import read_json

Span = tuple[date, date]

HISTORY_MONTHS = 37
DEFAULT_PRESET = "last_30d"


def _last(days: int) -> Callable[[date], Span]:
    return lambda today: (today - timedelta(days=days), today - timedelta(days=1))


def _first_of_month(day: date, months_before: int = 0) -> date:
    months = day.year * 12 + day.month - 1 - months_before
    return date(months // 12, months % 12 + 1, 1)


def _first_of_quarter(day: date) -> date:
    return date(day.year, (day.month - 1) // 3 * 3 + 1, 1)


def _week(today: date, first_weekday: int) -> date:
    """Return the first day of the current week; Monday is 0."""
    return today - timedelta(days=(today.weekday() - first_weekday) % 7)


def _history(today: date) -> Span:
    return months_before(today, HISTORY_MONTHS), today


PRESETS: Mapping[str, Callable[[date], Span]] = {
    "today": lambda today: (today, today),
    "yesterday": _last(1),
    **{f"last_{days}d": _last(days) for days in (3, 7, 14, 28, 30, 90)},
    "this_week_mon_today": lambda today: (_week(today, 0), today),
    "this_week_sun_today": lambda today: (_week(today, 6), today),
    "last_week_mon_sun": lambda today: (_week(today, 0) - timedelta(days=7), _week(today, 0) - timedelta(days=1)),
    "last_week_sun_sat": lambda today: (_week(today, 6) - timedelta(days=7), _week(today, 6) - timedelta(days=1)),
    "this_month": lambda today: (_first_of_month(today), today),
    "last_month": lambda today: (_first_of_month(today, 1), _first_of_month(today) - timedelta(days=1)),
    "this_quarter": lambda today: (_first_of_quarter(today), today),
    "last_quarter": lambda today: (
        _first_of_month(_first_of_quarter(today), 3),
        _first_of_quarter(today) - timedelta(days=1),
    ),
    "this_year": lambda today: (date(today.year, 1, 1), today),
    "last_year": lambda today: (date(today.year - 1, 1, 1), date(today.year - 1, 12, 31)),
    "maximum": _history,
    "data_maximum": _history,
}


def read_spans(call: Call, today: date) -> tuple[Span, ...]:
    """Read the spans of days that a request wants one row each for, both ends inclusive.

    `time_ranges` takes precedence, and each of its ranges is a span whatever the increment says.
    """
    if call.has("time_ranges"):
        ranges = read_json(call.first("time_ranges"), "time_ranges")
        if not isinstance(ranges, list) or not ranges:
            raise RefusedError(errors.bad_parameter("time_ranges must be a list of time ranges"))
        return tuple(_range(given, today) for given in ranges)
    return _cut(_asked_days(call, today), call.first("time_increment", "all_days").strip('"'))


def months_before(day: date, months: int) -> date:
    """Return the same day of an earlier month, or the last day of that month if it is shorter."""
    first = _first_of_month(day, months)
    return min(first.replace(day=1) + timedelta(days=day.day - 1), _first_of_month(first, -1) - timedelta(days=1))


def _asked_days(call: Call, today: date) -> Span:
    if call.has("time_range"):
        return _range(read_json(call.first("time_range"), "time_range"), today)
    preset = PRESETS.get(call.first("date_preset", DEFAULT_PRESET))
    if preset is None:
        raise RefusedError(errors.bad_parameter(f"date_preset must be one of {', '.join(PRESETS)}"))
    return preset(today)


def _range(given: object, today: date) -> Span:
    try:
        since, until = date.fromisoformat(given["since"]), date.fromisoformat(given["until"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        raise RefusedError(
            errors.bad_parameter("Must be a time range with since and until in YYYY-MM-DD: time_range")
        ) from None
    if since > until:
        raise RefusedError(errors.bad_parameter("time range since must not be after until"))
    if since < months_before(today, HISTORY_MONTHS):
        raise RefusedError(errors.BEYOND_HISTORY)
    return since, until


def _cut(days: Span, increment: str) -> tuple[Span, ...]:
    since, until = days
    if increment == "all_days":
        return (days,)
    if increment != "monthly" and not (re.fullmatch(r"\d+", increment, re.ASCII) and 1 <= int(increment) <= 90):
        raise RefusedError(errors.bad_parameter("time_increment must be monthly, all_days or a number from 1 to 90"))
    spans = []
    while since <= until:
        next_since = _first_of_month(since, -1) if increment == "monthly" else since + timedelta(days=int(increment))
        spans.append((since, min(until, next_since - timedelta(days=1))))
        since = next_since
    return tuple(spans)
