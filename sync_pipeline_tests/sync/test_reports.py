"""Asynchronous reports, the last resort where Meta refuses even a page of 25 rows of one day."""

from datetime import date
from pathlib import Path

import pytest

from sync_pipeline.sources.errors import BadRequestError, ReportFailedError
from sync_pipeline.sync import META, POS
from sync_pipeline_tests.sync.bench import FIRST_ACCOUNT, Bench, days_from, demo_tenant

DAYS = days_from(date(2026, 10, 5), 4)


@pytest.fixture
def refusing(bench: Bench) -> Bench:
    """A bench whose Meta refuses every direct request for insights as too much data."""
    bench.sandbox.behaviour.max_rows_per_request = 0
    return bench


def test_days_that_come_as_reports_make_the_same_tables(bench: Bench) -> None:
    bench.sync(DAYS)
    undisturbed = bench.tables()
    bench.start_over()
    bench.sandbox.behaviour.max_rows_per_request = 1
    bench.sync(DAYS)
    assert bench.tables() == undisturbed
    counts = bench.sandbox.requests.counts()
    assert counts["report_start"] == 3 * 2 * len(DAYS), "for the ads and the total of each account and day"
    # 4 days, 2 days, 1 day, then pages of 250, 125, 62, 31 and 25 rows; what was learned holds for the days after.
    assert counts["insights"] == 3 * 8
    assert counts["account_insights"] == 3 * 8


def test_what_is_enough_is_remembered_for_the_rest_of_the_run(bench: Bench, tmp_path: Path) -> None:
    bench.tenant = demo_tenant(tmp_path / "again", meta_days=2)
    bench.sync(DAYS)
    undisturbed = bench.tables()
    bench.start_over()
    bench.sandbox.behaviour.max_rows_per_request = len(bench.sandbox.world.ads(FIRST_ACCOUNT))
    bench.sync(DAYS, [META])
    assert bench.tables()[0] == undisturbed[0]
    assert bench.sandbox.requests.count("insights", FIRST_ACCOUNT) == 1 + 4, "refused once, then each day alone"
    assert bench.sandbox.requests.count("report_start") == 0


def test_a_report_that_is_not_there_yet_is_waited_for(refusing: Bench) -> None:
    refusing.sandbox.behaviour.reports_invisible_polls = 2
    refusing.sync(DAYS[:1], [META])
    assert refusing.stored_days()[META] == DAYS[:1]
    # 2 s doubling up to 30 s, for six polls of each account's report of its ads and of its total.
    assert refusing.slept == [2, 4, 8, 16, 30, 30] * 6
    assert all(wait.place.since == wait.place.until == DAYS[0] for wait in refusing.waits)


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_a_report_that_fails_ends_its_day_naming_day_and_account(refusing: Bench, outcome: str) -> None:
    refusing.sync(DAYS[:2])
    committed = refusing.tables()
    assert refusing.stored_days() == {META: DAYS[:2], POS: DAYS[:2]}
    refusing.sandbox.behaviour.report_outcome = outcome  # type: ignore[assignment]
    with pytest.raises(ReportFailedError) as failure:
        refusing.sync(DAYS[2:])
    place = failure.value.place
    assert (place.source, place.account_id, place.since, place.until) == (META, FIRST_ACCOUNT, DAYS[2], DAYS[2])
    assert f"Job {outcome.capitalize()}" in str(failure.value)
    assert failure.value.code == (2 if outcome == "failed" else None)
    assert refusing.committed == []
    assert refusing.tables() == committed


def test_a_report_whose_run_stays_unknown_fails_its_day(refusing: Bench) -> None:
    refusing.sandbox.behaviour.reports_invisible_polls = 99
    with pytest.raises(BadRequestError) as failure:
        refusing.sync(DAYS, [META])
    assert failure.value.subcode == 33
    assert (failure.value.place.account_id, failure.value.place.since) == (FIRST_ACCOUNT, DAYS[0])
    assert refusing.stored_days()[META] == []
