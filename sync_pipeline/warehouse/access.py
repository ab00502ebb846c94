"""Who sees what: row-level security on every table with `tenant_id`, and roles that may read one tenant alone.

A role that may write the tables is the sync's: it sees the rows of the tenant that its transaction is bound to (see
`warehouse.database`), and none where it is bound to none. Any other role sees the rows of the tenant that
`tenant_readers` has for it, whatever it sets. Security is forced, so that the tables' owner is no exception; superusers
and roles with BYPASSRLS are, and `exposures` tells of them.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from psycopg2 import errorcodes
from psycopg2.extensions import encrypt_password
from sqlalchemy.dialects.postgresql import insert

from sync_pipeline.warehouse import locks
from sync_pipeline.warehouse.database import bound_to, failing_clearly, primary_message
from sync_pipeline.warehouse.errors import (
    NotAReaderError,
    ReaderRefusedError,
    TenantNotStoredError,
)
from sync_pipeline.warehouse.identifiers import quoted
from sync_pipeline.warehouse.locks import LIMITS, LockLimits, limited_waits, locked_out, one_at_a_time
from sync_pipeline.warehouse.schema import metadata, tenant_readers, tenants

POLICY: Final = "tenant_isolation"
PASSWORD_BYTES: Final = 24
# One tenant's reports must not take the connections that all tenants' runs need.
CONNECTIONS: Final = 20
LONGEST_NAME: Final = 63

# Evaluated once per statement, and compared so that indexes on `tenant_id` serve.
_IN_SIGHT: Final = """
    tenant_id = (
        SELECT CASE
            WHEN has_table_privilege('tenants'::regclass, 'INSERT')
                THEN NULLIF(current_setting('sync_pipeline.tenant', true), '')
            ELSE (SELECT tenant_id FROM tenant_readers WHERE role_name = current_user::text)
        END
    )
"""
_TENANTS_TABLES: Final = f"""
    SELECT c.oid::regclass::text AS name, pg_has_role(c.relowner, 'USAGE') AS ours, c.relowner::regrole::text AS owner,
        has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'DELETE') AS may_be_emptied,
        c.relrowsecurity AND c.relforcerowsecurity AS forced,
        EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname = '{POLICY}') AS has_policy,
        EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid AND p.polname <> '{POLICY}' AND p.polpermissive)
            AS has_others
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND c.relkind IN ('r', 'p')
    ORDER BY 1
"""
_VIEWS: Final = """
    SELECT c.oid::regclass::text AS name, pg_has_role(c.relowner, 'USAGE') AS ours,
        (c.reloptions && ARRAY['security_invoker=true', 'security_invoker=on', 'security_invoker=yes',
            'security_invoker=1']) IS TRUE AS invoker
    FROM pg_class AS c
    WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND c.relkind IN ('v', 'm')
    ORDER BY 1
"""
_READING_ROLES: Final = """
    SELECT DISTINCT pg_get_userbyid(granted.grantee)
    FROM pg_class AS c, aclexplode(c.relacl) AS granted
    WHERE c.oid = to_regclass('tenant_readers') AND granted.grantee NOT IN (0, c.relowner)
    ORDER BY 1
