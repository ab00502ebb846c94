"""A reader holds every lock that it can get; syncs, migrations, grants and revocations end its session or name it."""

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.warehouse import access, database, locks
from sync_pipeline.warehouse.errors import (
    LockHeldError,
    LocksNotPermittedError,
    LockTimeoutError,
    TenantBusyError,
)
from sync_pipeline.warehouse.identifiers import quoted
from sync_pipeline.warehouse.locks import LockLimits, LockWait
from sync_pipeline.warehouse.migrate import migrate
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until

# Give up at the first look at a lock that a reader keeps.
AT_ONCE = LockLimits(reader_s=0, statement_s=2, poll_s=0.05)
PATIENT = LockLimits(reader_s=120, statement_s=60, poll_s=0.05)

_numbers = itertools.count(1)

TENANT_LOCK = "SELECT pg_advisory_lock(hashtextextended('sync_pipeline:tenant:acme', 0))"
RUN_LOCK = "SELECT pg_advisory_lock(hashtextextended('sync_pipeline:run:run-1', 0))"
DEFINITIONS_LOCK = "SELECT pg_advisory_lock(72191604)"
TAKING = [
    f"SELECT pg_{attempt}advisory_{scope}lock{shared}({key})"
    for attempt, scope, shared, key in itertools.product(("", "try_"), ("", "xact_"), ("", "_shared"), ("1", "1, 2"))
]


@dataclass
class Server:
    """A warehouse with two tenants, as its superuser, as its plain owner, and as its readers."""

    superuser: sa.Engine
    owner: sa.Engine
    roles: list[str] = field(default_factory=list)
    sessions: list[Any] = field(default_factory=list)

    def engine(self, name: str) -> sa.Engine:
        return {"superuser": self.superuser, "owner": self.owner}[name]

    def run(self, statement: str) -> None:
        with self.superuser.begin() as connection:
            connection.exec_driver_sql(statement.replace("%", "%%"))

    def let_all_roles_lock(self) -> None:
        """Restore the state of a server on which nobody has restricted advisory locks."""
        with self.superuser.connect() as connection:
            names = "SELECT oid::regprocedure::text FROM pg_proc WHERE proname ~ 'advisory'"
            functions = ", ".join(connection.exec_driver_sql(names).scalars())
        self.run(f"GRANT EXECUTE ON FUNCTION {functions} TO PUBLIC")

    def name(self) -> str:
        self.roles.append(f"locker:{os.getpid()} {next(_numbers)}")
        return self.roles[-1]

    def reader(self, tenant: str = "acme") -> str:
        """A reader that the plain owner's `grant` makes."""
        role = self.name()
        assert access.grant(self.owner, tenant, role).made
        return role

    def foreign_reader(self, tenant: str = "acme") -> str:
        """A reader whose role the superuser has made."""
        role = self.name()
        self.run(f'CREATE ROLE "{role}" LOGIN')
        assert not access.grant(self.owner, tenant, role).made
        return role

    def session(self, role: str) -> Any:
        url = self.owner.url
        session = psycopg2.connect(host=url.query["host"], dbname=url.database, user=role)
        self.sessions.append(session)
        return session

    def holding(self, role: str, statement: str) -> Any:
        """A session of the role whose open transaction has run the statement."""
        session = self.session(role)
        session.cursor().execute(statement)
        return session

    def exists(self, role: str) -> bool:
        return self.attribute(role, "true") is not None

    def attribute(self, role: str, name: str) -> Any:
        with self.superuser.connect() as connection:
            query = sa.text(f"SELECT {name} FROM pg_roles WHERE rolname = :role")
            return connection.execute(query, {"role": role}).scalar_one_or_none()


@pytest.fixture
def server_of_two(engine: sa.Engine, warehouse_url: URL) -> Iterator[Server]:
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO tenants VALUES ('acme', 'A', 'UTC'), ('other', 'O', 'UTC')")
    owner = database.connect(warehouse_url)
    server = Server(engine, owner)
    yield server
    for session in server.sessions:
        session.close()
    owner.dispose()
    for role in server.roles:
        if server.exists(role):
            server.run(f"DROP OWNED BY {quoted(role)}; DROP ROLE {quoted(role)}")


