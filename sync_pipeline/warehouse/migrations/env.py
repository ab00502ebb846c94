"""Runs the migrations on the connection that `warehouse.migrate` hands over; there is no offline mode."""

from collections.abc import Collection, Mapping
from typing import Any

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo

from sync_pipeline.warehouse.compatibility import STORED_SINCE, oldest_compatible, store_oldest
from sync_pipeline.warehouse.schema import metadata

ADDITIVE = {script.revision: script.module.additive for script in context.script.walk_revisions()}


def _store_compatibility(
    ctx: MigrationContext,
    step: MigrationInfo,
    heads: Collection[Any],  # noqa: ARG001
    run_args: Mapping[str, Any],  # noqa: ARG001
) -> None:
    """Store which versions can work with the tables, in the transaction that has changed them."""
    revision = step.up_revision_id
    if ctx.connection is not None and revision is not None and revision >= STORED_SINCE:
        store_oldest(ctx.connection, oldest_compatible(ADDITIVE, revision))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    on_version_apply=_store_compatibility,
)
context.run_migrations()