"""
# In the order in which a role is refused.
_REFUSALS: Final = {
    "is_ours": "the sync itself connects as it",
    "rolsuper": "it is a superuser",
    "rolbypassrls": "it bypasses row-level security",
    "rolreplication": "it may replicate all that is stored",
    "rolcreaterole": "it may create roles",
    "is_member": "it is a member of other roles, whose rights it has",
    "may_write": "it may write the tables",
    "may_create": "it may create tables, perhaps as everybody may: REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    "cannot_login": "it may not log in: ALTER ROLE ... LOGIN",
    "cannot_connect": "it may not connect to the database: the database's owner has to GRANT CONNECT",
    "cannot_use": "it may not use the schema: the schema's owner has to GRANT USAGE",
}
# Of these, what lets a role see more than its tenant; the others let it see less.
_SEES_MORE: Final = frozenset(_REFUSALS) - {"cannot_login", "cannot_connect", "cannot_use"}
_ROLE: Final = """
    SELECT r.rolname = current_user AS is_ours, r.rolsuper, r.rolbypassrls, r.rolreplication, r.rolcreaterole,
        EXISTS (SELECT FROM pg_auth_members WHERE member = r.oid) AS is_member,
        EXISTS (
            SELECT FROM pg_class AS c
            WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v') AND (
                has_table_privilege(r.oid, c.oid, 'DELETE, TRUNCATE')
                OR has_any_column_privilege(r.oid, c.oid, 'INSERT, UPDATE')
            )
        ) AS may_write,
        has_schema_privilege(r.oid, current_schema(), 'CREATE') AS may_create,
        NOT r.rolcanlogin AS cannot_login,
        NOT has_database_privilege(r.oid, current_database(), 'CONNECT') AS cannot_connect,
        NOT has_schema_privilege(r.oid, current_schema(), 'USAGE') AS cannot_use
    FROM pg_roles AS r WHERE r.rolname = :role
