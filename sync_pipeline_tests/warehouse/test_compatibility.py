"""A version works with newer tables where only additive migrations lie between, and says so where it cannot."""

import ast
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import URL

from sync_pipeline.warehouse import database
from sync_pipeline.warehouse.compatibility import (
    MIGRATIONS,
    STORED_SINCE,
    head,
    oldest_compatible,
    revisions,
    stored_version,
)
from sync_pipeline.warehouse.errors import (
    LockTimeoutError,
    RunsInProgressError,
    SchemaOutdatedError,
    SchemaTooNewError,
    SchemaUnknownError,
    WarehouseError,
)
from sync_pipeline.warehouse.locks import LockLimits
from sync_pipeline.warehouse.migrate import migrate, require_current
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.waiting import wait_until
from sync_pipeline_tests.warehouse.catalogue import broken_promises, catalogue
from sync_pipeline_tests.warehouse.made_up import EVERY_ADDITION, NEXT, migrations

AT_ONCE = LockLimits(statement_s=0.2, poll_s=0.05)
DROP_COLUMN = "ALTER TABLE meta_ad_insights DROP COLUMN effective_status"
SET = "UPDATE alembic_version SET"
VERSION = "SELECT version_num, oldest_revision FROM alembic_version"
ACME = {"name": "Acme", "timezone": "UTC"}


@pytest.fixture
def owner(warehouse_url: URL) -> Iterator[sa.Engine]:
    """A fresh warehouse as the tables' owner connects."""
    engine = database.connect(warehouse_url)
    yield engine
    engine.dispose()


def stored(engine: sa.Engine) -> list[tuple[str, str | None]]:
    with engine.connect() as connection:
        return [(row[0], row[1]) for row in connection.execute(sa.text(VERSION))]


def declared(file: Path) -> list[object]:
    """The values that a migration assigns to `additive`, as written; what is no literal is a syntax tree."""
    return [
        node.value.value if isinstance(node.value, ast.Constant) else node.value
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.Assign) and [ast.unparse(one) for one in node.targets] == ["additive"]
    ]


FILES = sorted((MIGRATIONS / "versions").glob("[0-9]*_*.py"))
ADDITIVE = {file.name[:4]: declared(file)[0] is True for file in FILES if declared(file)}
OLDEST = oldest_compatible(ADDITIVE, head())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name[:4])
def test_every_migration_declares_whether_it_is_additive(file: Path) -> None:
    [value] = declared(file)
    assert value is True or value is False


def test_a_new_migration_is_not_additive_until_someone_says_so() -> None:
    assert "\nadditive = False\n" in (MIGRATIONS / "script.py.mako").read_text()


@pytest.mark.parametrize("revision", [one for one, additive in ADDITIVE.items() if additive])
def test_an_additive_migration_only_adds(server: URL, revision: str) -> None:
    url = server.set(database=f"additive_{revision}")
    database.create_database(url)
    engine = database.connect(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revisions()[revisions().index(revision) - 1])
        before = catalogue(connection)
        command.upgrade(config, revision)
        after = catalogue(connection)
    engine.dispose()
    assert after != before
    assert list(broken_promises(before, after)) == []


@pytest.mark.parametrize(
    ("statement", "promise"),
    [
        (DROP_COLUMN, "meta_ad_insights.effective_status has changed"),
        ("ALTER TABLE sync_log RENAME COLUMN rows TO lines", "sync_log.rows has changed"),
        ("ALTER TABLE sync_counters ALTER COLUMN class TYPE varchar(9)", "sync_counters.class has changed"),
        ("ALTER TABLE sync_errors ALTER COLUMN code SET NOT NULL", "sync_errors.code has changed"),
        ("ALTER TABLE sync_log ALTER COLUMN missing DROP DEFAULT", "sync_log.missing has changed"),
        ("ALTER TABLE sync_log ADD COLUMN needed text NOT NULL", "sync_log.needed has to be given"),
        ("ALTER TABLE sync_log ADD CONSTRAINT few CHECK (rows < 9)", "sync_log: few: CHECK ((rows < 9))"),
        ("CREATE UNIQUE INDEX once ON sync_log (day)", "sync_log: unique CREATE UNIQUE INDEX once"),
        ("DROP VIEW sync_health", "sync_health is gone"),
        ("DROP VIEW sync_health; CREATE VIEW sync_health AS SELECT 1 AS rows", "view sync_health has other columns"),
        ("ALTER TABLE sync_refusals RENAME TO refusals", "sync_refusals is gone"),
        (
            "CREATE TRIGGER t BEFORE INSERT ON sync_log EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "sync_log: trigger t",
        ),
    ],
)
def test_a_change_that_breaks_a_promise_is_found(engine: sa.Engine, statement: str, promise: str) -> None:
    with engine.begin() as connection:
        before = catalogue(connection)
        connection.exec_driver_sql(statement)
        found = list(broken_promises(before, catalogue(connection)))
    assert [one for one in found if one.startswith(promise)]


