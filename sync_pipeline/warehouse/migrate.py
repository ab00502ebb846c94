"""Brings a database's tables to the version this package works on, and says when they are not there."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from sync_pipeline.warehouse import access
from sync_pipeline.warehouse.database import failing_clearly
from sync_pipeline.warehouse.errors import SchemaOutdatedError, SchemaTooNewError

MIGRATIONS = Path(__file__).parent / "migrations"
# Any number will do, as long as every process that migrates takes the same one.
MIGRATION_LOCK = 72_191_604


def migrate(engine: sa.Engine) -> tuple[str | None, str]:
    """Apply what is missing, in one transaction, one process at a time; returns the versions before and after.

    Whatever tables and views there are then, the tenants are kept apart in them, and their readers may read them.

    Raises `SchemaTooNewError`, and `WarehouseFailedError` where the role may not create tables.
    """
    with failing_clearly(), engine.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        before = _current(connection)
        if before is not None and not _is_known(before):
            raise SchemaTooNewError(before)
        config = _config()
        config.attributes["connection"] = connection
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
    if found is not None and not _is_known(found):
        raise SchemaTooNewError(found)
    if found != _head():
        raise SchemaOutdatedError(found, _head())


def _current(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _head() -> str:
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _is_known(revision: str) -> bool:
    return revision in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config
