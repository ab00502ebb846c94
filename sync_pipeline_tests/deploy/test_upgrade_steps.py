"""`deploy/upgrade` and `deploy/rollback` do their steps in order, and say what state a failing one leaves.

The engine is a script that records its arguments: here the order and the ways out are tested, each in a moment. What
the commands do is tested with containers.
"""

import os
import re
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sync_pipeline_tests.deploy.compose import DEPLOY
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

ENGINE = r"""#!/bin/sh
printf '%s\n' "$*" >>"$RECORD"
case "$*" in
  $FAILS) echo "engine: this fails" >&2; exit 3 ;;
  $HANGS) exec sleep 600 ;;
esac
case "$*" in
  'compose --profile * config --services') printf '%s\n' postgres migrate code daemon webserver cli caddy ;;
  'compose ps --services') printf '%s\n' postgres code daemon webserver caddy removed-service ;;
  'compose ps --all --quiet '*) echo "container-$5" ;;
  'compose config --images') printf '%s\n' postgres:18 "$IMAGE" ;;
  'inspect --format {{.Config.Image}} '*) echo sync-pipeline:latest ;;
  'inspect --format {{.Image}} '*) echo sha256:old ;;
  'inspect --format {{if .State.Health}}'*) echo healthy ;;
  *' pg_dump '*) echo PGDMP ;;
  *' pg_restore '*) [ "$(cat)" = PGDMP ] ;;
esac
"""
# What the scripts only look at.
LOOKS = re.compile(r"(compose ps|compose .*config|inspect|compose exec -T postgres true|.* pg_restore --list)")


@dataclass
class Ran:
    returncode: int
    out: str
    err: str
    steps: list[str]


