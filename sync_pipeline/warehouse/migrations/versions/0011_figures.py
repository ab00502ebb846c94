"""Recreate `ad_performance` with status groups by the vendor's list, and with margins of one kind of order each.

The table is derived data. Counts and sums are filled from the stored orders, ad cost and the parts of the deprecated
margin are kept. The tenant files are unknown to a migration: what needs their settings is null until the first run,
which recomputes every row whose `rules` are null.
"""

import re
from pathlib import Path

import sqlalchemy as sa
from alembic import op
from psycopg2 import errorcodes

from sync_pipeline.warehouse.errors import DependentObjectsError

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
additive = False

STATEMENT_END = re.compile(r";$", re.MULTILINE)
VIEWS = ("ad_performance_by_associate", "ad_performance_by_campaign", "ad_performance_by_mapping")
REPLACED = ("ad_performance", *VIEWS)
GROUPS = (
    "unconfirmed",
    "restocking",
    "confirmed",
    "waiting_pickup",
    "shipped",
    "delivered",
    "partly_returned",
    "returning",
    "returned",
    "cancelled",
    "excluded",
    "other",
)
NAMES = (
    "account_id",
    "campaign_id",
    "campaign_name",
    "adset_id",
    "adset_name",
    "ad_name",
    "marketing_associate",
)
OF_ADS = ("spend", "ad_cost", "impressions", "clicks", "link_clicks", "leads")
COUNTED = {
    "orders": "count(*)",
    "quantity": "sum(total_quantity)",
    "uncosted_quantity": "sum(uncosted_quantity)",
    "revenue": "sum(total)",
    "cod": "sum(cod)",
    "cogs": "sum(cogs)",
}
OF_GROUP = {"orders": "count(*)", "amount": "sum(total)", "cod": "sum(cod)", "cogs": "sum(cogs)"}

# A view depends on a relation by the rule that it is made of.
DEPENDENTS = """
WITH RECURSIVE uses (used, view) AS (
    SELECT d.refobjid, r.ev_class FROM pg_depend AS d
    JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
    WHERE d.refclassid = 'pg_class'::regclass AND r.ev_class <> d.refobjid
),
replaced (relation) AS (
    SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname = ANY(:names)
),
dependents (view) AS (
    SELECT uses.view FROM uses JOIN replaced ON uses.used = replaced.relation
    UNION SELECT uses.view FROM uses JOIN dependents ON uses.used = dependents.view
)
SELECT view::regclass::text FROM dependents WHERE view NOT IN (SELECT relation FROM replaced) ORDER BY 1
"""
GRANTS = """
SELECT c.relname, g.privilege_type, g.is_grantable,
    CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END AS grantee
FROM pg_class AS c, aclexplode(c.relacl) AS g
WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY(:names) AND g.grantee <> c.relowner
ORDER BY 1, 2, 4
"""


def upgrade() -> None:
    """Replace the table and its views. Raises `DependentObjectsError` where objects of others would be lost."""
    connection = op.get_bind()
    names = {"names": list(REPLACED)}
    if dependents := connection.execute(sa.text(DEPENDENTS), names).scalars().all():
        raise DependentObjectsError("ad_performance", tuple(dependents))
    grants = connection.execute(sa.text(GRANTS), names).all()
    op.execute("CREATE TEMPORARY TABLE old_performance ON COMMIT DROP AS SELECT * FROM ad_performance")
    _drop()
    for statement in STATEMENT_END.split(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")):
        if statement.strip():
            op.execute(statement)
    op.execute(_fill())
    op.execute("DROP TABLE old_performance")
    for grant in grants:
        option = " WITH GRANT OPTION" if grant.is_grantable else ""
        op.execute(f"GRANT {grant.privilege_type} ON {grant.relname} TO {grant.grantee}{option}")


def _drop() -> None:
    try:
        for view in VIEWS:
            op.execute(f"DROP VIEW {view}")
        op.execute("DROP TABLE ad_performance")
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != errorcodes.DEPENDENT_OBJECTS_STILL_EXIST:
            raise
        detail = getattr(error.orig, "diag").message_detail  # noqa: B009 (the driver's errors alone have it)
        objects = tuple(line.partition(" depends on ")[0] for line in detail.splitlines())
    else:
        return
    raise DependentObjectsError("ad_performance", objects)


def _fill() -> str:
    of_groups = {
        f"{group}_{what}": f"{aggregate} FILTER (WHERE status_group = '{group}')"
        for group in GROUPS
        for what, aggregate in OF_GROUP.items()
    }
    counted = {name: f"{sql} FILTER (WHERE status_group <> 'excluded')" for name, sql in COUNTED.items()}
    sums = {name: f"coalesce({sql}, 0)" for name, sql in (counted | of_groups).items()}
    # A row is of an ad, or of the orders of a shop and mapping that matched none.
    key = "CASE WHEN ad_id IS NULL THEN ROW(shop_id, mapping)::text ELSE 'ad ' || ad_id END"
    return f"""
        INSERT INTO ad_performance (
            tenant_id, date, ad_id, shop_id, mapping, {", ".join(NAMES)}, matched_by, {", ".join(OF_ADS)},
            order_fees, cod_fees, {", ".join(sums)}
        )
        SELECT
            coalesce(old.tenant_id, found.tenant_id), coalesce(old.date, found.date),
            coalesce(old.ad_id, found.ad_id), coalesce(old.shop_id, found.shop_id),
            coalesce(old.mapping, found.mapping), {", ".join(f"old.{name}" for name in NAMES)}, found.matched_by,
            {", ".join(f"coalesce(old.{name}, 0)" for name in OF_ADS)}, old.order_fees, old.cod_fees,
            {", ".join(f"coalesce(found.{name}, 0)" for name in sums)}
        FROM (SELECT *, {key} AS key FROM old_performance) AS old
        FULL JOIN (
            SELECT
                tenant_id, date, ad_id, {key} AS key,
                CASE WHEN ad_id IS NULL THEN shop_id END AS shop_id,
                CASE WHEN ad_id IS NULL THEN mapping END AS mapping,
                string_agg(DISTINCT matched_by, '+' ORDER BY matched_by DESC) AS matched_by,
                {", ".join(f"{sql} AS {name}" for name, sql in sums.items())}
            FROM order_attribution
            WHERE (tenant_id, date) IN (SELECT tenant_id, date FROM old_performance)
            GROUP BY 1, 2, 3, 4, 5, 6
        ) AS found ON found.tenant_id = old.tenant_id AND found.date = old.date AND found.key = old.key
        WHERE found.key IS NOT NULL OR old.ad_id IS NOT NULL
    """
