"""Connections: from a URL (or none) to an engine on an existing database."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import sqlalchemy as sa
from psycopg2 import errorcodes
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, ProgrammingError

from sync_pipeline.sources.redaction import Redactor, Secret
from sync_pipeline.warehouse import embedded
from sync_pipeline.warehouse.errors import (
    DatabaseMissingError,
    UnsupportedDriverError,
    WarehouseError,
    WarehouseFailedError,
    WarehouseFullError,
    WarehouseUnreachableError,
    WarehouseUrlError,
)
from sync_pipeline.warehouse.identifiers import quoted

CONNECT_TIMEOUT_S = 10
# The setting that row-level security goes by; a reader's policies do not look at it.
TENANT_SETTING = "sync_pipeline.tenant"
WAREHOUSE_VARIABLE = "SYNC_PIPELINE_DATABASE_URL"
DAGSTER_VARIABLE = "DAGSTER_POSTGRES_URL"
_BIND = sa.text("SELECT set_config(:name, :tenant, true)")
DRIVER = "postgresql+psycopg2"
SCHEMES = frozenset({"postgresql", "postgres", DRIVER})
# An error repeats the scheme of these alone: any other text before the colon may be part of a password.
BACKENDS = frozenset(
    {"postgresql", "postgres", "mysql", "mariadb", "sqlite", "oracle", "mssql", "cockroachdb", "redshift"}
)


def parse_url(url: str, variable: str = WAREHOUSE_VARIABLE) -> URL:
    """Read a Postgres URL, and return it with psycopg2 as its driver.

    Without a driver, SQLAlchemy would use another one, which is not installed.

    Raises `WarehouseUrlError`, which names the variable and not the value, because the value holds a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is not None and parsed.drivername not in SCHEMES and parsed.get_backend_name() in BACKENDS:
        raise UnsupportedDriverError(variable, parsed.drivername)
    if parsed is None or parsed.drivername not in SCHEMES or _is_unclear(parsed, url):
        raise WarehouseUrlError(variable)
    return parsed.set(drivername=DRIVER)


def _is_unclear(url: URL, text: str) -> bool:
    """Whether a password with an @ that is not encoded may have been taken apart, and its rest for another part.

    That part would be shown. Only the folder of a socket may have an @ of its own.
    """
    # SQLAlchemy drops an option without a value.
    dropped = [option for option in text.partition("?")[2].split("&") if "=" not in option]
    others = [url.host, url.database, *url.query, *dropped]
    for name, values in url.normalized_query.items():
        others += [value for value in values if not (name == "host" and value.startswith("/"))]
    return any("@" in (part or "") for part in others) or "\0" in str(url.password or "")


def warehouse_url(database_url: str | None, home: Path) -> URL:
    """The warehouse's URL: the configured one, or that of an embedded server under `home`, started on the way."""
    return parse_url(database_url) if database_url else parse_url(embedded.start(home))


def beside(url: URL, suffix: str) -> URL:
    """The URL of another database on the same server: `sync_pipeline` becomes `sync_pipeline_dagster`."""
    return url.set(database=f"{url.database}{suffix}")


def create_database(url: URL, variable: str = WAREHOUSE_VARIABLE) -> None:
    """Create the database if the server does not have it.

    Raises `WarehouseUnreachableError`, or `DatabaseMissingError` where it may not be created; both name `variable`.
    """
    if _exists(url, variable):
        return
    engine = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    reason = None
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {quoted(str(url.database))}"))
            # A tenant's reader is a role of the server, and Dagster's tables are none of its business.
            connection.execute(sa.text(f"REVOKE ALL ON DATABASE {quoted(str(url.database))} FROM PUBLIC"))
    except (OperationalError, ProgrammingError) as error:
        reason = _reason(error)
    if reason is not None and not _exists(url, variable):  # another process may have created it meanwhile
        raise DatabaseMissingError(shown(url), variable, without_password(reason, url))


