"""Add `rejected_rows` and their number in the sync log, and let quantities have a fraction."""

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa
from alembic import op

from sync_pipeline.warehouse.dependent_views import without_views_of

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None
additive = False

QUANTITIES: Final[Mapping[str, tuple[str, ...]]] = {
    "pos_orders": ("total_quantity", "uncosted_quantity"),
    "ad_performance": ("quantity", "uncosted_quantity"),
}
VIEWS: Final = (
    "order_attribution",
    "ad_performance_by_associate",
    "ad_performance_by_campaign",
    "ad_performance_by_mapping",
)


def upgrade() -> None:
    """Add the table and the column, and change the type of quantities. No value changes."""
    op.create_table(
        "rejected_rows",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column(
            "day",
            sa.Date(),
            nullable=True,
            comment="the day that the row was listed in; null: a product, which has no day",
        ),
        sa.Column("kind", sa.Text(), nullable=False, comment="insight, account day, order or product"),
        sa.Column("account_id", sa.Text(), nullable=True, comment="ad account of a row of Meta"),
        sa.Column("shop_id", sa.Text(), nullable=True, comment="shop of a row of Pancake"),
        sa.Column(
            "row_id", sa.Text(), nullable=True, comment="id of the ad, order or product; null: it has no readable id"
        ),
        sa.Column("field", sa.Text(), nullable=False, comment="the field that cannot be read"),
        sa.Column("reason", sa.Text(), nullable=False, comment="why it cannot be read; no text of the row is quoted"),
        sa.Column("run_id", sa.Text(), nullable=False, comment="the Dagster run that fetched it"),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("rejected_rows_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("rejected_rows_pkey")),
    )
    op.create_index(
        op.f("rejected_rows_tenant_id_source_day_idx"), "rejected_rows", ["tenant_id", "source", "day"], unique=False
    )
    op.add_column(
        "sync_log",
        sa.Column(
            "rejected",
            sa.BigInteger(),
            server_default=sa.text("0"),
            nullable=False,
            comment="fetched but unreadable, and so listed in rejected_rows",
        ),
    )
    with without_views_of(op.get_bind(), QUANTITIES, VIEWS):
        for table, columns in QUANTITIES.items():
            # One statement per table, because each rewrites it.
            changes = ", ".join(f"ALTER COLUMN {column} TYPE numeric" for column in columns)
            op.execute(f"ALTER TABLE {table} {changes}")
    comment = "with a fraction where goods are weighed"
    op.alter_column("pos_orders", "total_quantity", existing_type=sa.Numeric(), comment=comment)
