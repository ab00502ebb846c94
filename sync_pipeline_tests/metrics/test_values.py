"""Each group of metrics against what the installation stores, shows and says elsewhere."""

import json
import re
import time
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version

import dagster as dg
import pytest
import sqlalchemy as sa

from sync_pipeline.assets.checks import ORDERS_ALL_STORED, SPEND_MATCHES_ACCOUNT, STATUSES_KNOWN
from sync_pipeline.assets.credentials import CREDENTIALS_CURRENT
from sync_pipeline.assets.verdicts import ERROR, WARN, Check, Verdict, evaluation
from sync_pipeline.automation.freshness import tell_freshness
from sync_pipeline.dagster_internals.stored_runs import reading_evaluations
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.tenants import Tenant, find_tenant, load_tenants
from sync_pipeline.warehouse.database import bound_to
from sync_pipeline.warehouse.health import source_health
from sync_pipeline_tests.cli.installed import Installed
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.metrics.conftest import Endpoint, Scrape

JOB = "lumina__daily_sync"
LUMINA = {"tenant": "lumina", "workflow": "daily_sync"}
FIRST, SECOND = date(2026, 10, 5), date(2026, 10, 6)


def tenant(shell: Shell, name: str = "lumina") -> Tenant:
    return find_tenant(load_tenants(shell.tenants), name)


def report(installed: Installed, shell: Shell, check: Check, verdict: Verdict, day: date | None = None) -> None:
    installed.instance.report_runless_asset_event(evaluation(tenant(shell), check, verdict, day))
    # Dagster has one evaluation per day and run.
    with reading_evaluations(installed.instance) as connection:
        connection.execute(sa.text("UPDATE asset_check_executions SET run_id = md5(id::text) WHERE run_id = ''"))


def failing(scrape: Scrape) -> list[tuple[str, str, float]]:
    return sorted(
        (labels["check"], labels["severity"], value)
        for labels, value in scrape.samples.get("sync_pipeline_check_failed", [])
    )


def set_dagster(installed: Installed, statement: str) -> None:
    with installed.instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(sa.text(statement))


