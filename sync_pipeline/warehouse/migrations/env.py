"""Runs the migrations on the connection that `warehouse.migrate` hands over; there is no offline mode."""

from alembic import context

from sync_pipeline.warehouse.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
