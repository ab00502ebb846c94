"""deploy/postgres/backup.sh against a real server: what it keeps can be restored, and failures are visible."""

import json
import os
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync_pipeline_tests.deploy import servers
from sync_pipeline_tests.deploy.compose import DEPLOY
from sync_pipeline_tests.deploy.postgres import Postgres
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

SCRIPT = DEPLOY / "postgres" / "backup.sh"
DATABASES = ("dagster", "warehouse")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with servers.running() as postgres:
        for database in DATABASES:
            postgres.execute(database, "CREATE TABLE days (day date, note text)")
        yield postgres


@dataclass
class Backups:
    """A folder of backups, and the script in a container's place."""

    server: Postgres
    folder: Path
    programs: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        client = self.server.client
        return {
            **client,
            "PATH": f"{self.programs}:{client['PATH']}",
            "SUPERUSER_PASSWORD_FILE": self.server.environment["POSTGRES_PASSWORD_FILE"],
            "BACKUPS": str(self.folder),
            "TZ": "UTC",
            **self.settings,
        }

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [SCRIPT, command],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL,
        )

    def start(self, command: str, log: Path) -> "subprocess.Popen[bytes]":
        with log.open("w") as output:
            return subprocess.Popen([SCRIPT, command], env=self.environment, stderr=output, stdin=subprocess.DEVNULL)

    @property
    def complete(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.name[0].isdigit())

    def replace_program(self, name: str, text: str) -> None:
        """Put a script in the place of a client program, which it can call as `real`."""
        program = self.programs / name
        program.write_text(f"#!/bin/sh\nset -e\nreal={self.server.binaries / name}\n{text}\n")
        program.chmod(0o755)


@pytest.fixture
def backups(server: Postgres, tmp_path: Path) -> Backups:
    for database in DATABASES:
        server.execute(database, "TRUNCATE days", "INSERT INTO days VALUES ('2026-10-05', 'a'), ('2026-10-06', NULL)")
    for name in ("backups", "programs"):
        (tmp_path / name).mkdir()
    return Backups(server, tmp_path / "backups", tmp_path / "programs")


def logged(text: str) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "message"} == line.keys() for line in lines)
    return [(line["level"], line["message"]) for line in lines]


def databases(server: Postgres) -> set[str]:
    return {name for (name,) in server.rows("postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate")}


