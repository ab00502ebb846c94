"""Add what derived columns were computed by, ad ids of any field and variations' custom ids; normalize text to NFC."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None
additive = False

# Compared or grouped by, unlike ids. `ad_performance` is left out: two of its rows may become one, so that the next run
# recomputes it.
TEXTS = {
    "meta_ad_insights": ("campaign_name", "adset_name", "ad_name", "marketing_associate", "mapping"),
    "pos_orders": ("mapping",),
    "pos_products": ("name",),
    "product_costs": ("mapping",),
}
RULES = {
    "meta_ad_insights": "fingerprint of rules and settings that associate and mapping, and leads, come from; "
    "null: computed before version 0.2",
    "pos_orders": "fingerprint of rules and settings that the other columns come from; "
    "null: computed before version 0.2",
    "ad_performance": "fingerprint of rules, fees and multipliers; null: to be recomputed",
}

ORDER_ATTRIBUTION = """
CREATE OR REPLACE VIEW order_attribution WITH (security_invoker = true) AS
SELECT
    o.tenant_id, o.shop_id, o.pos_order_id, o.date_local AS date, matched.ad_id, matched.matched_by, o.mapping,
    o.status,
    CASE
        WHEN o.status IN (0, 11) THEN 'unconfirmed'
        WHEN o.status = 1 THEN 'confirmed'
        WHEN o.status IN (9, 13) THEN 'waiting_pickup'
        WHEN o.status = 2 THEN 'shipped'
        WHEN o.status IN (3, 16) THEN 'delivered'
        WHEN o.status IN (4, 5, 15) THEN 'returned'
        WHEN o.status = 6 THEN 'cancelled'
        ELSE 'other'
    END AS status_group,
    o.total, o.cod, o.cogs, o.total_quantity, o.uncosted_quantity
FROM pos_orders AS o
LEFT JOIN LATERAL (
    SELECT candidate.ad_id, candidate.matched_by
    FROM (
        SELECT 1 AS rank, 'p_utm_content' AS matched_by, o.utm_ad_id AS ad_id WHERE o.ad_candidates IS NULL
        UNION ALL SELECT 2, 'ad_id', o.ad_id WHERE o.ad_candidates IS NULL
        UNION ALL SELECT named.rank, named.value ->> 'field', named.value ->> 'ad_id'
        FROM jsonb_array_elements(o.ad_candidates) WITH ORDINALITY AS named (value, rank)
    ) AS candidate
    WHERE EXISTS (
        SELECT FROM meta_ad_insights AS i WHERE i.tenant_id = o.tenant_id AND i.ad_id = candidate.ad_id
    )
    ORDER BY candidate.rank LIMIT 1
) AS matched ON true
"""

# As orders are costed: a shop's own cost before one for every shop, then the key tried first, then the latest start. A
# display id that several products of the shop have is no key.
_KEYS = """
    JOIN (VALUES
        (1, NULLIF(p.variation_id, '')), (2, p.variation_custom_id), (3, p.product_id), (4, named.display_id),
        (5, p.custom_id)
    ) AS key (rank, product_id) ON key.product_id = c.product_id
"""
POS_PRODUCT_COSTS = f"""
CREATE OR REPLACE VIEW pos_product_costs WITH (security_invoker = true) AS
SELECT
    p.tenant_id, p.shop_id, p.product_id, p.variation_id, p.display_id, p.custom_id, p.name, p.retail_price,
    cost.cogs, cost.start_date, cost.end_date, cost.line, mapped.mapping, p.variation_custom_id
FROM pos_products AS p
JOIN tenants AS t ON t.tenant_id = p.tenant_id
CROSS JOIN LATERAL (
    SELECT CASE WHEN NOT EXISTS (
        SELECT FROM pos_products AS other
        WHERE other.tenant_id = p.tenant_id AND other.shop_id = p.shop_id AND other.display_id = p.display_id
            AND other.product_id <> p.product_id
    ) THEN p.display_id END AS display_id
) AS named
LEFT JOIN LATERAL (
    SELECT c.cogs, c.start_date, c.end_date, c.line
    FROM product_costs AS c
    {_KEYS}
    WHERE c.tenant_id = p.tenant_id AND c.cogs IS NOT NULL AND (c.shop_id IS NULL OR c.shop_id = p.shop_id)
        AND (now() AT TIME ZONE t.timezone)::date BETWEEN coalesce(c.start_date, '-infinity')
            AND coalesce(c.end_date, 'infinity')
    ORDER BY c.shop_id IS NULL, key.rank, c.start_date DESC NULLS LAST, c.line DESC LIMIT 1
) AS cost ON true
LEFT JOIN LATERAL (
    SELECT c.mapping
    FROM product_costs AS c
    {_KEYS}
    WHERE c.tenant_id = p.tenant_id AND c.mapping IS NOT NULL AND (c.shop_id IS NULL OR c.shop_id = p.shop_id)
    ORDER BY c.shop_id IS NULL, key.rank, c.start_date DESC NULLS LAST, c.line DESC LIMIT 1
) AS mapped ON true
"""


def upgrade() -> None:
    """Add the columns, normalize stored text, and replace the views that read the columns."""
    _normalize()
    for table, comment in RULES.items():
        op.add_column(table, sa.Column("rules", sa.Text(), nullable=True, comment=comment))
    for table in ("meta_ad_insights", "pos_orders"):
        op.create_index(op.f(f"{table}_tenant_id_rules_idx"), table, ["tenant_id", "rules"], unique=False)
    op.add_column(
        "pos_orders",
        sa.Column(
            "ad_candidates",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="the ad ids found, in the order of the tenant's ad_id_fields; null: utm_ad_id, then ad_id",
        ),
    )
    op.add_column(
        "pos_products", sa.Column("variation_custom_id", sa.Text(), nullable=True, comment="the variation's own SKU")
    )
    comment = "how orders were matched: the names of the fields, joined by +"
    op.alter_column("ad_performance", "matched_by", existing_type=sa.Text(), comment=comment)
    op.execute(ORDER_ATTRIBUTION)
    op.execute(POS_PRODUCT_COSTS)


def _normalize() -> None:
    # Postgres normalizes in UTF-8 alone. A statement writes only the rows that are not NFC yet, which are few.
    if op.get_bind().execute(sa.text("SHOW server_encoding")).scalar_one() != "UTF8":
        return
    for table, columns in TEXTS.items():
        changes = ", ".join(f"{column} = normalize({column}, NFC)" for column in columns)
        wanted = " OR ".join(f"{column} IS NOT NFC NORMALIZED" for column in columns)
        op.execute(f"UPDATE {table} SET {changes} WHERE {wanted}")
