"""Stored orders are reduced to the fields on the list, in batches, whatever stops it in between."""

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from sync_pipeline.cli import commands
from sync_pipeline.rows.customers import without_customer_data
from sync_pipeline.rows.pancake import OrderRow, order_row
from sync_pipeline.rows.values import ZERO
from sync_pipeline.sync.costs import costs_by_catalogue
from sync_pipeline.tenants import Tenant, load_tenants
from sync_pipeline.warehouse import corrections, database, migrate
from sync_pipeline.warehouse.corrections import Progress
from sync_pipeline.warehouse.errors import SchemaOutdatedError
from sync_pipeline.warehouse.tenancy import Warehouse
from sync_pipeline_tests.fixtures.v0_1_0.restore import Databases
from sync_pipeline_tests.pipeline import DEMO_TENANTS, all_seeing

# Orders of lumina were stored without customer data, those of mekong with it.
REDUCED, WHOLE = "lumina", "mekong"
ORDERS = "SELECT tenant_id, shop_id, pos_order_id, data::text FROM pos_orders ORDER BY 1, 2, 3"
ADD_FIELDS = """
    UPDATE pos_orders SET data = data || jsonb_build_object(
        'tracking_link', 'https://x.example/MARKER', 'field_of_tomorrow', 'MARKER', 'huge', 1e300,
        'invoice_info_list', '[{"invoice_detail": {"company_name": "MARKER"}}]'::jsonb,
        'partner', CASE jsonb_typeof(data->'partner') WHEN 'object' THEN data->'partner' ELSE '{}' END
            || '{"service_partner": {"token": "MARKER"}, "cod": 1.50}'
    )
"""

Stored = dict[tuple[str, str, str], dict[str, Any]]


@pytest.fixture
def old(database_v0_1_0: Databases) -> Iterator[sa.Engine]:
    """The warehouse of version 0.1.0 as its owner connects, with fields in its orders that must not stay."""
    everything = database.connect(all_seeing(database_v0_1_0.warehouse))
    with everything.begin() as connection:
        connection.execute(sa.text(ADD_FIELDS))
    everything.dispose()
    engine = database.connect(database_v0_1_0.warehouse)
    yield engine
    engine.dispose()


def orders(engine: sa.Engine) -> Stored:
    everything = database.connect(all_seeing(engine.url))
    with everything.connect() as connection:
        rows = connection.execute(sa.text(ORDERS)).all()
    everything.dispose()
    return {(row[0], row[1], row[2]): json.loads(row[3], parse_float=Decimal) for row in rows}


def test_stored_orders_are_reduced_unless_they_have_customer_data(old: sa.Engine) -> None:
    before = orders(old)
    assert migrate.migrate(old)[0] == "0005"
    after = orders(old)
    assert after.keys() == before.keys()
    for key, data in after.items():
        if key[0] == REDUCED:
            assert data == without_customer_data(before[key])
            assert "MARKER" not in json.dumps(data, default=str)
            assert data["partner"]["cod"] == Decimal("1.50")
        else:
            assert "bill_full_name" in data
            assert data.keys() == before[key].keys()
            assert "service_partner" not in data["partner"]


def test_a_second_reduction_changes_nothing(old: sa.Engine) -> None:
    migrate.migrate(old)
    before = orders(old)
    told: list[Progress] = []
    corrections.reduce_orders(old, [REDUCED, WHOLE], told.append)
    assert [progress.changed for progress in told] == [0] * len(told)
    assert orders(old) == before


def test_progress_is_reported_after_every_batch(old: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "BATCH_ROWS", 100)
    told: list[Progress] = []
    migrate.migrate(old, on_progress=told.append)
    for tenant in (REDUCED, WHOLE):
        steps = [progress for progress in told if progress.tenant_id == tenant]
        assert all(0 < later.checked - earlier.checked <= 100 for earlier, later in pairwise(steps))
        assert steps[-1] == Progress(tenant, steps[-1].total, steps[-1].total, steps[-1].total)
        assert str(steps[0]) == f"{tenant}: 100 of {steps[0].total} stored orders checked, 100 changed"


def test_a_migration_that_was_stopped_is_continued(old: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corrections, "BATCH_ROWS", 100)

    def stop(progress: Progress) -> None:
        if progress.checked == 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate.migrate(old, on_progress=stop)
    left = [key for key, data in orders(old).items() if key[0] == REDUCED and "tracking_link" in data]
    total = sum(key[0] == REDUCED for key in orders(old))
    assert len(left) == total - 200
    with pytest.raises(SchemaOutdatedError, match="run `sync-pipeline migrate`"):
        migrate.require_current(old)

    told: list[Progress] = []
    migrate.migrate(old, on_progress=told.append)
    migrate.require_current(old)
    assert sum(p.changed for p in told if p.checked == p.total and p.tenant_id == REDUCED) == total - 200
    assert not any("tracking_link" in data for key, data in orders(old).items() if key[0] == REDUCED)


def test_migrate_prints_its_progress(old: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNC_PIPELINE_DATABASE_URL", old.url.render_as_string(hide_password=False))
    result = CliRunner().invoke(commands, ["migrate"])
    assert result.exit_code == 0
    assert f"{REDUCED}: 500 of " in result.output
    assert "warehouse is at migration" in result.output


# Rules of totals have changed since 0.1.0: discounts are subtracted where Pancake states no price after them.
CHANGED_TOTALS = {REDUCED: 8, WHOLE: 10}


@pytest.mark.parametrize("tenant_id", [REDUCED, WHOLE])
def test_every_stored_order_gives_the_same_row_again(old: sa.Engine, tenant_id: str) -> None:
    before = orders(old)
    migrate.migrate(old)
    [tenant] = [tenant for tenant in load_tenants(DEMO_TENANTS).tenants if tenant.tenant_id == tenant_id]
    rows = list(computed(old, tenant, orders(old)))
    assert len(rows) > 500
    assert rows == list(computed(old, tenant, before))

    stored = stored_rows(old, tenant_id)
    assert [row._replace(total=ZERO) for row in rows] == [row._replace(total=ZERO) for row in stored]
    changed = [(row, was) for row, was in zip(rows, stored, strict=True) if row.total != was.total]
    assert len(changed) == CHANGED_TOTALS[tenant_id]
    for row, was in changed:
        data = before[tenant_id, row.shop_id, row.pos_order_id]
        assert (was.total, row.total) == (data["total_price"], data["total_price"] - data["total_discount"])


def stored_rows(engine: sa.Engine, tenant_id: str) -> list[OrderRow]:
    columns = ", ".join("''" if name in ("data", "rules") else f'"{name}"' for name in OrderRow._fields)
    statement = sa.text(f"SELECT {columns} FROM pos_orders ORDER BY shop_id, pos_order_id")
    with database.bound_to(engine, tenant_id) as connection:
        return [OrderRow(*row) for row in connection.execute(statement)]


def computed(engine: sa.Engine, tenant: Tenant, raw: Stored) -> Iterator[OrderRow]:
    """Each of a tenant's orders read again as if Pancake had sent what is given of it, without `data` and `rules`."""
    held = Warehouse(engine).tenant(tenant.tenant_id, name=tenant.name, timezone=tenant.timezone)
    with held as warehouse:
        costs = costs_by_catalogue(tenant, warehouse)
    for (tenant_id, shop_id, _), data in raw.items():
        if tenant_id == tenant.tenant_id:
            row = order_row(data, shop_id=shop_id, timezone=ZoneInfo(tenant.timezone), costs=costs)
            assert isinstance(row, OrderRow)
            yield row._replace(data="", rules="")