"""


@dataclass(frozen=True, slots=True)
class Granted:
    """What `grant` did: whether it made the role, and the password where it made that, too."""

    role: str
    made: bool
    password: str | None = field(default=None, repr=False)


def secure(connection: sa.Connection) -> None:
    """Put every table with `tenant_id` under row-level security, and let the readers read what is new.

    Advisory locks are restricted to roles that may write, where that is permitted.
    """
    locks.restrict_advisory_locks(connection)
    for table in _ours(connection, _TENANTS_TABLES):
        if not table.forced:
            _run(connection, f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
            # Truncating knows no rows, and so no tenant.
            _run(connection, f"REVOKE TRUNCATE ON {table.name} FROM CURRENT_USER")
        if not table.has_policy:
            _run(connection, f"CREATE POLICY {POLICY} ON {table.name} USING ({_IN_SIGHT})")
    for role in connection.execute(sa.text(_READING_ROLES)).scalars().all():
        if _reason_against(connection, role, _SEES_MORE) is None:
            _allow(connection, role)


def unforce(connection: sa.Connection) -> None:
    """Let the owner see all rows of all tenants, for a migration; `secure` ends it in the same transaction."""
    for table in _ours(connection, _TENANTS_TABLES):
        if table.forced:
            _run(connection, f"ALTER TABLE {table.name} NO FORCE ROW LEVEL SECURITY")


def exposures(engine: sa.Engine) -> list[str]:
    """What lets tenants see each other, a sentence each; none where all is well. Raises `WarehouseFailedError`."""
    role = "SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user"
    with failing_clearly(), engine.begin() as connection:
        name, is_superuser, bypasses = connection.execute(sa.text(role)).one()
        tables = connection.execute(sa.text(_TENANTS_TABLES)).all()
        views = connection.execute(sa.text(_VIEWS)).all()
        readers = connection.execute(sa.text(_READING_ROLES)).scalars().all()
        reasons = {reader: _reason_against(connection, reader, _SEES_MORE) for reader in readers}
        found = _lock_warnings(connection, readers)
    if is_superuser or bypasses:
        what = "is a superuser" if is_superuser else "bypasses row-level security"
        found.append(
            f"the warehouse is reached as the role {name}, which {what}, so that nothing in Postgres keeps the tenants "
            "apart: connect as a plain role that owns the tables"
        )
    open_tables = [table for table in tables if not (table.forced and table.has_policy)]
    if ours := [table.name for table in open_tables if table.ours]:
        found.append(f"row-level security is not on for {', '.join(ours)}: run `sync-pipeline migrate`")
    found += [
        f"row-level security is not on for {table.name}, which belongs to {table.owner}: its owner has to put it on, "
        "and force it, or keep the table in a schema of its own"
        for table in open_tables
        if not table.ours
    ]
    if open_views := [view.name for view in views if not view.invoker]:
        found.append(
            f"views that see more than their reader: {', '.join(open_views)}; "
            "ALTER VIEW ... SET (security_invoker = true); a materialized view is for no reader"
        )
    if doubled := [table.name for table in tables if table.has_others]:
        found.append(f"policies beside {POLICY} let more be seen of {', '.join(doubled)}: DROP POLICY")
    found += [
        f"the role {reader} may read tables, and do more than read one tenant: {reason}"
        for reader, reason in reasons.items()
        if reason
    ]
    return found


def lock_warnings(engine: sa.Engine) -> list[str]:
    """What lets readers block syncs and migrations, a sentence each. Raises `WarehouseFailedError`."""
    with failing_clearly(), engine.begin() as connection:
        return _lock_warnings(connection, connection.execute(sa.text(_READING_ROLES)).scalars().all())


def grant(
    engine: sa.Engine, tenant_id: str, role: str, password: str | None = None, limits: LockLimits = LIMITS
) -> Granted:
    """Make the role, or take one that is there, and let it read this tenant alone; again, it changes nothing.

    A role that is made gets `password`, or one made at random; one that was there keeps its own unless one is given.
    The server only gets a SCRAM verifier of it. Raises `ReaderRefusedError` for a role that sees more than one tenant
    or may write, `TenantNotStoredError`, `LockHeldError`, `LockTimeoutError` and `WarehouseFailedError`.
    """
    _refuse_reserved(role)
    with failing_clearly(), bound_to(engine, tenant_id) as connection, connection.begin():
        if not _ours(connection, _TENANTS_TABLES):
            raise ReaderRefusedError(role, "the tables are not this role's to give: connect as their owner")
        one_at_a_time(connection, limits)
        with limited_waits(connection, limits):
            return _grant(connection, tenant_id, role, password)


def _grant(connection: sa.Connection, tenant_id: str, role: str, password: str | None) -> Granted:
    _require_stored(connection, tenant_id)
    locks.restrict_advisory_locks(connection)
    made = connection.execute(sa.text(_ROLE), {"role": role}).one_or_none() is None
    if made:
        password = password or secrets.token_urlsafe(PASSWORD_BYTES)
        _require_creating(connection, role)
        _run(connection, f"CREATE ROLE {quoted(role)} LOGIN CONNECTION LIMIT {CONNECTIONS}")
        # One of that name is gone: it was dropped by hand, or the warehouse was restored on another server.
        connection.execute(sa.delete(tenant_readers).where(tenant_readers.c.role_name == role))
    line = insert(tenant_readers).values(tenant_id=tenant_id, role_name=role, made=made)
    connection.execute(line.on_conflict_do_nothing())
    if not connection.execute(sa.select(tenant_readers).where(tenant_readers.c.role_name == role)).all():
        raise ReaderRefusedError(role, "it reads another tenant already; revoke that first, or name another role")
    _allow(connection, role)
    # All that it may do now, also by what everybody may.
    if reason := _reason_against(connection, role, _REFUSALS):
        raise ReaderRefusedError(role, reason)
    if password:
        _set_password(connection, role, password)
    return Granted(role, made, password)


def revoke(engine: sa.Engine, tenant_id: str, role: str, limits: LockLimits = LIMITS) -> bool:
    """Take back what `grant` gave; returns whether the role is gone with it.

    A role that `grant` made may not log in from the first moment on and loses its sessions, so that it can hold no
    lock. Then it is dropped, unless it owns or was given something else in the meantime. A role that was there before
    loses its sessions in this database where that is permitted. Raises `NotAReaderError`, `LockHeldError`,
    `LockTimeoutError` and `WarehouseFailedError`.
    """
    with failing_clearly(), bound_to(engine, tenant_id) as connection:
        with connection.begin():
            made = _made(connection, tenant_id, role)
        with locked_out(engine, [role] if made else [], limits), connection.begin():
            if not made:
                locks.end_sessions(connection, role, here=True)
            one_at_a_time(connection, limits)
            with limited_waits(connection, limits):
                return _forget(connection, role, made=_made(connection, tenant_id, role))


def readers_of(connection: sa.Connection, tenant_id: str) -> tuple[list[str], list[str]]:
    """The tenant's readers, in a transaction bound to it: those that `grant` made, and those that were there before."""
    c = tenant_readers.c
    readers = sa.select(c.role_name, c.made).where(c.tenant_id == tenant_id).order_by(c.role_name)
    found = connection.execute(readers).all()
    return [role for role, made in found if made], [role for role, made in found if not made]


