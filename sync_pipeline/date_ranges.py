"""Which days a workflow asks for, and which instants a day holds, both in the tenant's timezone.

A day is a calendar day of the tenant, never of the machine or of UTC: at 07:59 in Manila, UTC is still on yesterday.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo

import pendulum
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.timezones import timezone_names

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ONE_DAY = timedelta(days=1)
_ONE_SECOND = timedelta(seconds=1)
_FURTHEST_DAYS = 36_500  # a century: keeps the arithmetic within the calendar
# A day ends here last (UTC-12), so a day that is over here is over in every timezone.
LAST_TIMEZONE: Final = "Etc/GMT+12"


def parse_day(value: object) -> date:
    """Read a calendar day written `YYYY-MM-DD`; a `date` passes through.

    Raises ValueError for everything else, also for the compact and week forms of ISO 8601, which are mistaken
    for numbers, and for a `datetime`, whose day depends on a timezone.
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str) and _DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise ValueError(f"{value} is not a day of the calendar") from None
    raise ValueError("must be a day written YYYY-MM-DD, such as 2024-11-01")


Day = Annotated[date, BeforeValidator(parse_day)]


class _Range(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class RollingRange(_Range):
    """The single day `offset_days` before today: 0 is today, 1 yesterday."""

    type: Literal["rolling"] = "rolling"
    offset_days: int = Field(default=1, ge=0, le=_FURTHEST_DAYS, strict=True)


class RelativeRange(_Range):
    """The last `days` days, today included."""

    type: Literal["relative"] = "relative"
    days: int = Field(ge=1, le=_FURTHEST_DAYS, strict=True)


class AbsoluteRange(_Range):
    """The days from `since` to `until`, both included."""

    type: Literal["absolute"] = "absolute"
    since: Day
    until: Day

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.since > self.until:
            raise ValueError(f"since {self.since} is after until {self.until}")
        return self


DateRange = Annotated[RollingRange | RelativeRange | AbsoluteRange, Field(discriminator="type")]


class DateRangeError(SyncPipelineError):
    """A range of days that cannot be synced: reversed, before the tenant's first day, or past today."""

    def __init__(self, *, since: date, until: date, start_date: date, today: date, why: str) -> None:
        self.since = since
        self.until = until
        self.start_date = start_date
        self.today = today
        self.why = why
        super().__init__(f"the range {since} to {until} {why}")


@dataclass(frozen=True, slots=True)
class DayRange:
    """Consecutive days, both ends included, oldest first."""

    since: date
    until: date

    @property
    def days(self) -> list[date]:
        """Every day of the range, oldest first."""
        return list(self)

    def __len__(self) -> int:
        return (self.until - self.since).days + 1

    def __iter__(self) -> Iterator[date]:
        return (self.since + timedelta(days=n) for n in range(len(self)))


def resolve(date_range: RollingRange | RelativeRange | AbsoluteRange, *, today: date, start_date: date) -> DayRange:
    """Turn a workflow's range into its days, seen from `today` in the tenant's timezone.

    Raises DateRangeError where a day lies before `start_date`, the tenant's first partition, or after `today`.
    """
    match date_range:
        case RollingRange():
            since = until = today - timedelta(days=date_range.offset_days)
        case RelativeRange():
            since, until = today - timedelta(days=date_range.days - 1), today
        case AbsoluteRange():
            since, until = date_range.since, date_range.until
    return explicit(since, until, today=today, start_date=start_date)


def explicit(since: date, until: date, *, today: date, start_date: date) -> DayRange:
    """Take the since and until a manual trigger names, both included.

    Raises DateRangeError where they are reversed, reach before `start_date` or past `today`.
    """
    why = None
    if since > until:
        why = "ends before it begins"
    elif since < start_date:
        why = f"reaches before the tenant's start_date {start_date}"
    elif until > today:
        why = f"reaches past today, {today} in the tenant's timezone"
    if why:
        raise DateRangeError(since=since, until=until, start_date=start_date, today=today, why=why)
    return DayRange(since, until)


def spans(days: Iterable[date]) -> list[DayRange]:
    """Join days into ranges of consecutive ones, oldest first; a day that comes twice counts once."""
    found: list[DayRange] = []
    for day in sorted(set(days)):
        if found and day == found[-1].until + _ONE_DAY:
            found[-1] = DayRange(found[-1].since, day)
        else:
            found.append(DayRange(day, day))
    return found


def today_in(timezone: str, now: datetime | None = None) -> date:
    """Return the calendar day it is in `timezone`, at the aware instant `now` or at this moment."""
    return local_date(now or datetime.now(UTC), timezone)


def local_date(instant: datetime, timezone: str) -> date:
    """Return the calendar day an aware instant falls on in `timezone`. Raises ValueError for a naive one."""
    if instant.tzinfo is None:
        raise ValueError("an instant needs a timezone")
    return instant.astimezone(ZoneInfo(timezone)).date()


def day_window(day: date, timezone: str) -> tuple[datetime, datetime]:
    """Return the first and the last whole second of a local day, as aware datetimes in `timezone`.

    The day lasts 23 or 25 hours where clocks change, and begins later than 00:00 where they skip midnight. Windows
    of consecutive days meet without gap or overlap. A day the zone skipped altogether has an empty window, whose
    end lies before its start. Exact for days since 1970, which tenant files keep to.
    """
    zone = ZoneInfo(timezone)
    start = _first_instant(day, timezone)
    end = _first_instant(day + _ONE_DAY, timezone) - _ONE_SECOND
    return start.astimezone(zone), end.astimezone(zone)


def end_of_day(day: date, timezone: str) -> datetime:
    """Return the instant, in UTC, at which a local day is over for good.

    Where clocks are set back from after midnight to before it, the day is over when they reach midnight again.
    """
    zone = ZoneInfo(timezone)
    midnight = datetime.combine(day + _ONE_DAY, time(), zone)
    first, second = (midnight.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if first < second and local_date(second - timedelta(microseconds=1), timezone) <= day:
        return second
    return first


def last_end(day: date, timezones: Iterable[str | None]) -> datetime:
    """Return the instant, in UTC, from which on a day is over in each of these timezones.

    A timezone that is None, or not known to this machine, counts as `LAST_TIMEZONE`: the day is over everywhere then.
    """
    known = {name if name and name in timezone_names() else LAST_TIMEZONE for name in timezones}
    return max(end_of_day(day, name) for name in known)


def _first_instant(day: date, timezone: str) -> datetime:
    # Of a midnight that comes twice the first is meant; a skipped one lies, with fold 0, still on the day before.
    midnight = pendulum.datetime(day.year, day.month, day.day, tz=timezone, fold=0)
    if midnight.date() < day:
        midnight = pendulum.datetime(day.year, day.month, day.day, tz=timezone, fold=1)
    return datetime.fromtimestamp(midnight.timestamp(), UTC)
