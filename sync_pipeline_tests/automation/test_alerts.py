"""A failed run is told once to its tenant's webhook, whatever state the webhook is in."""

import logging
from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg
import pytest

from sync_pipeline.automation.alerts import PATIENCE_S, Cursor
from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.text_safety import WORD_JOINER
from sync_pipeline_tests.automation.conftest import MARKER, Hook
from sync_pipeline_tests.pipeline import Pipeline

JOB = "lumina__daily_sync"
FIRST = date(2026, 10, 5)
SECOND = date(2026, 10, 6)
LAST = date(2026, 10, 8)


@dataclass
class Alerts:
    """The sensor as the daemon evaluates it: only its cursor lasts from tick to tick."""

    pipeline: Pipeline
    cursor: str | None = None

    def tick(self) -> str:
        sensor = self.pipeline.definitions.get_repository_def().get_sensor_def("failure_alerts")
        data = sensor.evaluate_tick(dg.build_sensor_context(instance=self.pipeline.instance, cursor=self.cursor))
        assert not data.run_requests
        self.cursor = data.cursor
        return data.skip_message or ""


def add_webhook(pipeline: Pipeline, tenant: str) -> None:
    file = pipeline.tenants / f"{tenant}.yaml"
    file.write_text(f"{file.read_text()}\nalerts:\n  webhook: {{env: {tenant.upper()}_WEBHOOK}}\n")
    pipeline.reload()


