"""The day that a schedule should have brought by now is asked for by name: other days, however new, do not stand in."""

import zoneinfo
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import (
    CodeLocationOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_pipeline.assets.freshness import Expectation, expectation, switched
from sync_pipeline.automation.freshness import tell_freshness
from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.cli.locations import known_locations
from sync_pipeline.cli.workflows import switch
from sync_pipeline.dagster_internals.schedules import SINGLETON_REPOSITORY_NAME
from sync_pipeline.date_ranges import DayRange, RollingRange, last_end
from sync_pipeline.settings import Settings
from sync_pipeline.sync import META, POS
from sync_pipeline.tenants import Tenant, find_tenant, load_tenants
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.pipeline import Pipeline, rendered

JOB = "lumina__daily_sync"
YESTERDAY = date(2026, 10, 19)
# 12:00 in Manila on Tuesday the 20th: what was due at 02:00 is late since 04:00.
NOON = datetime(2026, 10, 20, 4, 0, tzinfo=UTC)

HEADER = """
tenant: acme
name: Acme
timezone: {timezone}
start_date: 2026-01-01
pancake: [{{api_key: {{env: ACME_KEY}}, shops: all}}]
workflows:
"""


def acme(folder: Path, *workflows: str, timezone: str = "Asia/Manila") -> Tenant:
    """A tenant with workflows given as `<cron> <date range>`."""
    text = HEADER.format(timezone=timezone)
    for number, workflow in enumerate(workflows):
        cron, date_range = workflow.split(" {", 1)
        text += f'  - {{name: w{number}, sources: [pos], schedule: "{cron}", date_range: {{{date_range}}}\n'
    (folder / "acme.yaml").write_text(text)
    return find_tenant(load_tenants(folder), "acme")


def expected_day(tenant: Tenant, now: datetime, **on: bool) -> date | None:
    names = {f"acme__{name}_schedule": state for name, state in on.items()}
    found = expectation(tenant, POS, names, now)
    return found.day if found else None


NIGHTLY = "0 2 * * * {type: rolling, offset_days: 1}"
MONDAYS = "0 3 * * 1 {type: relative, days: 7}"


def test_a_day_is_expected_once_its_tick_is_longer_ago_than_a_run_may_take(tmp_path: Path) -> None:
    tenant = acme(tmp_path, NIGHTLY)
    four = datetime(2026, 10, 19, 20, 0, tzinfo=UTC)  # 04:00 on the 20th in Manila
    assert expected_day(tenant, four - timedelta(seconds=1)) == date(2026, 10, 18)
    assert expected_day(tenant, four) == YESTERDAY


def test_a_weekly_workflow_expects_the_day_before_its_tick_and_nothing_new_for_a_week(tmp_path: Path) -> None:
    tenant = acme(tmp_path, MONDAYS)
    assert {expected_day(tenant, NOON + timedelta(days=n)) for n in range(6)} == {date(2026, 10, 18)}
    assert expected_day(tenant, NOON + timedelta(days=6)) == date(2026, 10, 25)


def test_of_several_workflows_the_newest_day_counts_and_fixed_ranges_and_those_switched_off_do_not(
    tmp_path: Path,
) -> None:
    october = "0 4 * * * {type: absolute, since: 2026-10-01, until: 2026-10-31}"
    two_days_ago = "0 2 * * * {type: rolling, offset_days: 2}"
    tenant = acme(tmp_path, two_days_ago, NIGHTLY, october)
    assert expected_day(tenant, NOON) == YESTERDAY
    assert expected_day(tenant, NOON, w1=False) == date(2026, 10, 18)
    assert expected_day(tenant, NOON, w0=False, w1=False) is None


def test_a_tick_that_the_clock_skips_and_one_that_comes_twice_expect_a_day_each(tmp_path: Path) -> None:
    tenant = acme(tmp_path, "30 2 * * * {type: rolling, offset_days: 1}", timezone="America/New_York")
    # 02:30 does not exist on 8 March; 01:30 comes twice on 1 November.
    assert expected_day(tenant, datetime(2026, 3, 8, 12, 0, tzinfo=UTC)) == date(2026, 3, 7)
    tenant = acme(tmp_path, "30 1 * * * {type: rolling, offset_days: 1}", timezone="America/New_York")
    assert expected_day(tenant, datetime(2026, 11, 1, 12, 0, tzinfo=UTC)) == date(2026, 10, 31)


def test_nothing_is_expected_of_the_time_before_the_tenants_first_day(tmp_path: Path) -> None:
    assert expected_day(acme(tmp_path, NIGHTLY), datetime(2026, 1, 1, 12, 0, tzinfo=UTC)) is None


class Watch:
    """The sensor's evaluations of lumina's orders at a given time; what it has told lasts from look to look."""

    source = POS
    asset = "pos_orders"

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.told: dict[str, str] = {}
        self.tenant = find_tenant(load_tenants(pipeline.tenants), "lumina")

    def look(self, now: datetime = NOON, location: str | None = None) -> list[tuple[bool, str]]:
        """Evaluate; returns every evaluation of the asset so far, oldest first."""
        warehouse = Warehouse(self.pipeline.engine)
        self.told = tell_freshness(self.pipeline.instance, warehouse, [self.tenant], self.told, now, location)
        key = dg.AssetCheckKey(dg.AssetKey(["lumina", self.asset]), "up_to_date")
        records = self.pipeline.instance.event_log_storage.get_asset_check_execution_history(key, limit=50)
        events = [record.event.dagster_event for record in reversed(records) if record.event]
        found = [event.asset_check_evaluation_data for event in events if event]
        assert all(one.severity == dg.AssetCheckSeverity.ERROR for one in found)
        return [(one.passed, rendered(one.description)) for one in found]

    def log(self, day: date, *, complete: bool = True, started: str = "2026-10-19 18:05+00") -> None:
        """A line of the sync log, as a run that began at `started` leaves it."""
        self.pipeline.execute("INSERT INTO tenants VALUES ('lumina', 'Lumina', 'Asia/Manila') ON CONFLICT DO NOTHING")
        self.pipeline.execute(
            "INSERT INTO sync_log (tenant_id, source, day, run_id, rows, changed, removed, excluded, amount, requests, "
            f"complete, started, finished) VALUES ('lumina', '{self.source}', '{day}', 'run', 1, 1, 0, 0, 1, 1, "
            f"{complete}, '{started}', '{started}')"
        )


@pytest.fixture
def watch(pipeline: Pipeline) -> Watch:
    return Watch(pipeline)


def test_a_missing_day_is_red_and_says_since_when_and_how_far_behind(watch: Watch) -> None:
    watch.log(date(2026, 10, 17))
    [(passed, sentence)] = watch.look()
    assert not passed
    for said in ("pos", "2026-10-19", "02:00", "the last complete day is 2026-10-17", "2 days behind"):
        assert said in sentence


def test_an_old_backfill_does_not_turn_it_green_and_a_complete_yesterday_does(watch: Watch) -> None:
    watch.log(date(2026, 10, 17))
    watch.look()
    for day in (date(2026, 10, 1), date(2026, 9, 1)):
        watch.log(day, started="2026-10-20 03:00+00")
    assert [passed for passed, _ in watch.look()] == [False], "nothing has changed, nothing is told"
    watch.log(YESTERDAY, complete=False)
    assert [passed for passed, _ in watch.look()] == [False], "an incomplete day is not there"
    watch.log(YESTERDAY)
    assert [passed for passed, _ in watch.look()] == [False, True]


def test_a_newer_day_does_not_stand_in_for_the_missing_one(watch: Watch) -> None:
    watch.log(date(2026, 10, 18))
    watch.log(date(2026, 10, 20))
    [(passed, _)] = watch.look()
    assert not passed


def test_a_day_that_was_synced_while_it_still_went_on_is_not_there(watch: Watch) -> None:
    watch.log(YESTERDAY, started="2026-10-19 15:59:59+00")  # a second before midnight in Manila
    assert [passed for passed, _ in watch.look()] == [False]
    watch.log(YESTERDAY, started="2026-10-19 16:00:00+00")
    assert [passed for passed, _ in watch.look()] == [False, True]


def test_the_last_complete_day_is_one_that_was_over_when_it_was_synced(watch: Watch) -> None:
    watch.log(date(2026, 10, 17))
    watch.log(date(2026, 10, 20), started="2026-10-20 03:00+00")  # at eleven in Manila
    [(passed, sentence)] = watch.look()
    assert not passed
    assert sentence.endswith("the last complete day is 2026-10-17, 2 days behind")


def test_of_a_day_that_still_goes_on_its_part_may_be_here_before_any_day_is_complete(watch: Watch) -> None:
    daily = watch.tenant.workflow("daily_sync")
    today = daily.model_copy(update={"date_range": RollingRange(type="rolling", offset_days=0)})
    watch.tenant = watch.tenant.model_copy(update={"workflows": [today]})
    watch.log(date(2026, 10, 20), started="2026-10-20 03:00+00")
    assert watch.look() == [(True, "2026-10-20 is here; no day is complete yet")]


def test_the_same_state_is_told_once(watch: Watch) -> None:
    watch.log(YESTERDAY)
    assert len(watch.look()) == 1
    assert len(watch.look(NOON + timedelta(hours=1))) == 1
    assert [passed for passed, _ in watch.look(NOON + timedelta(days=1))] == [True, False]


def test_schedules_switched_off_in_the_ui_expect_nothing(watch: Watch) -> None:
    assert [passed for passed, _ in watch.look()] == [False]
    location = known_locations(Settings.from_environment({}), watch.pipeline.instance).of(watch.tenant)
    switch_off(watch.pipeline, location)
    assert [passed for passed, _ in watch.look(location=location.location_name)] == [False, True]


def code_location(name: str) -> ManagedGrpcPythonEnvCodeLocationOrigin:
    return ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name="sync_pipeline.definitions"), name)


