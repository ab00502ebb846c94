"""Locks of the warehouse: wait for them, name their holders, and end sessions that hold one without write rights.

Advisory locks serialise the runs of a tenant and everything that changes tables or readers. A role without write rights
needs none of them. Postgres lets every role take them until `restrict_advisory_locks` has run, which only the owner of
the built-in functions (a superuser) may do. Where it has not run, the session of such a role is ended if that is
permitted. Otherwise the wait ends with a `LockHeldError` that names it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, Final

import sqlalchemy as sa
from psycopg2 import errorcodes

from sync_pipeline.warehouse.errors import LockHeldError, LocksNotPermittedError, LockTimeoutError
from sync_pipeline.warehouse.identifiers import quoted

# Every process must use the same number.
_DEFINITIONS_LOCK: Final = 72_191_604
_KEY_PREFIX: Final = "sync_pipeline:"
_TERMINATION_TIMEOUT_MS: Final = 5000
_BLOCKER_POLL_S: Final = 0.1
# Changes of one role that collide with changes that the role makes itself.
_ROLE_CHANGE_ATTEMPTS: Final = 20
_NOT_PERMITTED: Final = frozenset(
    {
        errorcodes.INSUFFICIENT_PRIVILEGE,
        errorcodes.INVALID_GRANT_OPERATION,
        errorcodes.LOCK_NOT_AVAILABLE,
        errorcodes.UNDEFINED_OBJECT,
    }
)

# Before the first migration there is no table yet: then the right to create tables counts.
_MAY_WRITE: Final = """
    COALESCE(
        has_table_privilege(usesysid, to_regclass('tenants'), 'INSERT'),
        has_schema_privilege(usesysid, current_schema(), 'CREATE'),
        false
    ) OR COALESCE(pg_has_role(usesysid, current_user, 'MEMBER'), false)
"""
_HOLDERS: Final = f"""
    SELECT COALESCE(usename::text, usesysid::text, prepared.owner::text) AS role, pid, granted,
        {_MAY_WRITE} AS may_write
    FROM pg_locks
    LEFT JOIN pg_stat_activity USING (pid)
    LEFT JOIN pg_prepared_xacts AS prepared ON virtualtransaction = '-1/' || prepared.transaction::text
    WHERE locktype = 'advisory' AND objsubid = 1 AND (classid::bigint << 32 | objid::bigint) = :key
    AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND pid IS DISTINCT FROM pg_backend_pid()
    ORDER BY granted DESC, pid
"""
_BLOCKERS: Final = f"""
    SELECT COALESCE(usename::text, usesysid::text) AS role, NULLIF(pid, 0) AS pid, {_MAY_WRITE} AS may_write
    FROM unnest(pg_blocking_pids(:pid)) AS pid LEFT JOIN pg_stat_activity USING (pid)
    ORDER BY pid
"""
_END_SESSIONS: Final = f"""
    SELECT pg_terminate_backend(pid, {_TERMINATION_TIMEOUT_MS}) FROM pg_stat_activity
    WHERE usename = :role AND pid <> pg_backend_pid()
    AND (CAST(:pid AS integer) IS NULL OR pid = :pid) AND (NOT :here OR datname = current_database())
"""
# A role without write rights may hold such a lock, but no run.
_TENANTS_WITH_RUNS: Final = sa.text(f"""
    SELECT tenant_id FROM unnest(CAST(:tenants AS text[])) AS tenant_id
    WHERE hashtextextended('{_KEY_PREFIX}tenant:' || tenant_id, 0) IN (
        SELECT classid::bigint << 32 | objid::bigint
        FROM pg_locks
        JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND objsubid = 1 AND pid <> pg_backend_pid()
        AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND ({_MAY_WRITE})
    )
    ORDER BY tenant_id
""")
_ADVISORY_FUNCTIONS: Final = """
    FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^pg_(try_)?advisory_(xact_)?lock'
"""
_FUNCTION_STATE: Final = f"""
    SELECT bool_or(has_function_privilege('public', oid, 'EXECUTE')) AS for_everybody,
        bool_and(pg_has_role(proowner, 'USAGE')) AS ours
    {_ADVISORY_FUNCTIONS}
"""
# Members of these roles inherit the right, or become the role itself.
_WRITERS: Final = """
    SELECT DISTINCT pg_get_userbyid(writer) FROM (
        SELECT datdba AS writer FROM pg_database WHERE datname = current_database()
        UNION ALL
        SELECT relowner FROM pg_class WHERE oid = to_regclass('tenants')
        UNION ALL
        SELECT granted.grantee FROM pg_class AS c, aclexplode(c.relacl) AS granted
        WHERE c.oid = to_regclass('tenants') AND granted.privilege_type = 'INSERT' AND granted.grantee <> 0
    ) AS writers
    ORDER BY 1
