"""Mark that stored orders hold only the fields on the list, except where customer data was stored on purpose."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
additive = False


def upgrade() -> None:
    """Describe the column as it now is."""
    op.alter_column(
        "pos_orders",
        "data",
        comment="the order as Pancake sent it, with the listed fields only unless the tenant stores customer data",
        existing_comment="the order as Pancake sent it",
    )