def switch_off(pipeline: Pipeline, location: CodeLocationOrigin) -> None:
    """Switch both schedules of lumina off in a code location."""
    tenant = find_tenant(load_tenants(pipeline.tenants), "lumina")
    for workflow in ("daily_sync", "weekly_resync"):
        switch(tenant, tenant.workflow(workflow), pipeline.instance, location, on=False)


def test_switches_of_another_location_silence_no_alarm(watch: Watch) -> None:
    switch_off(watch.pipeline, code_location("gone"))
    assert [passed for passed, _ in watch.look(location="here")] == [False]
    switch_off(watch.pipeline, code_location("here"))
    assert [passed for passed, _ in watch.look(location="here")] == [False, True]


def test_the_sensor_uses_switches_of_its_own_location(pipeline: Pipeline) -> None:
    switch_off(pipeline, code_location("gone"))
    sensor = pipeline.definitions.get_repository_def().get_sensor_def("watch_freshness")
    context = dg.SensorEvaluationContext(
        instance_ref=None,
        instance=pipeline.instance,
        code_location_origin=code_location("here"),
    )
    sensor.evaluate_tick(context)
    key = dg.AssetCheckKey(dg.AssetKey(["lumina", "pos_orders"]), "up_to_date")
    [record] = pipeline.instance.event_log_storage.get_asset_check_execution_history(key, limit=2)
    assert record.status == AssetCheckExecutionRecordStatus.FAILED


