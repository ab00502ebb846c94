"""Add the last error of each source, and the view `sync_health`."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
additive = True

# A day counts from the moment it is over in the tenant's timezone: what was synced before is a part of it. An error is
# shown until its day, or a later one, has been stored.
SYNC_HEALTH = """
CREATE VIEW sync_health WITH (security_invoker = true) AS
SELECT
    tenant_id, source, log.last_complete_day,
    log.today - 1 - log.last_complete_day AS days_behind,
    log.last_complete_day - log.first_complete_day + 1 - log.complete_days AS days_missing,
    run.rows, run.requests, run.finished, run.run_id,
    error.message AS last_error, error.day AS last_error_day, error.code AS last_error_code,
    error.at AS last_error_at, error.run_id AS last_error_run_id
FROM (
    SELECT
        l.tenant_id, l.source, (now() AT TIME ZONE t.timezone)::date AS today, max(l.id) AS last_line,
        min(l.day) FILTER (WHERE seen.whole) AS first_complete_day,
        max(l.day) FILTER (WHERE seen.whole) AS last_complete_day,
        count(DISTINCT l.day) FILTER (WHERE seen.whole) AS complete_days
    FROM sync_log AS l
    JOIN tenants AS t ON t.tenant_id = l.tenant_id
    CROSS JOIN LATERAL (SELECT l.complete AND (l.started AT TIME ZONE t.timezone)::date > l.day AS whole) AS seen
    GROUP BY l.tenant_id, l.source, t.timezone
) AS log
FULL JOIN (
    SELECT e.* FROM sync_errors AS e
    WHERE NOT EXISTS (
        SELECT FROM sync_log AS l
        WHERE l.tenant_id = e.tenant_id AND l.source = e.source AND l.finished > e.at
        AND (e.day IS NULL OR l.day >= e.day)
    )
) AS error USING (tenant_id, source)
LEFT JOIN LATERAL (
    SELECT sum(l.rows)::bigint AS rows, sum(l.requests)::bigint AS requests, max(l.finished) AS finished, l.run_id
    FROM sync_log AS l
    WHERE l.tenant_id = log.tenant_id AND l.source = log.source
    AND l.run_id = (SELECT last.run_id FROM sync_log AS last WHERE last.id = log.last_line)
    GROUP BY l.run_id
) AS run ON true
"""


def upgrade() -> None:
    """Add the table and the view."""
    op.create_table(
        "sync_errors",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=True, comment="the day that could not be stored"),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("shop_id", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True, comment="the API's own"),
        sa.Column("message", sa.Text(), nullable=False, comment="in one sentence, as the run's failure has it"),
        sa.Column("run_id", sa.Text(), nullable=False, comment="the Dagster run that failed"),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("sync_errors_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "source", name=op.f("sync_errors_pkey")),
    )
    op.execute(SYNC_HEALTH)