def test_a_backup_can_be_restored_and_is_private(backups: Backups, server: Postgres) -> None:
    done = backups.run("once")
    assert done.returncode == 0, done.stderr
    [(level, message)] = logged(done.stderr)
    assert level == "info"
    assert "restored and compared in 2 tables" in message
    [folder] = backups.complete
    files = {f"{database}.{kind}" for database in DATABASES for kind in ("dump", "figures")}
    assert {path.name for path in folder.iterdir()} == {*files, "roles.sql"}
    assert (folder / "warehouse.figures").read_text() == "public.days|2|day|2026-10-06\n"
    for path in (folder, *folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert databases(server) == {"postgres", *DATABASES}

    server.execute("warehouse", "DELETE FROM days")
    restored = subprocess.run(
        [server.binaries / "pg_restore", "--clean", "--if-exists", "-d", "warehouse", folder / "warehouse.dump"],
        env={**backups.environment, "PGPASSWORD": server.superuser_password},
    )
    assert restored.returncode == 0
    assert server.rows("warehouse", "SELECT count(*) FROM days") == [(2,)]


def test_roles_of_readers_are_kept_and_no_others(backups: Backups, server: Postgres) -> None:
    server.execute("postgres", "CREATE ROLE \"b i\" LOGIN PASSWORD 'secret'")
    try:
        assert backups.run("once").returncode == 0
    finally:
        server.execute("postgres", 'DROP ROLE "b i"')
    roles = (backups.complete[0] / "roles.sql").read_text()
    assert 'CREATE ROLE "b i";' in roles
    assert "SCRAM-SHA-256" in roles
    assert "sync_pipeline" not in roles
    assert "ROLE postgres" not in roles


def test_dumps_and_figures_are_of_one_moment_while_rows_change(backups: Backups, server: Postgres) -> None:
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            server.execute("warehouse", "INSERT INTO days VALUES ('2026-10-07', 'more')")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        done = backups.run("once")
    finally:
        ended.set()
        writer.join()
    assert done.returncode == 0, done.stderr
    assert len(backups.complete) == 1


def test_rows_that_a_restore_loses_fail_the_backup(backups: Backups, server: Postgres) -> None:
    backups.run("once")
    [good] = backups.complete
    backups.replace_program(
        "pg_restore",
        '"$real" "$@"\nfor database; do case $database in --dbname=warehouse_*) '
        'psql -qd "${database#--dbname=}" -c "DELETE FROM days WHERE note IS NULL";; esac; done',
    )
    failed = backups.run("once")
    assert failed.returncode == 1
    [(level, message)] = logged(failed.stderr)
    assert level == "error"
    assert "the restore test of warehouse failed" in message
    assert "< public.days|2|day|2026-10-06 > public.days|1|day|2026-10-05" in message
    health = backups.run("health")
    assert health.returncode == 1
    assert "the restore test of warehouse failed" in health.stdout
    # The latest good one stays, and so does the dump that could not be restored.
    assert backups.complete == [good]
    assert len(list(backups.folder.glob("failed-*/warehouse.dump"))) == 1
    assert databases(server) == {"postgres", *DATABASES}

    (backups.programs / "pg_restore").unlink()
    assert backups.run("once").returncode == 0
    assert backups.run("health").returncode == 0
    assert not list(backups.folder.glob("failed-*"))


def test_a_dump_that_fails_fails_the_backup(backups: Backups) -> None:
    backups.replace_program(
        "pg_dump", 'case "$*" in *warehouse) echo "disk \\"x\\" broken" >&2; exit 1;; esac\n"$real" "$@"'
    )
    failed = backups.run("once")
    assert failed.returncode == 1
    [(_, message)] = logged(failed.stderr)
    assert "no dump of warehouse" in message
    assert 'disk "x" broken' in message
    assert backups.complete == []
    assert not list(backups.folder.glob(".partial-*"))
    assert backups.run("health").returncode == 1


def test_a_database_without_tables_fails_the_backup(backups: Backups, server: Postgres) -> None:
    server.execute("dagster", "ALTER TABLE days RENAME TO gone", "DROP TABLE gone")
    try:
        failed = backups.run("once")
    finally:
        server.execute("dagster", "CREATE TABLE days (day date, note text)")
    assert failed.returncode == 1
    assert "dagster has no tables" in failed.stderr


def test_readers_cannot_connect_to_a_scratch_database(backups: Backups, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    query = "SELECT has_database_privilege('pg_monitor', current_database(), 'CONNECT')"
    backups.replace_program(
        "pg_restore",
        f'for one; do case $one in --dbname=*) psql -XAtd "${{one#--dbname=}}" -c "{query}" >>{seen};; esac; done\n'
        '"$real" "$@"',
    )
    assert backups.run("once").returncode == 0
    assert seen.read_text().split() == ["f", "f"]


def test_what_a_killed_backup_left_behind_is_removed(backups: Backups, server: Postgres) -> None:
    (backups.folder / ".partial-2026-10-20T02-00-00Z").mkdir()
    server.execute("postgres", "CREATE DATABASE warehouse_restore_test")
    assert backups.run("once").returncode == 0
    assert not list(backups.folder.glob(".partial-*"))
    assert databases(server) == {"postgres", *DATABASES}


def test_the_latest_backups_are_kept(backups: Backups) -> None:
    for day in ("18", "19", "20"):
        (backups.folder / f"2025-10-{day}T02-00-00Z").mkdir()
    (backups.folder / "other").mkdir()
    backups.settings["BACKUP_KEEP"] = "2"
    assert backups.run("once").returncode == 0
    assert len(backups.complete) == 2
    assert backups.complete[0].name == "2025-10-20T02-00-00Z"
    assert (backups.folder / "other").is_dir()


def test_two_backups_at_once_are_refused(backups: Backups, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    backups.replace_program("pg_dump", f'[ -e {gate}.open ] || {{ cat {gate}; touch {gate}.open; }}\n"$real" "$@"')
    first = backups.start("once", tmp_path / "log")
    # Opening the pipe waits until the dump of the first one reads from it.
    with gate.open("w"):
        second = backups.run("once")
    assert second.returncode == 2
    assert "another backup is in progress" in second.stderr
    assert first.wait(PATIENCE_S) == 0


def test_the_schedule_makes_up_for_a_missed_backup(backups: Backups, tmp_path: Path) -> None:
    (backups.folder / "2025-10-20T02-00-00Z").mkdir()
    backups.settings["BACKUP_TIME"] = f"{datetime.now(UTC) - timedelta(minutes=1):%H:%M}"
    log = tmp_path / "log"
    process = backups.start("schedule", log)
    try:
        wait_until(lambda: len(backups.complete) == 2, process=process)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert all(level == "info" for level, _ in logged(log.read_text()))


def test_a_missing_backup_is_unhealthy_after_two_hours(backups: Backups) -> None:
    now = datetime.now(UTC)
    backups.settings["BACKUP_TIME"] = f"{now - timedelta(hours=3):%H:%M}"
    overdue = backups.run("health")
    assert overdue.returncode == 1
    assert "is missing" in overdue.stdout
    backups.settings["BACKUP_TIME"] = f"{now - timedelta(hours=1):%H:%M}"
    assert backups.run("health").returncode == 0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BACKUP_TIME", "3:30"),
        ("BACKUP_TIME", "24:00"),
        ("BACKUP_KEEP", "0"),
        ("BACKUP_KEEP", "x"),
        ("BACKUPS", "/none"),
    ],
)
def test_a_wrong_setting_is_named(backups: Backups, variable: str, value: str) -> None:
    backups.settings[variable] = value
    refused = backups.run("once")
    assert refused.returncode == 2
    [(level, message)] = logged(refused.stderr)
    assert level == "error"
    assert variable in message or value in message


def test_a_wrong_password_is_said_and_never_shown(backups: Backups, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("marker-of-a-wrong-password")
    backups.settings["SUPERUSER_PASSWORD_FILE"] = str(secret)
    failed = backups.run("once")
    assert failed.returncode == 1
    assert "password authentication failed" in failed.stderr
    assert "marker" not in failed.stderr + failed.stdout