def test_a_run_uses_switches_of_its_own_location(pipeline: Pipeline) -> None:
    job = pipeline.definitions.resolve_job_def(JOB)
    sentences = []
    for location in ("gone", "here"):
        switch_off(pipeline, code_location("gone"))
        origin = RemoteJobOrigin(RemoteRepositoryOrigin(code_location(location), SINGLETON_REPOSITORY_NAME), JOB)
        tags = {**job.run_tags, **range_tags(DayRange(YESTERDAY, YESTERDAY))}
        run = pipeline.instance.create_run_for_job(job, tags=tags, remote_job_origin=origin)
        execute_run(InMemoryJob(job), run, pipeline.instance)
        logged = pipeline.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        evaluations = [entry.get_dagster_event().asset_check_evaluation_data for entry in logged]
        sentences.append({rendered(one.description) for one in evaluations if one.check_name == "up_to_date"})
    assert sentences[0] == {"no schedule is switched on that would bring days"}
    assert sentences[0].isdisjoint(sentences[1])


@pytest.mark.parametrize(
    ("stored", "locations", "expected"),
    [
        ({}, ["a"], None),
        ({"a": False}, ["a"], False),
        ({"a": True}, ["a"], True),
        ({"a": None}, ["a"], None),
        # A row of another location, or of one that no longer exists.
        ({"b": False}, ["a"], None),
        ({"a": True, "b": False}, ["a"], True),
        ({"a": False, "b": True}, ["a"], False),
        # Several locations may have the tenant.
        ({"a": False, "b": False}, ["a", "b"], False),
        ({"a": False}, ["a", "b"], None),
        ({"a": False, "b": None}, ["a", "b"], None),
        ({"a": False, "b": True}, ["a", "b"], True),
        # No location is known.
        ({"a": False}, None, False),
        ({"a": False, "b": None}, None, None),
        ({"a": False, "b": True}, None, True),
        ({}, None, None),
    ],
)
def test_a_switch_counts_in_the_tenants_locations(
    tmp_path: Path, stored: dict[str, bool | None], locations: list[str] | None, expected: bool | None
) -> None:
    found = switched(acme(tmp_path, NIGHTLY), {"acme__w0_schedule": stored}, locations)
    assert found == ({} if expected is None else {"acme__w0_schedule": expected})