@pytest.mark.parametrize(
    ("additive", "revision", "oldest"),
    [
        ([False], "0001", "0001"),
        ([False, True], "0002", "0001"),
        ([False, True, True, True], "0004", "0001"),
        ([False, True, False, True], "0004", "0003"),
        ([False, True, True, False], "0004", "0004"),
        ([False, True, False, True], "0002", "0001"),
        ([True, True], "0002", "0001"),
    ],
)
def test_the_oldest_version_lies_before_additive_migrations(additive: list[bool], revision: str, oldest: str) -> None:
    known = {f"{number:04}": value for number, value in enumerate(additive, start=1)}
    assert oldest_compatible(known, revision) == oldest


def test_the_tables_store_the_oldest_version(owner: sa.Engine) -> None:
    assert stored(owner) == [(head(), OLDEST)]
    # Migration 0012 was the last one after which an older version would have stored wrong rows.
    assert oldest_compatible(ADDITIVE, "0015") == "0012"


def test_every_migration_changes_the_oldest_version(owner: sa.Engine, tmp_path: Path) -> None:
    following = f"{int(NEXT) + 1:04}"
    folder = migrations(tmp_path, EVERY_ADDITION, additive=True)
    assert migrate(owner, folder=folder) == (head(), NEXT)
    assert stored(owner) == [(NEXT, OLDEST)]
    later = migrations(tmp_path, [DROP_COLUMN], additive=False, revision=following, earlier=folder)
    assert migrate(owner, folder=later) == (NEXT, following)
    assert stored(owner) == [(following, following)]


def test_an_upgrade_from_a_version_without_it_stores_it(server: URL) -> None:
    url = server.set(database="before_compatibility")
    database.create_database(url)
    engine = database.connect(url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0014")
    with engine.connect() as connection:
        version = stored_version(connection)
    assert version is not None
    assert (version.revision, version.oldest) == ("0014", None)
    with pytest.raises(SchemaOutdatedError):
        require_current(engine)
    assert migrate(engine) == ("0014", head())
    assert stored(engine) == [(head(), OLDEST)]
    engine.dispose()


def test_additive_tables_of_a_newer_version_are_accepted(owner: sa.Engine, tmp_path: Path) -> None:
    assert require_current(owner) is None
    migrate(owner, folder=migrations(tmp_path, EVERY_ADDITION, additive=True))
    warning = require_current(owner)
    assert warning is not None
    assert f"at migration {NEXT}, which is newer than this version" in warning
    # An older version has nothing to migrate, and leaves the tables as they are.
    assert migrate(owner) == (NEXT, NEXT)
    assert stored(owner) == [(NEXT, OLDEST)]
    with Warehouse(owner).tenant("acme", **ACME) as held:
        assert held.known_shops() == {}


def test_other_tables_of_a_newer_version_are_refused(owner: sa.Engine, tmp_path: Path) -> None:
    migrate(owner, folder=migrations(tmp_path, [DROP_COLUMN], additive=False))
    for refused in (require_current, migrate):
        with pytest.raises(SchemaTooNewError) as caught:
            refused(owner)
        assert str(caught.value) == (
            f"the warehouse is at migration {NEXT} and needs a version that knows migration {NEXT}, but this one only "
            f"knows migrations up to {head()}: upgrade sync-pipeline, or restore the backup made before the migration"
        )
    with pytest.raises(SchemaTooNewError), Warehouse(owner).tenant("acme", **ACME):
        pass


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        (f"{SET} version_num = '0014'", SchemaOutdatedError, "run `sync-pipeline migrate`"),
        (f"{SET} version_num = '9999', oldest_revision = NULL", SchemaTooNewError, "needs a newer"),
        (f"{SET} version_num = '9999', oldest_revision = ''", SchemaTooNewError, "needs a newer"),
        (f"{SET} version_num = '9999', oldest_revision = 'x'", SchemaTooNewError, "needs a newer"),
        (f"{SET} version_num = '9999', oldest_revision = '1'", SchemaTooNewError, "needs a newer"),
        (
            f"{SET} version_num = '9999', oldest_revision = '9999'",
            SchemaTooNewError,
            "upgrade sync",
        ),
        (f"{SET} version_num = 'ae1027a6acf'", SchemaUnknownError, "holds 'ae1027a6acf' instead of"),
        (f"{SET} version_num = '0000'", SchemaUnknownError, "holds '0000' instead of"),
        (f"{SET} version_num = ''", SchemaUnknownError, "holds '' instead of one migration"),
        ("DELETE FROM alembic_version", SchemaUnknownError, "is empty instead of one migration"),
        ("INSERT INTO alembic_version VALUES ('0003')", SchemaUnknownError, "instead of one migration"),
        ("DROP TABLE alembic_version", SchemaOutdatedError, "has no tables yet"),
    ],
)
def test_a_bad_version_of_the_tables_is_one_clear_error(
    owner: sa.Engine, statement: str, error: type[WarehouseError], message: str
) -> None:
    with owner.begin() as connection:
        connection.exec_driver_sql(statement)
    with pytest.raises(error, match=message):
        require_current(owner)
    if error is not SchemaOutdatedError:
        with pytest.raises(error, match=message):
            migrate(owner)


