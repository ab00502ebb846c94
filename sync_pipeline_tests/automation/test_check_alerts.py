"""A check that begins to fail is told once to its tenant's webhook, and so is that it passes again."""

from dataclasses import dataclass
from datetime import UTC, date, datetime

import dagster as dg
import pytest
import sqlalchemy as sa

from sync_pipeline.assets.check_results import CheckReader
from sync_pipeline.assets.checks import ORDERS_ALL_STORED, SPEND_MATCHES_ACCOUNT, STATUSES_KNOWN
from sync_pipeline.assets.credentials import CREDENTIALS_CURRENT
from sync_pipeline.assets.verdicts import WARN, Check, Verdict, evaluation
from sync_pipeline.dagster_internals.stored_runs import reading_evaluations
from sync_pipeline.tenants import find_tenant, load_tenants
from sync_pipeline_tests.automation.conftest import MARKER, Hook
from sync_pipeline_tests.automation.test_alerts import add_webhook
from sync_pipeline_tests.pipeline import Pipeline

FIRST, SECOND = date(2026, 10, 5), date(2026, 10, 6)
BAD, GOOD = Verdict(passed=False, sentence="12.00 is not 12.01"), Verdict(passed=True, sentence="all well")


@dataclass
class CheckAlerts:
    """The sensor as the daemon evaluates it; `fresh` is a code server that has just started."""

    pipeline: Pipeline
    cursor: str | None = None
    sensor: dg.SensorDefinition | None = None

    def tick(self, *, fresh: bool = False) -> str:
        if fresh or self.sensor is None:
            self.pipeline.reload()
            self.sensor = self.pipeline.definitions.get_repository_def().get_sensor_def("check_alerts")
        data = self.sensor.evaluate_tick(dg.build_sensor_context(instance=self.pipeline.instance, cursor=self.cursor))
        assert not data.run_requests
        self.cursor = data.cursor
        return data.skip_message or ""

    def report(self, check: Check, verdict: Verdict, day: date | None = None, tenant: str = "lumina") -> None:
        found = find_tenant(load_tenants(self.pipeline.tenants), tenant)
        self.pipeline.instance.report_runless_asset_event(evaluation(found, check, verdict, day))
        # Dagster has one evaluation per day and run.
        with reading_evaluations(self.pipeline.instance) as connection:
            connection.execute(sa.text("UPDATE asset_check_executions SET run_id = md5(id::text) WHERE run_id = ''"))


@pytest.fixture
def alerts(pipeline: Pipeline, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> CheckAlerts:
    """Lumina has a webhook, mekong none."""
    monkeypatch.setenv("LUMINA_WEBHOOK", hook.url())
    add_webhook(pipeline, "lumina")
    return CheckAlerts(pipeline)


def test_a_check_is_told_when_it_fails_and_when_it_passes(hook: Hook, alerts: CheckAlerts) -> None:
    assert alerts.tick() == "alerts delivered: 0, waiting: 0"
    for day in (FIRST, SECOND):
        alerts.report(SPEND_MATCHES_ACCOUNT, BAD, day)
    assert alerts.tick() == "alerts delivered: 1, waiting: 0"
    assert alerts.tick() == alerts.tick(fresh=True) == "alerts delivered: 0, waiting: 0"
    alerts.report(SPEND_MATCHES_ACCOUNT, GOOD, FIRST)
    alerts.tick()
    alerts.report(SPEND_MATCHES_ACCOUNT, GOOD, SECOND)
    alerts.tick()
    link = "Asset: http://127.0.0.1:3000/assets/lumina/meta_ad_insights?view=checks"
    assert [text.split("\n") for text in hook.texts()] == [
        [
            "Checks of Lumina Skin (lumina):",
            "ERROR: spend_matches_account of meta_ad_insights fails for 2 days: `12.00 is not 12.01`",
            link,
        ],
        ["Checks of Lumina Skin (lumina):", "OK: spend_matches_account of meta_ad_insights passes again", link],
    ]


def test_what_is_told_is_what_prometheus_shows_as_an_alarm(hook: Hook, alerts: CheckAlerts) -> None:
    alerts.report(ORDERS_ALL_STORED, BAD, FIRST)
    alerts.report(STATUSES_KNOWN, BAD, FIRST)
    alerts.report(CREDENTIALS_CURRENT, Verdict(passed=False, sentence="ends soon", severity=WARN))
    alerts.report(ORDERS_ALL_STORED, BAD, FIRST, tenant="mekong")
    alerts.tick()
    [text] = hook.texts()
    told = {line.split(" fails")[0] for line in text.split("\n") if " fails" in line}
    assert told == {"ERROR: orders_all_stored of pos_orders", "WARN: credentials_current of meta_ad_accounts"}
    with reading_evaluations(alerts.pipeline.instance) as connection:
        results = CheckReader().read(connection, ["lumina"], datetime.now(UTC))
    shown = {f"{one.severity}: {one.key.check} of {one.key.asset}" for one in results.failing if one.is_alarm}
    assert shown == told


def test_a_webhook_that_is_down_is_told_later(hook: Hook, alerts: CheckAlerts, monkeypatch: pytest.MonkeyPatch) -> None:
    alerts.report(ORDERS_ALL_STORED, BAD, FIRST)
    hook.status = 503
    assert alerts.tick() == "alerts delivered: 0, waiting: 1"
    hook.status = 200
    assert alerts.tick() == "alerts delivered: 1, waiting: 0"
    assert len(hook.texts()) == 2


def test_a_webhook_that_refuses_is_not_asked_again(hook: Hook, alerts: CheckAlerts) -> None:
    alerts.report(ORDERS_ALL_STORED, BAD, FIRST)
    hook.status = 404
    alerts.tick()
    assert alerts.tick() == "alerts delivered: 0, waiting: 0"
    assert len(hook.texts()) == 1


def test_neither_a_secret_nor_markup_gets_into_a_message(
    hook: Hook, alerts: CheckAlerts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LUMINA_META_TOKEN", "MARKER-token-1234567890")
    sentence = "<!channel> @here [x](http://evil.test) MARKER-token-1234567890"
    alerts.report(ORDERS_ALL_STORED, Verdict(passed=False, sentence=sentence), FIRST)
    alerts.tick()
    [text] = hook.texts()
    assert "MARKER-token" not in text
    assert "<!channel>" not in text
    assert "](http" not in text
    assert MARKER not in text + caplog.text


def test_many_failing_checks_are_one_message(hook: Hook, alerts: CheckAlerts) -> None:
    from sync_pipeline.assets.checks import checks_of

    lumina = find_tenant(load_tenants(alerts.pipeline.tenants), "lumina")
    errors = [check for check in checks_of(lumina) if check.severity.value == "ERROR"]
    for check in errors:
        alerts.report(check, BAD, FIRST if check.daily else None)
    alerts.tick()
    [text] = hook.texts()
    assert text.count(" fails: ") == min(10, len(errors))
