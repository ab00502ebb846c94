"""Add the day from which figures exclude a disabled ad account or shop."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
additive = False

PLACES = {"meta_ad_accounts": "ad account", "pos_shops": "shop"}
OLD_COMMENT = "yours to set: false leaves the {} out of every sync"
NEW_COMMENT = "set to false to exclude the {} from syncs, and from figures from disabled_from on"
DISABLED_FROM = "first day that figures exclude; null while enabled; -infinity: every day"
RECOMPUTE_FROM = "first day whose figures are to be recomputed; null: none"

# So that also a plain UPDATE of `enabled` gives a row that says since when it is disabled.
FUNCTION = """
CREATE FUNCTION set_disabled_from() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.enabled AND NOT OLD.enabled AND NEW.disabled_from IS NOT DISTINCT FROM OLD.disabled_from
    THEN
        NEW.disabled_from := NULL;
    ELSIF NOT NEW.enabled AND NEW.disabled_from IS NULL THEN
        SELECT (now() AT TIME ZONE t.timezone)::date INTO STRICT NEW.disabled_from
        FROM tenants AS t WHERE t.tenant_id = NEW.tenant_id;
    END IF;
    IF TG_OP = 'INSERT' THEN
        NEW.recompute_from := LEAST(NEW.recompute_from, NEW.disabled_from);
    ELSIF NEW.disabled_from IS DISTINCT FROM OLD.disabled_from THEN
        NEW.recompute_from := LEAST(NEW.recompute_from, NEW.disabled_from, OLD.disabled_from);
    END IF;
    RETURN NEW;
END
$$
"""
TRIGGER = """
CREATE TRIGGER set_disabled_from BEFORE INSERT OR UPDATE OF enabled, disabled_from ON {table}
FOR EACH ROW EXECUTE FUNCTION set_disabled_from()
"""
# Rows that are disabled already are excluded from today on: the figures of earlier days stay.
DISABLED_TODAY = """
UPDATE {table} AS d
SET disabled_from = (now() AT TIME ZONE t.timezone)::date, recompute_from = (now() AT TIME ZONE t.timezone)::date
FROM tenants AS t WHERE t.tenant_id = d.tenant_id AND NOT d.enabled
"""


def upgrade() -> None:
    """Add the columns, fill them, and keep them in step with `enabled`."""
    op.execute(FUNCTION)
    for table, place in PLACES.items():
        op.add_column(table, sa.Column("disabled_from", sa.Date(), nullable=True, comment=DISABLED_FROM))
        op.add_column(table, sa.Column("recompute_from", sa.Date(), nullable=True, comment=RECOMPUTE_FROM))
        op.alter_column(
            table,
            "enabled",
            existing_type=sa.Boolean(),
            existing_nullable=False,
            existing_server_default=sa.true(),
            existing_comment=OLD_COMMENT.format(place.removeprefix("ad ")),
            comment=NEW_COMMENT.format(place),
        )
        op.execute(DISABLED_TODAY.format(table=table))
        op.create_check_constraint(op.f(f"{table}_disabled_from_check"), table, "enabled = (disabled_from IS NULL)")
        op.execute(TRIGGER.format(table=table))
