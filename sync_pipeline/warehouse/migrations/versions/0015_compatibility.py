"""Add the oldest revision whose code can work with the tables to `alembic_version`."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None
additive = True

COMMENT = "the oldest migration whose version of sync-pipeline can work with the tables"


def upgrade() -> None:
    """Add the column. It is filled after this migration and each later one: see `env.py` beside these files."""
    op.add_column("alembic_version", sa.Column("oldest_revision", sa.Text(), nullable=True, comment=COMMENT))
