"""Add who may read a tenant; every migration ends with row-level security on all tables (see `warehouse.access`)."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
additive = False

# A reader finds its own line by its role, the sync those of the tenant that its transaction is bound to.
READERS = """
CREATE POLICY tenant_isolation ON tenant_readers USING (
    CASE
        WHEN has_table_privilege('tenants'::regclass, 'INSERT')
            THEN tenant_id = NULLIF(current_setting('sync_pipeline.tenant', true), '')
        ELSE role_name = current_user::text
    END
)
"""


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "tenant_readers",
        sa.Column("role_name", sa.Text(), nullable=False, comment="a role of Postgres that may read this tenant alone"),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("made", sa.Boolean(), nullable=False, comment="whether the role was made for this, and goes with it"),
        sa.Column("granted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("tenant_readers_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("role_name", name=op.f("tenant_readers_pkey")),
    )
    op.execute(READERS)
