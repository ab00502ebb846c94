"""Connections: from a URL (or none) to an engine on an existing database."""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, ProgrammingError

from sync_pipeline.warehouse import embedded
from sync_pipeline.warehouse.errors import WarehouseUnreachableError, WarehouseUrlError

CONNECT_TIMEOUT_S = 10


def parse_url(url: str, variable: str = "SYNC_PIPELINE_DATABASE_URL") -> URL:
    """Read a Postgres URL; a bare `postgresql://` means psycopg2 here, whatever SQLAlchemy's default is.

    Raises `WarehouseUrlError`, which names the variable and not the value, because the value holds a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in {"postgresql", "postgres", "postgresql+psycopg2"}:
        raise WarehouseUrlError(variable)
    return parsed.set(drivername="postgresql+psycopg2")


def warehouse_url(database_url: str | None, home: Path) -> URL:
    """The warehouse's URL: the configured one, or that of an embedded server under `home`, started on the way."""
    return parse_url(database_url) if database_url else parse_url(embedded.start(home))


def beside(url: URL, suffix: str) -> URL:
    """The URL of another database on the same server: `sync_pipeline` becomes `sync_pipeline_dagster`."""
    return url.set(database=f"{url.database}{suffix}")


def create_database(url: URL) -> None:
    """Create the database if the server does not have it. Raises `WarehouseUnreachableError`."""
    if _exists(url):
        return
    engine = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {_quoted(str(url.database))}"))
    except (OperationalError, ProgrammingError) as error:
        reason = _reason(error)
        if not _exists(url):  # another process may have created it meanwhile
            raise WarehouseUnreachableError(url.render_as_string(hide_password=True), reason) from None


def connect(url: URL) -> sa.Engine:
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
    reason = None
    try:
        engine.connect().close()
    except OperationalError as error:
        reason = _reason(error)
    if reason is not None:
        raise WarehouseUnreachableError(url.render_as_string(hide_password=True), reason)
    return engine


def _exists(url: URL) -> bool:
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    reason = None
    try:
        engine.connect().close()
    except OperationalError as error:
        reason = _reason(error)
    if reason is None:
        return True
    if "does not exist" in reason and "database" in reason:
        return False
    raise WarehouseUnreachableError(url.render_as_string(hide_password=True), reason)


def _reason(error: OperationalError | ProgrammingError) -> str:
    return " ".join(str(error.orig).split())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