def test_the_sensor_starts_switched_on_and_tells_every_tenant_and_source(pipeline: Pipeline) -> None:
    sensor = pipeline.definitions.get_repository_def().get_sensor_def("watch_freshness")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    first = sensor.evaluate_tick(dg.build_sensor_context(instance=pipeline.instance))
    assert not first.run_requests
    assert first.skip_message == "4 of 4 checks of freshness have changed"
    again = sensor.evaluate_tick(dg.build_sensor_context(instance=pipeline.instance, cursor=first.cursor))
    assert again.skip_message == "0 of 4 checks of freshness have changed"


def test_a_run_of_the_source_evaluates_the_check_too(pipeline: Pipeline) -> None:
    result = pipeline.run(JOB, YESTERDAY, YESTERDAY)
    logged = pipeline.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    evaluations = [entry.get_dagster_event().asset_check_evaluation_data for entry in logged]
    told = {(one.asset_key.path[-1], one.check_name) for one in evaluations}
    assert {("meta_ad_insights", "up_to_date"), ("pos_orders", "up_to_date")} <= told
    assert {META, POS} == {source for (source,) in pipeline.query("SELECT DISTINCT source FROM sync_log")}


META_TENANT = """
tenant: acme
name: Acme
timezone: {timezone}
start_date: 2026-01-01
meta: {{access_token: {{env: ACME_TOKEN}}, accounts: all}}
restate_days: {{meta: {restate}}}
workflows:
"""
LOS_ANGELES = {"7": "America/Los_Angeles"}


def meta_tenant(folder: Path, *workflows: str, timezone: str = "Asia/Manila", restate: int = 7) -> Tenant:
    """A tenant with a source Meta and workflows given as `<cron> <date range>`."""
    text = META_TENANT.format(timezone=timezone, restate=restate)
    for number, workflow in enumerate(workflows):
        cron, date_range = workflow.split(" {", 1)
        text += f'  - {{name: w{number}, sources: [meta], schedule: "{cron}", date_range: {{{date_range}}}\n'
    (folder / "acme.yaml").write_text(text)
    return find_tenant(load_tenants(folder), "acme")


def expected_of(tenant: Tenant, accounts: Mapping[str, str | None], zone: str, local: str) -> Expectation:
    """What is expected of Meta at a local time, without any time allowed for the run."""
    checks = tenant.checks.model_copy(update={"late_after_minutes": 0})
    now = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone))
    found = expectation(tenant.model_copy(update={"checks": checks}), META, {}, now, accounts)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("zone", "accounts", "local", "day"),
    [
        # The day ends at 16:00 in Manila and is expected of the run at 02:00 after that.
        ("Asia/Manila", LOS_ANGELES, "2026-11-28T02:00", "2026-11-26"),
        ("Asia/Manila", LOS_ANGELES, "2026-11-28T15:59:59", "2026-11-26"),
        ("Asia/Manila", LOS_ANGELES, "2026-11-28T16:00", "2026-11-26"),
        ("Asia/Manila", LOS_ANGELES, "2026-11-29T01:59:59", "2026-11-26"),
        ("Asia/Manila", LOS_ANGELES, "2026-11-29T02:00", "2026-11-27"),
        # It ends at 21:00 in Auckland.
        ("Pacific/Auckland", LOS_ANGELES, "2026-11-28T04:25", "2026-11-26"),
        ("Pacific/Auckland", LOS_ANGELES, "2026-11-28T21:00", "2026-11-26"),
        ("Pacific/Auckland", LOS_ANGELES, "2026-11-29T02:00", "2026-11-27"),
        # It ends before the tenant's does, or with it.
        ("America/Los_Angeles", {"7": "Asia/Manila"}, "2026-11-28T02:00", "2026-11-27"),
        ("Asia/Manila", {"7": "Asia/Singapore"}, "2026-11-28T02:00", "2026-11-27"),
        ("Asia/Manila", {}, "2026-11-28T02:00", "2026-11-27"),
        # The last of several counts, and an unknown one ends last.
        ("Asia/Manila", {"6": "Asia/Tokyo", **LOS_ANGELES}, "2026-11-28T02:00", "2026-11-26"),
        ("Asia/Manila", {"7": None}, "2026-11-28T02:00", "2026-11-26"),
        ("Pacific/Kiritimati", {"7": "Mars/Olympus"}, "2026-11-28T01:59", "2026-11-25"),
        ("Pacific/Kiritimati", {"7": "Mars/Olympus"}, "2026-11-28T02:00", "2026-11-26"),
    ],
)
def test_a_day_is_expected_of_the_first_run_after_it_is_over(
    tmp_path: Path, zone: str, accounts: dict[str, str | None], local: str, day: str
) -> None:
    found = expected_of(meta_tenant(tmp_path, NIGHTLY, timezone=zone), accounts, zone, local)
    assert (found.day.isoformat(), found.complete_day, found.part_since) == (day, found.day, None)


