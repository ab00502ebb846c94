"""`sync-pipeline status`: what is there, what is late, and why."""

import json
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from subprocess import run
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
import sqlalchemy as sa

from sync_pipeline.assets.freshness import Expectation
from sync_pipeline.assets.verdicts import Verdict
from sync_pipeline.cli.status import SourceStatus
from sync_pipeline.definitions import build_definitions
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.settings import Settings
from sync_pipeline.warehouse.credentials import CredentialExpiry, store_expiries
from sync_pipeline.warehouse.database import bound_to
from sync_pipeline.warehouse.health import SourceHealth
from sync_pipeline_tests.cli.installed import Installed
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.waiting import lasting, lasting_today

JOB = "lumina__daily_sync"


@pytest.fixture
def yesterday() -> date:
    return lasting_today("Asia/Manila") - timedelta(days=1)


def last_day_of_meta(now: datetime) -> date:
    """The newest day that was over in Los Angeles at lumina's last nightly run, which has two hours to finish."""
    manila = (now - timedelta(hours=2)).astimezone(ZoneInfo("Asia/Manila"))
    night = manila.replace(hour=2, minute=0, second=0, microsecond=0)
    run = night if night <= manila else night - timedelta(days=1)
    return run.astimezone(ZoneInfo("America/Los_Angeles")).date() - timedelta(days=1)


def stored(installed: Installed, source: str, day: date) -> None:
    """Make it as if a run that began now had stored the day completely."""
    with bound_to(installed.warehouse.engine, "lumina") as connection, connection.begin():
        connection.execute(
            sa.text(
                "INSERT INTO sync_log (tenant_id, source, day, run_id, rows, changed, removed, excluded, amount, "
                "requests, complete, started, finished) VALUES ('lumina', :source, :day, 'run', 3, 0, 0, 0, 0, 1, "
                "true, now(), now())"
            ),
            {"source": source, "day": day},
        )


def test_a_tenant_without_its_day_is_late_and_one_with_it_is_not(
    installed: Installed, sandbox: SandboxServer, yesterday: date
) -> None:
    sandbox.faults.add(Fault(faults.http_error(500), path="shops/31.*/orders", times=None))
    run_id = installed.run(JOB, date(2026, 10, 5), date(2026, 10, 6))
    newest = lasting(last_day_of_meta)
    result = installed.command("status", "lumina", "--json")
    assert result.exit_code == 1
    meta, pos = json.loads(result.stdout)
    assert (meta["tenant_id"], meta["source"], meta["state"]) == ("lumina", "meta", "late")
    assert (meta["last_complete_day"], meta["days_missing"], meta["last_error"]) == ("2026-10-05", 0, None)
    # One of the ad accounts is in Los Angeles, where no day is over when it is over in Manila.
    assert meta["days_behind"] == (newest - date(2026, 10, 5)).days
    assert "because the days of ad account 100000000000103 are in America/Los_Angeles" in meta["why"]
    assert (meta["rows"], meta["run_id"]) == (12, run_id)
    assert (pos["state"], pos["last_complete_day"], pos["rows"]) == ("late", None, None)
    assert pos["last_error"].startswith("Pancake failed on its side (pos, tenant lumina, shop 310001, 2026-10-05)")
    assert (pos["last_error_day"], pos["last_error_run_id"]) == ("2026-10-05", run_id)
    told = result.stderr.splitlines()
    assert [line.split(" should")[0].rsplit(":", 1)[0] for line in told] == [
        "error: lumina: meta",
        "error: lumina: pos",
    ]

    for source in ("meta", "pos"):
        # A weekly schedule may expect no more than last Sunday.
        for days in range(8):
            stored(installed, source, yesterday - timedelta(days=days))
    result = installed.command("status", "lumina")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[:5] for line in result.stdout.splitlines()[1:]] == [
        ["lumina", "meta", "ok", str(yesterday), "0"],
        ["lumina", "pos", "ok", str(yesterday), "0"],
    ]
    assert "Pancake failed" not in result.stdout
    everyone = installed.command("status")
    assert everyone.exit_code == 1
    assert "mekong  meta    late   -" in everyone.stdout


def test_meta_is_not_behind_by_a_day_not_over_in_los_angeles(installed: Installed, yesterday: date) -> None:
    installed.run(JOB, date(2026, 10, 5), date(2026, 10, 5))
    newest = lasting(last_day_of_meta)
    stored(installed, "meta", newest)
    [meta] = [
        one for one in json.loads(installed.command("status", "lumina", "--json").stdout) if one["source"] == "meta"
    ]
    assert newest < yesterday
    assert (meta["state"], meta["last_complete_day"], meta["days_behind"]) == ("ok", str(newest), 0)
    assert f"{newest + timedelta(days=1)} is over at " in meta["why"]


