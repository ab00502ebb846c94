"""Mark that stored orders are being reduced to the fields on the list, so that older versions stop writing them.

The rows are changed after this revision and before the next one, in transactions of their own: see
`warehouse.corrections`.
"""

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
additive = False


def upgrade() -> None:
    """Change nothing but the version."""
