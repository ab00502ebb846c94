"""The view `sync_health`: up to which day a source is complete, and what went wrong since."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from sync_pipeline.date_ranges import last_end, today_in
from sync_pipeline.warehouse.health import SourceFailure, SourceHealth, note_failures, source_health
from sync_pipeline_tests.waiting import lasting_today

MANILA = ZoneInfo("Asia/Manila")


@pytest.fixture
def today(engine: sa.Engine) -> date:
    """Today of the tenant acme, who is stored."""
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO tenants VALUES ('acme', 'Acme', 'Asia/Manila')"))
    return lasting_today("Asia/Manila")


def log(engine: sa.Engine, day: date, *, run: str = "run", source: str = "pos", **values: Any) -> None:
    """A line of the sync log, by default of a sync begun right after the day's end, in Manila."""
    started = datetime.combine(day + timedelta(days=1), datetime.min.time(), MANILA)
    line = {"rows": 5, "requests": 2, "complete": True, "started": started, "finished": started, **values}
    line["finished"] = max(line["started"], line["finished"])
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO sync_log (tenant_id, source, day, run_id, rows, changed, removed, excluded, amount, "
                "requests, complete, started, finished) VALUES ('acme', :source, :day, :run, :rows, 0, 0, 0, 0, "
                ":requests, :complete, :started, :finished)"
            ),
            {"source": source, "day": day, "run": run, **line},
        )


def only(engine: sa.Engine) -> SourceHealth:
    (one,) = source_health(engine, "acme")
    return one


def test_a_tenant_of_which_nothing_is_stored_has_no_row(engine: sa.Engine, today: date) -> None:
    assert source_health(engine, "acme") == []


def test_yesterday_complete_is_not_behind_and_nothing_else_of_the_last_run_counts(
    engine: sa.Engine, today: date
) -> None:
    for days, run in ((3, "first"), (2, "last"), (1, "last")):
        log(engine, today - timedelta(days=days), run=run)
    log(engine, today - timedelta(days=9), run="last", source="meta", rows=100)
    meta, pos = source_health(engine, "acme")
    assert (pos.last_complete_day, pos.days_behind, pos.days_missing) == (today - timedelta(days=1), 0, 0)
    assert (pos.run_id, pos.rows, pos.requests) == ("last", 10, 4)
    assert pos.finished == datetime.combine(today, datetime.min.time(), MANILA)
    assert (meta.last_complete_day, meta.days_behind, meta.rows) == (today - timedelta(days=9), 8, 100)
    assert (meta.last_error, meta.last_error_at) == (None, None)


def test_a_day_that_was_incomplete_or_not_over_is_not_the_last_complete_one(engine: sa.Engine, today: date) -> None:
    before = today - timedelta(days=3)
    log(engine, before)
    log(engine, before + timedelta(days=1), complete=False)
    over = datetime.combine(before + timedelta(days=3), datetime.min.time(), MANILA)
    log(engine, before + timedelta(days=2), started=over - timedelta(seconds=1))
    log(engine, today, started=datetime.now(UTC))
    assert (only(engine).last_complete_day, only(engine).days_behind) == (before, 2)
    log(engine, before + timedelta(days=2), started=over)
    assert (only(engine).last_complete_day, only(engine).days_behind, only(engine).days_missing) == (
        today - timedelta(days=1),
        0,
        1,
    )


def log_of_meta(engine: sa.Engine, day: date, *timezones: str, fetched_at: datetime | None = None) -> None:
    """A line of a day with ad accounts in these timezones, by default fetched when the day was over."""
    over_at = last_end(day, ["Asia/Manila", *timezones])
    log(engine, day, source="meta", started=fetched_at or over_at)
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE sync_log SET over_at = :over_at, fetched_at = started WHERE over_at IS NULL"),
            {"over_at": over_at},
        )


def test_a_day_not_over_in_an_accounts_timezone_is_incomplete(engine: sa.Engine, today: date) -> None:
    day = today - timedelta(days=4)
    log_of_meta(engine, day, "America/Los_Angeles")
    night = datetime.combine(day + timedelta(days=2), datetime.min.time(), MANILA) + timedelta(hours=2)
    log_of_meta(engine, day + timedelta(days=1), "America/Los_Angeles", fetched_at=night)
    assert only(engine).last_complete_day == day
    log_of_meta(engine, day + timedelta(days=1), "America/Los_Angeles", fetched_at=night + timedelta(days=1))
    assert only(engine).last_complete_day == day + timedelta(days=1)