def is_alive(session: Any) -> bool:
    try:
        session.cursor().execute("SELECT 1")
    except (psycopg2.OperationalError, psycopg2.InterfaceError):
        return False
    return True


def pid_of(session: Any) -> int:
    return int(session.info.backend_pid)


def open_tenant(engine: sa.Engine, limits: LockLimits, waits: list[LockWait] | None = None) -> None:
    with Warehouse(engine, limits).tenant(
        "acme", name="Acme", timezone="UTC", run_id="run-1", on_wait=(waits if waits is not None else []).append
    ) as acme:
        assert acme.order_days() == []


Work = Callable[[Server, sa.Engine, LockLimits], object]


def revoke_another(server: Server, engine: sa.Engine, limits: LockLimits) -> None:
    role = server.name()
    server.run(f"CREATE ROLE \"{role}\" LOGIN; INSERT INTO tenant_readers VALUES ('{role}', 'acme', false)")
    access.revoke(engine, "acme", role, limits)


WORK: dict[str, tuple[str, Work]] = {
    "a sync, its tenant's lock": (TENANT_LOCK, lambda _, engine, limits: open_tenant(engine, limits)),
    "a sync, its run's lock": (RUN_LOCK, lambda _, engine, limits: open_tenant(engine, limits)),
    "migrate": (DEFINITIONS_LOCK, lambda _, engine, limits: migrate(engine, limits)),
    "grant": (DEFINITIONS_LOCK, lambda server, e, limits: access.grant(e, "acme", server.name(), None, limits)),
    "revoke": (DEFINITIONS_LOCK, revoke_another),
    "delete, the tenant's lock": (TENANT_LOCK, lambda _, engine, limits: Warehouse(engine, limits).delete("acme")),
    "delete, definitions": (DEFINITIONS_LOCK, lambda _, engine, limits: Warehouse(engine, limits).delete("acme")),
}


@pytest.mark.parametrize("statement", TAKING)
def test_reader_may_not_take_an_advisory_lock(server_of_two: Server, statement: str) -> None:
    session = server_of_two.session(server_of_two.reader())
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        session.cursor().execute(statement)
    with server_of_two.owner.connect() as connection:
        connection.exec_driver_sql(statement)


def test_migrate_as_superuser_restricts_advisory_locks(server_of_two: Server) -> None:
    writer = server_of_two.name()
    server_of_two.run(f'CREATE ROLE "{writer}" LOGIN; GRANT INSERT ON tenants TO "{writer}"')
    server_of_two.let_all_roles_lock()
    reader = server_of_two.reader()
    migrate(server_of_two.superuser)
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        server_of_two.holding(reader, TENANT_LOCK)
    open_tenant(server_of_two.owner, AT_ONCE)
    server_of_two.holding(writer, TENANT_LOCK)


def test_check_gives_the_sql_that_restricts_advisory_locks(server_of_two: Server) -> None:
    server_of_two.let_all_roles_lock()
    assert access.exposures(server_of_two.owner) == [], "there is no reader yet"
    reader = server_of_two.reader()
    migrate(server_of_two.owner)
    [warning] = access.exposures(server_of_two.owner)
    assert access.lock_warnings(server_of_two.owner) == [warning]
    sentence, _, statement = warning.partition("as a superuser run in it: ")
    assert "readers can take the advisory locks" in sentence
    server_of_two.run(statement)
    assert access.exposures(server_of_two.owner) == []
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        server_of_two.holding(reader, TENANT_LOCK)
    open_tenant(server_of_two.owner, AT_ONCE)