def connect(url: URL, variable: str = WAREHOUSE_VARIABLE) -> sa.Engine:
    """An engine whose connections are checked before use, so that a restarted Postgres is met with a new one.

    Raises `WarehouseUnreachableError` at once when there is no server or no such database.
    """
    engine = sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_size=2,
        # Row values can be personal data: they stay out of error messages.
        hide_parameters=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "sync_pipeline"},
    )
    if (reason := _refusal(engine)) is not None:
        raise WarehouseUnreachableError(shown(url), variable, without_password(reason, url))
    return engine


@contextmanager
def bound_to(engine: sa.Engine, tenant_id: str) -> Iterator[sa.Connection]:
    """A connection whose every transaction sees and writes the rows of one tenant, and no other's.

    Row-level security hides all rows from a transaction that is not bound.
    """
    with engine.connect() as connection:

        def bind(began: sa.Connection) -> None:
            # By the driver: the transaction is only just beginning, and SQLAlchemy would want to begin another.
            cursor = began.connection.cursor()
            cursor.execute("SELECT set_config(%s, %s, true)", (TENANT_SETTING, tenant_id))
            cursor.close()

        sa.event.listen(connection, "begin", bind)
        yield connection


def bound_to_each(
    engine: sa.Engine, tenant_ids: Iterable[str], *, statement_timeout_s: float
) -> Iterator[tuple[str, sa.Connection]]:
    """Yield a connection in one read-only transaction, bound to one tenant after the other.

    A transaction per tenant would take twice as many round trips. Each statement has `statement_timeout_s`.
    """
    with engine.connect() as connection, connection.begin():
        connection.execute(sa.text("SET TRANSACTION READ ONLY"))
        limit = {"limit": f"{statement_timeout_s * 1000:.0f}"}
        connection.execute(sa.text("SELECT set_config('statement_timeout', :limit, true)"), limit)
        for tenant_id in tenant_ids:
            connection.execute(_BIND, {"name": TENANT_SETTING, "tenant": tenant_id})
            yield tenant_id, connection


@contextmanager
def failing_clearly(*, in_run: bool = False) -> Iterator[None]:
    """Raise `WarehouseFailedError` where Postgres refuses or goes away, `WarehouseFullError` where it has no room left.

    `in_run` says that days may have been committed before.

    The driver's own error is left behind: its text may quote a row, and rows hold personal data.
    """
    refused = None
    try:
        yield
    except sa.exc.DBAPIError as error:
        refused = _refused(error.orig, in_run=in_run)
    except psycopg2.Error as error:  # from COPY, which SQLAlchemy has no word for
        refused = _refused(error, in_run=in_run)
    if refused is not None:
        raise refused from None


def _refused(error: BaseException | None, *, in_run: bool) -> WarehouseError:
    if getattr(error, "pgcode", None) == errorcodes.DISK_FULL:
        return WarehouseFullError(in_run=in_run)
    return WarehouseFailedError(primary_message(error), in_run=in_run)


def primary_message(error: BaseException | None) -> str:
    """What the server says of an error, without the row or the statement that it may quote."""
    diagnostics = getattr(error, "diag", None)
    primary = getattr(diagnostics, "message_primary", None)
    return str(primary or "the connection was lost").partition(":")[0]


def _exists(url: URL, variable: str) -> bool:
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    reason = _refusal(engine)
    if reason is not None and not ("database" in reason and "does not exist" in reason):
        raise WarehouseUnreachableError(shown(url), variable, without_password(reason, url))
    return reason is None


def _refusal(engine: sa.Engine) -> str | None:
    """Why no connection can be had, None where one can."""
    try:
        engine.connect().close()
    except (OperationalError, ProgrammingError) as error:
        return _reason(error)
    return None


def _reason(error: OperationalError | ProgrammingError) -> str:
    return " ".join(str(error.orig).split())


def shown(url: URL) -> str:
    """The URL as people may see it: without the password, also where it is among the options, as libpq allows."""
    hidden = {name: "hidden" for name in url.query if "password" in name.lower()}
    return url.update_query_dict(hidden).render_as_string(hide_password=True)


def without_password(text: str, url: URL) -> str:
    """A driver's words about a connection without the URL's password, or one in any other URL."""
    secrets = [url.password, *(value for name, value in url.query.items() if "password" in name.lower())]
    return Redactor([Secret(str(secret)) for secret in secrets if secret])(text)
