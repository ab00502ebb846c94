"""Readers are made, reused, refused and forgotten; a tenant is deleted whole, and only that one."""

import base64
import hashlib
import hmac
import itertools
import os
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.warehouse import access, database, migrate
from sync_pipeline.warehouse.errors import (
    NotAReaderError,
    ReaderRefusedError,
    TenantBusyError,
    TenantNotStoredError,
    WarehouseFailedError,
)
from sync_pipeline.warehouse.tenancy import Deleted, Warehouse

_numbers = itertools.count(1)


@pytest.fixture
def sync(warehouse_url: URL, engine: sa.Engine) -> Iterator[sa.Engine]:
    """The warehouse as the sync sees it, with two tenants."""
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO tenants VALUES ('acme', 'A', 'UTC'), ('other', 'O', 'UTC')"))
        shops = "INSERT INTO pos_shops (tenant_id, shop_id) VALUES ('acme', '7'), ('acme', '8'), ('other', '7')"
        connection.execute(sa.text(shops))
    sync = database.connect(warehouse_url)
    yield sync
    sync.dispose()


@pytest.fixture
def role(engine: sa.Engine) -> Iterator[str]:
    """A name that no role has; roles are the server's, and outlive a test's database."""
    name = f"Reader %d: {os.getpid()}.{next(_numbers)}"
    yield name
    with engine.begin() as connection:
        if connection.execute(sa.text("SELECT FROM pg_roles WHERE rolname = :role"), {"role": name}).all():
            connection.execute(sa.text(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"'))


def tenants_seen_by(sync: sa.Engine, role: str) -> list[str]:
    reader = sa.create_engine(sync.url.set(username=role), poolclass=sa.NullPool)
    with reader.connect() as connection:
        return list(connection.execute(sa.text("SELECT tenant_id FROM tenants")).scalars())


def exists(engine: sa.Engine, role: str) -> bool:
    with engine.connect() as connection:
        return bool(connection.execute(sa.text("SELECT FROM pg_roles WHERE rolname = :role"), {"role": role}).all())


def test_a_role_is_made_reads_its_tenant_and_goes_with_its_grant(sync: sa.Engine, engine: sa.Engine, role: str) -> None:
    granted = access.grant(sync, "acme", role)
    assert (granted.made, len(granted.password or "") > 20) == (True, True)
    assert granted.password is not None
    assert granted.password not in repr(granted)
    assert tenants_seen_by(sync, role) == ["acme"]
    assert access.grant(sync, "acme", role) == access.Granted(role, made=False), "again changes nothing"
    assert access.revoke(sync, "acme", role)
    assert not exists(engine, role)


def test_a_session_finds_nothing_any_more_once_its_grant_is_taken_back(
    sync: sa.Engine, engine: sa.Engine, role: str
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(f'CREATE ROLE "{role}" LOGIN'))
    access.grant(sync, "acme", role)
    reader = sa.create_engine(sync.url.set(username=role), poolclass=sa.NullPool)
    with reader.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM pos_shops")).scalar_one() == 2
        connection.rollback()
        assert not access.revoke(sync, "acme", role), "a role that was there before stays"
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            connection.execute(sa.text("SELECT count(*) FROM pos_shops"))
    assert exists(engine, role)
    with pytest.raises(NotAReaderError, match="does not read acme"):
        access.revoke(sync, "acme", role)


def test_a_role_made_again_after_it_was_dropped_by_hand_goes_with_its_grant(
    sync: sa.Engine, engine: sa.Engine, role: str
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(f'CREATE ROLE "{role}" LOGIN'))
    assert not access.grant(sync, "acme", role).made
    with engine.begin() as connection:
        connection.execute(sa.text(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"'))
    assert access.grant(sync, "acme", role).made
    assert tenants_seen_by(sync, role) == ["acme"]
    assert access.revoke(sync, "acme", role)
    assert not exists(engine, role)


def test_a_role_reads_one_tenant(sync: sa.Engine, role: str) -> None:
    access.grant(sync, "acme", role)
    with pytest.raises(ReaderRefusedError, match="reads another tenant already"):
        access.grant(sync, "other", role)
    with pytest.raises(NotAReaderError):
        access.revoke(sync, "other", role)
    assert tenants_seen_by(sync, role) == ["acme"]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ("LOGIN SUPERUSER", "it is a superuser"),
        ("LOGIN BYPASSRLS", "it bypasses row-level security"),
        ("LOGIN REPLICATION", "it may replicate"),
        ("LOGIN CREATEROLE", "it may create roles"),
        ("LOGIN IN ROLE pg_read_all_data", "it is a member of other roles"),
        ("LOGIN IN ROLE sync_pipeline", "it is a member of other roles"),
        ("NOLOGIN", "it may not log in"),
    ],
)
def test_a_role_that_could_do_more_is_refused_and_given_nothing(
    sync: sa.Engine, engine: sa.Engine, role: str, attributes: str, reason: str
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(f'CREATE ROLE "{role}" {attributes}'))
    with pytest.raises(ReaderRefusedError, match=reason):
        access.grant(sync, "acme", role)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM tenant_readers")).scalar_one() == 0


@pytest.mark.parametrize(
    ("privilege", "reason"),
    [
        ("CREATE ON SCHEMA public", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
        ("INSERT ON tenants", "it may write the tables"),
        ("UPDATE ON tenant_readers", "it may write the tables"),
        ("UPDATE (spend) ON meta_ad_insights", "it may write the tables"),
        ("DELETE ON pos_products", "it may write the tables"),
    ],
)
def test_what_everybody_may_do_a_reader_may_too(
    sync: sa.Engine, engine: sa.Engine, role: str, privilege: str, reason: str
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"GRANT {privilege} TO PUBLIC")
    with pytest.raises(ReaderRefusedError, match=reason):
        access.grant(sync, "acme", role)
    assert not exists(engine, role), "what was made for it is undone"


@pytest.mark.parametrize("name", ["", "public", "none", "pg_reader", "a\nb", "x" * 64])
def test_a_name_that_is_none_is_refused(sync: sa.Engine, name: str) -> None:
    with pytest.raises(ReaderRefusedError):
        access.grant(sync, "acme", name)


def test_the_syncs_own_role_is_refused(sync: sa.Engine) -> None:
    with pytest.raises(ReaderRefusedError, match="the sync itself connects as it"):
        access.grant(sync, "acme", str(sync.url.username))


def test_a_tenant_that_is_not_stored_has_no_readers(sync: sa.Engine, engine: sa.Engine, role: str) -> None:
    with pytest.raises(TenantNotStoredError, match="nothing of a tenant acmee"):
        access.grant(sync, "acmee", role)
    assert not exists(engine, role)


def test_the_server_is_told_a_verifier_and_never_the_password(
    sync: sa.Engine, engine: sa.Engine, role: str, server: URL
) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {sync.url.database} SET log_statement = 'all'")
    sync.dispose()
    access.grant(sync, "acme", role, "MARKER-7f3a-password")
    log = (Path(str(server.query["host"])) / "log").read_text()
    assert f'CREATE ROLE "{role}"' in log
    assert "SCRAM-SHA-256$4096:" in log
    assert "MARKER-7f3a" not in log
    with engine.connect() as connection:
        stored = sa.text("SELECT rolpassword FROM pg_authid WHERE rolname = :role")
        assert str(connection.execute(stored, {"role": role}).scalar_one()).startswith("SCRAM-SHA-256$4096:")


def scram_verifier(password: str, like: str) -> str:
    """The verifier that Postgres computes of a password with the salt and the iterations of another verifier."""
    mechanism, parameters, _ = like.split("$")
    iterations, salt = parameters.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))

    def keyed(text: bytes) -> bytes:
        return hmac.new(salted, text, hashlib.sha256).digest()

    stored_key, server_key = hashlib.sha256(keyed(b"Client Key")).digest(), keyed(b"Server Key")
    keys = ":".join(base64.b64encode(key).decode() for key in (stored_key, server_key))
    return f"{mechanism}${parameters}${keys}"


@pytest.mark.parametrize("given", ["a password: with $ and ü", None], ids=["given", "made at random"])
def test_the_verifier_belongs_to_the_password_given_or_shown(
    sync: sa.Engine, engine: sa.Engine, role: str, given: str | None
) -> None:
    granted = access.grant(sync, "acme", role, given)
    assert granted.password is not None
    assert given in {None, granted.password}
    with engine.connect() as connection:
        query = sa.text("SELECT rolpassword FROM pg_authid WHERE rolname = :role")
        stored = str(connection.execute(query, {"role": role}).scalar_one())
    assert stored == scram_verifier(granted.password, stored)


def test_a_password_that_may_not_be_set_is_refused_without_showing_anything_of_it(
    sync: sa.Engine, engine: sa.Engine, role: str
) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(f'CREATE ROLE "{role}" LOGIN'))
    password = "MARKER-7f3a-password"
    with pytest.raises(ReaderRefusedError, match="its password cannot be set: permission denied") as caught:
        access.grant(sync, "acme", role, password)
    caught.value.__suppress_context__ = False
    shown = "".join(traceback.format_exception(caught.value))
    assert "MARKER" not in shown
    assert "SCRAM" not in shown