@pytest.fixture
def alerts(pipeline: Pipeline, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> Alerts:
    """Lumina has a webhook, mekong none; the sensor has seen all there was."""
    monkeypatch.setenv("LUMINA_WEBHOOK", hook.url())
    add_webhook(pipeline, "lumina")
    alerts = Alerts(pipeline)
    alerts.tick()
    return alerts


def failed_run(pipeline: Pipeline, job: str = JOB, said: str | None = None, **tags: str) -> dg.DagsterRun:
    """A run that is reported as failed without an error of its own, as run monitoring does."""
    definition = pipeline.definitions.resolve_job_def(job)
    run = pipeline.instance.create_run_for_job(definition, tags={**definition.run_tags, **tags})
    pipeline.instance.report_run_failed(run, said)
    return run


def fail_orders(pipeline: Pipeline, shop: int, day: date, times: int | None = None) -> None:
    path = f"shops/{shop}/orders"
    pipeline.sandbox.faults.add(Fault(faults.http_error(500), path=path, covers_day=day, times=times))


def run_log(pipeline: Pipeline, run_id: str) -> list[str]:
    return [entry.message for entry in pipeline.instance.all_logs(run_id)]


def test_a_failed_run_is_told_once_with_what_failed_where_why_and_a_link(
    pipeline: Pipeline, hook: Hook, alerts: Alerts
) -> None:
    shop = pipeline.sandbox.world.tenants["lumina"].shops[0].shop_id
    fail_orders(pipeline, shop, SECOND)
    result = pipeline.run(JOB, FIRST, LAST)
    assert not result.success
    assert alerts.tick() == "alerts delivered: 1, waiting: 0"
    alerts.tick()

    [text] = hook.texts()
    what, days, where, error, link = text.split("\n")
    assert what == "Sync of Lumina Skin (lumina) failed: workflow daily_sync (manual)"
    assert days == "Days: 2026-10-05 to 2026-10-08, 1/4 done"
    assert where == f"Where: 2026-10-06, pos, shop {shop}"
    [event] = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert error == f"Error: `{failure.description}`"
    assert link == f"Run: http://127.0.0.1:3000/runs/{result.run_id}"
    assert "alert posted to the webhook of tenant lumina" in run_log(pipeline, result.run_id)


def test_the_link_leads_to_the_ui_that_the_environment_names(
    pipeline: Pipeline, hook: Hook, alerts: Alerts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_PIPELINE_UI_URL", "https://dagster.example.com/")
    pipeline.reload()
    run = failed_run(pipeline)
    alerts.tick()
    assert hook.texts()[0].endswith(f"\nRun: https://dagster.example.com/runs/{run.run_id}")


def test_runs_that_succeeded_or_were_cancelled_or_are_of_a_tenant_without_webhook_are_not_told(
    pipeline: Pipeline, hook: Hook, alerts: Alerts
) -> None:
    assert pipeline.run(JOB, FIRST, FIRST).success
    job = pipeline.definitions.resolve_job_def(JOB)
    cancelled = pipeline.instance.create_run_for_job(job, tags=job.run_tags)
    pipeline.instance.report_run_canceling(cancelled)
    pipeline.instance.report_run_canceled(cancelled)
    pipeline.instance.report_run_canceled(failed_run(pipeline))
    failed_run(pipeline, "mekong__daily_sync")
    assert alerts.tick() == "nothing to tell"
    assert hook.posts == []


def test_what_failed_before_the_sensor_was_first_there_is_not_told(
    pipeline: Pipeline, hook: Hook, alerts: Alerts
) -> None:
    failed_run(pipeline)
    alerts.cursor = None
    alerts.tick()
    failed_run(pipeline)
    alerts.tick()
    assert len(hook.posts) == 1


def test_all_errors_of_a_workflow_that_goes_on_are_listed_up_to_ten(
    pipeline: Pipeline, hook: Hook, alerts: Alerts
) -> None:
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(
        file.read_text().replace("  - name: daily_sync\n", "  - name: daily_sync\n    on_error: continue\n")
    )
    pipeline.reload()
    shops = [shop.shop_id for shop in pipeline.sandbox.world.tenants["lumina"].shops]
    days = [FIRST + timedelta(days=n) for n in range(6)]
    for day in days:
        for shop in shops:
            fail_orders(pipeline, shop, day)
    assert not pipeline.run(JOB, days[0], days[-1]).success
    alerts.tick()

    [text] = hook.texts()
    lines = text.split("\n")
    errors = [line for line in lines if line.startswith("- ")]
    count = len(days) * len(shops)
    assert f"{count} errors:" in lines
    assert errors[0].startswith(f"- 2026-10-05, pos, shop {shops[0]}: `")
    assert errors[0].endswith("[HTTP 500]`")
    assert errors[10:] == [f"- and {count - 10} more"]


def test_an_alert_names_what_is_missing_and_the_command(pipeline: Pipeline, hook: Hook, alerts: Alerts) -> None:
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(
        file.read_text().replace("  - name: daily_sync\n", "  - name: daily_sync\n    on_error: continue\n")
    )
    pipeline.reload()
    account = pipeline.sandbox.world.tenants["lumina"].accounts[0].account_id
    refused = faults.graph_error("no_permission")
    pipeline.sandbox.faults.add(Fault(refused, path=f"act_{account}/insights", times=None))
    fail_orders(pipeline, 310001, SECOND)
    assert not pipeline.run(JOB, FIRST, LAST).success
    alerts.tick()
    lines = [line.replace(WORD_JOINER, "") for line in hook.texts()[0].split("\n")]
    assert "2 errors:" in lines
    assert any(line.startswith(f"- 2026-10-05 to 2026-10-08, meta, account {account}: `") for line in lines)
    [missing] = [line for line in lines if line.startswith("Missing: ")]
    assert missing == (
        f"Missing: `meta: rows of account {account} are missing for 2026-10-05 to 2026-10-08; to sync without it, run: "
        f"sync-pipeline accounts disable lumina {account}`"
    )


def test_an_alert_names_at_most_ten_missing_accounts(pipeline: Pipeline, hook: Hook, alerts: Alerts) -> None:
    missing = [{"sentence": f"rows of account {number} are missing"} for number in range(12)]

    @dg.op
    def fail() -> None:
        raise dg.Failure("12 errors", metadata={"missing": dg.JsonMetadataValue(missing)})

    @dg.job(tags={"tenant": "lumina", "workflow": "daily_sync"})
    def job() -> None:
        fail()

    job.execute_in_process(instance=pipeline.instance, raise_on_error=False)
    alerts.tick()
    named = [line for line in hook.texts()[0].split("\n") if line.startswith("Missing: ")]
    assert len(named) == 11
    assert named[9:] == ["Missing: rows of account 9 are missing", "Missing: 2 more"]


def test_a_killed_run_is_told_in_the_words_of_who_found_it(pipeline: Pipeline, hook: Hook, alerts: Alerts) -> None:
    failed_run(pipeline, said="The run's process is gone.", **range_tags(DayRange(FIRST, FIRST)))
    alerts.tick()
    [text] = hook.texts()
    assert "Days: 2026-10-05\n" in text
    assert (
        "Error: the run ended without an error of its own: its process was killed or died, or could not be started. "
        "The run's process is gone.\n"
    ) in text


def test_a_run_reported_as_failed_twice_is_told_once(pipeline: Pipeline, hook: Hook, alerts: Alerts) -> None:
    run = failed_run(pipeline)
    alerts.tick()
    pipeline.instance.report_run_failed(run)
    alerts.tick()
    assert len(hook.posts) == 1


def test_more_runs_than_a_tick_of_dagsters_own_sensor_takes_are_told_in_one(
    pipeline: Pipeline, hook: Hook, alerts: Alerts
) -> None:
    runs = [failed_run(pipeline).run_id for _ in range(8)]
    alerts.tick()
    assert [text.rsplit("/", 1)[1] for text in hook.texts()] == runs


def test_a_backfill_that_fails_in_many_runs_is_told_once_and_counted(
    pipeline: Pipeline, hook: Hook, alerts: Alerts
) -> None:
    for _ in range(3):
        failed_run(pipeline, **{"dagster/backfill": "ccatyiwd"})
    alerts.tick()
    failed_run(pipeline, **{"dagster/backfill": "ccatyiwd"})
    alerts = Alerts(Pipeline(pipeline.sandbox, pipeline.engine, pipeline.instance, pipeline.tenants), alerts.cursor)
    alerts.tick()
    [text] = hook.texts()
    assert "3 runs have failed so far" in text
    assert "http://127.0.0.1:3000/runs/b/ccatyiwd\n" in text

    failed_run(pipeline, **{"dagster/backfill": "another1"})
    alerts.tick()
    assert "1 run has failed so far" in hook.texts()[1]


def materialize(pipeline: Pipeline, *assets: str) -> dg.ExecuteInProcessResult:
    """As the UI's Materialize does: a run of picked assets, which belongs to no workflow."""
    job = pipeline.definitions.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(asset.split("/")) for asset in assets]
    return job.execute_in_process(
        instance=pipeline.instance,
        asset_selection=keys,
        tags=range_tags(DayRange(FIRST, FIRST)),
        raise_on_error=False,
    )


def test_a_run_of_picked_assets_is_told_by_their_names(pipeline: Pipeline, hook: Hook, alerts: Alerts) -> None:
    pipeline.sandbox.faults.add(Fault(faults.graph_error("no_permission"), path="insights", times=None))
    materialize(pipeline, "lumina/meta_ad_insights", "lumina/pos_orders")
    alerts.tick()
    [text] = hook.texts()
    assert text.startswith(
        "Sync of Lumina Skin (lumina) failed: meta_ad_insights, pos_orders (without a workflow)\nDays: 2026-10-05, 0/1"
    )


def test_of_a_run_over_several_tenants_each_is_told_its_own_failure_alone(
    pipeline: Pipeline, hook: Hook, alerts: Alerts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEKONG_WEBHOOK", hook.url("mekong"))
    monkeypatch.setenv("LUMINA_META_TOKEN", "wrong")
    add_webhook(pipeline, "mekong")
    assert not materialize(pipeline, "lumina/meta_ad_accounts", "mekong/meta_ad_accounts").success
    alerts.tick()
    assert len(hook.texts()) == 1
    assert hook.texts("mekong") == []

    monkeypatch.setenv("MEKONG_META_TOKEN", "wrong too")
    materialize(pipeline, "lumina/meta_ad_accounts", "mekong/meta_ad_accounts")
    alerts.tick()
    [own], [_, others] = hook.texts("mekong"), hook.texts()
    assert "mekong" in own
    assert "lumina" not in own
    assert "mekong" not in others


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError(MARKER), "Error: an unexpected KeyError; the run's log has its traceback."),
        (KeyboardInterrupt(), "Error: the run was interrupted: its process was told to end."),
    ],
)
def test_an_error_of_no_type_of_ours_is_told_by_its_type_alone(
    pipeline: Pipeline, hook: Hook, alerts: Alerts, error: BaseException, told: str
) -> None:
    @dg.op
    def fail() -> None:
        raise error

    @dg.job(tags={"tenant": "lumina", "workflow": "daily_sync"})
    def job() -> None:
        fail()

    job.execute_in_process(instance=pipeline.instance, raise_on_error=False)
    alerts.tick()
    [text] = hook.texts()
    assert f"\n{told}\n" in text
    assert MARKER not in text


