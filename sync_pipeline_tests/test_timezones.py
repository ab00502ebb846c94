"""Advice on names of timezones."""

import zoneinfo
from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline import timezones


@pytest.mark.parametrize(
    ("name", "city"),
    [
        ("GMT+8", "Asia/Manila"),
        ("gmt+08:00", "Asia/Manila"),
        ("+08:00", "Asia/Manila"),
        ("UTC +7", "Asia/Bangkok"),
        ("UTC+5:30", "Asia/Kolkata"),
    ],
)
def test_offset_gets_the_advice_of_a_city(name: str, city: str) -> None:
    assert timezones.advice(name) == f"an offset is not a timezone; did you mean {city}?"


@pytest.mark.parametrize("name", ["GMT-3", "UTC+99", "+8:45"])
def test_offset_without_a_known_city_gets_an_example(name: str) -> None:
    assert timezones.advice(name) == "an offset is not a timezone; use a name such as Asia/Manila"


def test_abbreviation_gets_an_example() -> None:
    assert timezones.advice("PHT") == "an abbreviation is not a timezone; use a name such as Asia/Manila"


def test_misspelt_name_gets_the_nearest_one() -> None:
    assert timezones.advice("Asia/Manilla") == "did you mean Asia/Manila?"


@pytest.mark.parametrize("name", sorted(name for name in timezones.timezone_names() if name.startswith("Etc/GMT")))
def test_warning_states_the_offset_of_a_reversed_name(name: str) -> None:
    offset = datetime(2026, 11, 1, tzinfo=UTC).astimezone(zoneinfo.ZoneInfo(name)).utcoffset()
    if offset == timedelta():
        assert timezones.warning(name) is None
    else:
        hours = int(offset / timedelta(hours=1)) if offset else 0
        assert str(timezones.warning(name)).startswith(f"{name} is UTC{hours:+d}, because")


@pytest.mark.parametrize("name", ["Asia/Manila", "UTC", "Etc/UTC", "GMT"])
def test_ordinary_name_has_no_warning(name: str) -> None:
    assert timezones.warning(name) is None