def test_a_sync_that_may_make_no_roles_says_so_and_takes_those_that_are_there(
    warehouse_url: URL, engine: sa.Engine, sync: sa.Engine, role: str
) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER ROLE sync_pipeline NOCREATEROLE")
    try:
        with pytest.raises(ReaderRefusedError, match="sync_pipeline may not create any"):
            access.grant(sync, "acme", role)
        with engine.begin() as connection:
            connection.execute(sa.text(f'CREATE ROLE "{role}" LOGIN'))
        assert not access.grant(sync, "acme", role).made
        assert tenants_seen_by(sync, role) == ["acme"]
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER ROLE sync_pipeline CREATEROLE")


def test_a_tenant_is_deleted_whole_with_its_readers_and_the_others_stay(
    sync: sa.Engine, engine: sa.Engine, role: str
) -> None:
    warehouse = Warehouse(sync)
    access.grant(sync, "acme", role)
    counts = warehouse.row_counts("acme")
    assert (counts["tenants"], counts["pos_shops"], counts["pos_orders"], counts["tenant_readers"]) == (1, 2, 0, 1)
    assert warehouse.delete("acme") == Deleted(rows=4, readers=[role])
    assert not exists(engine, role)
    for again in (warehouse.delete, warehouse.row_counts):
        with pytest.raises(TenantNotStoredError):
            again("acme")
    assert warehouse.row_counts("other")["pos_shops"] == 1