def test_a_hook_that_is_down_delays_nobody_and_gets_the_message_when_it_is_back(
    pipeline: Pipeline, hook: Hook, alerts: Alerts, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEKONG_WEBHOOK", hook.url("mekong"))
    monkeypatch.setenv("LUMINA_WEBHOOK", f"http://127.0.0.1:1/{MARKER}")
    add_webhook(pipeline, "mekong")
    run = failed_run(pipeline)
    failed_run(pipeline)
    failed_run(pipeline, "mekong__daily_sync")
    assert alerts.tick() == "alerts delivered: 1, waiting: 2"
    assert len(hook.texts("mekong")) == 1
    warned = capfd.readouterr().err
    assert f"WARNING - run {run.run_id}: alert waits for the webhook of tenant lumina: no connection\n" in warned

    monkeypatch.setenv("LUMINA_WEBHOOK", hook.url())
    assert alerts.tick() == "alerts delivered: 2, waiting: 0"
    alerts.tick()
    assert len(hook.texts()) == 2
    assert len(hook.texts("mekong")) == 1


def test_a_message_is_given_up_in_the_end_and_the_run_says_so(pipeline: Pipeline, hook: Hook, alerts: Alerts) -> None:
    hook.status = 503
    run = failed_run(pipeline)
    alerts.tick()
    cursor = Cursor.parse(alerts.cursor)
    assert cursor is not None
    [waiting] = cursor.waiting
    long_since = waiting.model_copy(update={"since": waiting.since - PATIENCE_S})
    alerts.cursor = cursor.model_copy(update={"waiting": (long_since,)}).model_dump_json()
    assert alerts.tick() == "alerts delivered: 0, waiting: 0"
    assert "alert not taken by the webhook of tenant lumina: it answered HTTP 503" in run_log(pipeline, run.run_id)


def test_a_variable_that_is_not_set_is_a_warning_and_a_line_of_the_runs_log(
    pipeline: Pipeline, hook: Hook, alerts: Alerts, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LUMINA_WEBHOOK")
    run = failed_run(pipeline)
    assert alerts.tick() == "alerts delivered: 0, waiting: 0"
    why = "tenant lumina: alerts.webhook: the environment variable LUMINA_WEBHOOK is not set"
    assert f"alert not taken by the webhook of tenant lumina: {why}" in run_log(pipeline, run.run_id)
    assert f"WARNING - run {run.run_id}: alert not taken" in capfd.readouterr().err


@pytest.mark.parametrize("status", [200, 404, 503])
def test_no_secret_is_in_a_message_and_the_address_is_nowhere(
    pipeline: Pipeline,
    hook: Hook,
    alerts: Alerts,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    status: int,
) -> None:
    caplog.set_level(logging.DEBUG)
    hook.status = status
    token = pipeline.sandbox.environment["LUMINA_META_TOKEN"]
    run = failed_run(pipeline, said=f"no answer from {hook.url()} with {token}")
    alerts.tick()
    events = [line for line in run_log(pipeline, run.run_id) if "no answer from" not in line]
    logs = [record.getMessage() for record in caplog.records]
    captured = capfd.readouterr()
    written = "\n".join([*events, *logs, repr(pipeline.definitions), str(alerts.cursor), captured.out, captured.err])
    assert any(line.startswith("alert ") for line in events) or "alert waits" in captured.err
    assert MARKER not in written
    [text] = hook.texts()
    assert "no answer from *** with ***" in text


def test_foreign_text_in_an_alert_is_literal(pipeline: Pipeline, hook: Hook, alerts: Alerts) -> None:
    attack = "@everyone ![](http://evil.test/x) [a](http://evil.test) `@here` <!channel>\n*b*"
    file = pipeline.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("name: Lumina Skin", "name: '@all ![](http://evil.test)'"))
    pipeline.reload()
    tags = {"dagster/backfill": "x/../y?z", "workflow": "@channel", "trigger": "[t](http://evil.test)"}
    run = failed_run(pipeline, said=attack, **tags)
    # Dagster checks the partition of a new run, but not a tag that is added later.
    pipeline.instance.add_run_tags(run.run_id, {"dagster/partition": "_@here_"})
    alerts.tick()
    [text] = hook.texts()
    for mark in ("@everyone", "@all", "@here", "@channel", "![", "](", "//evil", "<!channel>"):
        assert mark not in text
    first, days, error, backfill, link = text.split("\n")
    visible = error.replace(WORD_JOINER, "")
    assert visible.endswith(
        "started. `@everyone ![](http://evil.test/x) [a](http://evil.test) \u2019@here\u2019 &lt;!channel&gt; *b*`"
    )
    # Whatever is foreign is in a code span.
    assert [part.count("`") for part in (first, days, error)] == [6, 2, 2]
    assert backfill.endswith("http://127.0.0.1:3000/runs/b/x%2F..%2Fy%3Fz")
    assert link.startswith("Run: http://127.0.0.1:3000/runs/")


def test_what_an_api_said_cannot_call_out_a_channel(pipeline: Pipeline, hook: Hook, alerts: Alerts) -> None:
    failed_run(pipeline, said="<!channel> & <https://example.com|click>")
    alerts.tick()
    assert "&lt;!channel&gt; &amp; &lt;https://example.com|click&gt;" in hook.texts()[0].replace(WORD_JOINER, "")
