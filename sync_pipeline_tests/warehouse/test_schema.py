"""The two queries that users run most, on a million rows of many tenants: neither may read the whole table."""

import json
import os
import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.warehouse import access, database

TENANTS = 20
ROWS = 1_000_000
TENANT = "tenant_7"

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
        # Without the triggers of foreign keys and exclusions, which look at each of the rows.
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))
        for statement in (OWNERS, INSIGHTS, ORDERS):
            connection.execute(sa.text(statement))
        connection.execute(sa.text("ANALYZE"))
    return engine


def nodes(plan: dict[str, object]) -> Iterator[dict[str, object]]:
    yield plan
    for child in plan.get("Plans", []):  # type: ignore[attr-defined]
        yield from nodes(child)


@pytest.fixture
def eyes(a_million_rows: sa.Engine, warehouse_url: URL) -> Iterator[dict[str, sa.Engine]]:
    """Whom row-level security holds back: the sync, bound to the tenant, and a reader of it."""
    sync = database.connect(warehouse_url)
    reader = f"reader_of_a_million_{os.getpid()}"
    access.grant(sync, TENANT, reader)
    bound = sa.create_engine(warehouse_url, connect_args={"options": f"-c {database.TENANT_SETTING}={TENANT}"})
    yield {"sync": bound, "reader": sa.create_engine(warehouse_url.set(username=reader), poolclass=sa.NullPool)}
    bound.dispose()
    access.revoke(sync, TENANT, reader)
    sync.dispose()


def explained(engine: sa.Engine, query: str) -> tuple[dict[str, object], int]:
    """The plan as it was executed, and how many rows the query gives."""
    with engine.connect() as connection:
        found = connection.execute(sa.text(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}")).scalar_one()
        rows = len(connection.execute(sa.text(query)).all())
    return (found[0] if not isinstance(found, str) else json.loads(found)[0])["Plan"], rows


def test_neither_query_scans_its_table(eyes: dict[str, sa.Engine]) -> None:
    for whose, engine in eyes.items():
        for table, query in QUERIES.items():
            plan, rows = explained(engine, query)
            # Row-level security looks for the reader's tenant, once.
            looked_up = [node for node in nodes(plan) if node.get("Relation Name") == "tenant_readers"]
            assert sum(int(str(node["Actual Loops"])) for node in looked_up) == (whose == "reader")
            scans = [node for node in nodes(plan) if "Scan" in str(node["Node Type"]) and node not in looked_up]
            assert "Seq Scan" not in {node["Node Type"] for node in scans}
            assert {node.get("Index Name") for node in scans} - {None} == {
                f"{table}_tenant_id_{'date' if table == 'meta_ad_insights' else 'date_local'}_idx"
            }
            assert plan["Actual Rows"] == rows == ROWS / TENANTS / 500 * 30
        plan, _ = explained(engine, "SELECT * FROM pos_orders WHERE date_local = '2024-11-01'")
        [scan] = [node for node in nodes(plan) if node.get("Index Name") == "pos_orders_tenant_id_date_local_idx"]
        assert {"tenant_id", "date_local"} <= set(re.findall("[a-z_]+", str(scan["Index Cond"]))), (
            "not named, but bound"
        )