"""
_MAY_LOCK: Final = f"SELECT bool_and(has_function_privilege(:role, oid, 'EXECUTE')) {_ADVISORY_FUNCTIONS}"


@dataclass(frozen=True, slots=True)
class LockLimits:
    """How long to wait for locks, in seconds."""

    # For an advisory lock that a role without write rights holds; a run is waited for without limit.
    reader_s: float = 60
    # For each lock that a statement needs on a table or role.
    statement_s: float = 10
    # Between two attempts.
    poll_s: float = 0.5


LIMITS: Final = LockLimits()


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A session that holds a lock; `pid` is None for a prepared transaction."""

    role: str | None
    pid: int | None
    may_write: bool

    def __str__(self) -> str:
        role = f"role {self.role}" if self.role else "an unknown role"
        return f"{role} (pid {self.pid})" if self.pid else f"{role} (a prepared transaction)"


@dataclass(frozen=True, slots=True)
class LockWait:
    """A wait for an advisory lock, for logs; `ended` says that the holder's session was ended."""

    lock: str
    holder: LockHolder
    ended: bool = False

    def __str__(self) -> str:
        if self.ended:
            return f"ended a session of {self.holder}, which held {self.lock} without the right to write"
        if self.holder.may_write:
            return f"waiting for {self.lock}, which {self.holder} holds"
        return f"waiting for {self.lock}, which {self.holder} holds without the right to write"


@dataclass(frozen=True, slots=True)
class AdvisoryLock:
    """An advisory lock: `name` for people, its key, the function that tries to take it, and the tenant it is for."""

    name: str
    key: sa.ColumnElement[int]
    attempt: Callable[[sa.ColumnElement[int]], sa.ColumnElement[bool]]
    tenant: str | None = None


def tenant_lock(tenant_id: str) -> AdvisoryLock:
    """The lock that a run holds while it writes a tenant, until its session ends."""
    key = _key("tenant", tenant_id)
    return AdvisoryLock(f"the lock of {tenant_id}", key, sa.func.pg_try_advisory_lock, tenant_id)


def tenant_lock_in_transaction(tenant_id: str) -> AdvisoryLock:
    """The same lock, held until the transaction ends."""
    key = _key("tenant", tenant_id)
    return AdvisoryLock(f"the lock of {tenant_id}", key, sa.func.pg_try_advisory_xact_lock, tenant_id)


def run_lock(run_id: str, tenant_id: str) -> AdvisoryLock:
    """The lock that all processes of a run share: it shows that one of them is alive."""
    key = _key("run", run_id)
    return AdvisoryLock(f"the lock of run {run_id}", key, sa.func.pg_try_advisory_lock_shared, tenant_id)


_DEFINITIONS: Final = AdvisoryLock(
    "the lock of changes to tables and readers",
    sa.literal(_DEFINITIONS_LOCK, sa.BigInteger),
    sa.func.pg_try_advisory_xact_lock,
)


def log_wait(wait: LockWait) -> None:
    """Log a wait where no run does."""
    logging.getLogger("sync_pipeline").warning("%s", wait)


def one_at_a_time(
    connection: sa.Connection, limits: LockLimits = LIMITS, on_wait: Callable[[LockWait], None] = log_wait
) -> None:
    """Exclude all others that change tables or their readers until the transaction ends.

    Raises `LockHeldError` where a role without write rights keeps the lock.
    """
    acquire(connection, _DEFINITIONS, limits, on_wait)


def acquire(
    connection: sa.Connection, lock: AdvisoryLock, limits: LockLimits, on_wait: Callable[[LockWait], None]
) -> None:
    """Take the lock; wait for a holder that may write without limit, and end the session of any other.

    The lock is polled, because a wait inside the driver cannot be interrupted. Raises `LockHeldError` once sessions
    without write rights that may not be ended, or always new ones, have kept the lock for `limits.reader_s`.
    """
    deadline = None
    reported = None
    while not try_acquire(connection, lock):
        found = holders(connection, lock)
        if not found:
            time.sleep(limits.poll_s)
            continue
        holder = found[0]
        deadline = None if holder.may_write else deadline or time.monotonic() + limits.reader_s
        ended = not holder.may_write and _end_readers(connection, found)
        if ended or holder != reported:
            on_wait(LockWait(lock.name, holder, ended))
            reported = holder
        if deadline and time.monotonic() >= deadline:
            raise LockHeldError(lock.name, lock.tenant, holder.role, holder.pid, limits.reader_s)
        if not ended:
            time.sleep(limits.poll_s)


