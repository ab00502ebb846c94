"""The table of API versions and what it says of a version on a day."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.sources.graph_versions import (
    NEWEST_VERSION,
    VERSION_ENDS,
    Lifetime,
    VersionStatus,
    version_status,
)
from sync_pipeline.sources.meta import DEFAULT_API_VERSION
from sync_pipeline.tenants import MetaSource

TODAY = date(2026, 11, 28)
DAYS = st.dates(date(2020, 1, 1), date(2040, 12, 31))
VERSIONS = st.builds("v{}.{}".format, st.integers(0, 999), st.integers(0, 99))
ONE_DAY = timedelta(days=1)


def test_the_default_version_is_the_same_everywhere_and_listed() -> None:
    assert MetaSource.model_fields["api_version"].default == DEFAULT_API_VERSION == "v26.0"
    assert version_status(DEFAULT_API_VERSION, TODAY) == VersionStatus(Lifetime.NO_END_KNOWN, None)


@pytest.mark.parametrize(
    ("version", "last_day", "first_day_without"),
    [
        ("v23.0", date(2026, 6, 8), date(2026, 6, 9)),
        ("v24.0", date(2026, 11, 9), date(2026, 11, 10)),
        ("v25.0", date(2027, 2, 22), date(2027, 2, 23)),
    ],
)
def test_a_version_ends_on_its_announced_day(version: str, last_day: date, first_day_without: date) -> None:
    assert version_status(version, last_day) == VersionStatus(Lifetime.ENDS, first_day_without)
    assert version_status(version, first_day_without) == VersionStatus(Lifetime.ENDED, first_day_without)


@pytest.mark.parametrize("version", ["v26.0", "v27.0", "v28.0", "v99.1"])
def test_live_and_newer_versions_have_no_end(version: str) -> None:
    assert version_status(version, date(2040, 1, 1)) == VersionStatus(Lifetime.NO_END_KNOWN, None)


def test_a_version_older_than_the_table_ended_before_the_oldest() -> None:
    assert version_status("v19.0", TODAY) == VersionStatus(Lifetime.ENDED, date(2026, 6, 9), is_exact=False)


@pytest.mark.parametrize("text", ["", "26.0", "v26", "latest", "v26.0 ", "v\u0662\u0666.0"])
def test_text_that_is_no_version_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"looks like v26\.0"):
        version_status(text, TODAY)


def test_the_table_is_in_order() -> None:
    numbers = [tuple(map(int, version.removeprefix("v").split("."))) for version in VERSION_ENDS]
    assert numbers == sorted(set(numbers))
    ends = [end or date.max for end in VERSION_ENDS.values()]
    assert ends == sorted(ends)
    assert list(VERSION_ENDS)[-1] == NEWEST_VERSION


@given(version=VERSIONS, day=DAYS)
def test_a_version_that_has_ended_never_comes_back(version: str, day: date) -> None:
    before, after = version_status(version, day), version_status(version, day + ONE_DAY)
    assert before.ends_on == after.ends_on
    assert (before.lifetime, after.lifetime) not in {
        (Lifetime.ENDED, Lifetime.ENDS),
        (Lifetime.ENDED, Lifetime.NO_END_KNOWN),
        (Lifetime.NO_END_KNOWN, Lifetime.ENDED),
    }
    assert (before.lifetime is Lifetime.ENDED) == (before.ends_on is not None and day >= before.ends_on)


@given(one=VERSIONS, other=VERSIONS, day=DAYS)
def test_an_older_version_ends_no_later_than_a_newer_one(one: str, other: str, day: date) -> None:
    older, newer = sorted((one, other), key=lambda v: tuple(map(int, v.removeprefix("v").split("."))))
    ends = [version_status(version, day).ends_on or date.max for version in (older, newer)]
    assert ends == sorted(ends)
