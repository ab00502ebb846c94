"""Views whose SQL is made from the definitions of statuses and figures; a migration creates them.

A change here needs a migration that creates the view again; a test compares both.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sync_pipeline.rows.statuses import group_sql
from sync_pipeline.warehouse import old_service
from sync_pipeline.warehouse.figures import summed

ORDER_ATTRIBUTION: Final = f"""
SELECT
    o.tenant_id, o.shop_id, o.pos_order_id, o.date_local AS date, matched.ad_id, matched.matched_by, o.mapping,
    o.status,
    {group_sql("o.status")} AS status_group,
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
_PERFORMANCE: Final = "FROM ad_performance"

VIEWS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "order_attribution": ORDER_ATTRIBUTION,
        "ad_performance_by_associate": summed(_PERFORMANCE, ["tenant_id", "date", "marketing_associate"]),
        "ad_performance_by_campaign": summed(
            _PERFORMANCE, ["tenant_id", "date", "campaign_id"], ["max(campaign_name) AS campaign_name"]
        ),
        "ad_performance_by_mapping": summed(_PERFORMANCE, ["tenant_id", "date", "mapping"]),
        **{name: old_service.query(name) for name in old_service.PERIODS},
    }
)
"""The query of each view, in the order in which they can be created."""


def create_view(name: str) -> str:
    """Return the statement that creates a view, which shows a reader the rows of its own tenant."""
    return f"CREATE OR REPLACE VIEW {name} WITH (security_invoker = true) AS {VIEWS[name]}"