def forget_readers(connection: sa.Connection, tenant_id: str) -> list[str]:
    """Take back what every reader of the tenant was given, in a transaction bound to it; returns their names."""
    made, others = readers_of(connection, tenant_id)
    for role in made:
        _forget(connection, role, made=True)
    for role in others:
        _forget(connection, role, made=False)
    return sorted([*made, *others])


def row_counts(connection: sa.Connection, tenant_id: str) -> dict[str, int]:
    """How many rows a tenant has in each table that can be emptied of it, in a transaction bound to it."""
    counted = "SELECT count(*) FROM {} WHERE tenant_id = :tenant"
    return {
        name: connection.execute(sa.text(counted.format(name)), {"tenant": tenant_id}).scalar_one()
        for name in _tables_by_owner(connection, to_empty=True)
    }


def delete_rows(connection: sa.Connection, tenant_id: str) -> dict[str, int]:
    """Delete all rows of a tenant that can be, in a transaction bound to it; returns how many of each table.

    Tables that somebody added go first, as they may refer to those of this package.
    """
    order = [table.name for table in metadata.sorted_tables]
    names = list(_tables_by_owner(connection, to_empty=True))
    names.sort(key=lambda name: order.index(name) if name in order else len(order), reverse=True)
    delete = "DELETE FROM {} WHERE tenant_id = :tenant"
    return {name: connection.execute(sa.text(delete.format(name)), {"tenant": tenant_id}).rowcount for name in names}


def tables_left_alone(engine: sa.Engine) -> dict[str, str]:
    """Tables with `tenant_id` from which we may delete nothing, each with its owner. Raises `WarehouseFailedError`."""
    with failing_clearly(), engine.begin() as connection:
        return _tables_by_owner(connection, to_empty=False)


def _forget(connection: sa.Connection, role: str, *, made: bool) -> bool:
    connection.execute(sa.delete(tenant_readers).where(tenant_readers.c.role_name == role))
    if connection.execute(sa.text(_ROLE), {"role": role}).one_or_none() is None:
        return True
    for what, where in _objects(connection):
        # A role that was there may have been let into the database for something else.
        if made or what == "SELECT":
            _run(connection, f"REVOKE {what} ON {where} FROM {quoted(role)}")
    if not made:
        return False
    # A session whose login had begun before NOLOGIN.
    locks.end_sessions(connection, role)
    try:
        with connection.begin_nested():
            _run(connection, f"DROP ROLE {quoted(role)}")
    except sa.exc.DBAPIError as error:
        if locks.pgcode(error) == errorcodes.LOCK_NOT_AVAILABLE:
            raise
        # It owns something, or was given something, here or in another database.
        return False
    return True


def _made(connection: sa.Connection, tenant_id: str, role: str) -> bool:
    """Whether `grant` made this reader of the tenant. Raises `NotAReaderError`."""
    c = tenant_readers.c
    made = sa.select(c.made).where(c.tenant_id == tenant_id, c.role_name == role)
    found: bool | None = connection.execute(made).scalar_one_or_none()
    if found is None:
        raise NotAReaderError(tenant_id, role)
    return found


