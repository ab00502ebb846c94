"""${message}."""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None
# True only if the version before works with the tables afterwards: new tables, views and columns, the columns with a
# default or nullable, and nothing else. See `warehouse.compatibility`.
additive = False


def upgrade() -> None:
    """${message}."""
    ${upgrades if upgrades else "pass"}