class TestSources:
    def test_days_behind_are_those_of_status(self, installed: Installed, endpoint: Endpoint) -> None:
        installed.run(JOB, FIRST, SECOND)
        installed.run("mekong__daily_sync", FIRST, FIRST)
        status = json.loads(installed.command("status", "--json").stdout)
        scrape = endpoint.scrape()
        expected = {(one["tenant_id"], one["source"]): one["days_behind"] for one in status}
        found = {
            (labels["tenant"], labels["source"]): value for labels, value in scrape.samples["sync_pipeline_days_behind"]
        }
        assert found == {key: days for key, days in expected.items() if days is not None}
        assert len(found) == 4
        assert all(value > 40 for value in found.values())

    @pytest.mark.parametrize("zone", ["Asia/Manila", "America/Los_Angeles", "Pacific/Auckland"])
    def test_days_behind_are_those_of_sync_health(self, installed: Installed, endpoint: Endpoint, zone: str) -> None:
        """For a source without a schedule, with days that were fetched too early, twice, and not whole."""
        for name in ("daily_sync", "weekly_resync", "meta_only"):
            installed.command("workflows", "disable", "lumina", name)
        engine = installed.warehouse.engine
        with installed.warehouse.tenant("lumina", name="Lumina", timezone=zone):
            pass
        now = datetime.now(UTC)
        lines = [
            (9, 0, True, 6),
            (8, 0, True, 30),
            (8, 0, False, 1),
            (2, 2, True, 20),
            (1, 1, True, 0),
            (0, 0, True, 1),
        ]
        with bound_to(engine, "lumina") as connection, connection.begin():
            for number, (ago, fetched_ago, complete, hours) in enumerate(lines):
                day, fetched = now.date() - timedelta(days=ago), now - timedelta(days=fetched_ago)
                connection.execute(
                    sa.text(
                        "INSERT INTO sync_log (tenant_id, source, day, run_id, rows, changed, removed, excluded, "
                        "amount, requests, complete, started, finished, fetched_at, over_at) VALUES "
                        "('lumina', :source, :day, "
                        "'run', 3, 0, 0, 0, 0, 1, :complete, now(), now(), :fetched, :over)"
                    ),
                    {
                        "source": ("meta", "pos")[number % 2],
                        "day": day,
                        "complete": complete,
                        "fetched": fetched,
                        "over": datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1, hours=hours),
                    },
                )
        scrape = endpoint.scrape()
        health = {one.source: one.days_behind for one in source_health(engine, "lumina")}
        assert set(health) == {"meta", "pos"}
        for source, days in health.items():
            found = scrape.values("sync_pipeline_days_behind", tenant="lumina", source=source)
            assert found == ([] if days is None else [days])

    def test_rows_and_days_are_those_of_the_sync_log(self, installed: Installed, endpoint: Endpoint) -> None:
        installed.run(JOB, FIRST, SECOND)
        installed.run(JOB, SECOND, SECOND)
        scrape = endpoint.scrape()
        with bound_to(installed.warehouse.engine, "lumina") as connection:
            log = connection.execute(
                sa.text("SELECT source, sum(rows), sum(changed), count(*) FROM sync_log GROUP BY source")
            ).all()
        assert len(log) == 2
        for source, rows, changed, days in log:
            assert scrape.value("sync_pipeline_rows_total", tenant="lumina", source=source, kind="fetched") == rows
            assert scrape.value("sync_pipeline_rows_total", tenant="lumina", source=source, kind="changed") == changed
            assert scrape.value("sync_pipeline_committed_days_total", tenant="lumina", source=source) == days

    def test_requests_are_those_that_the_apis_got(
        self, installed: Installed, endpoint: Endpoint, sandbox: SandboxServer
    ) -> None:
        installed.run(JOB, FIRST, SECOND)
        scrape = endpoint.scrape()
        counted = sum(scrape.values("sync_pipeline_api_requests_total", tenant="lumina"))
        assert counted == sandbox.requests.count()
        assert all(value > 0 for value in scrape.values("sync_pipeline_api_requests_total", tenant="lumina"))

    def test_errors_of_a_failed_run_are_counted_by_class(
        self, installed: Installed, endpoint: Endpoint, sandbox: SandboxServer
    ) -> None:
        sandbox.faults.add(Fault(faults.http_error(500), path="shops/31.*/orders", times=None))
        installed.run(JOB, FIRST, FIRST)
        scrape = endpoint.scrape()
        errors = scrape.samples["sync_pipeline_api_errors_total"]
        assert errors == [({"tenant": "lumina", "source": "pos", "class": "transient"}, 1.0)]

    def test_waits_for_a_rate_limit_are_counted_with_their_time(
        self, installed: Installed, endpoint: Endpoint, sandbox: SandboxServer
    ) -> None:
        limited = faults.rate_limited("1")
        sandbox.faults.add(Fault(limited, path="shops/31.*/orders", times=1))
        installed.run(JOB, FIRST, FIRST)
        scrape = endpoint.scrape()
        labels = {"tenant": "lumina", "source": "pos", "class": "rate_limit"}
        assert scrape.value("sync_pipeline_api_waits_total", **labels) == 1
        assert scrape.value("sync_pipeline_api_wait_seconds_total", **labels) >= 1
        assert scrape.value("sync_pipeline_api_errors_total", tenant="lumina", **{"class": "rate_limited"}) == 1


class TestSchedules:
    def test_a_switched_schedule_is_told_from_the_file(self, installed: Installed, endpoint: Endpoint) -> None:
        before = endpoint.scrape()
        assert before.value("sync_pipeline_schedule_enabled", **LUMINA) == 1
        assert before.value("sync_pipeline_schedule_switched", **LUMINA) == 0
        installed.command("workflows", "disable", "lumina", "daily_sync")
        after = endpoint.scrape()
        assert after.value("sync_pipeline_schedule_enabled", **LUMINA) == 0
        assert after.value("sync_pipeline_schedule_switched", **LUMINA) == 1
        assert after.value("sync_pipeline_schedule_switched", tenant="lumina", workflow="weekly_resync") == 0


