"""Views of the figures of the service that this one replaces, by its rules, for comparing both.

Its rules differ from those of `warehouse.figures`: revenue is cash on delivery, some orders are left out, and the goods
of returned orders count as regained. Fees, taxes and the return rate are the tenant's settings of each day.
"""

from collections.abc import Container, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from sync_pipeline.rows.statuses import EXCLUDED, numbers_sql
from sync_pipeline.warehouse.exclusions import SHOPS, counted

BUCKETS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "unconfirmed": (0,),
        "confirmed": (1,),
        "waiting_pickup": (9, 13),
        "restocking": (11,),
        "shipped": (2,),
        "delivered": (3,),
        "rts": (4, 5),
        "cancelled": (6,),
    }
)
# The period that a row is about, by view.
PERIODS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "old_service_figures": ("date", "{day}"),
        "old_service_figures_by_week": ("week_start", "date_trunc('week', {day})::date"),
    }
)

# Tags come as objects, texts or one text; each of them has the name between quotes, or is the name.
_HAS_TAG: Final = """lower(coalesce(o.data ->> 'tags', '')) ~ '(^|")\\s*({names})\\s*("|$)'"""
_HAS_PRODUCT: Final = " OR ".join(
    f"""jsonb_path_exists(o.data, '$.{items}[*].product_id ? (@ != null && @ != "")')"""
    for items in ("items", "order_items")
)
_IS_CART: Final = " OR ".join(
    f"lower(coalesce(o.data ->> '{mark}', '')) NOT IN ('', 'false', '0')"
    for mark in ("shopify_abandon_checkout_id", "is_abandoned_order", "is_webcake_abandoned_cart")
)
# Items of the revenue that are left out by default.
_NOT_IN_REVENUE: Final = "bucket IN ('cancelled', 'restocking', 'rts') OR abandoned_now OR repurchase"
_WITH_FEES_WHEN_SENT: Final = "bucket IN ('shipped', 'delivered', 'rts')"


def _bucket() -> str:
    cases = " ".join(
        f"WHEN o.status IN ({', '.join(map(str, numbers))}) THEN '{bucket}'" for bucket, numbers in BUCKETS.items()
    )
    return f"CASE {cases} ELSE 'none' END"


def _sum(expression: str, among: str) -> str:
    return f"coalesce(sum({expression}) FILTER (WHERE {among}), 0)"


def _sums() -> dict[str, str]:
    """The figures that are sums over orders, by name."""
    sums = {"orders": "count(*)", "cod": "sum(cod)", "cogs": "sum(cogs)"}
    sums["processed_orders"] = "count(*) FILTER (WHERE processed)"
    for name, among in (
        ("repurchase", "repurchase"),
        ("abandoned_now", "abandoned_now"),
        ("abandoned_ever", "abandoned_ever"),
    ):
        sums[f"{name}_orders"], sums[f"{name}_cod"] = f"count(*) FILTER (WHERE {among})", _sum("cod", among)
    for bucket in BUCKETS:
        for prefix, also in (("", ""), ("repurchase_", " AND repurchase")):
            among = f"bucket = '{bucket}'{also}"
            sums[f"{prefix}{bucket}_orders"] = f"count(*) FILTER (WHERE {among})"
            sums[f"{prefix}{bucket}_cod"] = _sum("cod", among)
    for bucket in ("restocking", "delivered", "rts", "cancelled"):
        sums[f"{bucket}_cogs"] = _sum("cogs", f"bucket = '{bucket}'")
    sums["revenue"] = _sum("cod", f"({_NOT_IN_REVENUE}) IS NOT TRUE")
    sums["fees"] = _sum("outbound_fee", "bucket <> 'cancelled'")
    sums["fees_of_sent"] = _sum("outbound_fee", _WITH_FEES_WHEN_SENT)
    collectable = _sum("cod * cod_percent * 0.01", "bucket NOT IN ('rts', 'cancelled')")
    sums["cod_fee"] = f"greatest({collectable}, 0)"
    sums["delivered_cod_fee"] = _sum("cod * cod_percent * 0.01", "bucket = 'delivered'")
    kept = "bucket NOT IN ('cancelled', 'restocking') AND NOT abandoned_now"
    sums["cod_at_return_rate"] = _sum("(1 - return_rate) * cod", kept)
    return sums