def _lock_warnings(connection: sa.Connection, readers: Collection[str]) -> list[str]:
    ours = connection.execute(sa.text("SELECT current_user")).scalar_one()
    found = []
    if ours in locks.writers_without_locks(connection):
        found.append(
            f"the role {ours} may not take the advisory locks that a sync needs; as a superuser run in this database: "
            f"{locks.advice(connection)}"
        )
    if readers and locks.unrestricted(connection):
        found.append(
            "readers can take the advisory locks of syncs and migrations and keep them waiting, as any role may in "
            f"this database; as a superuser run in it: {locks.advice(connection)}"
        )
    return found


def _allow(connection: sa.Connection, role: str) -> None:
    for what, where in _objects(connection):
        _run(connection, f"GRANT {what} ON {where} TO {quoted(role)}")


def _objects(connection: sa.Connection) -> list[tuple[str, str]]:
    """What a reader is given, and on what: the tenants' tables, and views that see no more than their reader."""
    database, schema = connection.execute(sa.text("SELECT current_database(), current_schema()")).one()
    tables = [table.name for table in _ours(connection, _TENANTS_TABLES)]
    views = [view.name for view in _ours(connection, _VIEWS) if view.invoker]
    return [
        ("CONNECT", f"DATABASE {quoted(database)}"),
        ("USAGE", f"SCHEMA {quoted(schema)}"),
        ("SELECT", f"TABLE {', '.join([*tables, *views])}"),
    ]


def _reason_against(connection: sa.Connection, role: str, reasons: Collection[str]) -> str | None:
    is_ = connection.execute(sa.text(_ROLE), {"role": role}).one()._mapping
    return next((why for what, why in _REFUSALS.items() if what in reasons and is_[what]), None)


def _tables_by_owner(connection: sa.Connection, *, to_empty: bool) -> dict[str, str]:
    """Tables with `tenant_id` that are to be emptied of a tenant that is deleted, or the others; each with its owner.

    This package's are among them in any case: without the right to, the deletion has to fail.
    """
    return {
        table.name: table.owner
        for table in connection.execute(sa.text(_TENANTS_TABLES)).all()
        if (table.may_be_emptied or table.name in metadata.tables) == to_empty
    }


def _ours(connection: sa.Connection, query: str) -> list[sa.Row[Any]]:
    return [one for one in connection.execute(sa.text(query)) if one.ours]


def _require_stored(connection: sa.Connection, tenant_id: str) -> None:
    if not connection.execute(sa.select(tenants.c.tenant_id).where(tenants.c.tenant_id == tenant_id)).all():
        raise TenantNotStoredError(tenant_id)


def _require_creating(connection: sa.Connection, role: str) -> None:
    may = "SELECT current_user, rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    ours, allowed = connection.execute(sa.text(may)).one()
    if not allowed:
        raise ReaderRefusedError(
            role, f"there is no such role, and {ours} may not create any: create it, or ALTER ROLE {ours} CREATEROLE"
        )


def _refuse_reserved(role: str) -> None:
    if role in {"", "public", "none"} or role.startswith("pg_") or not role.isprintable():
        raise ReaderRefusedError(role, "that is no name for a role of one's own")
    if len(role.encode()) > LONGEST_NAME:
        raise ReaderRefusedError(role, f"Postgres takes names of up to {LONGEST_NAME} bytes")


def _set_password(connection: sa.Connection, role: str, password: str) -> None:
    session: Any = connection.connection.driver_connection
    verifier = encrypt_password(password, role, scope=session, algorithm="scram-sha-256")
    reason = None
    try:
        _run(connection, f"ALTER ROLE {quoted(role)} PASSWORD '{verifier}'")
    except sa.exc.DBAPIError as error:
        if locks.pgcode(error) == errorcodes.LOCK_NOT_AVAILABLE:
            raise
        reason = primary_message(error.orig)
    # Here, where nothing is being handled: the driver's error has the verifier in it.
    if reason is not None:
        raise ReaderRefusedError(role, f"its password cannot be set: {reason}")


def _run(connection: sa.Connection, statement: str) -> None:
    # Names and verifiers may hold what SQLAlchemy takes for parameters.
    connection.execute(sa.text(statement.replace(":", r"\:")))