class TestRuns:
    def test_runs_are_counted_by_status(self, installed: Installed, endpoint: Endpoint) -> None:
        statuses = [dg.DagsterRunStatus.QUEUED] * 2 + [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE]
        for status in statuses:
            installed.note(JOB, status)
        scrape = endpoint.scrape()
        assert scrape.value("sync_pipeline_runs", status="QUEUED") == 2
        assert scrape.value("sync_pipeline_runs", status="STARTED") == 1
        assert scrape.value("sync_pipeline_runs", status="FAILURE") == 1
        assert scrape.value("sync_pipeline_runs", status="SUCCESS") == 0

    def test_the_queue_has_a_length_and_an_age(self, installed: Installed, endpoint: Endpoint) -> None:
        empty = endpoint.scrape()
        assert empty.value("sync_pipeline_queue_length") == empty.value("sync_pipeline_queue_oldest_age_seconds") == 0
        began = time.time()
        oldest = installed.note(JOB, dg.DagsterRunStatus.QUEUED)
        installed.note(JOB, dg.DagsterRunStatus.QUEUED)
        set_dagster(
            installed,
            f"UPDATE runs SET create_timestamp = create_timestamp - interval '2 hours' WHERE run_id = '{oldest}'",
        )
        scrape = endpoint.scrape()
        assert scrape.value("sync_pipeline_queue_length") == 2
        assert 7200 <= scrape.value("sync_pipeline_queue_oldest_age_seconds") <= 7200 + time.time() - began

    def test_the_age_does_not_depend_on_the_servers_timezone(self, installed: Installed, endpoint: Endpoint) -> None:
        set_dagster(
            installed,
            "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || quote_ident(current_database()) || "
            "' SET TimeZone = ''Asia/Manila'''; END $$",
        )
        installed.instance.run_storage._engine.dispose()  # type: ignore[attr-defined]
        began = time.time()
        installed.note(JOB, dg.DagsterRunStatus.QUEUED)
        assert endpoint.scrape().value("sync_pipeline_queue_oldest_age_seconds") <= time.time() - began

    def test_the_last_run_of_a_workflow_is_the_newest_that_ended(
        self, installed: Installed, endpoint: Endpoint, sandbox: SandboxServer
    ) -> None:
        fault = sandbox.faults.add(Fault(faults.http_error(500), path="shops/31.*/orders", times=None))
        installed.run(JOB, FIRST, FIRST)
        failed = endpoint.scrape()
        assert failed.value("sync_pipeline_last_run_failed", **LUMINA) == 1
        fault.times = 0
        run_id = installed.run(JOB, FIRST, FIRST)
        record = installed.instance.get_run_record_by_id(run_id)
        assert record
        assert record.end_time
        assert record.start_time
        installed.note(JOB, dg.DagsterRunStatus.STARTED)
        scrape = endpoint.scrape()
        assert scrape.value("sync_pipeline_last_run_failed", **LUMINA) == 0
        took = scrape.value("sync_pipeline_last_run_duration_seconds", **LUMINA)
        assert took == pytest.approx(record.end_time - record.start_time)
        ended = scrape.value("sync_pipeline_last_run_end_timestamp_seconds", **LUMINA)
        assert ended == pytest.approx(record.end_time)
        assert scrape.values("sync_pipeline_last_run_failed", tenant="mekong") == []

    def test_each_run_is_counted_once_in_the_histogram(self, installed: Installed, endpoint: Endpoint) -> None:
        endpoint.scrape()
        run_id = installed.run(JOB, FIRST, FIRST)
        first = endpoint.scrape()
        installed.instance.add_run_tags(run_id, {"later": "tag"})
        second = endpoint.scrape()
        for scrape in (first, second):
            assert scrape.value("sync_pipeline_run_duration_seconds_count", status="SUCCESS") == 1
            took = scrape.value("sync_pipeline_run_duration_seconds_sum", status="SUCCESS")
            assert took == scrape.value("sync_pipeline_last_run_duration_seconds", **LUMINA)
            buckets = scrape.samples["sync_pipeline_run_duration_seconds_bucket"]
            counted = {float(labels["le"]): count for labels, count in buckets if labels["status"] == "SUCCESS"}
            assert counted == {bound: float(took <= bound) for bound in counted}
        assert first.value("sync_pipeline_run_duration_seconds_count", status="FAILURE") == 0

    def test_a_daemon_without_a_heartbeat_is_infinitely_late(self, installed: Installed, endpoint: Endpoint) -> None:
        from dagster._daemon.types import DaemonHeartbeat

        instance = installed.instance
        at = time.time() - 100
        instance.add_daemon_heartbeat(DaemonHeartbeat(at, "SENSOR", "id", []))
        scrape = endpoint.scrape()
        ages = {labels["daemon"]: age for labels, age in scrape.samples["sync_pipeline_daemon_heartbeat_age_seconds"]}
        assert set(ages) == {daemon.lower() for daemon in instance.get_required_daemon_types()}
        assert 100 <= ages.pop("sensor") <= time.time() - at
        assert set(ages.values()) == {float("inf")}