def test_a_run_keeps_out_a_migration_that_it_would_not_survive(owner: sa.Engine, tmp_path: Path) -> None:
    folder = migrations(tmp_path, [DROP_COLUMN], additive=False)
    with Warehouse(owner).tenant("acme", **ACME):
        with pytest.raises(RunsInProgressError) as caught:
            migrate(owner, folder=folder)
        assert caught.value.tenants == ("acme",)
        assert str(caught.value) == (
            f"runs of acme are in progress and cannot continue after migration {NEXT}. Nothing was changed. Wait for "
            "them with `sync-pipeline wait`, or let them fail at their next day with `sync-pipeline migrate "
            "--despite-runs`"
        )
        assert stored(owner) == [(head(), OLDEST)]
    assert migrate(owner, folder=folder) == (head(), NEXT)


def test_a_version_that_accepts_no_newer_tables_keeps_out_migrations(owner: sa.Engine) -> None:
    before = revisions()[revisions().index(STORED_SINCE) - 1]
    with owner.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE alembic_version DROP COLUMN oldest_revision")
        connection.exec_driver_sql("DROP TABLE sync_counters")
        connection.exec_driver_sql(f"{SET} version_num = '{before}'")
    with owner.connect() as run:
        # As a run of that version holds its tenant.
        run.exec_driver_sql("SELECT set_config('sync_pipeline.tenant', 'acme', false)")
        run.exec_driver_sql("INSERT INTO tenants VALUES ('acme', 'Acme', 'UTC')")
        run.commit()
        run.exec_driver_sql("SELECT pg_advisory_lock(hashtextextended('sync_pipeline:tenant:acme', 0))")
        run.commit()
        with pytest.raises(RunsInProgressError):
            migrate(owner)
        run.exec_driver_sql("SELECT pg_advisory_unlock_all()")
        run.commit()
    assert migrate(owner) == (before, head())


def test_runs_continue_after_an_additive_migration(owner: sa.Engine, tmp_path: Path) -> None:
    with Warehouse(owner).tenant("acme", **ACME) as held:
        migrate(owner, folder=migrations(tmp_path, EVERY_ADDITION, additive=True))
        held.save_shops([{"shop_id": "1", "name": "One"}], "run")
        assert set(held.known_shops()) == {"1"}


def test_runs_fail_after_any_other_migration(owner: sa.Engine, tmp_path: Path) -> None:
    with pytest.raises(SchemaTooNewError) as caught, Warehouse(owner).tenant("acme", **ACME) as held:
        folder = migrations(tmp_path, [DROP_COLUMN], additive=False)
        assert migrate(owner, despite_runs=True, folder=folder) == (head(), NEXT)
        held.save_shops([{"shop_id": "1", "name": "One"}], "run")
    assert caught.value.in_run
    assert str(caught.value).endswith("Days committed before are stored; run the rest again")
    with owner.connect() as connection:
        connection.exec_driver_sql("SELECT set_config('sync_pipeline.tenant', 'acme', false)")
        assert connection.exec_driver_sql("SELECT * FROM pos_shops").all() == []


def test_a_migration_waits_for_the_transaction_of_a_run(owner: sa.Engine, tmp_path: Path) -> None:
    folder = migrations(tmp_path, EVERY_ADDITION, additive=True)
    with Warehouse(owner).tenant("acme", **ACME) as held:
        with held._connection.begin():
            held._connection.exec_driver_sql("SELECT 1")
            with pytest.raises(LockTimeoutError):
                migrate(owner, AT_ONCE, folder=folder)
        assert migrate(owner, AT_ONCE, folder=folder) == (head(), NEXT)


def test_a_transaction_of_a_run_waits_for_a_migration(owner: sa.Engine, engine: sa.Engine, tmp_path: Path) -> None:
    # The migration waits in its middle for a lock that this test holds.
    held_here, wait = "SELECT pg_advisory_lock(1)", "SELECT pg_advisory_xact_lock(1)"
    folder = migrations(tmp_path, [DROP_COLUMN, wait], additive=False)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%alembic_version%'"
    with ThreadPoolExecutor(2) as pool, engine.connect() as here, Warehouse(owner).tenant("acme", **ACME) as held:
        here.exec_driver_sql(held_here)
        here.commit()
        patient = LockLimits(statement_s=60)
        migrating = pool.submit(migrate, owner, patient, despite_runs=True, folder=folder)
        _until(here, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 1")
        syncing = pool.submit(held.save_shops, [{"shop_id": "1", "name": "One"}], "run")
        _until(here, waiting)
        here.exec_driver_sql("SELECT pg_advisory_unlock(1)")
        here.commit()
        assert migrating.result() == (head(), NEXT)
        with pytest.raises(SchemaTooNewError):
            syncing.result()


def _until(connection: sa.Connection, query: str) -> None:
    def look() -> int:
        with connection.begin():
            return int(connection.exec_driver_sql(query.replace("%", "%%")).scalar_one())

    wait_until(look)