@pytest.mark.parametrize("timezone", ["Asia/Manila", "America/Los_Angeles", "Etc/GMT+12", "Pacific/Kiritimati"])
def test_days_are_behind_up_to_the_last_one_that_is_over(engine: sa.Engine, today: date, timezone: str) -> None:
    complete = today - timedelta(days=9)
    log_of_meta(engine, complete, timezone)
    before = min(today_in("Asia/Manila"), today_in(timezone))
    behind = only(engine).days_behind
    after = min(today_in("Asia/Manila"), today_in(timezone))
    assert behind in {(now - timedelta(days=1) - complete).days for now in (before, after)}


def test_a_source_is_never_behind_by_less_than_no_day(engine: sa.Engine, today: date) -> None:
    # Yesterday was fetched from accounts that had ended it, and today from one that has not ended yesterday.
    log_of_meta(engine, today - timedelta(days=1))
    log_of_meta(engine, today, "Etc/GMT+12", fetched_at=datetime.now(UTC))
    assert only(engine).days_behind == 0


def test_gaps_are_days_between_the_first_and_the_last_complete_one_each_counted_once(
    engine: sa.Engine, today: date
) -> None:
    for days in (10, 10, 9, 4, 1):
        log(engine, today - timedelta(days=days), run=f"run-{days}")
    assert only(engine).days_missing == 6


def test_the_last_run_is_the_one_that_committed_last_whatever_its_days(engine: sa.Engine, today: date) -> None:
    log(engine, today - timedelta(days=1), run="nightly")
    log(engine, today - timedelta(days=300), run="old backfill", rows=7)
    one = only(engine)
    assert (one.run_id, one.rows, one.last_complete_day) == ("old backfill", 7, today - timedelta(days=1))


def test_an_error_is_shown_until_its_day_or_a_later_one_is_stored(engine: sa.Engine, today: date) -> None:
    day = today - timedelta(days=2)
    log(engine, day, run="before")
    failure = SourceFailure("pos", "refused (pos, tenant acme)", day=day, shop_id="7", code="105")
    note_failures(engine, "acme", "failed", [failure])
    one = only(engine)
    assert (one.last_complete_day, one.run_id) == (day, "before")
    assert (one.last_error, one.last_error_day, one.last_error_code) == (failure.message, day, "105")
    assert one.last_error_run_id == "failed"
    assert one.last_error_at is not None
    assert datetime.now(UTC) - one.last_error_at < timedelta(minutes=5)

    log(engine, day - timedelta(days=1))
    log(engine, day, source="meta")
    meta, pos = source_health(engine, "acme")
    assert (meta.last_error, pos.last_error) == (None, failure.message)
    log(engine, day + timedelta(days=1))
    assert source_health(engine, "acme")[1].last_error is None


def test_an_error_of_a_source_of_which_nothing_is_stored_is_shown_alone(engine: sa.Engine, today: date) -> None:
    note_failures(engine, "acme", "failed", [SourceFailure("pos", "refused", day=today)])
    one = only(engine)
    assert (one.last_complete_day, one.days_behind, one.rows, one.run_id) == (None, None, None, None)
    assert (one.last_error, one.last_error_day) == ("refused", today)


def test_an_error_under_a_clock_that_was_ahead_ends_with_the_next_stored_day(engine: sa.Engine, today: date) -> None:
    note_failures(engine, "acme", "failed", [SourceFailure("pos", "the clock is an hour ahead")])
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE sync_errors SET at = at + interval '1 hour'"))
    log(engine, today - timedelta(days=1), finished=datetime.now(UTC))
    assert only(engine).last_error is None


def test_of_several_errors_the_last_of_each_source_is_kept(engine: sa.Engine, today: date) -> None:
    note_failures(engine, "acme", "run-1", [SourceFailure("pos", "one", day=today), SourceFailure("meta", "two")])
    note_failures(engine, "acme", "run-2", [SourceFailure("pos", "three")])
    found = [(one.last_error, one.last_error_day, one.last_error_run_id) for one in source_health(engine, "acme")]
    assert found == [("two", None, "run-1"), ("three", None, "run-2")]
    log(engine, today - timedelta(days=100))
    assert [one.last_error for one in source_health(engine, "acme")] == ["two", None], "without a day any will do"


def test_deleting_a_tenant_deletes_its_errors(engine: sa.Engine, today: date) -> None:
    note_failures(engine, "acme", "run", [SourceFailure("pos", "one")])
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM tenants"))
        assert connection.execute(sa.text("SELECT count(*) FROM sync_errors")).scalar_one() == 0


def test_the_view_sees_no_more_than_its_reader(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        options = connection.execute(sa.text("SELECT reloptions FROM pg_class WHERE relname = 'sync_health'"))
        assert options.scalar_one() == ["security_invoker=true"]
