"""Brings a database's tables to the version this package works on, and says when they are not there."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from sync_pipeline.warehouse import access, corrections
from sync_pipeline.warehouse.corrections import OnProgress
from sync_pipeline.warehouse.database import failing_clearly
from sync_pipeline.warehouse.errors import LockTimeoutError, SchemaOutdatedError, SchemaTooNewError
from sync_pipeline.warehouse.locks import LIMITS, LockLimits, limited_waits, one_at_a_time

MIGRATIONS = Path(__file__).parent / "migrations"
_TENANTS: Final = sa.text("SELECT tenant_id FROM tenants ORDER BY tenant_id")

# While a migration waits for a table, syncs and reports of it wait behind it; in between they get their turn.
ATTEMPTS = 3
# By the revision that marks a correction of stored rows as complete. Until then no version of the package syncs.
CORRECTIONS: Final[Mapping[str, Callable[[sa.Engine, list[str], OnProgress], None]]] = {
    "0007": corrections.reduce_orders
}


def migrate(
    engine: sa.Engine, limits: LockLimits = LIMITS, on_progress: OnProgress = lambda _: None
) -> tuple[str | None, str]:
    """Apply what is missing, one process at a time; returns the versions before and after.

    Changes of tables are one transaction, interrupted only by corrections of stored rows, which commit in batches:
    `on_progress` is called after each, and a migration that was stopped there is continued by the next one. Whatever
    tables and views there are then, the tenants are kept apart in them, and their readers may read them.

    Raises `SchemaTooNewError`, `WarehouseFailedError` where the role may not create tables, `LockHeldError` and, where
    tables stay in use through all attempts, `LockTimeoutError`.
    """
    with failing_clearly(), engine.connect() as connection:
        before = _current(connection)
    for complete, correct in CORRECTIONS.items():
        if before is None or before < complete:
            correct(engine, _upgraded(engine, limits, _before(complete)), on_progress)
    _upgraded(engine, limits, _head())
    # A session that has used temporary tables, as migrations do, refuses the buffers that staging asks for.
    engine.dispose()
    return before, _head()


def _upgraded(engine: sa.Engine, limits: LockLimits, revision: str) -> list[str]:
    """Apply what is missing up to a revision, and return the tenants there are where more is missing."""
    for _ in range(ATTEMPTS - 1):
        try:
            return _attempt(engine, limits, revision)
        except LockTimeoutError:
            time.sleep(limits.poll_s)
    return _attempt(engine, limits, revision)


def _attempt(engine: sa.Engine, limits: LockLimits, revision: str) -> list[str]:
    # Every run looks whether the tables are current, and none of them migrates: alembic takes a while to load.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    with failing_clearly(), engine.begin() as connection:
        one_at_a_time(connection, limits)
        found = _current(connection)
        if found is not None and found not in _revisions():
            raise SchemaTooNewError(found)
        tenant_ids: list[str] = []
        config.attributes["connection"] = connection
        with limited_waits(connection, limits):
            if found != _head():
                # A migration changes the rows of all tenants.
                access.unforce(connection)
                if found is None or found < revision:
                    command.upgrade(config, revision)
                tenant_ids = list(connection.execute(_TENANTS).scalars())
            access.secure(connection)
        return tenant_ids


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


def _before(revision: str) -> str:
    return max(earlier for earlier in _revisions() if earlier < revision)


def _revisions() -> set[str]:
    """All that there are: a migration's file begins with its revision, and they are numbered."""
    return {file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*_*.py")}