def test_no_day_of_meta_is_behind_before_its_run_is_due() -> None:
    """The day is over at 16:00 in Manila, and the next run begins at 20:00."""
    last, tick = date(2026, 11, 26), datetime(2026, 11, 27, 12, tzinfo=UTC)
    health = SourceHealth("acme", "meta", last, 1, *[None] * 10)
    expected = Expectation("acme", "meta", last, tick, complete_day=last)
    verdict = Verdict(passed=True, sentence="")
    assert SourceStatus("acme", "meta", expected, verdict, health, None).days_behind == 0
    assert SourceStatus("acme", "meta", None, verdict, health, None).days_behind == 1, "no run is due at all"


def test_a_tenant_that_is_left_out_is_as_bad_as_a_late_one(installed: Installed) -> None:
    for name in ("lumina", "mekong"):
        for workflow in ("daily_sync", "weekly_resync"):
            installed.command("workflows", "disable", name, workflow)
    assert installed.command("status").exit_code == 0
    Path("tenants", "new.yaml").write_text("tenant: new")
    everyone = installed.command("status")
    assert everyone.exit_code == 1
    assert "its tenant is left out" in everyone.stderr
    assert installed.command("status", "lumina").exit_code == 0


def test_rejected_rows_are_shown_and_exit_with_one(
    installed: Installed, sandbox: SandboxServer, yesterday: date
) -> None:
    fault = sandbox.faults.add(
        Fault(faults.bad_rows({"status": "MARIA-MARKER"}, most=1), path="shops/310002/orders$", times=None)
    )
    installed.run(JOB, date(2026, 10, 5), date(2026, 10, 5))
    for source in ("meta", "pos"):
        for days in range(8):
            stored(installed, source, yesterday - timedelta(days=days))
    result = installed.command("status", "lumina", "--json")
    assert result.exit_code == 1
    meta, pos = json.loads(result.stdout)
    assert (meta["state"], meta["rejected_rows"]) == ("ok", 0)
    assert (pos["state"], pos["rejected_rows"]) == ("rejected", 1)
    [told] = result.stderr.splitlines()
    assert told.startswith("error: lumina: pos: 1 row of 2026-10-05 could not be read, for example order ")
    assert "status is not a number, found a text of 12 characters" in told
    shown = installed.command("status", "lumina")
    header, *lines = [line.split() for line in shown.stdout.replace("COMPLETE UP TO", "COMPLETE").splitlines()]
    assert [line[header.index("REJECTED")] for line in lines] == ["0", "1"]

    fault.times = 0
    installed.run(JOB, date(2026, 10, 5), date(2026, 10, 5))
    result = installed.command("status", "lumina")
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_refused_shop_is_named_until_it_is_disabled(
    installed: Installed, sandbox: SandboxServer, shell: Shell, yesterday: date
) -> None:
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("- name: daily_sync", "- name: daily_sync\n    on_error: continue"))
    installed.definitions = build_definitions(Settings.from_environment())
    forbidden = faults.json_body({"success": False, "message": "No permission"}, 403)
    sandbox.faults.add(Fault(forbidden, path="shops/310002/orders$", times=None))
    days = date(2026, 10, 5), date(2026, 10, 6)
    failed = installed.instance.get_run_by_id(installed.run(JOB, *days))
    assert failed is not None
    assert failed.status == dg.DagsterRunStatus.FAILURE
    for source in ("meta", "pos"):
        for number in range(8):
            stored(installed, source, yesterday - timedelta(days=number))
    result = installed.command("status", "lumina", "--json")
    assert result.exit_code == 1
    meta, pos = json.loads(result.stdout)
    assert (meta["state"], meta["missing"]) == ("ok", [])
    assert pos["state"] == "incomplete"
    [missing] = pos["missing"]
    command = "sync-pipeline shops disable lumina 310002"
    assert (missing["shop_id"], missing["since"], missing["until"], missing["days"], missing["command"]) == (
        "310002",
        "2026-10-05",
        "2026-10-06",
        2,
        command,
    )
    [told] = result.stderr.splitlines()
    sentence = f"pos: rows of shop 310002 are missing for 2026-10-05 to 2026-10-06; to sync without it, run: {command}"
    assert told.startswith(f"error: lumina: {sentence} (Pancake gives no permission (pos, tenant lumina, shop 310002")
    report = installed.command("report", "lumina", "--since", "2026-10-05", "--until", "2026-10-06")
    assert (
        "figures of 2026-10-05 to 2026-10-06 lack shop 310002, which refused; to sync without it, run: " + command
    ) in report.stderr

    assert installed.command(*command.split()[1:]).exit_code == 0
    result = installed.command("status", "lumina")
    assert (result.exit_code, result.stderr) == (0, "")
    completed = installed.instance.get_run_by_id(installed.run(JOB, *days))
    assert completed is not None
    assert completed.status == dg.DagsterRunStatus.SUCCESS


