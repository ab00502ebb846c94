"""The migration of `ad_performance`: what it keeps, what it computes again, and what it refuses to drop."""

import os
from collections.abc import Iterator
from decimal import Decimal

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline.warehouse import database, migrate
from sync_pipeline.warehouse.errors import DependentObjectsError, SchemaOutdatedError
from sync_pipeline.warehouse.locks import LIMITS
from sync_pipeline_tests import templates
from sync_pipeline_tests.fixtures.v0_1_0 import restore
from sync_pipeline_tests.pipeline import all_seeing


@pytest.fixture(scope="module")
def template(server: URL) -> Iterator[URL]:
    """The database of version 0.1.0 with all earlier migrations, to be copied."""
    with restore.restored(server) as databases:
        engine = database.connect(databases.warehouse)
        migrate._Migration(engine, LIMITS, migrate.MIGRATIONS, despite_runs=False).upgrade("0010")
        engine.dispose()
        yield databases.warehouse


@pytest.fixture
def old(template: URL, server: URL) -> Iterator[sa.Engine]:
    """A copy of the database, as its owner connects."""
    url = server.set(database=f"figures_migration_{os.getpid()}")
    templates.copy(template, url)
    engine = database.connect(url)
    yield engine
    engine.dispose()
    templates.drop(url)


def query(engine: sa.Engine, statement: str) -> list[tuple[object, ...]]:
    everything = database.connect(all_seeing(engine.url))
    with everything.begin() as connection:
        result = connection.execute(sa.text(statement))
        found = [tuple(row) for row in result] if result.returns_rows else []
    everything.dispose()
    return found


def execute(engine: sa.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))


def test_views_of_users_are_listed_and_not_dropped(old: sa.Engine) -> None:
    execute(
        old,
        "CREATE SCHEMA bi",
        "CREATE VIEW bi.best AS SELECT ad_id, roas FROM ad_performance",
        "CREATE VIEW by_week AS SELECT sum(revenue) FROM ad_performance_by_associate",
        "CREATE VIEW bi.of_best AS SELECT max(roas) FROM bi.best",
        "CREATE MATERIALIZED VIEW kept AS SELECT date FROM ad_performance_by_mapping",
        "CREATE VIEW unrelated AS SELECT status_group FROM order_attribution",
    )
    before = query(old, "SELECT sum(contribution_margin) FROM ad_performance")
    with pytest.raises(DependentObjectsError) as caught:
        migrate.migrate(old)
    assert caught.value.objects == ("bi.best", "bi.of_best", "by_week", "kept")
    assert str(caught.value) == (
        "the migration replaces ad_performance and its views, which these use: bi.best, bi.of_best, by_week, "
        "kept. Save their definitions, drop them, run `sync-pipeline migrate` again, and create them again"
    )
    assert query(old, "SELECT sum(contribution_margin) FROM ad_performance") == before
    with pytest.raises(SchemaOutdatedError):
        migrate.require_current(old)

    execute(old, "DROP MATERIALIZED VIEW kept", "DROP VIEW by_week", "DROP VIEW bi.of_best, bi.best")
    migrate.migrate(old)
    migrate.require_current(old)
    assert query(old, "SELECT count(*) > 0 FROM unrelated WHERE status_group = 'partly_returned'") == [(True,)]
    assert query(old, "SELECT sum(contribution_margin) FROM ad_performance") == before


def test_a_function_of_users_is_not_dropped(old: sa.Engine) -> None:
    execute(
        old, "CREATE FUNCTION rows_of() RETURNS SETOF ad_performance LANGUAGE sql AS 'SELECT * FROM ad_performance'"
    )
    with pytest.raises(DependentObjectsError) as caught:
        migrate.migrate(old)
    assert caught.value.objects == ("function rows_of()",)
    assert query(old, "SELECT count(*) FROM rows_of()") == [(831,)]


def test_privileges_of_other_roles_are_kept(old: sa.Engine) -> None:
    role = f"bi_{os.getpid()}"
    query(old, f"CREATE ROLE {role}")
    try:
        execute(
            old,
            f"GRANT SELECT ON ad_performance TO {role}",
            f"GRANT SELECT ON ad_performance_by_mapping TO {role} WITH GRANT OPTION",
            "GRANT SELECT ON ad_performance_by_campaign TO PUBLIC",
        )
        migrate.migrate(old)
        privileges = f"""
            SELECT has_table_privilege('{role}', 'ad_performance', 'SELECT'),
                has_table_privilege('{role}', 'ad_performance', 'SELECT WITH GRANT OPTION'),
                has_table_privilege('{role}', 'ad_performance_by_mapping', 'SELECT WITH GRANT OPTION'),
                has_table_privilege('{role}', 'ad_performance_by_campaign', 'SELECT'),
                has_table_privilege('{role}', 'ad_performance_by_associate', 'SELECT')
        """
        assert query(old, privileges) == [(True, False, True, True, False)]
    finally:
        query(old, f"DROP OWNED BY {role}")
        query(old, f"DROP ROLE {role}")


def test_changed_orders_are_counted_again(old: sa.Engine) -> None:
    # An order without ad came into a mapping that had none, another one was partly returned, one has no row any more.
    [(tenant, day, shop, order)] = query(
        old,
        "SELECT tenant_id, date, shop_id, pos_order_id FROM order_attribution WHERE ad_id IS NULL AND status = 3 "
        "ORDER BY 1, 2, 3, 4 LIMIT 1",
    )
    which = f"tenant_id = '{tenant}' AND shop_id = '{shop}' AND pos_order_id = '{order}'"
    query(
        old, f"UPDATE pos_orders SET mapping = 'new', status = 15, total = 123.45, cod = 67, cogs = 8.90 WHERE {which}"
    )
    migrate.migrate(old)
    found = query(
        old,
        "SELECT orders, partly_returned_amount, partly_returned_cod, partly_returned_cogs, revenue, order_fees, rules "
        f"FROM ad_performance WHERE tenant_id = '{tenant}' AND date = '{day}' AND mapping = 'new'",
    )
    assert found == [(1, Decimal("123.45"), Decimal("67.00"), Decimal("8.90"), Decimal("123.45"), None, None)]
    sums = "SELECT sum(orders), sum(revenue), sum(cod), sum(cogs) FROM ad_performance"
    assert query(old, sums) == query(old, "SELECT count(*), sum(total), sum(cod), sum(cogs) FROM pos_orders")