def try_acquire(connection: sa.Connection, lock: AdvisoryLock) -> bool:
    """Take the lock if it is free. Raises `LocksNotPermittedError`."""
    try:
        with _step(connection):
            return bool(connection.execute(sa.select(lock.attempt(lock.key))).scalar_one())
    except sa.exc.DBAPIError as error:
        if pgcode(error) != errorcodes.INSUFFICIENT_PRIVILEGE:
            raise
    raise LocksNotPermittedError


def holders(connection: sa.Connection, lock: AdvisoryLock) -> list[LockHolder]:
    """The other sessions that hold the lock, then those that wait for it; none if nobody holds it now."""
    with _step(connection):
        _forget_activity(connection)
        key = connection.execute(sa.select(lock.key)).scalar_one()
        found = connection.execute(sa.text(_HOLDERS), {"key": key}).all()
    holding = any(one.granted for one in found)
    return [LockHolder(one.role, one.pid, one.may_write) for one in found] if holding else []


def tenants_with_runs(connection: sa.Connection, tenant_ids: Sequence[str]) -> list[str]:
    """Return those of these tenants that a run holds."""
    return list(connection.execute(_TENANTS_WITH_RUNS, {"tenants": list(tenant_ids)}).scalars())


def end_sessions(connection: sa.Connection, role: str, pid: int | None = None, *, here: bool = False) -> bool:
    """End the role's sessions, or the one with `pid`, or those in this database; returns whether any was ended.

    Superusers, members of pg_signal_backend, and members of the role are permitted to. The role that created another
    may make itself a member: this happens for a moment, in a transaction that is always rolled back.
    """
    for as_member in (False, True):
        step = _step(connection)
        try:
            if as_member:
                connection.execute(sa.text(f"SET LOCAL lock_timeout = {_TERMINATION_TIMEOUT_MS}"))
                connection.execute(sa.text(_escaped(f"GRANT {quoted(role)} TO CURRENT_USER")))
            _forget_activity(connection)
            found = connection.execute(sa.text(_END_SESSIONS), {"role": role, "pid": pid, "here": here}).scalars().all()
        except sa.exc.DBAPIError as error:
            if pgcode(error) not in _NOT_PERMITTED:
                raise
        else:
            return any(found)
        finally:
            step.rollback()
    return False


@contextmanager
def limited_waits(connection: sa.Connection, limits: LockLimits = LIMITS) -> Iterator[None]:
    """Set `lock_timeout` for the rest of the transaction.

    Raises `LockTimeoutError`, with the sessions that were in the way, instead of the driver's error. Only another
    session can see what this one waits for, and only while it waits.
    """
    connection.execute(sa.text(f"SET LOCAL lock_timeout = {round(limits.statement_s * 1000)}"))
    pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    seen: list[LockHolder] = []
    done = threading.Event()
    timed_out = False
    watch = threading.Thread(target=_watch, args=(connection.engine, pid, seen, done), daemon=True)
    watch.start()
    try:
        yield
    except sa.exc.DBAPIError as error:
        if pgcode(error) != errorcodes.LOCK_NOT_AVAILABLE:
            raise
        timed_out = True
    finally:
        done.set()
        watch.join()
    if timed_out:
        raise LockTimeoutError([(one.role, one.pid) for one in seen], limits.statement_s)


@contextmanager
def locked_out(engine: sa.Engine, roles: Sequence[str], limits: LockLimits = LIMITS) -> Iterator[None]:
    """Set NOLOGIN on the roles and end all their sessions, as far as that is permitted.

    On an error the roles may log in again.
    """
    with ExitStack() as undo:
        for role in roles:
            if _lock_out(engine, role, limits):
                undo.callback(_alter_role, engine, f"ALTER ROLE {quoted(role)} LOGIN", limits)
        yield
        undo.pop_all()


def restrict_advisory_locks(connection: sa.Connection) -> bool:
    """Let only roles that may write the tables take advisory locks; returns whether that is so now.

    The built-in functions belong to the superuser that made the cluster; for other roles this changes nothing.
    """
    if not unrestricted(connection) and not writers_without_locks(connection):
        return True
    if not connection.execute(sa.text(_FUNCTION_STATE)).one().ours:
        return False
    restrict_to(connection, _writers(connection))
    return True


def restrict_to(connection: sa.Connection, roles: Sequence[str]) -> None:
    """Let only these roles take advisory locks in this database, as a superuser."""
    connection.execute(sa.text(_escaped(restriction(roles))))


def unrestricted(connection: sa.Connection) -> bool:
    """Whether every role may take advisory locks in this database."""
    return bool(connection.execute(sa.text(_FUNCTION_STATE)).one().for_everybody)


def writers_without_locks(connection: sa.Connection) -> list[str]:
    """The roles that may write the tables and may not take the advisory locks that this needs."""
    return [
        role for role in _writers(connection) if not connection.execute(sa.text(_MAY_LOCK), {"role": role}).scalar_one()
    ]


