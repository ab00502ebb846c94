"""The command line as a user meets it: what it prints, where, and with which exit code."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Effect, Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.warehouse import database
from sync_pipeline_tests import attacks
from sync_pipeline_tests.cli.shell import Shell, query
from sync_pipeline_tests.pipeline import administrator
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

RANGE = ("--since", "2026-10-05", "--until", "2026-10-07")


def test_help_lists_the_commands_without_loading_dagster(shell: Shell) -> None:
    result = shell.run_alone("--help")
    assert result.returncode == 0
    for command in ("cancel", "check", "demo", "dev", "executions", "grant", "migrate", "reload", "tenants", "trigger"):
        assert f"\n  {command} " in result.stdout
    code = "import sys; import sync_pipeline.cli; sys.exit('dagster' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_terminal_gets_text_where_services_log_json(shell: Shell) -> None:
    terminal, end = os.openpty()
    with os.fdopen(end, "w") as stderr:
        command = [sys.executable, "-m", "sync_pipeline.cli", "nonsense"]
        environment = {**shell.environment, "SYNC_PIPELINE_LOG": "json"}
        done = subprocess.run(command, cwd=shell.folder, env=environment, stderr=stderr, check=False)
        assert done.returncode != 0
        assert os.read(terminal, 4096).startswith(b"error: ")
    os.close(terminal)


def test_check_approves_the_demo_tenants(shell: Shell) -> None:
    result = shell.run("check")
    assert (result.returncode, result.stderr) == (0, "")
    assert "lumina: ok (workflows: daily_sync, weekly_resync, meta_only)" in result.stdout


def test_check_names_file_and_field_of_a_broken_one_and_still_checks_the_others(shell: Shell) -> None:
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("offset_days: 1", "offset_days: -1"))
    result = shell.run("check")
    assert result.returncode == 1
    assert "lumina.yaml: workflows.0.date_range.offset_days" in result.stderr
    assert "mekong: ok" in result.stdout
    assert shell.run("check", "mekong").returncode == 0
    assert shell.run("check", "lumina").returncode == 1


def test_check_reports_attacks_and_the_other_tenants(shell: Shell) -> None:
    for number, make in enumerate(attacks.FILES.values()):
        make(shell.tenants / f"attack_{number:03}.yaml")
    (shell.tenants / os.fsdecode(b"caf\xe9.yaml")).write_text(attacks.TENANT.format(id="cafe"))
    result = shell.run("check")
    assert result.returncode == 1
    assert "lumina: ok" in result.stdout
    assert "mekong: ok" in result.stdout
    files = {line.partition(".yaml: ")[0] for line in result.stderr.splitlines()}
    assert len(files) == len(attacks.FILES) + 1
    assert shell.run("check", "mekong").returncode == 0


def test_check_never_quotes_a_file_named_as_product_costs(shell: Shell) -> None:
    (shell.folder / ".env").write_text("LUMINA_META_TOKEN=MARKER-7f3a-secret\nPASSWORD=MARKER\n")
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("lumina_costs.csv", "../.env"))
    result = shell.run("check")
    assert result.returncode == 1
    assert "/.env: line 1: column 1 is not a known column" in result.stderr
    assert "MARKER" not in result.stdout + result.stderr
    assert "TOKEN=" not in result.stdout + result.stderr


def test_check_warns_of_a_timezone_with_a_reversed_sign(shell: Shell) -> None:
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("Asia/Manila", "Etc/GMT+8"))
    result = shell.run("check", "lumina")
    assert result.returncode == 0
    assert "warning: tenant lumina: timezone: Etc/GMT+8 is UTC-8" in result.stderr


def test_check_warns_of_a_variable_that_is_not_set_yet(shell: Shell) -> None:
    result = shell.run("check", "lumina", LUMINA_META_TOKEN="")
    assert result.returncode == 0
    assert "LUMINA_META_TOKEN" in result.stderr or "LUMINA_META_TOKEN" in result.stdout


def test_check_live_shows_what_a_token_sees_and_fails_when_it_is_refused(shell: Shell) -> None:
    seen = shell.run("check", "lumina", "--live")
    assert seen.returncode == 0
    assert "ad account 1" in seen.stdout
    assert "shop 310001" in seen.stdout
    refused = shell.run("check", "lumina", "--live", LUMINA_META_TOKEN="MARKER-7f3a-secret")
    assert refused.returncode == 1
    assert "code 190" in refused.stderr
    assert "MARKER" not in refused.stdout + refused.stderr


def test_check_live_tells_whose_token_it_is_and_until_when(shell: Shell, sandbox: SandboxServer) -> None:
    assert "lumina: token of " in shell.run("check", "lumina", "--live").stdout
    sandbox.behaviour.app_secret = "app-secret"
    file = shell.tenants / "lumina.yaml"
    file.write_text(
        file.read_text().replace("  accounts: all", "  app_secret: {env: LUMINA_APP_SECRET}\n  accounts: all")
    )
    told = shell.run("check", "lumina", "--live", LUMINA_APP_SECRET="app-secret")
    assert told.returncode == 0, told.stderr
    assert "the token expires on " in told.stdout + told.stderr or "the token does not expire" in told.stdout
    assert "app-secret" not in told.stdout + told.stderr


def test_check_fails_once_the_api_version_has_ended(shell: Shell) -> None:
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("api_version: v26.0", "api_version: v23.0"))
    for options in ((), ("--live",)):
        result = shell.run("check", "lumina", *options)
        assert result.returncode == 1
        assert result.stderr.count("error: lumina: Meta's API version v23.0 ended on 2026-06-09; set meta.api_ver") == 1
    assert shell.run("check", "mekong").returncode == 0


@pytest.mark.parametrize(
    ("left", "status", "begin"), [(61, 0, ""), (60, 0, "warning: "), (0, 1, "error: ")], ids=["61", "60", "ended"]
)
@pytest.mark.parametrize(
    ("field", "words"),
    [("expires_at", "the token expire"), ("data_access_expires_at", "the token's access to data end")],
    ids=["token", "data"],
)
def test_check_live_warns_60_days_before_an_end_without_a_secret(
    shell: Shell, sandbox: SandboxServer, field: str, words: str, left: int, status: int, begin: str
) -> None:
    # An hour more or less than the days, so that the time of the command makes no difference.
    end = int(time.time()) + left * 86400 + (3600 if left == 61 else -3600)
    told = {"is_valid": True, "expires_at": 0, "data_access_expires_at": 0, field: end}
    sandbox.faults.add(Fault(faults.json_body({"data": told}), path="debug_token", times=None))
    result = shell.run("check", "lumina", "--live")
    assert result.returncode == status
    assert f"{begin}lumina: {words}" in (result.stderr if begin else result.stdout)
    assert (begin != "") == (words in result.stderr)


def test_check_live_passes_where_meta_tells_no_expiry(shell: Shell, sandbox: SandboxServer) -> None:
    fault = faults.graph_error_code(100, message="(#100) You must provide an app access token")
    sandbox.faults.add(Fault(fault, path="debug_token", times=None))
    result = shell.run("check", "lumina", "--live")
    assert result.returncode == 0
    assert "lumina: Meta does not tell when the token expires" in result.stdout
    assert "Meta's reason: (#100) You must provide an app access token [code 100]" in result.stdout
    sandbox.faults.clear()
    sandbox.faults.add(Fault(faults.http_error(500), path="debug_token", times=None))
    result = shell.run("check", "lumina", "--live")
    assert result.returncode == 0
    assert "warning: lumina: it cannot be told when the token expires: Meta failed" in result.stderr


def test_check_live_names_accounts_that_keep_other_days_or_another_currency(shell: Shell) -> None:
    file = shell.tenants / "lumina.yaml"
    result = shell.run("check", "lumina", "--live")
    assert result.returncode == 0
    assert "days of America/Los_Angeles, not of the tenant's Asia/Manila" in result.stderr
    assert "is in USD" not in result.stderr, "its spend is multiplied"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(line for line in lines if "spend_multiplier" not in line))
    result = shell.run("check", "lumina", "--live")
    assert result.returncode == 0
    assert "is in USD, not in the tenant's PHP" in result.stderr


def test_check_live_fails_on_an_account_whose_insights_are_out_of_reach(shell: Shell, sandbox: SandboxServer) -> None:
    [account, *_] = sandbox.world.tenants["lumina"].accounts
    fault = Fault(faults.graph_error("no_permission"), path=f"act_{account.account_id}/insights", times=None)
    sandbox.faults.add(fault)
    result = shell.run("check", "lumina", "--live")
    assert result.returncode == 1
    assert f"account {account.account_id}" in result.stderr
    assert "Grant the token's user access" in result.stderr


def test_check_live_only_warns_of_a_source_that_no_workflow_needs(shell: Shell) -> None:
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("sources: [meta, pos]", "sources: [meta]"))
    result = shell.run("check", "lumina", "--live", LUMINA_PANCAKE_KEY="wrong")
    assert result.returncode == 0
    assert "warning: the api_key is not accepted" in result.stderr


def test_trigger_stores_the_days_it_is_given_and_leaves_a_run(shell: Shell, warehouse_url: URL) -> None:
    result = shell.run_alone("trigger", "lumina", "daily_sync", *RANGE)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("lumina daily_sync: 2026-10-05 meta: ")
    assert len([line for line in lines if re.search(r": 2026-10-0[567] (meta|pos): ", line)]) == 3 * 2
    days = query(warehouse_url, "SELECT DISTINCT date::text FROM meta_ad_insights ORDER BY 1")
    assert days == [("2026-10-05",), ("2026-10-06",), ("2026-10-07",)]
    runs = query(database.beside(warehouse_url, "_dagster"), "SELECT pipeline_name, status, run_id FROM runs")
    assert [(name, status) for name, status, _ in runs] == [("lumina__daily_sync", "SUCCESS")]
    assert str(runs[0][2]) in lines[-1]


def test_trigger_that_fails_says_why_in_one_line(shell: Shell, sandbox: SandboxServer) -> None:
    sandbox.faults.add(Fault(faults.graph_error("no_permission"), path="insights", times=None))
    result = shell.run("trigger", "lumina", "daily_sync", *RANGE)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: lumina daily_sync failed: ")
    assert "2026-10-05" in line
    assert "account" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("trigger", "lumnia", "daily_sync"), "there is no tenant 'lumnia'; there are lumina, mekong"),
        (("trigger", "lumina", "daily"), "no workflow 'daily'; it has daily_sync, weekly_resync, meta_only"),
        (
            ("trigger", "lumina", "daily_sync", "--since", "2025-12-31", "--until", "2026-01-02"),
            "start_date 2026-01-01",
        ),
        (("trigger", "lumina", "daily_sync", "--since", "2026-02-03", "--until", "2126-02-03"), "reaches past today"),
        (
            ("trigger", "lumina", "daily_sync", "--since", "2026-02-03", "--until", "2026-02-01"),
            "ends before it begins",
        ),
    ],
)
def test_trigger_refuses_what_makes_no_sense(shell: Shell, arguments: tuple[str, ...], message: str) -> None:
    result = shell.run(*arguments)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_trigger_goes_by_the_files_as_they_are_and_not_by_their_last_good_versions(shell: Shell) -> None:
    assert shell.run("workflows").returncode == 0
    (shell.tenants / "lumina_costs.csv").write_text("product_id\n")
    costs = shell.run("trigger", "lumina", "daily_sync", *RANGE)
    assert costs.returncode == 1
    assert "lumina_costs.csv: line 1" in costs.stderr
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("offset_days: 1", "offset_days: -1"))
    broken = shell.run("trigger", "lumina", "daily_sync", *RANGE)
    assert broken.returncode == 1
    assert "workflows.0.date_range.offset_days" in broken.stderr


def test_trigger_wants_both_ends_of_a_range(shell: Shell) -> None:
    result = shell.run("trigger", "lumina", "daily_sync", "--since", "2026-02-03")
    assert result.returncode == 2
    assert "--since and --until go together" in result.stderr


def test_a_missing_tenant_folder_is_one_clear_error(shell: Shell) -> None:
    result = shell.run("check", SYNC_PIPELINE_TENANTS="nowhere")
    assert result.returncode == 1
    assert result.stderr.startswith("error: nowhere: there is no such folder")


def test_a_warehouse_without_tables_says_to_migrate_and_migrate_makes_them(shell: Shell, warehouse_url: URL) -> None:
    engine = database.connect(warehouse_url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    refused = shell.run("trigger", "lumina", "daily_sync", *RANGE)
    assert refused.returncode == 1
    assert "run `sync-pipeline migrate`" in refused.stderr
    migrated = shell.run("migrate")
    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert "was at none" in migrated.stdout
    assert shell.run("trigger", "lumina", "meta_only", *RANGE).returncode == 0


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://u:pa@MARKER-7f3a@127.0.0.1:1/d", "SYNC_PIPELINE_DATABASE_URL is not a Postgres URL"),
        ("postgresql://u:pa%00MARKER-7f3a@127.0.0.1:1/d", "SYNC_PIPELINE_DATABASE_URL is not a Postgres URL"),
        ("postgresql://u:MARKER-7f3a@127.0.0.1:1/d?foo=bar", 'invalid connection option "foo"'),
    ],
)
def test_a_url_that_is_none_is_one_clear_error(shell: Shell, url: str, told: str) -> None:
    result = shell.run("migrate", SYNC_PIPELINE_DATABASE_URL=url)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert told in result.stderr
    assert "MARKER" not in result.stderr


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg2://someone:MARKER-7f3a@127.0.0.1:1/warehouse",
        "postgresql+psycopg2://someone@127.0.0.1:1/warehouse?password=MARKER-7f3a",
        "postgresql://127.0.0.1:1/warehouse?user=someone&sslpassword=MARKER-7f3a&password=MARKER-7f3a",
    ],
)
def test_an_unreachable_warehouse_is_one_clear_error_without_the_password(shell: Shell, url: str) -> None:
    result = shell.run("migrate", SYNC_PIPELINE_DATABASE_URL=url)
    assert result.returncode == 1
    assert result.stderr.startswith("error: cannot connect to ")
    assert "MARKER" not in result.stderr


@pytest.mark.parametrize(
    ("number", "during"),
    [
        (signal.SIGINT, faults.held),
        (signal.SIGTERM, faults.held),
        (signal.SIGTERM, partial(faults.rate_limited, "600")),
    ],
    ids=["ctrl_c_in_a_request", "told_to_end_in_a_request", "told_to_end_in_a_wait"],
)
def test_an_interrupted_trigger_is_a_cancelled_run_that_keeps_its_days(
    shell: Shell, sandbox: SandboxServer, warehouse_url: URL, number: signal.Signals, during: Callable[[], Effect]
) -> None:
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("  accounts: all", "  days_per_request: 1\n  accounts: all"))
    middle = sandbox.faults.add(Fault(during(), path="insights", query="2026-10-06", times=None))
    process = shell.start("trigger", "lumina", "daily_sync", *RANGE)
    wait_until(lambda: middle.hits, process=process)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, err
    assert "error: lumina daily_sync was cancelled" in err
    storage = database.beside(warehouse_url, "_dagster")
    assert query(storage, "SELECT status FROM runs") == [("CANCELED",)]
    shown = (
        "SELECT partition FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' AND partition IS NOT NULL"
    )
    assert query(storage, shown) == [("2026-10-05",)] * 2
    assert query(warehouse_url, "SELECT DISTINCT day::text FROM sync_log") == [("2026-10-05",)]


def test_dagsters_database_that_goes_away_in_the_middle_is_one_clear_error(
    shell: Shell, sandbox: SandboxServer, warehouse_url: URL
) -> None:
    assert shell.run("trigger", "lumina", "meta_only", *RANGE).returncode == 0
    held = sandbox.faults.add(Fault(faults.held(), path="insights"))
    process = shell.start("trigger", "lumina", "meta_only", *RANGE)
    wait_until(lambda: held.hits, process=process)
    with administrator(warehouse_url).connect() as connection:
        gone = database.beside(warehouse_url, "_dagster").database
        connection.execute(sa.text(f'DROP DATABASE "{gone}" WITH (FORCE)'))
    held.release()
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "error: Dagster's database failed: " in err
    assert "Traceback" not in err


def test_the_demo_runs_on_nothing_and_prints_what_was_stored(server_folder: Path) -> None:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    # The demo's Postgres may take longer to stop than pg_ctl waits by default, and the demo would print that.
    home = {"SYNC_PIPELINE_HOME": str(server_folder / "home"), "PGCTLTIMEOUT": f"{PATIENCE_S:.0f}"}
    result = Shell(server_folder, {**inherited, **home}).run_alone("demo", "--days", "2", "--no-ui")
    assert (result.returncode, result.stderr) == (0, "")
    stored = [
        line.split()
        for line in result.stdout.split("Stored:")[1].splitlines()
        if line.startswith(("lum", "mek", " lum", " mek"))
    ]
    assert sorted({(line[0], line[1]) for line in stored}) == [
        ("lumina", "meta"),
        ("lumina", "pos"),
        ("mekong", "meta"),
        ("mekong", "pos"),
    ]
    assert len(stored) == 2 * 2 * 2
    assert all(int(line[3]) > 0 for line in stored if line[1] == "meta")
