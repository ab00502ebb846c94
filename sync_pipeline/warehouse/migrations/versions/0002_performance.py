"""Add the catalogue, what the APIs say of a day themselves, and performance per ad."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
additive = False

COUNTS = ("impressions", "clicks", "link_clicks", "leads")
GROUPS = (
    "unconfirmed",
    "confirmed",
    "waiting_pickup",
    "shipped",
    "delivered",
    "returned",
    "cancelled",
    "other",
)
MONEY = sa.Numeric(precision=14, scale=2)
NET_REVENUE = "revenue - cancelled_amount - returned_amount"
SENT = "shipped_orders + delivered_orders + returned_orders"
RATIOS = {
    "net_revenue": NET_REVENUE,
    "contribution_margin": f"{NET_REVENUE} - net_cogs - order_fees - cod_fees - ad_cost",
    "roas": "round(revenue / NULLIF(ad_cost, 0), 4)",
    "cost_per_order": "round(ad_cost / NULLIF(orders, 0), 2)",
    "delivery_rate": f"round(delivered_orders::numeric / NULLIF({SENT}, 0), 4)",
    "return_rate": f"round(returned_orders::numeric / NULLIF({SENT}, 0), 4)",
}
SUMMED = (
    "spend",
    "ad_cost",
    *COUNTS,
    "orders",
    "quantity",
    "uncosted_quantity",
    "revenue",
    "collected",
    "cogs",
    "net_cogs",
    "order_fees",
    "cod_fees",
    *(f"{group}_{what}" for group in GROUPS for what in ("orders", "amount")),
)

# The longest run of eight or more digits, and of equally long ones the first.
UTM_AD_ID = r"""
UPDATE pos_orders SET utm_ad_id = found.ad_id
FROM (
    SELECT tenant_id, shop_id, pos_order_id, coalesce(
        substring(p_utm_content FROM '^[0-9]+$'),
        (SELECT run[1] FROM regexp_matches(p_utm_content, '[0-9]{8,}', 'g') WITH ORDINALITY AS runs (run, place)
         ORDER BY length(run[1]) DESC, place LIMIT 1),
        substring(p_utm_content FROM 'ad_id=([0-9]+)')
    ) AS ad_id
    FROM pos_orders WHERE p_utm_content IS NOT NULL
) AS found
WHERE (pos_orders.tenant_id, pos_orders.shop_id, pos_orders.pos_order_id)
    = (found.tenant_id, found.shop_id, found.pos_order_id)
AND length(found.ad_id) <= 30
"""

ORDER_ATTRIBUTION = """
CREATE VIEW order_attribution WITH (security_invoker = true) AS
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
    FROM (VALUES (1, 'p_utm_content', o.utm_ad_id), (2, 'ad_id', o.ad_id)) AS candidate (rank, matched_by, ad_id)
    WHERE EXISTS (
        SELECT FROM meta_ad_insights AS i WHERE i.tenant_id = o.tenant_id AND i.ad_id = candidate.ad_id
    )
    ORDER BY candidate.rank LIMIT 1
) AS matched ON true
"""

# A shop's own cost before one for every shop, then the key tried first, then the latest start: as orders are costed.
POS_PRODUCT_COSTS = """
CREATE VIEW pos_product_costs WITH (security_invoker = true) AS
SELECT
    p.tenant_id, p.shop_id, p.product_id, p.variation_id, p.display_id, p.custom_id, p.name, p.retail_price,
    cost.cogs, cost.start_date, cost.end_date, cost.line, mapped.mapping
