"""Add `credential_expiries`: when API versions, tokens and their access to data end."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None
additive = True


def upgrade() -> None:
    """Add the table, which the daily check fills."""
    op.create_table(
        "credential_expiries",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False, comment="api_version, token or data_access"),
        sa.Column("version", sa.Text(), nullable=True, comment="the API version, of the subject api_version"),
        sa.Column(
            "state",
            sa.Text(),
            nullable=False,
            comment="valid; refused by the API; unknown where the API does not tell when it ends",
        ),
        sa.Column(
            "ends_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="the instant it ends; null: no end, unless the state is refused or unknown",
        ),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False, comment="when this was last found"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("credential_expiries_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "source", "subject", name=op.f("credential_expiries_pkey")),
    )