@dataclass
class Engine:
    """Runs a script of deploy/ with the recording engine."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        docker = self.folder / "docker"
        docker.write_text(ENGINE)
        docker.chmod(0o755)
        self.environment = {
            "PATH": f"{self.folder}:/usr/bin:/bin",
            "RECORD": str(self.record),
            "FAILS": "nothing",
            "HANGS": "nothing",
            "IMAGE": "sync-pipeline:latest",
            "HEALTH_TIMEOUT": "0",
        }

    @property
    def record(self) -> Path:
        return self.folder / "record"

    @property
    def backup(self) -> Path:
        return self.folder / "backup"

    def start(self, script: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        self.record.write_text("")
        return subprocess.Popen(
            [DEPLOY / script, *arguments],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, process: "subprocess.Popen[str]") -> Ran:
        out, err = process.communicate(timeout=PATIENCE_S)
        return Ran(process.returncode, out, err, self.steps())

    def upgrade(self, *arguments: str, **environment: str) -> Ran:
        return self.finish(self.start("upgrade", "--backup", str(self.backup), *arguments, **environment))

    def rollback(self, **environment: str) -> Ran:
        return self.finish(self.start("rollback", str(self.backup), **environment))

    def steps(self) -> list[str]:
        """What the script had the engine do, without looking, and without how it reaches a program of Postgres."""
        lines = [line for line in self.record.read_text().splitlines() if not LOOKS.match(line)]
        return [re.sub(r"^compose exec -T postgres sh -c .* sh (?=\S)", "postgres: ", line) for line in lines]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


def test_an_upgrade_does_its_steps_in_order(engine: Engine) -> None:
    ran = engine.upgrade("--timeout", "60")
    assert (ran.returncode, ran.err) == (0, "")
    assert [re.sub(r"before-\S+", "before-TIME", step) for step in ran.steps] == [
        "image tag sha256:old sync-pipeline:before-TIME",
        "compose stop daemon",
        "compose exec -T code with-secrets sync-pipeline wait --timeout 60",
        "postgres: pg_dump -Fc -d dagster",
        "postgres: pg_dump -Fc -d warehouse",
        "compose build",
        "compose run --rm -T migrate",
        "compose up -d",
        "compose up -d code daemon webserver caddy",
        "compose run --rm -T cli check",
        "compose run --rm -T cli reload",
    ]
    assert {file.name for file in engine.backup.iterdir()} == {"dagster.dump", "warehouse.dump", "image", "kept_image"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in engine.backup.glob("*.dump"))


def test_an_upgrade_can_pull_and_leave_out_steps(engine: Engine) -> None:
    ran = engine.finish(engine.start("upgrade", "--pull", "--no-backup", "--no-wait"))
    assert ran.returncode == 0
    assert ran.steps[1:5] == [
        "compose stop daemon",
        "compose pull",
        "compose run --rm -T migrate",
        "compose up -d",
    ]


DAEMON_AGAIN = "compose start daemon"


@pytest.mark.parametrize(
    ("fails", "stopped", "is_started_again"),
    [
        ("compose exec -T postgres true", "preparation", False),
        ("image tag *", "preparation", False),
        ("compose stop daemon", "stop the daemon", True),
        ("* sync-pipeline wait *", "wait for runs", True),
        ("* pg_dump -Fc -d dagster", "backup", True),
        ("* pg_dump -Fc -d warehouse", "backup", True),
        ("* pg_restore --list", "backup", True),
        ("compose build", "build the image", True),
    ],
)
def test_a_failure_before_the_migration_changes_nothing(
    engine: Engine, fails: str, stopped: str, *, is_started_again: bool
) -> None:
    ran = engine.upgrade(FAILS=fails)
    assert ran.returncode != 0
    assert f"upgrade: stopped during: {stopped}\n" in ran.err
    assert ("Nothing was changed" if stopped == "preparation" else "The databases were not changed") in ran.err
    assert (ran.steps[-1:] == [DAEMON_AGAIN]) is is_started_again
    assert not any("migrate" in step or "up -d" in step for step in ran.steps)


def test_a_failed_migration_that_changed_nothing_leaves_the_old_version(engine: Engine) -> None:
    ran = engine.upgrade(FAILS="compose run --rm -T migrate")
    assert ran.returncode == 3
    assert ran.steps[-2:] == ["compose exec -T code with-secrets sync-pipeline migrate --check", DAEMON_AGAIN]
    assert "can work with the tables" in ran.err
    assert "rollback" not in ran.err


def test_a_failed_migration_that_changed_tables_names_the_way_back(engine: Engine) -> None:
    ran = engine.upgrade(FAILS="compose * migrate*")
    assert ran.returncode == 3
    assert DAEMON_AGAIN not in ran.steps
    assert "cannot work with the tables. The daemon is stopped." in ran.err
    assert f"deploy/rollback {engine.backup}" in ran.err


@pytest.mark.parametrize(
    ("fails", "stopped", "said"),
    [
        ("compose up -d", "start", "were started, but not all are healthy"),
        ("inspect --format {{if*", "start", "code is not healthy after 0 s"),
        ("compose run --rm -T cli check", "check", "The new version runs, but a tenant file"),
        ("compose run --rm -T cli reload", "check", "The new version runs, but a tenant file"),
    ],
)
def test_a_failure_after_the_migration_names_the_way_back(engine: Engine, fails: str, stopped: str, said: str) -> None:
    ran = engine.upgrade(FAILS=fails)
    assert ran.returncode != 0
    assert f"upgrade: stopped during: {stopped}\n" in ran.err
    assert said in ran.err
    assert f"deploy/rollback {engine.backup}" in ran.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_giving_up_while_waiting_starts_the_daemon_again(engine: Engine, number: signal.Signals) -> None:
    process = engine.start("upgrade", "--backup", str(engine.backup), HANGS="* sync-pipeline wait *")
    wait_until(lambda: any("sync-pipeline wait" in step for step in engine.steps()), process=process)
    # As a terminal does, which has the script and its command in one process group.
    os.killpg(process.pid, number)
    ran = engine.finish(process)
    assert ran.returncode == 128 + number
    assert ran.steps[-1] == DAEMON_AGAIN
    assert "The daemon of the previous version runs again." in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "there is no option --nonsense"),
        (["--timeout"], "--timeout needs a value"),
        (["--timeout", "soon"], "--timeout needs a number of seconds, not 'soon'"),
        (["--timeout", ""], "--timeout needs a number of seconds, not ''"),
        (["--backup", "/"], "/ exists already"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_done(engine: Engine, arguments: list[str], message: str) -> None:
    ran = engine.finish(engine.start("upgrade", *arguments))
    assert ran.returncode == 1
    assert message in ran.err
    assert ran.steps == []


def test_a_rollback_exchanges_databases_and_image(engine: Engine) -> None:
    engine.upgrade()
    kept = (engine.backup / "kept_image").read_text().strip()
    ran = engine.rollback()
    assert (ran.returncode, ran.err) == (0, "")
    [exchange] = [step for step in ran.steps if "RENAME" in step]
    assert "--single-transaction" in exchange
    assert [step for step in ran.steps if "psql" not in step] == [
        f"image inspect {kept}",
        "compose up -d postgres",
        "compose --profile * stop --timeout 30 migrate code daemon webserver cli caddy",
        *(
            f"postgres: {command}"
            for database in ("dagster", "warehouse")
            for command in (
                f"dropdb --if-exists --force {database}_restored",
                f"createdb --owner sync_pipeline {database}_restored",
                f"pg_restore --exit-on-error -d {database}_restored",
            )
        ),
        *(f"postgres: dropdb --if-exists --force {database}_replaced" for database in ("dagster", "warehouse")),
        f"image tag {kept} sync-pipeline:latest",
        "compose up -d",
        "compose up -d code daemon webserver caddy",
        *(f"postgres: dropdb --force {database}_replaced" for database in ("dagster", "warehouse")),
    ]
    renamed = ran.steps.index(exchange)
    assert ran.steps.index("postgres: dropdb --if-exists --force warehouse_replaced") < renamed
    assert renamed < ran.steps.index(f"image tag {kept} sync-pipeline:latest")


@pytest.mark.parametrize(
    ("environment", "stopped", "said"),
    [
        ({"FAILS": "image inspect *"}, "preparation", "is gone: build the previous version"),
        ({"IMAGE": "sync-pipeline:2"}, "preparation", "name another image than sync-pipeline:latest"),
        ({"FAILS": "* pg_restore --list*"}, "preparation", "dagster.dump is not a complete dump"),
        ({"FAILS": "* pg_restore --exit-on-error *"}, "restore", "was not put in their place"),
        ({"FAILS": "* --single-transaction *"}, "restore", "was not put in their place"),
        ({"FAILS": "image tag *"}, "start", "The databases are those of the backup."),
        ({"FAILS": "compose up -d"}, "start", "The databases are those of the backup."),
    ],
)
def test_a_failing_rollback_says_which_databases_there_are(
    engine: Engine, environment: dict[str, str], stopped: str, said: str
) -> None:
    engine.upgrade()
    ran = engine.rollback(**environment)
    assert ran.returncode != 0
    assert f"rollback: stopped during: {stopped}\n" in ran.err
    assert said in ran.err
    if stopped == "preparation":
        assert not any(" stop " in step or "dropdb" in step for step in ran.steps)


@pytest.mark.parametrize("missing", ["dagster.dump", "warehouse.dump", "image", "kept_image"])
def test_a_rollback_needs_every_file_of_the_backup(engine: Engine, missing: str) -> None:
    engine.upgrade()
    (engine.backup / missing).write_text("")
    ran = engine.rollback()
    assert (ran.returncode, ran.steps) == (1, [])
    assert f"{engine.backup}/{missing} is missing or empty" in ran.err


@pytest.mark.parametrize("script", ["upgrade", "rollback"])
def test_help_does_nothing(engine: Engine, script: str) -> None:
    ran = engine.finish(engine.start(script, "--help"))
    assert (ran.returncode, ran.err, ran.steps) == (0, "", [])
    assert ran.out.startswith(f"Usage: deploy/{script}")
