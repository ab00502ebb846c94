"""Views whose SQL is made from the definitions of statuses, figures and complete days; a migration creates them.

A change here needs a migration that creates the view again; a test compares both.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sync_pipeline.rows.statuses import group_sql
from sync_pipeline.warehouse import old_service
from sync_pipeline.warehouse.completeness import IS_COMPLETE, last_over_day
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

# The days behind end with the last one that is over by now in the timezones of the newest stored day. An error is shown
# until its day, or a later one, has been stored.
SYNC_HEALTH: Final = f"""
SELECT
    tenant_id, source, log.last_complete_day,
    CASE
        WHEN log.last_complete_day IS NOT NULL THEN greatest(newest.last_over_day - log.last_complete_day, 0)
    END AS days_behind,
    log.last_complete_day - log.first_complete_day + 1 - log.complete_days AS days_missing,
    run.rows, run.requests, run.finished, run.run_id,
    error.message AS last_error, error.day AS last_error_day, error.code AS last_error_code,
    error.at AS last_error_at, error.run_id AS last_error_run_id
FROM (
    SELECT
        l.tenant_id, l.source, t.timezone, max(l.id) AS last_line,
        min(l.day) FILTER (WHERE seen.is_complete) AS first_complete_day,
        max(l.day) FILTER (WHERE seen.is_complete) AS last_complete_day,
        count(DISTINCT l.day) FILTER (WHERE seen.is_complete) AS complete_days
    FROM sync_log AS l
    JOIN tenants AS t ON t.tenant_id = l.tenant_id
    CROSS JOIN LATERAL (SELECT
        {IS_COMPLETE} AS is_complete
    ) AS seen
    GROUP BY l.tenant_id, l.source, t.timezone
) AS log
FULL JOIN (
    SELECT e.* FROM sync_errors AS e
    WHERE NOT EXISTS (
        SELECT FROM sync_log AS l
        WHERE l.tenant_id = e.tenant_id AND l.source = e.source AND l.id > e.after_line
        AND (e.day IS NULL OR l.day >= e.day)
    )
) AS error USING (tenant_id, source)
LEFT JOIN LATERAL (
    SELECT sum(l.rows)::bigint AS rows, sum(l.requests)::bigint AS requests, max(l.finished) AS finished, l.run_id
    FROM sync_log AS l
    WHERE l.tenant_id = log.tenant_id AND l.source = log.source
    AND l.run_id = (SELECT last.run_id FROM sync_log AS last WHERE last.id = log.last_line)
    GROUP BY l.run_id
) AS run ON true
LEFT JOIN LATERAL (
    SELECT {last_over_day("log.timezone")} AS last_over_day
    FROM sync_log AS l
    WHERE l.tenant_id = log.tenant_id AND l.source = log.source
    ORDER BY l.day DESC, l.id DESC LIMIT 1
) AS newest ON true
"""

VIEWS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sync_health": SYNC_HEALTH,
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