class TestChecks:
    def test_failed_checks_are_those_that_dagster_has(
        self, installed: Installed, endpoint: Endpoint, shell: Shell
    ) -> None:
        for tenant_id in ("lumina", "mekong"):
            tell_freshness(
                installed.instance, installed.warehouse, [tenant(shell, tenant_id)], {}, datetime.now(UTC), None
            )
        assert failing(endpoint.scrape()) == [("up_to_date", "ERROR", 1.0)] * 4

    def test_the_latest_evaluation_of_each_day_counts(
        self, installed: Installed, endpoint: Endpoint, shell: Shell
    ) -> None:
        bad, good = Verdict(passed=False, sentence="MARKER-1"), Verdict(passed=True, sentence="fine")
        for day in (FIRST, SECOND):
            report(installed, shell, SPEND_MATCHES_ACCOUNT, bad, day)
        report(installed, shell, STATUSES_KNOWN, bad, FIRST)
        report(installed, shell, ORDERS_ALL_STORED, good, FIRST)
        scrape = endpoint.scrape()
        assert failing(scrape) == [("spend_matches_account", "ERROR", 2.0), ("statuses_known", "WARN", 1.0)]
        assert scrape.value("sync_pipeline_checks_passed", tenant="lumina") == 1
        report(installed, shell, SPEND_MATCHES_ACCOUNT, good, FIRST)
        assert failing(endpoint.scrape())[0] == ("spend_matches_account", "ERROR", 1.0)
        report(installed, shell, SPEND_MATCHES_ACCOUNT, good, SECOND)
        report(installed, shell, STATUSES_KNOWN, good, FIRST)
        scrape = endpoint.scrape()
        assert failing(scrape) == []
        assert scrape.value("sync_pipeline_checks_passed", tenant="lumina") == 3
        # A process that starts now reads the same.
        assert failing(Endpoint().scrape()) == []

    def test_evaluations_of_a_run_count_once_it_has_made_them(self, installed: Installed, endpoint: Endpoint) -> None:
        endpoint.scrape()
        installed.run(JOB, FIRST, FIRST)
        found = {(name, severity) for name, severity, _ in failing(endpoint.scrape())}
        # Its days are weeks old.
        assert ("up_to_date", "ERROR") in found
        with installed.instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
            stored = connection.execute(
                sa.text("SELECT DISTINCT check_name FROM asset_check_executions WHERE execution_status = 'FAILED'")
            ).scalars()
            assert {name for name, _ in found} == set(stored)

    def test_credentials_are_what_their_check_found(
        self, installed: Installed, endpoint: Endpoint, shell: Shell
    ) -> None:
        ends = datetime(2027, 1, 5, 12, tzinfo=UTC)
        figures = {"token_ends_at": ends.isoformat(), "api_version_ends_at": ends.isoformat(), "checked_at": "MARKER"}
        report(
            installed,
            shell,
            CREDENTIALS_CURRENT,
            Verdict(False, "soon", figures, severity=WARN),
        )
        scrape = endpoint.scrape()
        assert failing(scrape) == [("credentials_current", "WARN", 1.0)]
        name = "sync_pipeline_credential_expiry_timestamp_seconds"
        assert {labels["subject"]: value for labels, value in scrape.samples[name]} == {
            "token": ends.timestamp(),
            "api_version": ends.timestamp(),
        }
        report(
            installed, shell, CREDENTIALS_CURRENT, Verdict(passed=False, sentence="over", figures={}, severity=ERROR)
        )
        scrape = endpoint.scrape()
        assert failing(scrape) == [("credentials_current", "ERROR", 1.0)]
        assert name not in scrape.samples

    def test_evaluations_older_than_two_weeks_do_not_count(
        self, installed: Installed, endpoint: Endpoint, shell: Shell
    ) -> None:
        for day in (FIRST, SECOND):
            report(installed, shell, SPEND_MATCHES_ACCOUNT, Verdict(passed=False, sentence="off"), day)
        aged = "create_timestamp = create_timestamp - interval '15 days'"
        with installed.instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
            connection.execute(sa.text(f"UPDATE asset_check_executions SET {aged} WHERE partition = '{FIRST}'"))
        assert failing(endpoint.scrape()) == [("spend_matches_account", "ERROR", 1.0)]


