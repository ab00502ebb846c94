"""`sync-pipeline workflows`: what there is, when it is due, and its switch."""

from datetime import UTC, date, datetime

import pytest
from sqlalchemy.engine import URL

from sync_pipeline.cli.locations import known_locations
from sync_pipeline.cli.workflows import in_words, listed
from sync_pipeline.date_ranges import AbsoluteRange, DateRange, RelativeRange, RollingRange
from sync_pipeline.last_good import load_tenants_in_use
from sync_pipeline.settings import Settings
from sync_pipeline.warehouse import database
from sync_pipeline_tests.cli.installed import Installed
from sync_pipeline_tests.cli.shell import Shell, query


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_every_workflow_is_listed_with_its_days_and_its_schedule(installed: Installed) -> None:
    result = installed.command("workflows")
    assert result.exit_code == 0, result.output
    header, *lines = result.stdout.splitlines()
    assert cells(header)[-3:] == ["IN FILE", "SCHEDULE", "LOCATION"]
    found = [cells(line) for line in lines]
    assert [line[:5] for line in found] == [
        ["lumina", "daily_sync", "meta, pos", "yesterday", "0 2 * * *"],
        ["lumina", "weekly_resync", "meta, pos", "the last 7 days, with today", "0 3 * * 1"],
        ["lumina", "meta_only", "meta", "today", "-"],
        ["mekong", "daily_sync", "meta, pos", "yesterday", "0 2 * * *"],
        ["mekong", "backfill_october", "meta, pos", "2026-10-01 to 2026-10-31", "-"],
    ]
    words = ("on", "on", "-", "on", "-")
    assert [line[-3:] for line in found] == [["enabled", word, "sync_pipeline"] for word in words]
    assert found[0][6] == "Asia/Manila"
    for arguments in (("workflows", "mekong"), ("workflows", "list", "mekong")):
        assert [cells(line) for line in installed.command(*arguments).stdout.splitlines()[1:]] == found[3:]


def test_the_next_tick_is_in_the_tenants_timezone(installed: Installed, shell: Shell) -> None:
    in_use = load_tenants_in_use(shell.tenants, shell.folder / "home")
    evening_in_utc = datetime(2026, 10, 20, 17, 59, tzinfo=UTC)
    locations = known_locations(Settings.from_environment(), installed.instance)
    [daily, weekly, manual, *_] = listed(in_use, installed.instance, locations, evening_in_utc)
    assert daily.next_tick is not None
    assert daily.next_tick.isoformat() == "2026-10-21T02:00:00+08:00"
    assert weekly.next_tick is not None
    assert weekly.next_tick.isoformat() == "2026-10-26T03:00:00+08:00"
    assert (manual.on, manual.next_tick) == (None, None)


def test_a_workflow_is_shown_with_all_that_its_file_says(installed: Installed) -> None:
    result = installed.command("workflows", "show", "lumina", "weekly_resync")
    assert result.exit_code == 0, result.output
    shown = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    assert {name: value.strip() for name, value in shown.items()}.items() >= {
        "tenant": "lumina (Lumina Skin)",
        "sources": "meta, pos",
        "days": "the last 7 days, with today",
        "cron": "0 3 * * 1 (Asia/Manila)",
        "schedule": "on",
        "pause": "Meta 0 ms, POS 0 ms, fixed",
    }.items()


def test_a_workflow_is_created_changed_and_deleted_in_the_tenants_file(installed: Installed, shell: Shell) -> None:
    file = shell.tenants / "lumina.yaml"
    before = file.read_text()
    file.write_text(
        before
        + """
  - name: hourly
    sources: [pos]
    date_range: {type: rolling, offset_days: 0}
    schedule: "0 * * * *"
    enabled: false
"""
    )
    assert installed.command("check").exit_code == 0
    created = installed.command("workflows", "lumina").stdout
    [line] = [line for line in created.splitlines() if "hourly" in line]
    assert cells(line)[2:] == ["pos", "today", "0 * * * *", "-", "Asia/Manila", "disabled", "off", "sync_pipeline"]
    file.write_text(file.read_text().replace('"0 * * * *"', '"30 * * * *"'))
    assert "30 * * * *" in installed.command("workflows", "show", "lumina", "hourly").stdout
    file.write_text(before)
    assert "hourly" not in installed.command("workflows").stdout


def test_a_broken_file_is_warned_of_and_its_last_good_version_is_listed(installed: Installed, shell: Shell) -> None:
    file = shell.tenants / "lumina.yaml"
    file.write_text(file.read_text().replace("offset_days: 1", "offset_days: -1"))
    result = installed.command("workflows")
    assert result.exit_code == 0
    assert "warning: " in result.stderr
    assert "the last good version of lumina" in result.stderr
    assert "yesterday" in result.stdout.splitlines()[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lumnia",), "there is no tenant 'lumnia'; there are lumina, mekong"),
        (("show", "lumina", "daily"), "no workflow 'daily'; it has daily_sync, weekly_resync, meta_only"),
        (("enable", "lumina", "meta_only"), "workflow meta_only of lumina has no schedule"),
    ],
)
def test_what_is_not_there_is_a_clear_error(installed: Installed, arguments: tuple[str, ...], message: str) -> None:
    result = installed.command("workflows", *arguments)
    assert result.exit_code == 1
    assert message in str(result.exception)


def test_a_schedule_is_switched_off_and_on_in_dagsters_storage(shell: Shell, warehouse_url: URL) -> None:
    storage = database.beside(warehouse_url, "_dagster")
    off = shell.run("workflows", "disable", "lumina", "daily_sync")
    assert (off.returncode, off.stdout, off.stderr) == (
        0,
        "lumina daily_sync: the schedule is off [code location sync_pipeline]\n",
        "",
    )
    assert query(storage, "SELECT status FROM instigators") == [("STOPPED",)]
    on = shell.run("workflows", "enable", "lumina", "daily_sync")
    assert on.stdout.startswith("lumina daily_sync: the schedule is on, next at 20")
    assert query(storage, "SELECT status FROM instigators") == [("RUNNING",)]


@pytest.mark.parametrize(
    ("date_range", "words"),
    [
        (RollingRange(offset_days=0), "today"),
        (RollingRange(offset_days=1), "yesterday"),
        (RollingRange(offset_days=2), "the day 2 days ago"),
        (RelativeRange(days=1), "today"),
        (RelativeRange(days=7), "the last 7 days, with today"),
        (AbsoluteRange(since=date(2024, 11, 1), until=date(2024, 11, 30)), "2024-11-01 to 2024-11-30"),
    ],
)
def test_a_date_range_in_words(date_range: DateRange, words: str) -> None:
    assert in_words(date_range) == words