def test_every_run_is_asked_whether_the_day_was_over(tmp_path: Path) -> None:
    tenant = meta_tenant(tmp_path, "0 * * * * {type: rolling, offset_days: 1}")
    days = [expected_of(tenant, LOS_ANGELES, "Asia/Manila", f"2026-11-28T{hour}:30").day.day for hour in (14, 15, 16)]
    assert days == [26, 26, 27]


def test_of_a_relative_range_the_newest_day_that_is_over_counts(tmp_path: Path) -> None:
    found = expected_of(meta_tenant(tmp_path, MONDAYS), LOS_ANGELES, "Asia/Manila", "2026-11-23T03:00")
    assert (found.day, found.delay) == (
        date(2026, 11, 21),
        "2026-11-22 is over at 2026-11-23 16:00, because the days of ad account 7 are in America/Los_Angeles; "
        "the first run of w0 after that is due at 2026-11-30 03:00",
    )


def test_orders_are_expected_by_the_tenants_timezone_alone(tmp_path: Path) -> None:
    found = expectation(acme(tmp_path, NIGHTLY), POS, {}, NOON, {"7": "America/Los_Angeles"})
    assert found is not None
    assert (found.day, found.delay) == (YESTERDAY, None)


def test_a_delayed_day_names_the_account_and_the_run(tmp_path: Path) -> None:
    tenant = meta_tenant(tmp_path, NIGHTLY)
    found = expected_of(tenant, LOS_ANGELES, "Asia/Manila", "2026-11-28T10:00")
    assert found.delay == (
        "2026-11-27 is over at 2026-11-28 16:00, because the days of ad account 7 are in America/Los_Angeles; "
        "the first run of w0 after that is due at 2026-11-29 02:00"
    )
    unknown = expected_of(tenant, {"7": None}, "Asia/Manila", "2026-11-28T10:00")
    assert unknown.delay == (
        "2026-11-27 is over at 2026-11-28 20:00, because the timezone of ad account 7 is not known, so UTC-12 is "
        "assumed; the first run of w0 after that is due at 2026-11-29 02:00"
    )
    assert expected_of(tenant, {}, "Asia/Manila", "2026-11-28T10:00").delay is None


@pytest.mark.parametrize(
    ("workflow", "restate", "remedy"),
    [
        (NIGHTLY, 1, "set restate_days.meta to at least 2"),
        (NIGHTLY, 0, "set restate_days.meta to at least 2"),
        (NIGHTLY, 2, None),
        ("0 2 * * * {type: rolling, offset_days: 2}", 1, None),
        ("0 2 * * * {type: relative, days: 2}", 7, "set the days of its date_range to at least 3"),
        ("0 2 * * * {type: relative, days: 3}", 7, None),
    ],
)
def test_a_day_that_no_run_fetches_again_has_a_remedy(
    tmp_path: Path, workflow: str, restate: int, remedy: str | None
) -> None:
    tenant = meta_tenant(tmp_path, workflow, restate=restate)
    delay = expected_of(tenant, LOS_ANGELES, "Asia/Manila", "2026-11-28T10:00").delay or ""
    assert delay.partition("does not fetch it again: ")[2] == (f"{remedy} in the tenant file" if remedy else "")