def test_a_refused_key_is_named_while_the_tenant_file_has_it(installed: Installed) -> None:
    facts = {"what": "the key is refused"}
    noted = [(f"key in {key}", "the key is refused", facts) for key in ("LUMINA_PANCAKE_KEY", "REMOVED_KEY")]
    with installed.warehouse.tenant("lumina", name="Lumina Skin", timezone="Asia/Manila") as held:
        held.note_refusals("pos", "run", noted)
    pos = json.loads(installed.command("status", "lumina", "--json").stdout)[1]
    assert [(one["key"], one["command"]) for one in pos["missing"]] == [("LUMINA_PANCAKE_KEY", None)]
    assert pos["missing"][0]["sentence"].endswith("correct the key, or remove it from the tenant file")


def test_without_a_schedule_that_is_on_nothing_is_late(installed: Installed) -> None:
    for workflow in ("daily_sync", "weekly_resync"):
        assert installed.command("workflows", "disable", "lumina", workflow).exit_code == 0
    result = installed.command("status", "lumina")
    assert result.exit_code == 0
    assert [line.split()[2] for line in result.stdout.splitlines()[1:]] == ["unscheduled", "unscheduled"]


def test_an_error_before_the_first_day_is_told_of_the_source_it_is_of(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LUMINA_PANCAKE_KEY")
    installed.run(JOB, date(2026, 10, 5), date(2026, 10, 5))
    meta, pos = json.loads(installed.command("status", "lumina", "--json").stdout)
    assert (meta["last_error"], meta["last_error_day"]) == (None, None)
    assert pos["last_error"] == (
        "tenant lumina: pancake.0.api_key: the environment variable LUMINA_PANCAKE_KEY is not set"
    )
    assert pos["last_error_day"] == "2026-10-05"


def test_an_unforeseen_error_is_told_without_its_text(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise KeyError("Maria's private note")

    monkeypatch.setattr("sync_pipeline.assets.discovery.discover_shops", refuse)
    run_id = installed.run(JOB, date(2026, 10, 5), date(2026, 10, 5))
    _, pos = json.loads(installed.command("status", "lumina", "--json").stdout)
    assert pos["last_error"] == "an unexpected KeyError; the run's log has its traceback"
    assert pos["last_error_run_id"] == run_id


def test_an_unknown_tenant_is_named_with_those_there_are(shell: Shell) -> None:
    result = shell.run("status", "nobody")
    assert result.returncode == 1
    assert result.stderr == "error: there is no tenant 'nobody'; there are lumina, mekong\n"


def test_help_loads_neither_dagster_nor_sqlalchemy() -> None:
    code = (
        "import sys; from sync_pipeline.cli import commands\n"
        "try: commands(['status', '--help'])\n"
        "except SystemExit: print({'dagster', 'sqlalchemy'} & set(sys.modules))"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_an_end_of_the_token_is_shown_and_fails_after_it(installed: Installed, yesterday: date) -> None:
    engine = installed.warehouse.engine
    with installed.warehouse.tenant("lumina", name="Lumina Skin", timezone="Asia/Manila"):
        pass
    for source in ("meta", "pos"):
        for days in range(8):
            stored(installed, source, yesterday - timedelta(days=days))
    now = datetime.now(UTC)
    meta, pos = json.loads(installed.command("status", "lumina", "--json").stdout)
    assert [one["outlook"] for one in meta["credentials"]] == ["valid", "unknown", "unknown"]
    assert pos["credentials"] == []

    store_expiries(engine, "lumina", [CredentialExpiry("meta", "token", "valid", now + timedelta(days=30), now)])
    result = installed.command("status", "lumina", "--json")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: lumina: meta: the token expires on ")
    meta, _ = json.loads(result.stdout)
    assert meta["state"] == "ok"
    [token] = [one for one in meta["credentials"] if one["subject"] == "token"]
    assert token["outlook"] == "ending"
    assert token["ends_at"] == (now + timedelta(days=30)).isoformat()

    store_expiries(engine, "lumina", [CredentialExpiry("meta", "token", "valid", now, now)])
    result = installed.command("status", "lumina")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: lumina: meta: the token expired on ")
    assert "lumina  meta    expired" in result.stdout
