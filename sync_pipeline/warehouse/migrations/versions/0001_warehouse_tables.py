"""Create the warehouse's tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
additive = False


def upgrade() -> None:
    """Create the warehouse's tables."""
    op.create_table(
        "tenants",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("tenants_pkey")),
    )
    op.create_table(
        "meta_ad_accounts",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False, comment="without the act_ prefix"),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column("timezone_name", sa.Text(), nullable=True, comment="Meta's insight days are days of this timezone"),
        sa.Column("account_status", sa.Integer(), nullable=True),
        sa.Column(
            "enabled",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
            comment="yours to set: false leaves the account out of every sync",
        ),
        sa.Column("listed_at", sa.DateTime(timezone=True), nullable=True, comment="when discovery last saw it"),
        sa.Column("listed_run_id", sa.Text(), nullable=True, comment="the run whose discovery last saw it"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("meta_ad_accounts_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "account_id", name=op.f("meta_ad_accounts_pkey")),
    )
    op.create_table(
        "meta_ad_insights",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False, comment="without the act_ prefix"),
        sa.Column("ad_id", sa.Text(), nullable=False),
        sa.Column("date", sa.Date(), nullable=False, comment="day in the ad account's timezone"),
        sa.Column("campaign_id", sa.Text(), nullable=True),
        sa.Column("campaign_name", sa.Text(), nullable=True),
        sa.Column("adset_id", sa.Text(), nullable=True),
        sa.Column("adset_name", sa.Text(), nullable=True),
        sa.Column("ad_name", sa.Text(), nullable=True),
        sa.Column(
            "marketing_associate", sa.Text(), nullable=True, comment="fourth part of the ad name, split at underscores"
        ),
        sa.Column("spend", sa.Numeric(precision=14, scale=2), nullable=False, comment="in the ad account's currency"),
        sa.Column("impressions", sa.BigInteger(), nullable=False),
        sa.Column("clicks", sa.BigInteger(), nullable=False, comment="all clicks"),
        sa.Column("link_clicks", sa.BigInteger(), nullable=False, comment="Meta's inline_link_clicks"),
        sa.Column(
            "leads", sa.BigInteger(), nullable=False, comment="first of the tenant's lead action types in the row"
        ),
        sa.Column(
            "mapping", sa.Text(), nullable=True, comment="fifth non-empty part of the campaign name, in lower case"
        ),
        sa.Column("currency", sa.Text(), nullable=True, comment="the ad account's, which spend is in"),
        sa.Column("status", sa.Text(), nullable=True, comment="the ad's own status at the time of the sync"),
        sa.Column(
            "effective_status", sa.Text(), nullable=True, comment="the ad's status with its ad set's and campaign's"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("meta_ad_insights_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "account_id", "ad_id", "date", name=op.f("meta_ad_insights_pkey")),
    )
    op.create_index(
        op.f("meta_ad_insights_tenant_id_date_idx"), "meta_ad_insights", ["tenant_id", "date"], unique=False
    )
    op.create_table(
        "pos_orders",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("shop_id", sa.Text(), nullable=False),
        sa.Column("pos_order_id", sa.Text(), nullable=False, comment="numbered per shop"),
        sa.Column("inserted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("date_local", sa.Date(), nullable=False, comment="day of inserted_at in the tenant's timezone"),
        sa.Column("status", sa.Integer(), nullable=True, comment="Pancake's number; unknown ones are kept as they are"),
        sa.Column("status_name", sa.Text(), nullable=True),
        sa.Column(
            "total",
            sa.Numeric(precision=14, scale=2),
            nullable=False,
            comment="after discount, else before it, else cash on delivery",
        ),
        sa.Column("cod", sa.Numeric(precision=14, scale=2), nullable=False),
        sa.Column("currency", sa.Text(), nullable=True),
        sa.Column(
            "cogs",
            sa.Numeric(precision=14, scale=2),
            nullable=False,
            comment="dated unit cost x quantity; uncosted items count 0",
        ),
        sa.Column("uncosted_quantity", sa.BigInteger(), nullable=False, comment="units for which no cost was found"),
        sa.Column("total_quantity", sa.BigInteger(), nullable=False),
        sa.Column("mapping", sa.Text(), nullable=True),
        sa.Column("p_utm_source", sa.Text(), nullable=True),
        sa.Column("p_utm_medium", sa.Text(), nullable=True),
        sa.Column("p_utm_campaign", sa.Text(), nullable=True),
        sa.Column("p_utm_content", sa.Text(), nullable=True),
        sa.Column("p_utm_term", sa.Text(), nullable=True),
        sa.Column("p_utm_id", sa.Text(), nullable=True),
        sa.Column("ad_id", sa.Text(), nullable=True, comment="Pancake's own attribution"),
        sa.Column("tracking", sa.Text(), nullable=True),
        sa.Column(
            "data", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="the order as Pancake sent it"
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("pos_orders_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "shop_id", "pos_order_id", name=op.f("pos_orders_pkey")),
    )
    op.create_index(
        op.f("pos_orders_tenant_id_date_local_idx"), "pos_orders", ["tenant_id", "date_local"], unique=False
    )
    op.create_table(
        "pos_shops",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("shop_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column(
            "api_key_variable",
            sa.Text(),
            nullable=True,
            comment="name of the environment variable whose key sees the shop",
        ),
        sa.Column(
            "enabled",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
            comment="yours to set: false leaves the shop out of every sync",
        ),
        sa.Column("listed_at", sa.DateTime(timezone=True), nullable=True, comment="when discovery last saw it"),
        sa.Column("listed_run_id", sa.Text(), nullable=True, comment="the run whose discovery last saw it"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("pos_shops_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "shop_id", name=op.f("pos_shops_pkey")),
    )
    op.create_table(
        "product_costs",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False, comment="line of the tenant's CSV"),
        sa.Column("shop_id", sa.Text(), nullable=True, comment="null: every shop of the tenant"),
        sa.Column("product_id", sa.Text(), nullable=False, comment="product id, display id or custom id"),
        sa.Column("mapping", sa.Text(), nullable=True),
        sa.Column("cogs", sa.Numeric(precision=14, scale=2), nullable=True, comment="cost of one unit"),
        sa.Column("start_date", sa.Date(), nullable=True, comment="null: since ever"),
        sa.Column("end_date", sa.Date(), nullable=True, comment="last day, inclusive; null: still valid"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("product_costs_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "line", name=op.f("product_costs_pkey")),
    )
    op.create_table(
        "sync_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("run_id", sa.Text(), nullable=False, comment="the Dagster run that committed the day"),
        sa.Column("rows", sa.BigInteger(), nullable=False, comment="rows of that day fetched and stored"),
        sa.Column(
            "changed", sa.BigInteger(), nullable=False, comment="of these, new or different from what was stored"
        ),
        sa.Column(
            "removed", sa.BigInteger(), nullable=False, comment="rows deleted because the API no longer returns them"
        ),
        sa.Column("excluded", sa.BigInteger(), nullable=False, comment="fetched but left out by rule"),
        sa.Column(
            "amount", sa.Numeric(precision=18, scale=2), nullable=False, comment="sum of spend, or of order totals"
        ),
        sa.Column(
            "requests",
            sa.Integer(),
            nullable=False,
            comment="HTTP requests; those of a window of days are counted on its first",
        ),
        sa.Column(
            "complete", sa.Boolean(), nullable=False, comment="false: more upstream than could be read; none removed"
        ),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("sync_log_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("sync_log_pkey")),
    )
    op.create_index(op.f("sync_log_run_id_idx"), "sync_log", ["run_id"], unique=False)
    op.create_index(op.f("sync_log_tenant_id_source_day_idx"), "sync_log", ["tenant_id", "source", "day"], unique=False)
