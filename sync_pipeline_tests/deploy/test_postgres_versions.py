"""The oldest Postgres that is supported, and the way from it to the current one: migration, sync, readers, figures."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.cli.shell import Shell
from sync_pipeline_tests.deploy import servers
from sync_pipeline_tests.deploy.compose import DEPLOY
from sync_pipeline_tests.deploy.postgres import BINARIES, OLDEST, Postgres
from sync_pipeline_tests.deploy.servers import OWNER_PASSWORD
from sync_pipeline_tests.pipeline import copied_demo_tenants

pytestmark = servers.needs_oldest

DAYS = ("--since", "2026-10-05", "--until", "2026-10-06")
READER_PASSWORD = "of a reader"
RELATIONS = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace
        AND (relkind = 'v' OR relname IN ('meta_ad_insights', 'pos_orders', 'ad_performance'))
    ORDER BY relname
"""
CONTENT = """
    SELECT count(*), coalesce(md5(string_agg(line, E'\\n' ORDER BY line COLLATE "C")), '')
    FROM (SELECT to_jsonb(t)::text AS line FROM "{}" AS t) AS lines
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(ads=12, orders=20, now=lambda: datetime(2026, 10, 20, 7, 0, tzinfo=UTC)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def postgres() -> Iterator[dict[int, Postgres]]:
    """A server of each version."""
    with ExitStack() as stack:
        yield {15: stack.enter_context(servers.running(OLDEST)), 18: stack.enter_context(servers.running(BINARIES))}


@pytest.fixture(scope="module")
def shells(
    postgres: dict[int, Postgres], sandbox: SandboxServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Shell]:
    """A terminal on each server, both with the same days of both sources."""
    shells = {version: shell(server, sandbox, tmp_path_factory.mktemp("pg")) for version, server in postgres.items()}
    for version, one in shells.items():
        assert postgres[version].rows("postgres", "SHOW server_version_num")[0][0].startswith(str(version))
        migrated = one.run("migrate")
        assert migrated.returncode == 0, migrated.stderr
        synced = one.run("trigger", "lumina", "daily_sync", *DAYS)
        assert synced.returncode == 0, synced.stderr
        # So that a reader of one tenant has another one that it must not see.
        other = "INSERT INTO tenants (tenant_id, name, timezone) VALUES ('other', 'Other', 'UTC')"
        postgres[version].execute("warehouse", other)
    return shells


def shell(server: Postgres, sandbox: SandboxServer, folder: Path) -> Shell:
    copied_demo_tenants(folder / "tenants")
    urls = {
        "SYNC_PIPELINE_DATABASE_URL": server.url("warehouse", "sync_pipeline", OWNER_PASSWORD),
        "DAGSTER_POSTGRES_URL": server.url("dagster", "sync_pipeline", OWNER_PASSWORD),
    }
    shown = {name: url.render_as_string(hide_password=False) for name, url in urls.items()}
    return Shell(folder, {"PATH": server.client["PATH"], "HOME": str(folder), **sandbox.environment, **shown})


def content(server: Postgres, database: str = "warehouse") -> dict[str, tuple[int, str]]:
    found = {}
    for (name,) in server.rows(database, RELATIONS):
        [(count, checksum)] = server.rows(database, CONTENT.format(name))
        found[name] = (count, checksum)
    return found


def test_both_versions_hold_the_same_rows_and_figures(shells: dict[int, Shell], postgres: dict[int, Postgres]) -> None:
    oldest, current = content(postgres[15]), content(postgres[18])
    assert all(oldest[name][0] > 0 for name in ("meta_ad_insights", "pos_orders", "ad_performance"))
    # It has the times of the syncs.
    assert oldest.pop("sync_health")[0] == current.pop("sync_health")[0]
    assert oldest == current


def test_migrating_again_changes_nothing(shells: dict[int, Shell]) -> None:
    again = shells[15].run("migrate")
    assert (again.returncode, again.stderr) == (0, "")


def test_grants_differ_only_in_who_makes_the_role(shells: dict[int, Shell], postgres: dict[int, Postgres]) -> None:
    made = shells[18].run("grant", "lumina", "--role", "bi")
    assert made.returncode == 0, made.stderr
    # There the owner must not have CREATEROLE, so somebody else makes the role.
    refused = shells[15].run("grant", "lumina", "--role", "bi")
    assert refused.returncode == 1
    assert "CREATEROLE" in refused.stderr
    postgres[15].execute("postgres", f"CREATE ROLE bi LOGIN PASSWORD '{READER_PASSWORD}'")
    granted = shells[15].run("grant", "lumina", "--role", "bi")
    assert granted.returncode == 0, granted.stderr
    assert seen_by(postgres[15], "bi", READER_PASSWORD) == ["lumina"]


def test_the_oldest_is_upgraded_by_its_last_backup(
    shells: dict[int, Shell], postgres: dict[int, Postgres], sandbox: SandboxServer, tmp_path: Path
) -> None:
    # The major upgrade of docs/postgres.md: dumped by the old version's programs, restored by those of the new one.
    old = postgres[15]
    old.execute("postgres", "CREATE ROLE other_bi LOGIN PASSWORD 'other'")
    assert shells[15].run("grant", "lumina", "--role", "other_bi").returncode == 0
    run(old, "backup.sh", "once", BACKUPS=str(tmp_path))
    [backup] = [path for path in tmp_path.iterdir() if path.name[0].isdigit()]
    with servers.running(BINARIES) as new:
        run(new, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", "postgres", "-f", str(backup / "roles.sql"))
        for database in ("dagster", "warehouse"):
            run(new, "pg_restore", "--exit-on-error", f"--dbname={database}", str(backup / f"{database}.dump"))
        assert content(new) == content(old)
        upgraded = shell(new, sandbox, tmp_path)
        assert upgraded.run("migrate").returncode == 0
        synced = upgraded.run("trigger", "lumina", "daily_sync", "--since", "2026-10-07", "--until", "2026-10-07")
        assert synced.returncode == 0, synced.stderr
        assert seen_by(new, "other_bi", "other") == ["lumina"]


def run(server: Postgres, program: str, *arguments: str, **environment: str) -> None:
    """Run a program as the superuser, with the server's own version of Postgres' programs first."""
    environment |= {
        **server.client,
        "PATH": f"{server.client['PATH']}:{DEPLOY / 'postgres'}",
        "PGPASSWORD": server.superuser_password,
        "SUPERUSER_PASSWORD_FILE": server.environment["POSTGRES_PASSWORD_FILE"],
    }
    found = shutil.which(program, path=environment["PATH"])
    assert found
    done = subprocess.run([found, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def seen_by(server: Postgres, role: str, password: str) -> list[str]:
    """The tenants that a role reads."""
    reader = sa.create_engine(server.url("warehouse", role, password), poolclass=sa.NullPool)
    with reader.connect() as connection:
        return list(connection.execute(sa.text("SELECT tenant_id FROM tenants")).scalars())
