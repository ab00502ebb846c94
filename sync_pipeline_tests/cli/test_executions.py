"""`sync-pipeline executions` and `cancel`: Dagster's runs in the words of the service that this one replaces."""

import json
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import pytest

from sync_pipeline.assets.specs import META_AD_INSIGHTS, POS_ORDERS
from sync_pipeline.automation.jobs import range_tags
from sync_pipeline.cli import STATUS, cancelling, executions
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.cli.installed import Installed
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.clocks import EngineClock
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

DAYS = (date(2026, 10, 5), date(2026, 10, 7))
QUEUED = dg.DagsterRunStatus.QUEUED
STARTED = dg.DagsterRunStatus.STARTED


def told(installed: Installed, *arguments: str) -> Any:
    result = installed.command("executions", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def of_assets(installed: Installed, *tenants: str) -> str:
    """A queued run of the days of these tenants, as *Materialize* makes it: without the tags of a job."""
    assets = [f"{tenant}/{name}" for tenant in tenants for name in (META_AD_INSIGHTS, POS_ORDERS)]
    return installed.note(executions.ASSET_JOB, QUEUED, assets=assets, **range_tags(DayRange(*DAYS)))


def test_an_execution_is_listed_with_its_figures(installed: Installed) -> None:
    run_id = installed.run("lumina__daily_sync", *DAYS)
    [one] = told(installed)
    assert (
        one.items()
        >= {
            "run_id": run_id,
            "tenant": "lumina",
            "workflow": "daily_sync",
            "status": "COMPLETED",
            "trigger": "MANUAL",
            "since": "2026-10-05",
            "until": "2026-10-07",
            "total_days": 3,
            "days_processed": 3,
            "error": None,
            "errors": [],
        }.items()
    )
    logged = {
        source: sum(day.rows for day in installed.warehouse.committed_by(run_id, ["lumina"]) if day.source == source)
        for source in ("meta", "pos")
    }
    assert (one["meta_fetched"], one["pos_fetched"]) == (logged["meta"], logged["pos"])
    assert min(logged.values()) > 0
    assert one["duration_s"] > 0
    assert one["created"] <= one["started"] <= one["ended"]
    header, line = installed.command("executions").stdout.splitlines()
    assert header.split()[:4] == ["RUN", "TENANT", "WORKFLOW", "STATUS"]
    assert line.split()[:8] == [
        run_id[:8],
        "lumina",
        "daily_sync",
        "COMPLETED",
        "MANUAL",
        "2026-10-05",
        "to",
        "2026-10-07",
    ]


def test_a_failed_execution_tells_every_error_and_the_days_before_it(
    installed: Installed, sandbox: SandboxServer
) -> None:
    sandbox.faults.add(
        Fault(faults.http_error(500), path="shops/31.*/orders", covers_day=date(2026, 10, 7), times=None)
    )
    run_id = installed.run("lumina__daily_sync", *DAYS)
    shown = told(installed, "show", run_id)
    assert (shown["status"], shown["days_processed"], shown["total_days"]) == ("FAILED", 2, 3)
    [error] = shown["errors"]
    assert error.keys() == {"date", "source", "shop_id", "error"}
    assert (error["date"], error["source"]) == ("2026-10-07", "pos")
    assert shown["error"] == error["error"]
    assert [(day["day"], day["source"]) for day in shown["committed_days"]] == [
        (f"2026-10-0{day}", source) for day in (5, 6, 7) for source in ("meta", "pos")
    ][:-1]
    assert all(day["rows"] > 0 and day["complete"] for day in shown["committed_days"])
    text = installed.command("executions", "show", run_id[:8]).stdout
    assert f"- 2026-10-07, pos, shop {error['shop_id']}: " in text
    assert "\n2026-10-06  pos " in text
    listed = installed.command("executions").stdout.splitlines()[1]
    assert "2/3" in listed
    assert "2026-10-07" in listed.split("0:00:")[1], "the error in short"


def test_an_execution_shows_which_days_were_not_over(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    # 02:00 on the 8th in Manila, when the 7th was not over in Los Angeles, where an ad account is.
    EngineClock(monkeypatch, datetime(2026, 10, 7, 18, tzinfo=UTC))
    run_id = installed.run("lumina__daily_sync", date(2026, 10, 6), date(2026, 10, 7))
    days = told(installed, "show", run_id)["committed_days"]
    assert [(day["day"], day["source"], day["complete"], day["all_read"]) for day in days] == [
        ("2026-10-06", "meta", True, True),
        ("2026-10-06", "pos", True, True),
        ("2026-10-07", "meta", False, True),
        ("2026-10-07", "pos", True, True),
    ]
    assert (days[2]["over_at"], days[3]["over_at"]) == ("2026-10-08T07:00:00+00:00", "2026-10-07T16:00:00+00:00")
    text = installed.command("executions", "show", run_id).stdout.splitlines()
    assert [line.split("  ")[-1].strip() for line in text[-4:]] == ["yes", "yes", "not over", "yes"]


def test_an_execution_that_went_on_after_errors_tells_them_all(
    installed: Installed, sandbox: SandboxServer, shell: Shell
) -> None:
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("- name: daily_sync", "- name: daily_sync\n    on_error: continue"))
    for day in (5, 7):
        fault = Fault(faults.http_error(500), path="insights", covers_day=date(2026, 10, day), times=None)
        sandbox.faults.add(fault)
    failed = shell.run("trigger", "lumina", "daily_sync", "--since", "2026-10-05", "--until", "2026-10-07")
    assert failed.returncode == 1
    [one] = told(installed, "--status", "failed")
    assert {(error["date"], error["source"]) for error in one["errors"]} == {
        ("2026-10-05", "meta"),
        ("2026-10-07", "meta"),
    }
    assert all(error["account_id"] and error["error"] for error in one["errors"])


def test_dagsters_own_words_are_told_where_no_step_failed(installed: Installed) -> None:
    run_id = installed.note("lumina__daily_sync", STARTED)
    run = installed.instance.get_run_by_id(run_id)
    assert run
    installed.instance.report_run_failed(run, "The run's process is gone.")
    assert told(installed, "show", run_id)["error"] == "The run's process is gone."


def test_statuses_are_the_old_services(installed: Installed) -> None:
    words = {
        "QUEUED": "PENDING",
        "NOT_STARTED": "PENDING",
        "MANAGED": "PENDING",
        "STARTING": "RUNNING",
        "STARTED": "RUNNING",
        "SUSPENDED": "RUNNING",
        "CANCELING": "RUNNING",
        "SUCCESS": "COMPLETED",
        "FAILURE": "FAILED",
        "CANCELED": "CANCELLED",
    }
    run_ids = {installed.note("lumina__daily_sync", dg.DagsterRunStatus(status)): status for status in words}
    assert {run_ids[one["run_id"]]: one["status"] for one in told(installed)} == words
    for word in STATUS.choices:
        found = {run_ids[one["run_id"]] for one in told(installed, "--status", word.lower())}
        assert found == {status for status in words if words[status] == word}
    assert words.keys() == {status.value for status in dg.DagsterRunStatus}


def test_what_started_an_execution(installed: Installed) -> None:
    tags = [
        ("MANUAL", {}),
        ("SCHEDULED", {"trigger": "schedule"}),
        ("BACKFILL", {"dagster/backfill": "abcdefgh"}),
        ("MANUAL", {"trigger": "schedule", "dagster/parent_run_id": "x"}),
    ]
    expected = {installed.note("lumina__daily_sync", QUEUED, **of): trigger for trigger, of in tags}
    assert {one["run_id"]: one["trigger"] for one in told(installed)} == expected


def test_executions_are_filtered_and_the_newest_come_first(installed: Installed) -> None:
    runs = {
        name: installed.note(job, QUEUED)
        for name, job in (
            ("first", "lumina__daily_sync"),
            ("second", "mekong__daily_sync"),
            ("third", "lumina__meta_only"),
        )
    }
    runs["assets"] = of_assets(installed, "lumina")
    runs["both"] = of_assets(installed, "lumina", "mekong")

    def names(*arguments: str) -> list[str]:
        by_id = {run_id: name for name, run_id in runs.items()}
        return [by_id[one["run_id"]] for one in told(installed, *arguments)]

    assert names() == ["both", "assets", "third", "second", "first"]
    assert names("--limit", "2") == ["both", "assets"]
    assert names("--tenant", "lumina") == ["both", "assets", "third", "first"]
    assert names("--tenant", "mekong") == ["both", "second"]
    assert names("--workflow", "daily_sync") == ["second", "first"]
    assert names("--tenant", "lumina", "--workflow", "daily_sync") == ["first"]
    assert names("--tenant", "lumina", "--limit", "3") == ["both", "assets", "third"]
    assert names("--tenant", "nobody") == []


def test_more_executions_than_a_page_are_read(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executions, "PAGE", 2)
    made = [installed.note("lumina__daily_sync", QUEUED) for _ in range(5)]
    assert [one["run_id"] for one in told(installed, "--limit", "4")] == made[:0:-1]
    assert told(installed, "show", made[0])["run_id"] == made[0]


def test_a_run_of_assets_belongs_to_the_tenants_of_its_assets(installed: Installed) -> None:
    of_assets(installed, "mekong", "lumina")
    [one] = told(installed)
    assert (one["tenant"], one["workflow"], one["status"]) == ("lumina, mekong", None, "PENDING")
    assert (one["since"], one["until"], one["total_days"]) == ("2026-10-05", "2026-10-07", 3)


def test_a_run_is_known_by_the_beginning_of_its_id(installed: Installed) -> None:
    first, second = ("aaaa1111-0000-4000-8000-000000000000", "aaaa2222-0000-4000-8000-000000000000")
    for run_id in (first, second):
        installed.note("lumina__daily_sync", QUEUED, run_id=run_id)
    assert told(installed, "show", "AAAA1")["run_id"] == first
    ambiguous = installed.command("executions", "show", "aaaa")
    assert ambiguous.exit_code == 1
    assert first in str(ambiguous.exception)
    assert second in str(ambiguous.exception)
    for unknown in ("bbbb", ""):
        assert "there is no execution whose id begins with" in str(
            installed.command("executions", "show", unknown).exception
        )


def test_a_queued_execution_is_cancelled_at_once(installed: Installed) -> None:
    run_id = installed.note("lumina__daily_sync", QUEUED)
    result = installed.command("cancel", run_id[:8])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"execution {run_id} is CANCELLED: taken from the queue\n"
    assert told(installed, "show", run_id)["status"] == "CANCELLED"


def test_an_execution_that_has_ended_cannot_be_cancelled(installed: Installed) -> None:
    for status, word in (("SUCCESS", "COMPLETED"), ("FAILURE", "FAILED"), ("CANCELED", "CANCELLED")):
        run_id = installed.note("lumina__daily_sync", dg.DagsterRunStatus(status))
        result = installed.command("cancel", run_id)
        assert result.exit_code == 1
        assert str(result.exception) == f"execution {run_id} has already ended: {word}"


def test_an_execution_in_the_foreground_is_cancelled_from_another_terminal(
    installed: Installed, shell: Shell, sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "PATIENCE_S", PATIENCE_S)
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("  accounts: all", "  days_per_request: 1\n  accounts: all"))
    waiting = Fault(faults.rate_limited("600"), path="insights", query="2026-10-06", times=None)
    sandbox.faults.add(waiting)
    process = shell.start("trigger", "lumina", "daily_sync", "--since", "2026-10-05", "--until", "2026-10-07")
    wait_until(lambda: waiting.hits, process=process)
    [running] = told(installed, "--status", "running")
    result = installed.command("cancel", running["run_id"])
    assert result.exit_code == 0, result.exception
    assert result.stdout.startswith(f"execution {running['run_id']} is CANCELLED: stopped")
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "error: lumina daily_sync was cancelled" in err
    shown = told(installed, "show", running["run_id"])
    assert shown["status"] == "CANCELLED"
    assert [(day["day"], day["source"]) for day in shown["committed_days"]] == [
        ("2026-10-05", "meta"),
        ("2026-10-05", "pos"),
    ]


def test_an_execution_whose_process_is_gone_is_ended_for_it(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelling, "PATIENCE_S", 0.5)
    run_id = installed.note("lumina__daily_sync", STARTED)
    result = installed.command("cancel", run_id)
    assert result.exit_code == 0, result.exception
    assert "its process is gone" in result.stdout
    assert told(installed, "show", run_id)["status"] == "CANCELLED"


def test_an_execution_whose_process_works_on_is_an_error(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "PATIENCE_S", 0.5)
    run_id = installed.note("lumina__daily_sync", STARTED)
    with installed.warehouse.tenant("lumina", name="Lumina", timezone="Asia/Manila", run_id=run_id):
        result = installed.command("cancel", run_id)
    assert result.exit_code == 1
    assert "its process is still at work" in str(result.exception)