def test_tables_of_others_making_are_emptied_of_a_deleted_tenant_where_that_is_allowed(
    sync: sa.Engine, engine: sa.Engine
) -> None:
    with sync.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE later (tenant_id text, shop_id text, "
            "FOREIGN KEY (tenant_id, shop_id) REFERENCES pos_shops (tenant_id, shop_id))"
        )
    migrate.migrate(sync)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO later VALUES ('acme', '7'), ('acme', '8'), ('other', '7')")
        connection.exec_driver_sql("CREATE TABLE marts (tenant_id text); INSERT INTO marts VALUES ('acme')")
    warehouse = Warehouse(sync)
    counts = warehouse.row_counts("acme")
    assert (counts["later"], "marts" in counts) == (2, False)
    assert access.tables_left_alone(sync) == {"marts": "postgres"}
    assert warehouse.delete("acme") == Deleted(rows=sum(counts.values()), readers=[])
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT tenant_id, shop_id FROM later").all() == [("other", "7")]
        assert connection.exec_driver_sql("SELECT count(*) FROM marts").scalar_one() == 1


def test_a_tenant_that_may_not_be_deleted_stays_whole(sync: sa.Engine, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("REVOKE DELETE ON pos_shops FROM sync_pipeline")
    with pytest.raises(WarehouseFailedError) as caught:
        Warehouse(sync).delete("acme")
    assert str(caught.value) == "the warehouse failed: permission denied for table pos_shops. Nothing was changed."
    assert Warehouse(sync).row_counts("acme")["pos_shops"] == 2


def test_a_tenant_that_a_run_holds_is_not_deleted(sync: sa.Engine) -> None:
    warehouse = Warehouse(sync)
    with warehouse.tenant("acme", name="A", timezone="UTC"):
        with pytest.raises(TenantBusyError, match="a run of acme is at work"):
            warehouse.delete("acme")
        assert warehouse.delete("other") == Deleted(rows=2, readers=[])
    assert warehouse.delete("acme") == Deleted(rows=3, readers=[])


def test_a_reader_may_be_kept_out_of_dagsters_database(sync: sa.Engine, role: str, engine: sa.Engine) -> None:
    storage = database.beside(sync.url, "_dagster")
    database.create_database(storage)
    access.grant(sync, "acme", role)
    reader = sa.create_engine(storage.set(username=role), poolclass=sa.NullPool)
    with pytest.raises(sa.exc.OperationalError, match="permission denied for database"):
        reader.connect()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"DROP DATABASE {storage.database}")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('ALTER ROLE "{role}" BYPASSRLS', "do more than read one tenant: it bypasses row-level security"),
        ('GRANT INSERT ON tenants TO "{role}"', "do more than read one tenant: it may write the tables"),
        ("CREATE POLICY too_much ON tenants FOR SELECT USING (true)", "let more be seen of tenants: DROP POLICY"),
        ("CREATE MATERIALIZED VIEW shops AS SELECT * FROM pos_shops", "views that see more than their reader: shops"),
        ("CREATE VIEW shops AS SELECT * FROM pos_shops", "views that see more than their reader: shops"),
    ],
)
def test_what_opens_a_tenant_after_the_grant_is_told(
    sync: sa.Engine, engine: sa.Engine, role: str, change: str, told: str
) -> None:
    access.grant(sync, "acme", role)
    assert access.exposures(sync) == []
    with engine.begin() as connection:
        connection.execute(sa.text(change.format(role=role).replace(":", r"\:")))
    [sentence] = access.exposures(sync)
    assert told in sentence