_MONEY_OF_SETTINGS: Final = ("fees", "fees_of_sent", "cod_fee", "delivered_cod_fee", "cod_at_return_rate")
_SUMS: Final = _sums()
_OF_ADS: Final = ("spend", "spend_with_taxes", "leads", "link_clicks", "impressions", "ads_running")
_ADJUSTED_COGS: Final = "(cogs - cancelled_cogs - restocking_cogs)"
_MARGIN: Final = f"revenue - {_ADJUSTED_COGS} - fees - spend_with_taxes - cod_fee + rts_cogs"
_DERIVED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "contribution_margin": f"round({_MARGIN}, 2)",
        "net_margin": "round(delivered_cod - fees_of_sent - delivered_cod_fee - delivered_cogs - spend, 2)",
        "margin_at_return_rate": (
            f"round(cod_at_return_rate - spend - fees - delivered_cod_fee - {_ADJUSTED_COGS} + rts_cogs, 2)"
        ),
        "ar_percent": "round(100.0 * spend / NULLIF(revenue, 0), 2)",
        "aov": "round(revenue / NULLIF(orders, 0), 2)",
        "cpp": "round(spend / NULLIF(orders, 0), 2)",
        "processed_cpp": "round(spend / NULLIF(processed_orders, 0), 2)",
        "conversion_percent": "round(100.0 * orders / NULLIF(leads, 0), 2)",
        "rts_percent": "round(100.0 * rts_orders / NULLIF(delivered_orders + rts_orders, 0), 2)",
        "cancellation_percent": "round(100.0 * cancelled_orders / NULLIF(orders, 0), 2)",
        "profit_efficiency_percent": f"round(100.0 * ({_MARGIN}) / NULLIF(spend, 0), 2)",
        "cpc": "round(spend / NULLIF(link_clicks, 0), 2)",
        "ctr_percent": "round(100.0 * link_clicks / NULLIF(impressions, 0), 2)",
        "cpl": "round(spend / NULLIF(leads, 0), 2)",
    }
)


def _present(figures: Iterable[str], nullable: Container[str], whole: str) -> str:
    """Columns that are 0 where there are no orders, or no ads; a nullable one stays null where settings are missing."""
    return ", ".join(
        f"CASE WHEN {whole} IS NOT NULL THEN {figure} ELSE 0 END AS {figure}"
        if figure in nullable
        else f"coalesce({figure}, 0) AS {figure}"
        for figure in figures
    )


def query(name: str) -> str:
    """Return the query of one of the views."""
    period, expression = PERIODS[name]
    sums = ", ".join(
        f"CASE WHEN bool_and(outbound_fee IS NOT NULL) THEN {sql} END AS {figure}"
        if figure in _MONEY_OF_SETTINGS
        else f"{sql} AS {figure}"
        for figure, sql in _SUMS.items()
    )
    return f"""
WITH population AS (
    SELECT
        o.tenant_id, {expression.format(day="o.date_local")} AS {period}, o.cod, o.cogs, {_bucket()} AS bucket,
        NULLIF(o.tracking, '') IS NOT NULL AS processed,
        {_HAS_TAG.format(names="repurchase")} AS repurchase,
        (({_IS_CART}) AND o.status = 0) IS TRUE AS abandoned_now, ({_IS_CART}) AS abandoned_ever,
        f.outbound_fee, f.cod_percent, f.return_rate
    FROM pos_orders AS o
    LEFT JOIN figure_settings AS f ON f.tenant_id = o.tenant_id AND f.date = o.date_local
    WHERE {counted(SHOPS, "o")}
        AND (o.status IN {numbers_sql((EXCLUDED,))}) IS NOT TRUE
        AND (o.status = 13 OR {_HAS_PRODUCT})
        AND (o.status = 6 AND {_HAS_TAG.format(names="duplicate|no product")}) IS NOT TRUE
        AND lower(coalesce(o.data ->> 'order_sources_name', '')) !~ 'tiktok|shopee'
),
of_orders AS (
    SELECT tenant_id, {period}, {sums} FROM population GROUP BY tenant_id, {period}
),
of_ads AS (
    SELECT
        tenant_id, {expression.format(day="date")} AS {period}, sum(ad_cost) AS spend,
        CASE WHEN count(*) = count(ad_taxes) THEN sum(ad_cost + ad_taxes) END AS spend_with_taxes,
        sum(leads) AS leads, sum(link_clicks) AS link_clicks, sum(impressions) AS impressions,
        count(DISTINCT ad_id) FILTER (WHERE spend > 0) AS ads_running
    FROM ad_performance GROUP BY 1, 2
),
figures AS (
    SELECT
        tenant_id, {period},
        {_present(_SUMS, _MONEY_OF_SETTINGS, "orders")},
        {_present(_OF_ADS, ("spend_with_taxes",), "spend")}
    FROM of_orders FULL JOIN of_ads USING (tenant_id, {period})
)
SELECT *, {", ".join(f"{sql} AS {figure}" for figure, sql in _DERIVED.items())} FROM figures
"""
