import zoneinfo
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sync_pipeline.date_ranges import (
    AbsoluteRange,
    DateRange,
    DateRangeError,
    DayRange,
    RelativeRange,
    RollingRange,
    day_window,
    end_of_day,
    explicit,
    last_end,
    local_date,
    parse_day,
    resolve,
    today_in,
)

MANILA = "Asia/Manila"
START = date(2024, 1, 1)
ONE_DAY = timedelta(days=1)
ONE_SECOND = timedelta(seconds=1)

# Until 2011 some zones set their clocks back across midnight, so that an evening came again after the next day began,
# and some left out a day.
zones = st.sampled_from(sorted(zoneinfo.available_timezones() - {"localtime", "Factory"}))
days = st.dates(date(2012, 1, 1), date(2037, 12, 30))
instants = st.datetimes(datetime(2012, 1, 2), datetime(2037, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001

# A slow machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


class TestResolve:
    @pytest.mark.parametrize(
        ("date_range", "today", "since", "until"),
        [
            (RollingRange(offset_days=0), "2026-11-05", "2026-11-05", "2026-11-05"),
            (RollingRange(offset_days=1), "2026-11-05", "2026-11-04", "2026-11-04"),
            (RollingRange(), "2026-11-01", "2026-10-31", "2026-10-31"),
            (RollingRange(offset_days=1), "2024-03-01", "2024-02-29", "2024-02-29"),
            (RollingRange(offset_days=1), "2026-03-01", "2026-02-28", "2026-02-28"),
            (RollingRange(offset_days=1), "2026-01-01", "2025-12-31", "2025-12-31"),
            (RelativeRange(days=1), "2026-11-05", "2026-11-05", "2026-11-05"),
            (RelativeRange(days=7), "2026-11-05", "2026-10-30", "2026-11-05"),
            (RelativeRange(days=2), "2024-03-01", "2024-02-29", "2024-03-01"),
            (AbsoluteRange(since=START, until=START), "2026-11-05", "2024-01-01", "2024-01-01"),
            (AbsoluteRange(since="2024-11-01", until="2024-11-30"), "2024-11-30", "2024-11-01", "2024-11-30"),
        ],
    )
    def test_gives_the_days_seen_from_today(self, date_range: Any, today: str, since: str, until: str) -> None:
        found = resolve(date_range, today=date.fromisoformat(today), start_date=START)
        assert (found.since.isoformat(), found.until.isoformat()) == (since, until)

    def test_lists_days_oldest_first_with_both_ends(self) -> None:
        found = resolve(RelativeRange(days=3), today=date(2024, 3, 1), start_date=START)
        assert found.days == list(found) == [date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1)]
        assert len(found) == 3

    @pytest.mark.parametrize(
        "date_range", [RollingRange(offset_days=5), RelativeRange(days=6), AbsoluteRange(since=START, until=START)]
    )
    def test_refuses_to_reach_before_the_tenant_s_start(self, date_range: Any) -> None:
        start = date(2026, 11, 1)
        with pytest.raises(DateRangeError, match="reaches before the tenant's start_date 2026-11-01") as raised:
            resolve(date_range, today=date(2026, 11, 5), start_date=start)
        assert raised.value.since < start
        assert (raised.value.start_date, raised.value.today) == (start, date(2026, 11, 5))

    def test_may_begin_on_the_tenant_s_start(self) -> None:
        found = resolve(RelativeRange(days=5), today=date(2026, 11, 5), start_date=date(2026, 11, 1))
        assert found == DayRange(date(2026, 11, 1), date(2026, 11, 5))

    def test_refuses_to_reach_past_today(self) -> None:
        date_range = AbsoluteRange(since=date(2026, 11, 5), until=date(2026, 11, 6))
        with pytest.raises(DateRangeError) as raised:
            resolve(date_range, today=date(2026, 11, 5), start_date=START)
        assert str(raised.value) == (
            "the range 2026-11-05 to 2026-11-06 reaches past today, 2026-11-05 in the tenant's timezone"
        )

    @unhurried
    @given(today=st.dates(date(2000, 1, 1), date(2100, 1, 1)), days=st.integers(1, 500))
    def test_of_the_last_days_is_that_many_days_ending_today(self, today: date, days: int) -> None:
        found = resolve(RelativeRange(days=days), today=today, start_date=date(1990, 1, 1))
        assert len(found) == len(found.days) == days
        assert found.days[-1] == today
        assert all(after - before == ONE_DAY for before, after in zip(found.days, found.days[1:], strict=False))


class TestExplicit:
    def test_takes_a_trigger_s_own_days(self) -> None:
        found = explicit(date(2026, 11, 1), date(2026, 11, 2), today=date(2026, 11, 2), start_date=START)
        assert found.days == [date(2026, 11, 1), date(2026, 11, 2)]

    def test_refuses_reversed_days(self) -> None:
        with pytest.raises(DateRangeError, match="the range 2026-11-02 to 2026-11-01 ends before it begins"):
            explicit(date(2026, 11, 2), date(2026, 11, 1), today=date(2026, 11, 2), start_date=START)


class TestParsing:
    @pytest.mark.parametrize("value", ["2026-11-01", date(2026, 11, 1)])
    def test_a_day(self, value: object) -> None:
        assert parse_day(value) == date(2026, 11, 1)

    @pytest.mark.parametrize(
        "value", ["20261101", "2026-W44-7", "2026-11-31", "2026-11-1", "", None, 20261101, at("2026-11-01T00:00")]
    )
    def test_a_day_of_another_form_is_refused(self, value: object) -> None:
        with pytest.raises(ValueError, match=r"is not a day of the calendar|written YYYY-MM-DD"):
            parse_day(value)

    @pytest.mark.parametrize(
        "value",
        [
            {"type": "rolling", "offset_days": -1},
            {"type": "rolling", "offset_days": 10**9},
            {"type": "rolling", "offset_days": "1"},
            {"type": "relative", "days": 0},
            {"type": "relative", "days": 7, "offset_days": 1},
            {"type": "absolute", "since": "2026-11-02", "until": "2026-11-01"},
            {"type": "absolute", "since": "2026-11-02"},
            {"type": "monthly"},
            {},
        ],
    )
    def test_a_range_that_makes_no_sense_is_refused(self, value: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            TypeAdapter(DateRange).validate_python(value)


class TestToday:
    @pytest.mark.parametrize(
        ("timezone_name", "now", "today"),
        [
            (MANILA, "2026-11-04T15:59:59.999999+00:00", "2026-11-04"),
            (MANILA, "2026-11-04T16:00:00+00:00", "2026-11-05"),
            (MANILA, "2026-11-05T23:59:59+08:00", "2026-11-05"),
            (MANILA, "2026-11-04T23:30:00-05:00", "2026-11-05"),
            (MANILA, "2024-02-28T16:00:00+00:00", "2024-02-29"),
            (MANILA, "2026-12-31T16:00:00+00:00", "2027-01-01"),
            ("America/New_York", "2026-11-05T04:59:59+00:00", "2026-11-04"),
            ("America/New_York", "2026-07-05T04:00:00+00:00", "2026-07-05"),
            ("Europe/London", "2026-07-04T23:00:00+00:00", "2026-07-05"),
            ("Europe/London", "2026-12-04T23:00:00+00:00", "2026-12-04"),
        ],
    )
    def test_is_the_tenant_s_day_not_that_of_utc(self, timezone_name: str, now: str, today: str) -> None:
        assert today_in(timezone_name, at(now)).isoformat() == today
        assert local_date(at(now), timezone_name).isoformat() == today

    def test_is_of_this_moment_where_none_is_given(self) -> None:
        before = datetime.now(UTC)
        found = today_in(MANILA)
        assert local_date(before, MANILA) <= found <= local_date(datetime.now(UTC), MANILA)

    def test_needs_an_aware_moment(self) -> None:
        with pytest.raises(ValueError, match="needs a timezone"):
            local_date(at("2026-11-05T00:00:00"), MANILA)


class TestDayWindow:
    @pytest.mark.parametrize(
        ("day", "timezone_name", "start", "end"),
        [
            ("2026-11-05", MANILA, "2026-11-05T00:00:00+08:00", "2026-11-05T23:59:59+08:00"),
            ("2024-02-29", "UTC", "2024-02-29T00:00:00+00:00", "2024-02-29T23:59:59+00:00"),
            # 23 and 25 hours
            ("2026-03-29", "Europe/London", "2026-03-29T00:00:00+00:00", "2026-03-29T23:59:59+01:00"),
            ("2026-10-25", "Europe/London", "2026-10-25T00:00:00+01:00", "2026-10-25T23:59:59+00:00"),
            ("2026-03-08", "America/New_York", "2026-03-08T00:00:00-05:00", "2026-03-08T23:59:59-04:00"),
            ("2026-11-01", "America/New_York", "2026-11-01T00:00:00-04:00", "2026-11-01T23:59:59-05:00"),
            # no midnight
            ("2018-11-04", "America/Sao_Paulo", "2018-11-04T01:00:00-02:00", "2018-11-04T23:59:59-02:00"),
            ("2018-11-03", "America/Sao_Paulo", "2018-11-03T00:00:00-03:00", "2018-11-03T23:59:59-03:00"),
            ("2022-03-27", "Asia/Beirut", "2022-03-27T01:00:00+03:00", "2022-03-27T23:59:59+03:00"),
            # the last hour of the day, and its first, twice
            ("2019-02-16", "America/Sao_Paulo", "2019-02-16T00:00:00-02:00", "2019-02-16T23:59:59-03:00"),
            ("2025-11-02", "America/Havana", "2025-11-02T00:00:00-04:00", "2025-11-02T23:59:59-05:00"),
        ],
    )
    def test_runs_from_the_first_to_the_last_second_of_the_local_day(
        self, day: str, timezone_name: str, start: str, end: str
    ) -> None:
        found = day_window(date.fromisoformat(day), timezone_name)
        assert [moment.isoformat() for moment in found] == [start, end]

    @pytest.mark.parametrize(
        ("day", "timezone_name", "hours"),
        [
            ("2026-11-05", MANILA, 24),
            ("2026-03-29", "Europe/London", 23),
            ("2026-10-25", "Europe/London", 25),
            ("2026-03-08", "America/New_York", 23),
            ("2026-11-01", "America/New_York", 25),
            ("2018-11-04", "America/Sao_Paulo", 23),
            ("2026-04-05", "Australia/Lord_Howe", 24.5),
        ],
    )
    def test_lasts_as_long_as_the_day_does(self, day: str, timezone_name: str, hours: float) -> None:
        start, end = day_window(date.fromisoformat(day), timezone_name)
        assert end.timestamp() - start.timestamp() + 1 == hours * 3600

    def test_of_a_day_that_never_was_is_empty(self) -> None:
        start, end = day_window(date(2011, 12, 30), "Pacific/Apia")
        assert end.timestamp() == start.timestamp() - 1

    @unhurried
    @given(day=days, zone=zones)
    def test_meets_that_of_the_next_day_without_gap_or_overlap(self, day: date, zone: str) -> None:
        _, end = day_window(day, zone)
        start, _ = day_window(day + ONE_DAY, zone)
        assert start.astimezone(UTC) - end.astimezone(UTC) == ONE_SECOND

    @unhurried
    @given(instant=instants, zone=zones)
    def test_of_an_instant_s_local_day_holds_the_instant(self, instant: datetime, zone: str) -> None:
        start, end = day_window(local_date(instant, zone), zone)
        assert start <= instant < end.astimezone(UTC) + ONE_SECOND

    @unhurried
    @given(day=days, zone=zones)
    def test_begins_and_ends_on_its_own_day(self, day: date, zone: str) -> None:
        start, end = day_window(day, zone)
        assert start.date() == end.date() == day
        assert local_date(start.astimezone(UTC) - ONE_SECOND, zone) < day


# Zones that set their clocks back across midnight, or that left out a day, are among these days.
days_since_1970 = st.dates(date(1970, 1, 2), date(2037, 12, 30))
EVERYWHERE = "Etc/GMT+12"


class TestEndOfDay:
    @pytest.mark.parametrize(
        ("day", "timezone_name", "end"),
        [
            ("2026-11-05", MANILA, "2026-11-05T16:00:00+00:00"),
            ("2026-11-27", "Pacific/Auckland", "2026-11-27T11:00:00+00:00"),
            ("2026-11-27", "America/Los_Angeles", "2026-11-28T08:00:00+00:00"),
            ("2026-10-19", "America/Los_Angeles", "2026-10-20T07:00:00+00:00"),
            # 23 and 25 hours
            ("2026-03-08", "America/Los_Angeles", "2026-03-09T07:00:00+00:00"),
            ("2026-11-01", "America/Los_Angeles", "2026-11-02T08:00:00+00:00"),
            # no midnight
            ("2018-11-03", "America/Sao_Paulo", "2018-11-04T03:00:00+00:00"),
            # the last hour of the day twice, and the first hour of the next day
            ("2019-02-16", "America/Sao_Paulo", "2019-02-17T03:00:00+00:00"),
            ("2025-11-01", "America/Havana", "2025-11-02T04:00:00+00:00"),
            # the next day began a minute before this one came back for an hour
            ("2006-10-28", "America/St_Johns", "2006-10-29T03:30:00+00:00"),
            # the next day never was, and this day never was
            ("2011-12-29", "Pacific/Apia", "2011-12-30T10:00:00+00:00"),
            ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00:00+00:00"),
        ],
    )
    def test_is_the_instant_at_which_no_more_of_the_day_comes(self, day: str, timezone_name: str, end: str) -> None:
        assert end_of_day(date.fromisoformat(day), timezone_name).isoformat() == end

    @unhurried
    @given(day=days_since_1970, zone=zones, minutes=st.integers(0, 3 * 24 * 60))
    def test_divides_instants_by_their_local_day(self, day: date, zone: str, minutes: int) -> None:
        end = end_of_day(day, zone)
        later, earlier = end + timedelta(minutes=minutes), end - timedelta(microseconds=1)
        assert later.astimezone(zoneinfo.ZoneInfo(zone)).date() > day
        assert earlier.astimezone(zoneinfo.ZoneInfo(zone)).date() <= day


class TestLastEnd:
    @unhurried
    @given(
        instant=instants,
        names=st.lists(zones, min_size=1, max_size=5),
        offset=st.integers(-3, 3),
    )
    def test_is_passed_once_each_timezone_is_on_a_later_day(
        self, instant: datetime, names: list[str], offset: int
    ) -> None:
        day = instant.date() + timedelta(days=offset)
        later_everywhere = all(instant.astimezone(zoneinfo.ZoneInfo(name)).date() > day for name in names)
        assert (instant >= last_end(day, names)) == later_everywhere

    @unhurried
    @given(instant=instants, names=st.lists(zones, min_size=1, max_size=3))
    def test_is_never_passed_on_a_day_that_is_today_anywhere(self, instant: datetime, names: list[str]) -> None:
        for name in names:
            assert instant < last_end(instant.astimezone(zoneinfo.ZoneInfo(name)).date(), names)

    @unhurried
    @given(day=days, zone=zones)
    def test_of_an_unknown_timezone_is_the_last_of_all(self, day: date, zone: str) -> None:
        assert last_end(day, [zone, None]) == last_end(day, ["Mars/Olympus", zone]) == end_of_day(day, EVERYWHERE)
        assert end_of_day(day, zone) <= end_of_day(day, EVERYWHERE)

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "Mars/Olympus",
            "America",
            "../etc/passwd",
            "/etc/localtime",
            "localtime",
            "Asia/Manila\0",
            "a" * 5000,
            "+8",
        ],
    )
    def test_takes_a_name_of_no_timezone_for_unknown(self, name: str) -> None:
        assert last_end(date(2026, 11, 5), [MANILA, name]) == datetime(2026, 11, 6, 12, tzinfo=UTC)