def test_the_name_of_a_writer_cannot_add_to_the_sql_of_the_superuser(server_of_two: Server) -> None:
    writer = server_of_two.name() + """ '"%s $locks$; CREATE TABLE taken(); --"""
    server_of_two.roles.append(writer)
    server_of_two.run(f"CREATE ROLE {quoted(writer)}")
    with server_of_two.superuser.begin() as connection:
        locks.restrict_to(connection, ["postgres", writer])
        assert connection.execute(sa.text("SELECT to_regclass('taken')")).scalar_one() is None
        taking = sa.text("SELECT has_function_privilege(:role, 'pg_advisory_lock(bigint)', 'EXECUTE')")
        assert connection.execute(taking, {"role": writer}).scalar_one()


def test_writer_without_advisory_locks_gets_a_clear_error(server_of_two: Server) -> None:
    server_of_two.run(locks.restriction(["postgres"]))
    server_of_two.run(
        "DO $$ DECLARE f regprocedure; BEGIN FOR f IN SELECT oid FROM pg_proc WHERE proname ~ 'advisory.*lock' LOOP "
        "EXECUTE 'REVOKE EXECUTE ON FUNCTION ' || f || ' FROM sync_pipeline'; END LOOP; END $$"
    )
    with pytest.raises(LocksNotPermittedError, match="GRANT EXECUTE ON FUNCTION"):
        open_tenant(server_of_two.owner, AT_ONCE)
    [warning] = access.exposures(server_of_two.owner)
    server_of_two.run(warning.partition("run in this database: ")[2])
    assert access.exposures(server_of_two.owner) == []
    open_tenant(server_of_two.owner, AT_ONCE)


@pytest.mark.parametrize("connected_as", ["superuser", "owner"])
@pytest.mark.parametrize("work", WORK)
def test_session_of_a_reader_that_holds_a_lock_is_ended(server_of_two: Server, work: str, connected_as: str) -> None:
    statement, do = WORK[work]
    session = server_of_two.session(server_of_two.reader("acme" if "sync" in work else "other"))
    server_of_two.let_all_roles_lock()
    session.cursor().execute(statement)
    do(server_of_two, server_of_two.engine(connected_as), PATIENT)
    assert not is_alive(session)


@pytest.mark.parametrize("work", WORK)
def test_holder_that_may_not_be_ended_is_named(server_of_two: Server, work: str) -> None:
    statement, do = WORK[work]
    role = server_of_two.foreign_reader("other")
    server_of_two.let_all_roles_lock()
    session = server_of_two.holding(role, statement)
    with pytest.raises(LockHeldError) as caught:
        do(server_of_two, server_of_two.owner, AT_ONCE)
    error = caught.value
    tenant = "acme" if statement in {TENANT_LOCK, RUN_LOCK} else None
    assert (error.role, error.pid, error.tenant) == (role, pid_of(session), tenant)
    assert f"the role {role} (pid {error.pid}) holds the lock" in str(error)
    assert f"SELECT pg_terminate_backend({error.pid})" in str(error)
    assert is_alive(session)
    server_of_two.run(f"SELECT pg_terminate_backend({error.pid}, 60000)")
    do(server_of_two, server_of_two.owner, AT_ONCE)


def test_readers_in_the_queue_for_a_lock_lose_their_sessions(server_of_two: Server) -> None:
    role = server_of_two.reader()
    server_of_two.let_all_roles_lock()
    first = server_of_two.holding(role, TENANT_LOCK)
    pid = pid_of(first)
    queued = [server_of_two.session(role) for _ in range(3)]

    def take(session: Any) -> None:
        with pytest.raises(psycopg2.OperationalError):
            session.cursor().execute(TENANT_LOCK)
            session.cursor().execute("SELECT pg_sleep(600)")

    def count_waiting() -> int:
        waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        with server_of_two.superuser.connect() as connection:
            return int(connection.execute(waiting).scalar_one())

    waits: list[LockWait] = []
    with ThreadPoolExecutor(len(queued)) as pool:
        taking = [pool.submit(take, session) for session in queued]
        wait_until(count_waiting, lambda count: count == len(queued))
        open_tenant(server_of_two.owner, PATIENT, waits)
        for one in taking:
            one.result(PATIENCE_S)
    assert not any(is_alive(session) for session in [first, *queued])
    assert (waits[0].holder.role, waits[0].holder.pid, waits[0].ended) == (role, pid, True)
    assert str(waits[0]).startswith(f"ended a session of role {role} (pid {pid})")