@pytest.mark.parametrize("value", ["true", "on"])
def test_a_view_that_sees_as_its_reader_does_is_well_and_is_granted(
    sync: sa.Engine, engine: sa.Engine, role: str, value: str
) -> None:
    with sync.begin() as connection:
        connection.execute(sa.text(f"CREATE VIEW shops WITH (security_invoker = {value}) AS SELECT * FROM pos_shops"))
    access.grant(sync, "acme", role)
    assert access.exposures(sync) == []
    reader = sa.create_engine(sync.url.set(username=role), poolclass=sa.NullPool)
    with reader.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM shops")).scalar_one() == 2


def test_a_reader_comes_in_where_not_everybody_may(sync: sa.Engine, engine: sa.Engine, role: str) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(f'CREATE ROLE "{role}" LOGIN'))
        connection.exec_driver_sql(f"REVOKE ALL ON DATABASE {sync.url.database} FROM PUBLIC")
        connection.exec_driver_sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    with pytest.raises(sa.exc.OperationalError, match="permission denied for database"):
        tenants_seen_by(sync, role)
    access.grant(sync, "acme", role)
    assert tenants_seen_by(sync, role) == ["acme"]


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("DATABASE {database}", "it may not connect to the database: the database's owner has to GRANT CONNECT"),
        ("SCHEMA public", "it may not use the schema: the schema's owner has to GRANT USAGE"),
    ],
)
def test_what_the_sync_may_not_give_a_reader_is_asked_of_its_owner(
    sync: sa.Engine, engine: sa.Engine, role: str, where: str, reason: str
) -> None:
    place = where.format(database=sync.url.database)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER {place} OWNER TO postgres")
        connection.exec_driver_sql(f"REVOKE ALL ON {place} FROM PUBLIC; GRANT ALL ON {place} TO sync_pipeline")
    with pytest.raises(ReaderRefusedError, match=reason):
        access.grant(sync, "acme", role)
    assert not exists(engine, role)