def test_labels_and_texts_hold_no_customer_data_and_no_secret(
    installed: Installed, endpoint: Endpoint, shell: Shell, sandbox: SandboxServer
) -> None:
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("name: Lumina Skin", "name: MARKER-NAME"))
    marker = Verdict(passed=False, sentence="MARKER-SENTENCE", figures={"MARKER_ends_at": "2027-01-01T00:00:00+00:00"})
    report(installed, shell, SPEND_MATCHES_ACCOUNT, marker, FIRST)
    forged = {"tenant": "MARKER-TENANT", "workflow": "MARKER-WORKFLOW", "other": "MARKER-TAG"}
    installed.note(JOB, dg.DagsterRunStatus.FAILURE, **forged)
    installed.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(dg.AssetKey(["MARKER-ASSET", "x"]), "MARKER-CHECK", passed=False, metadata={})
    )
    installed.run(JOB, FIRST, FIRST)
    text = endpoint.scrape().text
    assert "MARKER" not in text
    for name, secret in sandbox.environment.items():
        assert secret not in text or name.endswith("_URL")
    assert "100000000000103" not in text


def test_a_broken_file_is_counted(installed: Installed, endpoint: Endpoint, shell: Shell) -> None:
    before = endpoint.scrape()
    assert before.value("sync_pipeline_broken_tenant_files") == 0
    location = {"tenant": "mekong", "location": "sync_pipeline"}
    assert before.value("sync_pipeline_tenant_info", **location) == 1
    (shell.tenants / "broken.yaml").write_text("tenant: [")
    after = endpoint.scrape()
    assert after.value("sync_pipeline_broken_tenant_files") == 1
    assert after.value("sync_pipeline_tenant_info", **location) == 1


def test_only_tenants_leaves_out_what_is_of_the_installation(installed: Installed) -> None:
    whole, tenants = Endpoint().scrape(), Endpoint(only_tenants=True).scrape()
    assert set(whole.samples) - set(tenants.samples) == {
        "sync_pipeline_runs",
        "sync_pipeline_queue_length",
        "sync_pipeline_queue_oldest_age_seconds",
        "sync_pipeline_daemon_heartbeat_age_seconds",
        "sync_pipeline_run_duration_seconds_bucket",
        "sync_pipeline_run_duration_seconds_count",
        "sync_pipeline_run_duration_seconds_sum",
    }
    assert tenants.value("sync_pipeline_up") == 1


def test_names_follow_the_conventions_of_prometheus(installed: Installed, endpoint: Endpoint) -> None:
    installed.run(JOB, FIRST, FIRST)
    text = endpoint.scrape().text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE))
    assert kinds.keys() == helps.keys()
    for name, kind in kinds.items():
        assert name.startswith("sync_pipeline_")
        assert name.endswith("_total") == (kind == "counter"), name
        assert helps[name].endswith(".")
    [(labels, value)] = endpoint.scrape().samples["sync_pipeline_build_info"]
    assert (labels["version"], value) == (version("sync-pipeline"), 1)