def advice(connection: sa.Connection) -> str:
    """The SQL by which a superuser restricts advisory locks in this database, in one line."""
    return restriction(_writers(connection))


def restriction(roles: Sequence[str]) -> str:
    """The SQL that lets only these roles take advisory locks."""
    granted = ", ".join(quoted(role) for role in roles).replace("'", "''")
    # No name may end the quotation.
    quote = next(tag for tag in chain(["$locks$"], (f"$locks{n}$" for n in count(1))) if tag not in granted)
    return (
        f"DO {quote} DECLARE f regprocedure; BEGIN FOR f IN SELECT oid {' '.join(_ADVISORY_FUNCTIONS.split())} LOOP "
        "EXECUTE 'REVOKE EXECUTE ON FUNCTION ' || f || ' FROM PUBLIC'; "
        f"EXECUTE 'GRANT EXECUTE ON FUNCTION ' || f || ' TO {granted}'; END LOOP; END {quote}"
    )


def pgcode(error: sa.exc.DBAPIError) -> str | None:
    """The SQLSTATE of an error."""
    code: str | None = getattr(error.orig, "pgcode", None)
    return code


def _key(kind: str, name: str) -> sa.ColumnElement[int]:
    return sa.func.hashtextextended(f"{_KEY_PREFIX}{kind}:{name}", 0)


def _writers(connection: sa.Connection) -> list[str]:
    return list(connection.execute(sa.text(_WRITERS)).scalars())


def _end_readers(connection: sa.Connection, found: Sequence[LockHolder]) -> bool:
    """End the sessions that hold or want a lock and may not write; returns whether the holder is among them."""
    ended = [
        end_sessions(connection, one.role, one.pid)
        for one in found
        if not one.may_write and one.role is not None and one.pid is not None
    ]
    return any(ended[:1])


def _lock_out(engine: sa.Engine, role: str, limits: LockLimits) -> bool:
    """Set NOLOGIN on a role while ending its sessions; returns whether it could log in before and now cannot.

    A session of the role can hold the role's row, by a transaction that changes its password, and the next one can as
    soon as this one is ended. So the change queues up for the row while they are ended.
    """
    may_log_in = sa.text("SELECT rolcanlogin FROM pg_roles WHERE rolname = :role")
    with engine.connect() as connection, ThreadPoolExecutor(1) as pool:
        with connection.begin():
            may = bool(connection.execute(may_log_in, {"role": role}).scalar_one_or_none())
        change = pool.submit(_alter_role, engine, f"ALTER ROLE {quoted(role)} NOLOGIN", limits)
        while not change.done():
            end_sessions(connection, role)
            wait([change], limits.poll_s)
        permitted = change.result()
        end_sessions(connection, role, here=not permitted)
    return may and permitted


def _alter_role(engine: sa.Engine, statement: str, limits: LockLimits) -> bool:
    """Run the statement; returns whether it is permitted."""
    for attempt in range(1, _ROLE_CHANGE_ATTEMPTS + 1):
        try:
            with engine.begin() as connection, limited_waits(connection, limits):
                connection.execute(sa.text(_escaped(statement)))
        except sa.exc.DBAPIError as error:
            if pgcode(error) in _NOT_PERMITTED:
                return False
            # The role has changed its own row in the meantime.
            if pgcode(error) != errorcodes.INTERNAL_ERROR or attempt == _ROLE_CHANGE_ATTEMPTS:
                raise
        else:
            return True
    return False


def _watch(engine: sa.Engine, pid: int, seen: list[LockHolder], done: threading.Event) -> None:
    """Note who blocks a session, as often as somebody does, until it is done."""
    try:
        if done.wait(_BLOCKER_POLL_S):
            return
        # Not one of the pool's few connections.
        apart = sa.create_engine(engine.url, poolclass=sa.NullPool, connect_args={"application_name": "sync_pipeline"})
        with apart.connect() as connection:
            while not done.wait(_BLOCKER_POLL_S):
                with connection.begin():
                    found = connection.execute(sa.text(_BLOCKERS), {"pid": pid}).all()
                if found:
                    seen[:] = [LockHolder(one.role, one.pid, one.may_write) for one in found]
    except sa.exc.DBAPIError:
        # The watched session reports that the server is gone.
        return


def _forget_activity(connection: sa.Connection) -> None:
    """Let pg_stat_activity show the present, not the moment in which the transaction first read it."""
    connection.execute(sa.text("SELECT pg_stat_clear_snapshot()"))


def _step(connection: sa.Connection) -> Any:
    """A transaction of its own, or a savepoint in the one that is open."""
    return connection.begin_nested() if connection.in_transaction() else connection.begin()


def _escaped(statement: str) -> str:
    """Keep SQLAlchemy from reading parameters in a statement that holds names of roles."""
    return statement.replace(":", r"\:")