def test_a_role_for_dumps_is_told_of_and_given_nothing_more(sync: sa.Engine, engine: sa.Engine, role: str) -> None:
    with engine.begin() as connection:
        create = f'CREATE ROLE "{role}" LOGIN BYPASSRLS; GRANT SELECT ON tenant_readers, sync_log TO "{role}"'
        connection.execute(sa.text(create.replace(":", r"\:")))
    migrate.migrate(sync)
    told = f"the role {role} may read tables, and do more than read one tenant: it bypasses row-level security"
    assert access.exposures(sync) == [told]
    dumper = sa.create_engine(sync.url.set(username=role), poolclass=sa.NullPool)
    with dumper.connect() as connection, pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        connection.exec_driver_sql("SELECT FROM pos_orders")


def test_a_table_of_another_role_is_told_with_its_owner(sync: sa.Engine, engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE marts (tenant_id text)")
    told = (
        "row-level security is not on for marts, which belongs to postgres: its owner has to put it on, and force it, "
        "or keep the table in a schema of its own"
    )
    assert access.exposures(sync) == [told]
    migrate.migrate(sync)
    assert access.exposures(sync) == [told]


def test_a_readers_locks_make_nobody_believe_that_a_run_goes_on(sync: sa.Engine, engine: sa.Engine, role: str) -> None:
    access.grant(sync, "acme", role)
    warehouse = Warehouse(sync)
    with engine.begin() as connection:
        connection.exec_driver_sql("GRANT EXECUTE ON FUNCTION pg_advisory_lock_shared(bigint) TO PUBLIC")
    reader = sa.create_engine(sync.url.set(username=role), poolclass=sa.NullPool)
    with reader.connect() as connection:
        connection.execute(sa.text(r"SELECT pg_advisory_lock_shared(hashtextextended('sync_pipeline\:run\:dead', 0))"))
        assert not warehouse.is_held("dead")
    with warehouse.tenant("acme", name="A", timezone="UTC", run_id="alive"):
        assert warehouse.is_held("alive")
    assert not warehouse.is_held("alive")


def test_grants_and_migrations_at_the_same_time_do_not_break_each_other(sync: sa.Engine, role: str) -> None:
    def again_and_again(name: str) -> None:
        for _ in range(4):
            access.grant(sync, "acme", name)
            migrate.migrate(sync)
            access.revoke(sync, "acme", name)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(again_and_again, f"{role} {n}") for n in range(3)]:
            done.result()


def test_where_the_tables_are_somebody_elses_a_grant_says_so(sync: sa.Engine, engine: sa.Engine, role: str) -> None:
    other = f"{role} other"
    with engine.begin() as connection:
        grants = f'GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO "{other}"'
        connection.execute(sa.text(f'CREATE ROLE "{other}" LOGIN CREATEROLE; {grants}'.replace(":", r"\:")))
    stranger = sa.create_engine(sync.url.set(username=other), poolclass=sa.NullPool)
    try:
        with pytest.raises(ReaderRefusedError, match="connect as their owner"):
            access.grant(stranger, "acme", role)
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text(f'DROP OWNED BY "{other}"; DROP ROLE "{other}"'.replace(":", r"\:")))
