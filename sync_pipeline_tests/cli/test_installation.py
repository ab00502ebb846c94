"""Odd surroundings: each ends in one clear line, or just works."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.cli import installation
from sync_pipeline.warehouse import compatibility, database, embedded
from sync_pipeline.warehouse.errors import EmbeddedServerStartError
from sync_pipeline_tests import templates
from sync_pipeline_tests.cli.shell import Shell, query
from sync_pipeline_tests.waiting import PATIENCE_S

RANGE = ("--since", "2026-10-05", "--until", "2026-10-05")


def refused(shell: Shell, *arguments: str, **environment: str) -> str:
    """The one line that a command fails with."""
    result = shell.run(*arguments, **environment)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_a_home_with_blanks_in_its_path_is_as_good_as_any(shell: Shell, server_folder: Path) -> None:
    home = str(server_folder / "my home")
    # Postgres may take longer to stop than pg_ctl waits by default, and the command would print that.
    patient = {"PGCTLTIMEOUT": f"{PATIENCE_S:.0f}"}
    result = shell.run_alone("migrate", SYNC_PIPELINE_DATABASE_URL="", SYNC_PIPELINE_HOME=home, **patient)
    assert (result.returncode, result.stderr) == (0, "")


def test_an_embedded_server_that_cannot_start_says_which_variable_to_change(server_folder: Path) -> None:
    (server_folder / "postgres").mkdir()
    (server_folder / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedServerStartError, match="SYNC_PIPELINE_HOME"):
        embedded.start(server_folder)


def test_a_folder_that_initdb_refuses_is_named_with_its_reason(server_folder: Path) -> None:
    (server_folder / "postgres").mkdir()
    (server_folder / "postgres" / "notes.txt").write_text("not a database\n")
    with pytest.raises(EmbeddedServerStartError, match="exists but is not empty"):
        embedded.start(server_folder)


def test_files_of_another_project_in_the_current_folder_are_not_ours(shell: Shell, warehouse_url: URL) -> None:
    (shell.folder / "dagster.yaml").write_text("storage:\n  sqlite:\n    base_dir: elsewhere\n")
    assert shell.run("trigger", "lumina", "meta_only", *RANGE).returncode == 0
    assert len(query(database.beside(warehouse_url, "_dagster"), "SELECT 1 FROM runs")) == 1
    assert not (shell.folder / "elsewhere").exists()


@pytest.mark.parametrize("home", ["missing", "empty", "relative"])
def test_a_dagster_home_that_cannot_be_one_is_refused(shell: Shell, home: str) -> None:
    (shell.folder / "empty").mkdir()
    given = "relative" if home == "relative" else str(shell.folder / home)
    assert "DAGSTER_HOME" in refused(shell, "trigger", "lumina", "meta_only", *RANGE, DAGSTER_HOME=given)


def test_an_unreachable_run_storage_is_named_and_does_not_keep_migrate_from_its_work(shell: Shell) -> None:
    url = "postgresql+psycopg2://someone:MARKER-7f3a@127.0.0.1:1/runs"
    line = refused(shell, "trigger", "lumina", "meta_only", *RANGE, DAGSTER_POSTGRES_URL=url)
    assert "Check DAGSTER_POSTGRES_URL" in line
    assert "MARKER" not in line
    assert shell.run("migrate", DAGSTER_POSTGRES_URL=url).returncode == 0


def test_a_role_that_may_not_create_databases_is_told_what_to_do(shell: Shell, warehouse_url: URL) -> None:
    admin = sa.create_engine(warehouse_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text("DROP ROLE IF EXISTS modest"))
        connection.execute(sa.text("CREATE ROLE modest LOGIN"))
    templates.drop(database.beside(warehouse_url, "_dagster"))
    modest = warehouse_url.set(username="modest").render_as_string(hide_password=False)
    line = refused(shell, "trigger", "lumina", "meta_only", *RANGE, SYNC_PIPELINE_DATABASE_URL=modest)
    assert "Create it, or name another in DAGSTER_POSTGRES_URL" in line
    assert shell.run("check").returncode == 0


def set_version(warehouse_url: URL, revision: str, oldest: str) -> None:
    engine = database.connect(warehouse_url)
    with engine.begin() as connection:
        statement = sa.text("UPDATE alembic_version SET version_num = :revision, oldest_revision = :oldest")
        connection.execute(statement, {"revision": revision, "oldest": oldest})
    engine.dispose()


def test_a_warehouse_of_a_newer_version_asks_for_an_upgrade(shell: Shell, warehouse_url: URL) -> None:
    set_version(warehouse_url, "9999", "9998")
    for arguments in (("migrate",), ("migrate", "--check"), ("trigger", "lumina", "meta_only", *RANGE)):
        line = refused(shell, *arguments)
        assert "at migration 9999 and needs a version that knows migration 9998" in line
        assert "upgrade sync-pipeline" in line


def test_compatible_tables_of_a_newer_version_are_a_warning(shell: Shell, warehouse_url: URL) -> None:
    set_version(warehouse_url, "9999", "0012")
    warning = (
        "the warehouse is at migration 9999, which is newer than this version of sync-pipeline; it can work with these "
        "tables, but upgrade it soon"
    )
    for arguments in (("migrate",), ("migrate", "--check")):
        result = shell.run(*arguments)
        assert (result.returncode, result.stderr) == (0, f"warning: {warning}\n")
    run = shell.run("trigger", "lumina", "meta_only", *RANGE)
    assert run.returncode == 0, run.stderr
    assert run.stderr.count(warning) == 1
    assert query(warehouse_url, "SELECT * FROM alembic_version") == [("9999", "0012")]


def test_a_check_of_tables_changes_nothing(shell: Shell, warehouse_url: URL) -> None:
    earlier, current = compatibility.revisions()[-2:]
    set_version(warehouse_url, earlier, "0012")
    line = refused(shell, "migrate", "--check")
    assert f"at migration {earlier}, this version needs {current}: run `sync-pipeline migrate`" in line
    assert query(warehouse_url, "SELECT version_num FROM alembic_version") == [(earlier,)]


def test_project_files_are_found_wherever_one_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert installation.project_file("workspace.yaml").is_file()


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_env_file_in_another_encoding_is_one_line(shell: Shell, encoding: str) -> None:
    (shell.folder / ".env").write_text("NAME=MARKER\u00e9\n", encoding=encoding)
    line = refused(shell, "check")
    assert "/.env is " in line
    assert line.endswith("save it as UTF-8")
    assert "MARKER" not in line


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("storage: {}\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("# caf\u00e9\n".encode("latin-1"), "is not UTF-8 text (line 1, byte 5); save it as UTF-8"),
        (b"storage: {}\nlocal: [\n", "is not valid YAML (line 3)"),
        (b"since: 2026-13-45\n", "is not valid YAML"),
        (b"[" * 5000, "is not valid YAML"),
    ],
    ids=["UTF-16", "Latin-1", "not YAML", "no date", "too deep"],
)
def test_unreadable_dagster_yaml_is_one_line(shell: Shell, tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "dagster.yaml").write_bytes(content)
    assert refused(shell, "status", DAGSTER_HOME=str(tmp_path)) == f"error: {tmp_path}/dagster.yaml {why}"
