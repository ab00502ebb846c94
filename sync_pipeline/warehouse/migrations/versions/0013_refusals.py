"""Add `sync_refusals`, and the accounts and shops that a day was stored without to the sync log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None
additive = True


def upgrade() -> None:
    """Add the table and the column. Days that are stored already were stored with every account and shop."""
    op.create_table(
        "sync_refusals",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column(
            "scope", sa.Text(), nullable=False, comment="ad account or shop; 'key in ...': the unknown shops of a key"
        ),
        sa.Column("message", sa.Text(), nullable=False, comment="in one sentence, as the run's failure has it"),
        sa.Column(
            "facts",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="the error's type, codes and message",
        ),
        sa.Column("run_id", sa.Text(), nullable=False, comment="the Dagster run that was refused"),
        sa.Column(
            "after_line", sa.BigInteger(), nullable=False, comment="the last line of the sync log when it was refused"
        ),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("sync_refusals_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "source", "scope", name=op.f("sync_refusals_pkey")),
    )
    op.add_column(
        "sync_log",
        sa.Column(
            "missing",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
            comment="ad accounts and shops that refused, whose rows are those of an earlier sync; see sync_refusals",
        ),
    )
