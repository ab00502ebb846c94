"""Add `sync_counters`: totals of rows, days and API requests of each source, begun with what the sync log has."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None
additive = True

# Waits and errors were not stored before; requests were those of committed days alone.
FILL = """
INSERT INTO sync_counters (tenant_id, source, counter, class, total)
SELECT log.tenant_id, log.source, counted.counter, counted.class, counted.total
FROM (
    SELECT
        tenant_id, source, sum(rows) AS fetched, sum(changed) AS changed, sum(removed) AS removed,
        sum(excluded) AS excluded, sum(rejected) AS rejected, count(*) AS days, sum(requests) AS requests
    FROM sync_log GROUP BY tenant_id, source
) AS log
CROSS JOIN LATERAL (VALUES
    ('rows', 'fetched', log.fetched), ('rows', 'changed', log.changed), ('rows', 'removed', log.removed),
    ('rows', 'excluded', log.excluded), ('rows', 'rejected', log.rejected),
    ('days', '', log.days), ('requests', '', log.requests)
) AS counted (counter, class, total)
WHERE counted.total > 0
"""


def upgrade() -> None:
    """Add the table and fill it."""
    op.create_table(
        "sync_counters",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("counter", sa.Text(), nullable=False, comment="rows, days, requests, waits, wait_seconds or errors"),
        sa.Column("class", sa.Text(), nullable=False, comment="kind of rows, waits or errors; blank: it has none"),
        sa.Column("total", sa.Double(), nullable=False, comment="since the first sync; it only grows"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("sync_counters_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "source", "counter", "class", name=op.f("sync_counters_pkey")),
    )
    op.execute(FILL)
