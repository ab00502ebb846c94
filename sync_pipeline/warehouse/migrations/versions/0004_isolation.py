"""Keep each tenant's rows to transactions that are bound to it, whoever owns the tables.

A later migration that changes rows has to bind itself to one tenant after the other: forced row security hides the rows
from their owner, too.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = (
    "tenants",
    "meta_ad_accounts",
    "pos_shops",
    "product_costs",
    "pos_products",
    "meta_ad_insights",
    "pos_orders",
    "sync_log",
    "sync_errors",
    "ad_performance",
)
BOUND = "tenant_id = (SELECT current_setting('sync_pipeline.tenant', true))"


def upgrade() -> None:
    """Turn row-level security on, for the owner as for anybody."""
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        # For the role that migrates and syncs alone: readers have policies of their own, which no setting can widen.
        op.execute(f"CREATE POLICY bound_tenant ON {table} TO CURRENT_USER USING ({BOUND})")


def downgrade() -> None:
    """Turn it off."""
    for table in TABLES:
        op.execute(f"DROP POLICY bound_tenant ON {table}")
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
