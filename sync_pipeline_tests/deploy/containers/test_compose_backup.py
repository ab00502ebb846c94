"""Backups as a service: made and tested by themselves, restored as the README says, and visible when they fail."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sync_pipeline_tests.deploy import compose
from sync_pipeline_tests.deploy.containers import documented
from sync_pipeline_tests.deploy.containers.engine import Engine
from sync_pipeline_tests.deploy.containers.installation import Installation, installation
from sync_pipeline_tests.waiting import wait_until

pytestmark = pytest.mark.containers


def complete(made: Installation) -> list[Path]:
    folder = made.folder / "backups"
    return sorted(path for path in folder.iterdir() if path.name[0].isdigit()) if folder.is_dir() else []


def shell(made: Installation, text: str) -> "subprocess.CompletedProcess[str]":
    """Run commands of the documentation in the folder deploy."""
    return subprocess.run(
        ["sh", "-euc", text],  # noqa: S607
        cwd=made.folder,
        env={**os.environ, **made.variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def backup_service(made: Installation) -> Iterator[None]:
    made.compose("--profile", "backup", "up", "--detach", "backup")
    try:
        yield
    finally:
        made.compose("--profile", "backup", "rm", "--stop", "--force", "backup")


def health(made: Installation) -> str:
    return str(made.state("backup")["Health"]["Status"])


def test_a_failed_backup_is_unhealthy_until_one_succeeds(whole: Installation) -> None:
    with backup_service(whole):
        # None has been made yet, so the service begins with one.
        wait_until(lambda: complete(whole))
        wait_until(lambda: health(whole), lambda status: status == "healthy")
        assert '"level": "info"' in whole.logs("backup")
        failed = whole.compose(
            "run", "--rm", "-T", "--env", "SUPERUSER_PASSWORD_FILE=/dev/null", "backup", "once", check=False
        )
        assert failed.returncode == 1
        assert '"level": "error"' in failed.stderr + failed.stdout
        wait_until(lambda: health(whole), lambda status: status == "unhealthy")
        assert whole.compose("run", "--rm", "-T", "backup", "once").returncode == 0
        wait_until(lambda: health(whole), lambda status: status == "healthy")
    assert len(complete(whole)) == 2


def test_a_backup_is_restored_by_the_documented_commands(whole: Installation) -> None:
    whole.compose("run", "--rm", "-T", "backup", "once")
    backup = complete(whole)[-1]
    counted = whole.rows("SELECT count(*) FROM pos_orders")
    whole.rows("DELETE FROM tenants")
    text = documented.commands("deploy/README.md", "--clean --if-exists")
    restored = shell(whole, text.replace("backups/2026-11-28T03-30-00Z", f"backups/{backup.name}"))
    assert restored.returncode == 0, restored.stdout + restored.stderr
    assert whole.rows("SELECT count(*) FROM pos_orders") == counted
    whole.compose("up", "--detach")
    whole.ready()


def test_a_major_upgrade_by_the_documented_commands(engine: Engine, built: Installation, tmp_path: Path) -> None:
    # Only Postgres, the tables and the backups: nothing else takes part.
    with installation(engine, tmp_path, built.version) as made:
        (made.folder / ".env").write_text("SYNC_PIPELINE_POSTGRES_IMAGE=postgres:15\n")
        made.compose("run", "--rm", "-T", "migrate")
        assert made.rows("SHOW server_version_num")[0][0].startswith("15")
        made.rows("INSERT INTO tenants (tenant_id, name, timezone) VALUES ('acme', 'Acme', 'UTC')")
        made.rows("CREATE ROLE reader LOGIN PASSWORD 'of a reader'")
        made.rows("GRANT CONNECT ON DATABASE warehouse TO reader; GRANT SELECT ON tenants TO reader")
        text = documented.commands("docs/postgres.md", "vacuumdb")
        # The other services do not run here, and the new version is the one of compose.yaml.
        commands = [line for line in text.splitlines() if "stop daemon" not in line and "executions" not in line]
        assert commands[0] == "cd deploy"
        assert commands[-1] == "docker compose up -d"
        image = compose.interpolated(compose.document()["services"]["postgres"]["image"])
        script = "\n".join(commands[1:-1]).replace("postgres:19.0-trixie", image)
        assert image in script
        done = shell(made, script)
        assert done.returncode == 0, done.stdout + done.stderr
        assert made.rows("SHOW server_version_num")[0][0].startswith("18")
        assert made.rows("SELECT tenant_id FROM tenants") == [["acme"]]
        assert made.rows("SELECT has_table_privilege('reader', 'tenants', 'SELECT')") == [["t"]]
        assert made.compose("run", "--rm", "-T", "migrate").returncode == 0