def test_run_is_waited_for_without_limit_and_named(server_of_two: Server) -> None:
    warehouse = Warehouse(server_of_two.owner, AT_ONCE)
    waits: list[LockWait] = []
    waiting, entered = threading.Event(), threading.Event()

    def note(wait: LockWait) -> None:
        waits.append(wait)
        waiting.set()

    def second_run() -> None:
        with warehouse.tenant("acme", name="Acme", timezone="UTC", on_wait=note):
            entered.set()

    with warehouse.tenant("acme", name="Acme", timezone="UTC") as held:
        pid = held._connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]
        held._connection.rollback()
        thread = threading.Thread(target=second_run)
        thread.start()
        assert waiting.wait(60)
        # Time for further looks at the lock, each of which could give up.
        assert not entered.wait(0.5)
    assert entered.wait(60)
    thread.join(60)
    assert [(wait.holder.role, wait.holder.pid, wait.holder.may_write) for wait in waits] == [
        ("sync_pipeline", pid, True)
    ]
    assert str(waits[0]) == f"waiting for the lock of acme, which role sync_pipeline (pid {pid}) holds"


def needs_all_tables(server: Server) -> None:
    """Leave something to do for `migrate` that needs exclusive locks, on two tables."""
    with server.owner.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE a_new_one (tenant_id text)")
        connection.exec_driver_sql("ALTER TABLE pos_orders NO FORCE ROW LEVEL SECURITY")


def forced(server: Server) -> dict[str, bool]:
    query = "SELECT relname, relforcerowsecurity FROM pg_class WHERE relname IN ('a_new_one', 'pos_orders')"
    with server.superuser.connect() as connection:
        return {row[0]: row[1] for row in connection.exec_driver_sql(query)}


@pytest.mark.parametrize("connected_as", ["superuser", "owner"])
def test_migrate_names_the_report_that_it_cannot_wait_for(server_of_two: Server, connected_as: str) -> None:
    role = server_of_two.reader()
    needs_all_tables(server_of_two)
    session = server_of_two.holding(role, "SELECT count(*) FROM pos_orders")
    with pytest.raises(LockTimeoutError) as caught:
        migrate(server_of_two.engine(connected_as), AT_ONCE)
    assert caught.value.holders == [(role, pid_of(session))]
    assert (caught.value.role, caught.value.pid) == (role, pid_of(session))
    assert f"SELECT pg_terminate_backend({pid_of(session)})" in str(caught.value)
    assert forced(server_of_two) == {"a_new_one": False, "pos_orders": False}, "nothing is half done"
    assert is_alive(session), "a report may be long for good reasons"
    session.rollback()
    migrate(server_of_two.engine(connected_as), AT_ONCE)
    assert forced(server_of_two) == {"a_new_one": True, "pos_orders": True}


def test_grant_names_the_session_that_holds_the_role(server_of_two: Server) -> None:
    role = server_of_two.reader()
    session = server_of_two.holding(role, "ALTER ROLE CURRENT_USER PASSWORD 'of-my-own'")
    with pytest.raises(LockTimeoutError) as caught:
        access.grant(server_of_two.owner, "acme", role, "MARKER-password", AT_ONCE)
    assert (caught.value.role, caught.value.pid) == (role, pid_of(session))
    assert "MARKER" not in str(caught.value)


HOLDS = {
    "its row": "ALTER ROLE CURRENT_USER PASSWORD 'of-my-own'",
    "itself": "ALTER ROLE CURRENT_USER SET work_mem = '5MB'",
    "a temporary table": "CREATE TEMP TABLE mine (a int)",
    "tables": "SELECT count(*) FROM pos_orders",
    "the definitions": DEFINITIONS_LOCK,
    "its tenant": TENANT_LOCK,
}


