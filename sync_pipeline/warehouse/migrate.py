"""Brings a database's tables to the version this package works on, and says when they are not there."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from sync_pipeline.warehouse import access, corrections
from sync_pipeline.warehouse.compatibility import MIGRATIONS, STORED_SINCE, head, require, revisions, stored_version
from sync_pipeline.warehouse.corrections import OnProgress
from sync_pipeline.warehouse.database import failing_clearly
from sync_pipeline.warehouse.errors import LockTimeoutError, RunsInProgressError
from sync_pipeline.warehouse.locks import LIMITS, LockLimits, limited_waits, one_at_a_time, tenants_with_runs

if TYPE_CHECKING:
    from alembic.config import Config

_TENANTS: Final = sa.text("SELECT tenant_id FROM tenants ORDER BY tenant_id")
# Runs begin every transaction by reading this table, and lock it thereby, before they lock any other.
_LOCK_OUT_RUNS: Final = sa.text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")

# While a migration waits for a table, syncs and reports of it wait behind it; in between they get their turn.
ATTEMPTS = 3
# By the revision that marks a correction of stored rows as complete. Until then no version of the package syncs.
CORRECTIONS: Final[Mapping[str, Callable[[sa.Engine, list[str], OnProgress], None]]] = {
    "0007": corrections.reduce_orders
}


def migrate(
    engine: sa.Engine,
    limits: LockLimits = LIMITS,
    on_progress: OnProgress = lambda _: None,
    *,
    despite_runs: bool = False,
    folder: Path = MIGRATIONS,
) -> tuple[str | None, str]:
    """Apply what is missing, one process at a time; returns the versions before and after.

    Changes of tables are one transaction, interrupted only by corrections of stored rows, which commit in batches:
    `on_progress` is called after each, and a migration that was stopped there is continued by the next one. Whatever
    tables and views there are then, the tenants are kept apart in them, and their readers may read them.

    While runs are in progress, a migration that is not additive is refused, unless `despite_runs`: they fail then at
    their next transaction. Tables of a newer version that this one can work with stay as they are.

    Raises `SchemaTooNewError`, `SchemaUnknownError`, `RunsInProgressError`, `WarehouseFailedError` where the role may
    not create tables, `LockHeldError` and, where tables stay in use through all attempts, `LockTimeoutError`.
    """
    migration = _Migration(engine, limits, folder, despite_runs)
    with failing_clearly(), engine.connect() as connection:
        version = stored_version(connection)
    before = version.revision if version else None
    for complete, correct in CORRECTIONS.items():
        if before is None or before < complete:
            earlier = max(revision for revision in revisions(folder) if revision < complete)
            correct(engine, migration.upgrade(earlier), on_progress)
    migration.upgrade(head(folder))
    # A session that has used temporary tables, as migrations do, refuses the buffers that staging asks for.
    engine.dispose()
    after = head(folder)
    return before, after if before is None else max(before, after)


@dataclass(frozen=True, slots=True)
class _Migration:
    """A migration of a database by the migrations of a folder."""

    engine: sa.Engine
    limits: LockLimits
    folder: Path
    despite_runs: bool

    def upgrade(self, revision: str) -> list[str]:
        """Apply what is missing up to a revision, and return the tenants there are where more is missing."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._attempt(revision)
            except LockTimeoutError:
                time.sleep(self.limits.poll_s)
        return self._attempt(revision)

    def _attempt(self, revision: str) -> list[str]:
        # Every run looks whether the tables are current, and none of them migrates: alembic takes a while to load.
        from alembic import command

        with failing_clearly(), self.engine.begin() as connection:
            one_at_a_time(connection, self.limits)
            version = stored_version(connection)
            found = version.revision if version else None
            is_behind = found is None or found in revisions(self.folder)[:-1]
            if not is_behind:
                require(version, folder=self.folder)
            tenant_ids: list[str] = []
            with limited_waits(connection, self.limits):
                if is_behind:
                    if found is not None:
                        connection.execute(_LOCK_OUT_RUNS)
                    # A migration changes the rows of all tenants.
                    access.unforce(connection)
                    config = self._configuration(connection)
                    if found is not None and not self.despite_runs:
                        _refuse_during_runs(connection, config, found)
                    if found is None or found < revision:
                        command.upgrade(config, revision)
                    tenant_ids = list(connection.execute(_TENANTS).scalars())
                access.secure(connection)
            return tenant_ids

    def _configuration(self, connection: sa.Connection) -> "Config":
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(self.folder))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        return config


def _refuse_during_runs(connection: sa.Connection, config: "Config", found: str) -> None:
    """Raise `RunsInProgressError` where runs could not continue after the migrations that are missing."""
    from alembic.script import ScriptDirectory

    missing = ScriptDirectory.from_config(config).iterate_revisions("head", found)
    # Versions that do not store which ones can work with the tables accept no other tables than their own.
    breaking = [one.revision for one in missing if not one.module.additive or found < STORED_SINCE]
    tenant_ids = list(connection.execute(_TENANTS).scalars()) if breaking else []
    if tenants := tenants_with_runs(connection, tenant_ids):
        raise RunsInProgressError(tenants, min(breaking))


def require_current(engine: sa.Engine) -> str | None:
    """Check that this version can work with the tables; returns a warning where they are newer, else None.

    Raises `SchemaOutdatedError`, `SchemaTooNewError` and `SchemaUnknownError`.
    """
    with failing_clearly(), engine.connect() as connection:
        version = stored_version(connection)
    if not require(version) or version is None:
        return None
    return (
        f"the warehouse is at migration {version.revision}, which is newer than this version of sync-pipeline; it can "
        f"work with these tables, but upgrade it soon"
    )
