"""Brings a database's tables to the version this package works on, and says when they are not there."""

import time
from pathlib import Path

import sqlalchemy as sa

from sync_pipeline.warehouse import access
from sync_pipeline.warehouse.database import failing_clearly
from sync_pipeline.warehouse.errors import LockTimeoutError, SchemaOutdatedError, SchemaTooNewError
from sync_pipeline.warehouse.locks import LIMITS, LockLimits, limited_waits, one_at_a_time

MIGRATIONS = Path(__file__).parent / "migrations"


# While a migration waits for a table, syncs and reports of it wait behind it; in between they get their turn.
ATTEMPTS = 3


def migrate(engine: sa.Engine, limits: LockLimits = LIMITS) -> tuple[str | None, str]:
    """Apply what is missing, in one transaction, one process at a time; returns the versions before and after.

    Whatever tables and views there are then, the tenants are kept apart in them, and their readers may read them.

    Raises `SchemaTooNewError`, `WarehouseFailedError` where the role may not create tables, `LockHeldError` and, where
    tables stay in use through all attempts, `LockTimeoutError`.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return _attempt(engine, limits)
        except LockTimeoutError:
            time.sleep(limits.poll_s)
    return _attempt(engine, limits)


def _attempt(engine: sa.Engine, limits: LockLimits) -> tuple[str | None, str]:
    # Every run looks whether the tables are current, and none of them migrates: alembic takes a while to load.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with failing_clearly(), engine.begin() as connection:
        one_at_a_time(connection, limits)
        before = _current(connection)
        if before is not None and before not in _revisions():
            raise SchemaTooNewError(before)
        config.attributes["connection"] = connection
        with limited_waits(connection, limits):
            if before != _head():
                # A migration changes the rows of all tenants.
                access.unforce(connection)
                command.upgrade(config, "head")
            access.secure(connection)
        return before, _head()


def require_current(engine: sa.Engine) -> None:
    """Raise `SchemaOutdatedError` or `SchemaTooNewError` unless the tables are at this package's version."""
    with failing_clearly(), engine.connect() as connection:
        found = _current(connection)
    if found is not None and found not in _revisions():
        raise SchemaTooNewError(found)
    if found != _head():
        raise SchemaOutdatedError(found, _head())


def _current(connection: sa.Connection) -> str | None:
    if connection.execute(sa.text("SELECT to_regclass('alembic_version')")).scalar_one() is None:
        return None
    found: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def _head() -> str:
    return max(_revisions())


def _revisions() -> set[str]:
    """All that there are: a migration's file begins with its revision, and they are numbered."""
    return {file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*_*.py")}