@pytest.mark.parametrize("connected_as", ["superuser", "owner"])
@pytest.mark.parametrize("holds", HOLDS)
def test_revoke_succeeds_whatever_the_role_holds(server_of_two: Server, holds: str, connected_as: str) -> None:
    role = server_of_two.reader()
    server_of_two.let_all_roles_lock()
    session = server_of_two.holding(role, HOLDS[holds])
    if holds == "a temporary table":
        session.commit()
    assert access.revoke(server_of_two.engine(connected_as), "acme", role, PATIENT)
    assert not server_of_two.exists(role)
    assert not is_alive(session)


@pytest.mark.parametrize("connected_as", ["superuser", "owner"])
@pytest.mark.parametrize("ending", ["revoke", "delete"])
def test_role_that_attacks_its_revocation_is_dropped(server_of_two: Server, ending: str, connected_as: str) -> None:
    role = server_of_two.reader()
    server_of_two.let_all_roles_lock()
    stop, attacked = threading.Event(), threading.Event()

    def attack() -> None:
        while not stop.is_set():
            try:
                session = server_of_two.session(role)
                for held in ("its row", "itself", "the definitions", "its tenant"):
                    session.cursor().execute(HOLDS[held])
                attacked.set()
                session.cursor().execute("SELECT pg_sleep(600)")
            except psycopg2.Error:
                continue

    attackers = [threading.Thread(target=attack, daemon=True) for _ in range(4)]
    for attacker in attackers:
        attacker.start()
    try:
        assert attacked.wait(60)
        engine = server_of_two.engine(connected_as)
        if ending == "revoke":
            assert access.revoke(engine, "acme", role, PATIENT)
        else:
            assert Warehouse(engine, PATIENT).delete("acme").readers == [role]
    finally:
        stop.set()
        for attacker in attackers:
            attacker.join(60)
    assert not server_of_two.exists(role)


def test_role_that_cannot_be_dropped_may_not_log_in(server_of_two: Server) -> None:
    role = server_of_two.reader()
    session = server_of_two.holding(role, "SELECT lo_create(0)")
    session.commit()
    assert not access.revoke(server_of_two.owner, "acme", role, PATIENT)
    assert server_of_two.attribute(role, "rolcanlogin") is False
    assert not is_alive(session)


@pytest.mark.parametrize("ending", ["revoke", "delete"])
def test_failed_revocation_lets_the_role_log_in_again(server_of_two: Server, ending: str) -> None:
    role, other = server_of_two.reader(), server_of_two.foreign_reader("other")
    server_of_two.let_all_roles_lock()
    holder = server_of_two.holding(other, DEFINITIONS_LOCK)

    def end() -> object:
        if ending == "revoke":
            return access.revoke(server_of_two.owner, "acme", role, AT_ONCE)
        return Warehouse(server_of_two.owner, AT_ONCE).delete("acme")

    with pytest.raises(LockHeldError, match=f"the role {other} "):
        end()
    session = server_of_two.session(role)
    session.cursor().execute("SELECT count(*) FROM pos_orders")
    holder.close()
    server_of_two.run("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename LIKE 'locker%'")
    end()
    assert not server_of_two.exists(role)


def test_tenant_in_use_keeps_its_readers_and_their_sessions(server_of_two: Server) -> None:
    role = server_of_two.reader()
    session = server_of_two.session(role)
    warehouse = Warehouse(server_of_two.owner, AT_ONCE)
    with warehouse.tenant("acme", name="A", timezone="UTC"):
        with pytest.raises(TenantBusyError):
            warehouse.delete("acme")
        assert is_alive(session)
        assert server_of_two.attribute(role, "rolcanlogin") is True
    assert warehouse.delete("acme").readers == [role]
    assert not is_alive(session)


def test_owner_is_no_member_of_its_readers_afterwards(server_of_two: Server) -> None:
    role = server_of_two.reader()
    server_of_two.let_all_roles_lock()
    server_of_two.holding(role, TENANT_LOCK)
    open_tenant(server_of_two.owner, PATIENT)
    with server_of_two.owner.connect() as connection:
        usable = sa.text("SELECT pg_has_role(:role, 'USAGE')")
        assert connection.execute(usable, {"role": role}).scalar_one() is False
