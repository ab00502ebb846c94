"""Migrations of a version that does not exist yet, in a folder beside the real ones."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from sync_pipeline.warehouse.compatibility import MIGRATIONS, head

NEXT = f"{int(head()) + 1:04}"

# Everything that an additive migration may do, to every table and view that there is.
EVERY_ADDITION = (
    """
    DO $$ DECLARE t record; BEGIN
        FOR t IN
            SELECT c.oid::regclass AS name FROM pg_class AS c
            WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
        LOOP
            EXECUTE format('ALTER TABLE %s ADD COLUMN made_up_text text', t.name);
            EXECUTE format('ALTER TABLE %s ADD COLUMN made_up_number numeric NOT NULL DEFAULT 7', t.name);
        END LOOP;
    END $$
    """,
    """
    CREATE TABLE made_up (
        tenant_id text PRIMARY KEY REFERENCES tenants ON DELETE CASCADE, note text NOT NULL
    )
    """,
    """
    DO $$ DECLARE v record; BEGIN
        FOR v IN
            SELECT c.oid::regclass AS name, rtrim(pg_get_viewdef(c.oid), ';') AS query FROM pg_class AS c
            WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'v'
        LOOP
            EXECUTE format(
                'CREATE OR REPLACE VIEW %s WITH (security_invoker = true) AS '
                'SELECT seen.*, 1 AS made_up FROM (%s) AS seen', v.name, v.query
            );
        END LOOP;
    END $$
    """,
    "CREATE VIEW made_up_view WITH (security_invoker = true) AS SELECT tenant_id, made_up_number FROM sync_log",
)


def migrations(
    folder: Path, statements: Sequence[str], *, additive: bool, revision: str = NEXT, earlier: Path = MIGRATIONS
) -> Path:
    """Make a folder with the migrations of another one and one that executes these statements; returns it."""
    made = folder / f"migrations_{revision}"
    shutil.copytree(earlier, made, ignore=shutil.ignore_patterns("__pycache__"))
    (made / "versions" / f"{revision}_made_up.py").write_text(source(revision, statements, additive=additive))
    return made


def source(revision: str, statements: Sequence[str], *, additive: bool) -> str:
    """Return the source of a migration."""
    return f'''"""A made-up migration."""

from alembic import op

revision = "{revision}"
down_revision = "{int(revision) - 1:04}"
branch_labels = None
depends_on = None
additive = {additive}


def upgrade() -> None:
    """Execute the statements."""
    for statement in {list(statements)!r}:
        op.get_bind().exec_driver_sql(statement.replace("%", "%%"))
'''
