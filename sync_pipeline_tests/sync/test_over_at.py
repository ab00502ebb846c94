"""When a synced day is over: in the tenant's timezone, and for Meta in that of each ad account fetched."""

from datetime import UTC, date, datetime, timedelta

import pytest

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sync import META, POS
from sync_pipeline.warehouse.staging import DayResult
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.clocks import EngineClock
from sync_pipeline_tests.sync.bench import NOW, Bench, days_from

# Lumina is in Manila; the third of its ad accounts is in Los Angeles.
DAY = date(2026, 10, 19)
OVER_IN_MANILA = datetime(2026, 10, 19, 16, tzinfo=UTC)
OVER_IN_LOS_ANGELES = datetime(2026, 10, 20, 7, tzinfo=UTC)
OVER_EVERYWHERE = datetime(2026, 10, 20, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> EngineClock:
    return EngineClock(monkeypatch, NOW)


def over_at(bench: Bench, source: str, day: date = DAY) -> datetime:
    [(found,)] = bench.query(
        f"SELECT over_at FROM sync_log WHERE source = '{source}' AND day = '{day}' ORDER BY id DESC LIMIT 1"
    )
    assert isinstance(found, datetime)
    return found


def last_complete_day(bench: Bench, source: str) -> date | None:
    found = bench.query(f"SELECT last_complete_day FROM sync_health WHERE source = '{source}'")
    return found[0][0] if found else None


def synced(bench: Bench, source: str, day: date = DAY) -> DayResult:
    """Sync a day of one source, and check that every answer to whether it is complete is the same."""
    [result] = bench.sync([day], [source])
    found = Warehouse(bench.engine).completeness([(bench.tenant.tenant_id, source, day, None)])
    assert found[bench.tenant.tenant_id, source].expected_is_complete == result.is_complete
    assert (last_complete_day(bench, source) == day) == result.is_complete
    assert (result.incomplete_because is None) == result.is_complete
    return result


def test_a_day_of_meta_is_over_where_it_ends_last(bench: Bench) -> None:
    bench.sync([DAY])
    assert over_at(bench, META) == OVER_IN_LOS_ANGELES
    assert over_at(bench, POS) == OVER_IN_MANILA


@pytest.mark.parametrize(("source", "over"), [(META, OVER_IN_LOS_ANGELES), (POS, OVER_IN_MANILA)], ids=["meta", "pos"])
def test_a_day_is_complete_from_the_instant_it_is_over(
    bench: Bench, clock: EngineClock, source: str, over: datetime
) -> None:
    clock.now = over - SECOND
    early = synced(bench, source)
    assert (early.complete, early.is_complete) == (True, False)
    assert early.incomplete_because == f"it was fetched before the day was over, at {over:%Y-%m-%d %H:%M} UTC"
    clock.now = over
    assert synced(bench, source).is_complete


def test_today_is_complete_in_none_of_the_timezones(bench: Bench, clock: EngineClock) -> None:
    # 07:00 on the 20th in Manila, 16:00 on the 19th in Los Angeles.
    clock.set("2026-10-19T23:00")
    for day in (DAY, DAY + timedelta(days=1)):
        assert not synced(bench, META, day).is_complete
    assert not synced(bench, POS, DAY + timedelta(days=1)).is_complete
    assert synced(bench, POS).is_complete


def test_a_complete_day_stays_complete_when_it_is_fetched_again(bench: Bench, clock: EngineClock) -> None:
    assert synced(bench, META).is_complete
    bench.execute("UPDATE sync_log SET complete = false WHERE id = (SELECT max(id) FROM sync_log)")
    assert last_complete_day(bench, META) is None
    assert synced(bench, META).is_complete


def test_a_disabled_account_delays_no_day(bench: Bench, clock: EngineClock) -> None:
    bench.sync([DAY - timedelta(days=1)], [META])
    bench.execute("UPDATE meta_ad_accounts SET enabled = false WHERE timezone_name = 'America/Los_Angeles'")
    clock.now = OVER_IN_MANILA
    assert synced(bench, META).is_complete
    assert over_at(bench, META) == OVER_IN_MANILA


def test_without_an_enabled_account_the_tenants_timezone_counts(bench: Bench, clock: EngineClock) -> None:
    bench.sync([DAY - timedelta(days=1)], [META])
    bench.execute("UPDATE meta_ad_accounts SET enabled = false")
    assert synced(bench, META).rows == 0
    assert over_at(bench, META) == OVER_IN_MANILA


@pytest.mark.parametrize("timezone", [None, "Mars/Olympus"])
def test_a_day_of_an_unknown_timezone_is_over_last(bench: Bench, clock: EngineClock, timezone: str | None) -> None:
    changed = faults.bad_rows({"timezone_name": timezone}, most=1)
    bench.sandbox.faults.add(Fault(changed, path="adaccounts", times=None))
    clock.now = OVER_EVERYWHERE - SECOND
    assert not synced(bench, META).is_complete
    assert over_at(bench, META) == OVER_EVERYWHERE
    clock.now = OVER_EVERYWHERE
    assert synced(bench, META).is_complete


def test_a_day_of_a_window_was_fetched_when_its_window_was(bench: Bench, clock: EngineClock) -> None:
    # The window is fetched an hour before its last day is over, and that day is committed an hour after.
    clock.now, clock.step = OVER_IN_LOS_ANGELES - timedelta(hours=2), timedelta(hours=1)
    results = bench.sync(days_from(DAY - timedelta(days=2), 3), [META])
    assert {result.fetched_at for result in results} == {OVER_IN_LOS_ANGELES - timedelta(hours=1)}
    assert [result.is_complete for result in results] == [True, True, False]
    assert results[-1].started > OVER_IN_LOS_ANGELES
    assert last_complete_day(bench, META) == DAY - timedelta(days=1)


def test_a_day_fetched_across_its_end_is_not_complete(bench: Bench, clock: EngineClock) -> None:
    clock.now, clock.step = OVER_IN_MANILA - timedelta(minutes=2), timedelta(minutes=1)
    [result] = bench.sync([DAY], [POS])
    assert clock.now >= OVER_IN_MANILA
    assert not result.is_complete


def test_after_a_change_of_timezone_the_day_must_be_over_there_too(bench: Bench, clock: EngineClock) -> None:
    clock.now = OVER_IN_MANILA
    assert synced(bench, POS).is_complete
    bench.execute("UPDATE tenants SET timezone = 'America/Los_Angeles'")
    assert last_complete_day(bench, POS) is None
    clock.now = OVER_IN_LOS_ANGELES
    bench.tenant = bench.tenant.model_copy(update={"timezone": "America/Los_Angeles"})
    assert synced(bench, POS).is_complete


def test_a_clock_that_was_ahead_completes_no_day(bench: Bench, clock: EngineClock) -> None:
    # The database's clock says that this day has not even begun.
    [(today,)] = bench.query("SELECT current_date")
    ahead = today + timedelta(days=30)
    clock.now = datetime.combine(ahead + timedelta(days=3), datetime.min.time(), UTC)
    bench.sync([ahead], [POS])
    assert last_complete_day(bench, POS) is None