FROM pos_products AS p
JOIN tenants AS t ON t.tenant_id = p.tenant_id
LEFT JOIN LATERAL (
    SELECT c.cogs, c.start_date, c.end_date, c.line
    FROM product_costs AS c
    JOIN (VALUES (1, p.product_id), (2, p.display_id), (3, p.custom_id)) AS key (rank, product_id)
        ON key.product_id = c.product_id
    WHERE c.tenant_id = p.tenant_id AND c.cogs IS NOT NULL AND (c.shop_id IS NULL OR c.shop_id = p.shop_id)
        AND (now() AT TIME ZONE t.timezone)::date BETWEEN coalesce(c.start_date, '-infinity')
            AND coalesce(c.end_date, 'infinity')
    ORDER BY c.shop_id IS NULL, key.rank, c.start_date DESC NULLS LAST, c.line DESC LIMIT 1
) AS cost ON true
LEFT JOIN LATERAL (
    SELECT c.mapping
    FROM product_costs AS c
    JOIN (VALUES (1, p.product_id), (2, p.display_id), (3, p.custom_id)) AS key (rank, product_id)
        ON key.product_id = c.product_id
    WHERE c.tenant_id = p.tenant_id AND c.mapping IS NOT NULL AND (c.shop_id IS NULL OR c.shop_id = p.shop_id)
    ORDER BY c.shop_id IS NULL, key.rank, c.start_date DESC NULLS LAST, c.line DESC LIMIT 1
) AS mapped ON true
"""


def upgrade() -> None:
    """Add the tables, columns and views."""
    op.create_table(
        "pos_products",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("shop_id", sa.Text(), nullable=False),
        sa.Column("product_id", sa.Text(), nullable=False),
        sa.Column("variation_id", sa.Text(), nullable=False, comment="blank for a product without variations"),
        sa.Column("custom_id", sa.Text(), nullable=True, comment="the product's own code"),
        sa.Column("display_id", sa.Text(), nullable=True, comment="the variation's own code"),
        sa.Column("name", sa.Text(), nullable=True, comment="the product's name"),
        sa.Column("retail_price", MONEY, nullable=False, comment="often 0 in Pancake"),
        sa.Column("listed_at", sa.DateTime(timezone=True), nullable=False, comment="when the catalogue last had it"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("pos_products_tenant_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "shop_id", "product_id", "variation_id", name=op.f("pos_products_pkey")),
    )
    op.add_column(
        "pos_orders",
        sa.Column("utm_ad_id", sa.Text(), nullable=True, comment="the ad id in p_utm_content, if there is one"),
    )
    op.execute(UTM_AD_ID)
    op.add_column(
        "sync_log",
        sa.Column(
            "reported",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="what the API itself says: per ad account the day's spend, per shop the count of its window",
        ),
    )
    op.create_index(
        op.f("meta_ad_insights_tenant_id_ad_id_date_idx"),
        "meta_ad_insights",
        ["tenant_id", "ad_id", "date"],
        unique=False,
    )
    op.execute(ORDER_ATTRIBUTION)
    op.execute(POS_PRODUCT_COSTS)
    _create_ad_performance()
    for view, key in {"associate": "marketing_associate", "campaign": "campaign_id", "mapping": "mapping"}.items():
        _create_view_of(view, key)


def _create_ad_performance() -> None:
    def money(name: str, comment: str) -> "sa.Column[object]":
        return sa.Column(name, MONEY, nullable=False, comment=comment)

    def count(name: str, comment: str | None = None) -> "sa.Column[object]":
        return sa.Column(name, sa.BigInteger(), nullable=False, comment=comment)

    def ratio(name: str, comment: str, *, scale: int = 2) -> "sa.Column[object]":
        kind = sa.Numeric(precision=18, scale=scale)
        return sa.Column(name, kind, sa.Computed(RATIOS[name], persisted=True), nullable=True, comment=comment)

    op.create_table(
        "ad_performance",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("ad_id", sa.Text(), nullable=True, comment="null: orders that matched no ad"),
        sa.Column("shop_id", sa.Text(), nullable=True, comment="of orders that matched no ad"),
        sa.Column("mapping", sa.Text(), nullable=True, comment="the campaign's; of orders without ad their own"),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("campaign_id", sa.Text(), nullable=True),
        sa.Column("campaign_name", sa.Text(), nullable=True),
        sa.Column("adset_id", sa.Text(), nullable=True),
        sa.Column("adset_name", sa.Text(), nullable=True),
        sa.Column("ad_name", sa.Text(), nullable=True),
        sa.Column("marketing_associate", sa.Text(), nullable=True),
        sa.Column(
            "matched_by", sa.Text(), nullable=True, comment="how orders were matched: p_utm_content, ad_id, or both"
        ),
        money("spend", "in the ad account's currency, as Meta reports it"),
        money("ad_cost", "spend in the tenant's currency: times the account's spend_multiplier"),
        count("impressions"),
        count("clicks"),
        count("link_clicks"),
        count("leads"),
        count("orders", "of any status but deleted"),
        count("quantity"),
        count("uncosted_quantity", "units for which no cost was found"),
        money("revenue", "sum of order totals, whatever their status"),
        money("collected", "cash on delivery of delivered orders"),
        money("cogs", "of all orders"),
        money("net_cogs", "of orders neither cancelled nor returned"),
        money("order_fees", "shipping, fulfilment and packaging of orders that are not cancelled"),
        money("cod_fees", "percentage of what was collected"),
        *(
            column
            for group in GROUPS
            for column in (count(f"{group}_orders"), money(f"{group}_amount", "sum of these orders' totals"))
        ),
        ratio("net_revenue", "revenue of orders neither cancelled nor returned"),
        ratio("contribution_margin", "net_revenue - net_cogs - order_fees - cod_fees - ad_cost"),
        ratio("roas", "revenue / ad_cost", scale=4),
        ratio("cost_per_order", "ad_cost / orders"),
        ratio("delivery_rate", "delivered / (shipped + delivered + returned) orders", scale=4),
        ratio("return_rate", "returned / (shipped + delivered + returned) orders", scale=4),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.tenant_id"], name=op.f("ad_performance_tenant_id_fkey"), ondelete="CASCADE"
        ),
    )
    op.create_index(
        "ad_performance_ad_key",
        "ad_performance",
        ["tenant_id", "date", "ad_id"],
        unique=True,
        postgresql_where=sa.text("ad_id IS NOT NULL"),
    )
    op.create_index(
        "ad_performance_unmatched_key",
        "ad_performance",
        ["tenant_id", "date", "shop_id", "mapping"],
        unique=True,
        postgresql_where=sa.text("ad_id IS NULL"),
        postgresql_nulls_not_distinct=True,
    )


def _create_view_of(name: str, key: str) -> None:
    sums = ", ".join(f"sum({column}) AS {column}" for column in SUMMED)
    ratios = ", ".join(f"{formula} AS {column}" for column, formula in RATIOS.items())
    label = ", max(campaign_name) AS campaign_name" if key == "campaign_id" else ""
    named = ", campaign_name" if label else ""
    op.execute(
        f"CREATE VIEW ad_performance_by_{name} WITH (security_invoker = true) AS "
        f"SELECT tenant_id, date, {key}{named}, {', '.join(SUMMED)}, {ratios} FROM ("
        f"SELECT tenant_id, date, {key}{label}, {sums} FROM ad_performance GROUP BY tenant_id, date, {key}) AS day"
    )
