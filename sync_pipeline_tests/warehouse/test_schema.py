"""The two queries that users run most, on a million rows of many tenants: neither may read the whole table."""

import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

TENANTS = 20
ROWS = 1_000_000

OWNERS = f"""
INSERT INTO tenants SELECT 'tenant_' || n, 'Tenant', 'Asia/Manila' FROM generate_series(0, {TENANTS - 1}) n
"""
INSIGHTS = f"""
INSERT INTO meta_ad_insights (tenant_id, account_id, ad_id, date, spend, impressions, clicks, link_clicks, leads)
SELECT 'tenant_' || n % {TENANTS}, '1', n::text, date '2024-01-01' + (n / {TENANTS} % 500)::int, n % 1000, 0, 0, 0, 0
FROM generate_series(1, {ROWS}) n
"""
ORDERS = f"""
INSERT INTO pos_orders (tenant_id, shop_id, pos_order_id, inserted_at, date_local, total, cod, cogs, uncosted_quantity,
    total_quantity, data)
SELECT 'tenant_' || n % {TENANTS}, '1', n::text, now(), date '2024-01-01' + (n / {TENANTS} % 500)::int, n % 1000, 0, 0,
    0, 1, '{{}}'
FROM generate_series(1, {ROWS}) n
"""
QUERIES = {
    "meta_ad_insights": """
        SELECT date, account_id, campaign_name, ad_name, marketing_associate, spend, clicks, link_clicks, impressions,
            leads, status
        FROM meta_ad_insights WHERE tenant_id = 'tenant_7' AND date BETWEEN '2024-11-01' AND '2024-11-30'
        ORDER BY date DESC, spend DESC""",
    "pos_orders": """
        SELECT date_local, shop_id, pos_order_id, total, cogs, total_quantity, mapping, p_utm_campaign, p_utm_content
        FROM pos_orders WHERE tenant_id = 'tenant_7' AND date_local BETWEEN '2024-11-01' AND '2024-11-30'
        ORDER BY date_local DESC, total DESC""",
}


@pytest.fixture
def a_million_rows(engine: sa.Engine) -> sa.Engine:
    with engine.begin() as connection:
        for statement in (OWNERS, INSIGHTS, ORDERS):
            connection.execute(sa.text(statement))
        connection.execute(sa.text("ANALYZE"))
    return engine


def nodes(plan: dict[str, object]) -> Iterator[dict[str, object]]:
    yield plan
    for child in plan.get("Plans", []):  # type: ignore[attr-defined]
        yield from nodes(child)


def test_neither_query_scans_its_table(a_million_rows: sa.Engine) -> None:
    for table, query in QUERIES.items():
        with a_million_rows.connect() as connection:
            explained = connection.execute(sa.text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")).scalar_one()
            rows = len(connection.execute(sa.text(query)).all())
        plan = explained[0]["Plan"] if not isinstance(explained, str) else json.loads(explained)[0]["Plan"]
        scans = [node for node in nodes(plan) if "Scan" in str(node["Node Type"])]
        assert "Seq Scan" not in {node["Node Type"] for node in nodes(plan)}
        assert {node.get("Index Name") for node in scans} - {None} == {
            f"{table}_tenant_id_{'date' if table == 'meta_ad_insights' else 'date_local'}_idx"
        }
        assert plan["Actual Rows"] == rows == ROWS / TENANTS / 500 * 30