def test_of_today_a_part_is_expected_since_the_last_run(tmp_path: Path) -> None:
    tenant = meta_tenant(tmp_path, "0 * * * * {type: rolling, offset_days: 0}")
    found = expected_of(tenant, LOS_ANGELES, "Asia/Manila", "2026-11-28T10:30")
    assert (found.day, found.complete_day) == (date(2026, 11, 28), date(2026, 11, 26))
    assert found.part_since == datetime(2026, 11, 28, 2, tzinfo=UTC)


zones = st.sampled_from(sorted(zoneinfo.available_timezones() - {"localtime", "Factory"}))
instants = st.datetimes(datetime(2026, 2, 1), datetime(2027, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001


@settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=60
)
@given(zone=zones, account=zones, now=instants)
def test_the_expected_day_was_over_everywhere_and_no_newer(
    tmp_path: Path, zone: str, account: str, now: datetime
) -> None:
    tenant = meta_tenant(tmp_path, NIGHTLY, timezone=zone)
    found = expectation(tenant, META, {}, now, {"7": account})
    assert found is not None
    dates_at_run = [found.tick.astimezone(ZoneInfo(name)).date() for name in (zone, account)]
    assert found.day == min(dates_at_run) - timedelta(days=1)
    assert (found.delay is not None) == (dates_at_run[1] < dates_at_run[0])


class WatchOfMeta(Watch):
    """Lumina's insights: an ad account in Los Angeles is listed beside one in Manila."""

    source = META
    asset = "meta_ad_insights"

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline)
        self.pipeline.execute("INSERT INTO tenants VALUES ('lumina', 'Lumina', 'Asia/Manila')")
        self.pipeline.execute(
            "INSERT INTO meta_ad_accounts (tenant_id, account_id, timezone_name, listed_at, listed_run_id) VALUES "
            "('lumina', '6', 'Asia/Manila', now(), 'run'), ('lumina', '7', 'America/Los_Angeles', now(), 'run'), "
            "('lumina', '8', 'Etc/GMT+12', now() - interval '1 day', 'earlier')"
        )

    def fetch(self, day: date, at: str) -> None:
        """A line of the sync log of a day fetched at an instant from both accounts."""
        self.log(day, started=at)
        over_at = last_end(day, ["Asia/Manila", "America/Los_Angeles"])
        self.pipeline.execute(f"UPDATE sync_log SET over_at = '{over_at}' WHERE over_at IS NULL")


def test_a_day_that_is_not_over_in_los_angeles_is_not_late(pipeline: Pipeline) -> None:
    watch = WatchOfMeta(pipeline)
    # 02:00 on the 20th in Manila: the 18th was over, the 19th was not.
    for day in (18, 19):
        watch.fetch(date(2026, 10, day), "2026-10-19 18:00+00")
    [(passed, sentence)] = watch.look()
    assert passed
    assert sentence == (
        "2026-10-18 is here; the last complete day is 2026-10-18; 2026-10-19 is over at 2026-10-20 15:00, because the "
        "days of ad account 7 are in America/Los_Angeles; the first run of daily_sync after that is due at "
        "2026-10-21 02:00"
    )


def test_a_day_fetched_too_early_is_late_until_the_next_night(pipeline: Pipeline) -> None:
    watch = WatchOfMeta(pipeline)
    for day in (18, 19):
        watch.fetch(date(2026, 10, day), "2026-10-19 18:00+00")
    # From 04:00 on the 21st the run at 02:00 is late.
    morning = datetime(2026, 10, 20, 20, 0, tzinfo=UTC)
    [(passed, sentence)] = watch.look(morning)
    assert not passed
    assert sentence.startswith(
        "meta: 2026-10-19 should be here since 2026-10-21 02:00 and 120 min; the last complete day is 2026-10-18, "
        "1 day behind; 2026-10-20 is over at 2026-10-21 15:00"
    )
    watch.fetch(YESTERDAY, "2026-10-20 18:00+00")
    assert [passed for passed, _ in watch.look(morning)] == [False, True]


def test_an_account_that_is_disabled_or_unlisted_delays_no_day(pipeline: Pipeline) -> None:
    watch = WatchOfMeta(pipeline)
    assert "2026-10-18 should be here" in watch.look()[-1][1]
    watch.pipeline.execute("UPDATE meta_ad_accounts SET enabled = false WHERE account_id = '7'")
    assert "2026-10-19 should be here" in watch.look()[-1][1]
