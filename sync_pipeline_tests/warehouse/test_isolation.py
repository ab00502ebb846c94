"""Every way to read and write the warehouse, tried on the own tenant and on another one.

Two tenants have the same accounts, shops, ads and order numbers. Code that is wrong on purpose asks for the other one
while its transactions are bound to acme, or for either while they are bound to none; a reader of acme tries in SQL.
`-n0 -s` prints what came of it.
"""

import importlib
import inspect
import itertools
import os
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from io import StringIO
from typing import Any

import psycopg2
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL

from sync_pipeline import warehouse as package
from sync_pipeline.cli.tables import table as as_table
from sync_pipeline.date_ranges import DayRange
from sync_pipeline.rates import Rates
from sync_pipeline.warehouse import (
    access,
    completeness,
    corrections,
    counters,
    credentials,
    database,
    exclusions,
    health,
    migrate,
    order_costs,
    performance,
    recomputation,
    refusals,
    rejected,
    reports,
    source_figures,
)
from sync_pipeline.warehouse.checks import DayChecks
from sync_pipeline.warehouse.completeness import Completeness
from sync_pipeline.warehouse.credentials import CredentialExpiry
from sync_pipeline.warehouse.database import bound_to
from sync_pipeline.warehouse.errors import WarehouseError
from sync_pipeline.warehouse.health import SourceFailure
from sync_pipeline.warehouse.order_costs import NewCost
from sync_pipeline.warehouse.recomputation import Recomputation
from sync_pipeline.warehouse.rejected import RejectedRow
from sync_pipeline.warehouse.schema import INSIGHTS, ORDERS, metadata
from sync_pipeline.warehouse.staging import DayEntry, Staging
from sync_pipeline.warehouse.tenancy import TenantWarehouse, Warehouse

OURS, THEIRS = "acme", "other"
DAY = date(2026, 10, 5)
AFTER = date(2026, 10, 6)
NOON = datetime(2026, 10, 6, 12, tzinfo=UTC)
RUN = "run-1"
SECRET = "MARKER-their-figures"

_numbers = itertools.count(1)

WINDOW = {"since": "2026-10-05", "until": "2026-10-05", "counted": 1, "listed": 1}
# Beyond what any value of its type will do for.
VALUES: dict[str, list[dict[str, Any]]] = {
    "tenants": [{"timezone": "Asia/Manila"}],
    "tenant_readers": [{"role_name": "nobody-of-{tenant}", "made": False}],
    "meta_ad_accounts": [{"account_id": "111", "timezone_name": "UTC", "listed_run_id": RUN, "recompute_from": DAY}],
    "pos_shops": [{"shop_id": "7", "listed_run_id": RUN, "api_key_variable": "KEY", "recompute_from": DAY}],
    "product_costs": [{"product_id": "P"}],
    "pos_products": [{"shop_id": "7", "product_id": "P", "variation_id": ""}],
    "meta_ad_insights": [{"account_id": "111", "ad_id": "A", "currency": "PHP", "marketing_associate": "ALY"}],
    "pos_orders": [{"shop_id": "7", "pos_order_id": "1", "currency": "PHP", "ad_id": "A", "data": {"items": []}}],
    "sync_log": [
        {"source": "meta", "run_id": RUN, "complete": True, "reported": {"111": "1.00"}},
        {"source": "pos", "run_id": RUN, "complete": True, "reported": {"7": WINDOW}, "missing": ["7"]},
    ],
    "rejected_rows": [
        {"source": "pos", "day": DAY, "kind": "order", "shop_id": "7", "row_id": "1"},
        {"source": "pos", "kind": "product", "shop_id": "7", "row_id": "P"},
    ],
    "sync_errors": [{"source": "pos"}],
    "sync_refusals": [{"source": "pos", "scope": "7", "run_id": RUN, "facts": {}}],
    "credential_expiries": [{"source": "meta", "subject": "token"}],
    "sync_counters": [{"source": "pos", "counter": "requests"}],
    "figure_settings": [{"date": DAY}],
    "delivery_rates": [{"shop_id": "7"}],
    "ad_performance": [
        {"ad_id": "A", "marketing_associate": "ALY"},
        {"ad_id": "without insights", "rules": "current"},
        {"shop_id": "7", "mapping": "serum"},
    ],
}
ANY: dict[type[Any], Any] = {
    str: SECRET,
    int: 1,
    float: 1.0,
    Decimal: Decimal(1),
    date: DAY,
    datetime: NOON,
    bool: True,
    dict: {},
}


def rows_of(table: sa.Table, tenant: str) -> list[dict[str, Any]]:
    needed = [c for c in table.c if not (c.nullable or c.server_default is not None or c.identity or c.computed)]
    return [
        {
            **{c.name: ANY[c.type.python_type] for c in needed if c.name not in values},
            **{name: value.format(tenant=tenant) if name == "role_name" else value for name, value in values.items()},
            "tenant_id": tenant,
        }
        for values in VALUES[table.name]
    ]


def fill(connection: sa.Connection, tenant: str) -> None:
    connection.execute(sa.text("DELETE FROM tenants WHERE tenant_id = :tenant"), {"tenant": tenant})
    for table in metadata.sorted_tables:
        for row in rows_of(table, tenant):
            connection.execute(sa.insert(table).values(row))


@dataclass
class Ground:
    """The warehouse as the superuser sees it, as the sync does, and as a reader of acme does."""

    overseer: sa.Engine
    sync: sa.Engine
    reader: sa.Engine
    role: str
    filled: list[Any] = field(default_factory=list)

    def refill(self) -> None:
        with self.overseer.begin() as connection:
            for tenant in (OURS, THEIRS):
                fill(connection, tenant)
        access.grant(self.sync, OURS, self.role)
        self.filled = self.dump()

    def dump(self) -> list[Any]:
        rows = [f"SELECT '{t.name}' AS name, {t.name}::text AS row FROM {t.name}" for t in metadata.sorted_tables]
        with self.overseer.connect() as connection:
            return list(connection.execute(sa.text(" UNION ALL ".join(rows) + " ORDER BY name, row")))


@pytest.fixture
def ground(engine: sa.Engine, warehouse_url: URL) -> Iterator[Ground]:
    role = f"reader_{os.getpid()}_{next(_numbers)}"
    sync = database.connect(warehouse_url)
    reader = sa.create_engine(warehouse_url.set(username=role), poolclass=sa.NullPool, hide_parameters=True)
    ground = Ground(engine, sync, reader, role)
    ground.refill()
    yield ground
    access.revoke(sync, OURS, role)
    sync.dispose()


Binding = Callable[[sa.Engine, str], AbstractContextManager[sa.Connection]]
Way = Callable[[sa.Engine, str], object]


def held(way: Callable[[TenantWarehouse], object]) -> Way:
    """Through what a run holds of its tenant."""

    def through(engine: sa.Engine, tenant: str) -> object:
        with tenancy_binding()(engine, tenant) as connection:
            return way(TenantWarehouse(connection, tenant))

    return through


def connected(way: Callable[[sa.Connection, str], object]) -> Way:
    """Through a function that takes a connection."""

    def through(engine: sa.Engine, tenant: str) -> object:
        with tenancy_binding()(engine, tenant) as connection:
            return way(connection, tenant)

    return through


def in_transaction(way: Callable[[sa.Connection, str], object]) -> Way:
    def through(engine: sa.Engine, tenant: str) -> object:
        with tenancy_binding()(engine, tenant) as connection, connection.begin():
            return way(connection, tenant)

    return through


def tenancy_binding() -> Binding:
    return vars(importlib.import_module("sync_pipeline.warehouse.tenancy"))["bound_to"]  # type: ignore[no-any-return]


def stage_a_day(own: TenantWarehouse) -> object:
    columns = ("account_id", "ad_id", "date", "spend", "impressions", "clicks", "link_clicks", "leads")
    with own.staging(INSIGHTS, columns) as stage:
        stage.add([("111", "B", DAY, Decimal(5), 1, 1, 1, 1)])
        entry = DayEntry("meta", DAY, RUN, excluded=0, requests=1, complete=True, started=NOON)
        return stage.commit_day(entry, ["111"]).rows


def open_tenant(engine: sa.Engine, tenant: str) -> object:
    with Warehouse(engine).tenant(tenant, name="Renamed", timezone="UTC") as own:
        return own.order_days()


def reduce_orders(engine: sa.Engine, tenant: str) -> object:
    seen: list[corrections.Progress] = []
    corrections.reduce_orders(engine, [tenant], seen.append)
    return [progress for progress in seen if progress.checked]


def recomputing(way: Callable[[Recomputation], object]) -> Way:
    """Through what recomputes a tenant's stored rows."""
    return held(lambda own: way(own.recomputation()))


def known(found: Completeness) -> object:
    return found.last_complete


def stored_figures(found: source_figures.TenantFigures) -> object:
    return found.counts or found.timezones or found.last_complete


COST = {"line": 9, "shop_id": None, "product_id": "Q", "mapping": None, "cogs": 1, "start_date": None, "end_date": None}
PRODUCT = {"shop_id": "7", "product_id": "Q", "variation_id": "", "custom_id": None, "display_id": None, "name": "Q"}
NEW_COST = NewCost("7", "1", Decimal(77), 0, "soap")
LONG_AGO = timedelta(days=1)
REJECTED = RejectedRow("order", "status", "is not a number", "2", shop_id="7")
ORDER = ("1", (DAY, Decimal(7), Decimal(7), "PHP", Decimal(7), 0, 1, "soap", None, None))
INSIGHT = ("111", "A", "new", ("ALY", "soap"))
REFUSED: tuple[str, str, dict[str, Any]] = ("8", "no permission", {"what": "no permission"})
EXPIRY = CredentialExpiry("meta", "token", "valid", None, NOON)
COUNTS = {("requests", ""): 3.0}
PENDING = exclusions.Pending([DAY], [(exclusions.SHOPS, "7", None, DAY.isoformat())])

WAYS: dict[str, Way] = {
    "Warehouse.tenant": open_tenant,
    "Warehouse.log_after": lambda engine, tenant: Warehouse(engine).log_after(0, [tenant], 9, LONG_AGO),
    "Warehouse.log_lines": lambda engine, tenant: Warehouse(engine).log_lines(range(1, 1000), [tenant]),
    "Warehouse.committed_by": lambda engine, tenant: Warehouse(engine).committed_by(RUN, [tenant]),
    "Warehouse.completeness": lambda engine, tenant: known(
        Warehouse(engine).completeness([(tenant, "pos", DAY, NOON)])[tenant, "pos"]
    ),
    "Warehouse.account_timezones": lambda engine, tenant: Warehouse(engine).account_timezones(tenant),
    "Warehouse.enabled_shops": lambda engine, tenant: Warehouse(engine).enabled_shops(tenant),
    "Warehouse.synced_since": lambda engine, tenant: Warehouse(engine).synced_since(tenant, "pos", [DAY]),
    "Warehouse.row_counts": lambda engine, tenant: Warehouse(engine).row_counts(tenant),
    "Warehouse.delete": lambda engine, tenant: Warehouse(engine).delete(tenant),
    "TenantWarehouse.save_ad_accounts": held(lambda own: own.save_ad_accounts([{"account_id": "9"}], RUN).listed),
    "TenantWarehouse.save_shops": held(lambda own: own.save_shops([{"shop_id": "9"}], RUN).listed),
    "TenantWarehouse.ad_accounts": held(lambda own: own.ad_accounts(RUN)),
    "TenantWarehouse.account_timezones": held(lambda own: any(own.account_timezones(["111"]))),
    "TenantWarehouse.current_account_timezones": held(lambda own: own.current_account_timezones()),
    "TenantWarehouse.shops": held(lambda own: own.shops(RUN)),
    "TenantWarehouse.replace_product_costs": held(lambda own: own.replace_product_costs([COST])),
    "TenantWarehouse.product_costs": held(lambda own: own.product_costs()),
    "TenantWarehouse.save_products": held(lambda own: own.save_products([{**PRODUCT, "retail_price": 1}])),
    "TenantWarehouse.replace_rejected_products": held(
        lambda own: own.replace_rejected_products("pos", [REJECTED], run_id=RUN)
    ),
    "TenantWarehouse.known_shops": held(lambda own: own.known_shops()),
    "TenantWarehouse.add_unlisted_shops": held(lambda own: own.add_unlisted_shops(["9"])),
    "TenantWarehouse.note_refusals": held(lambda own: own.note_refusals("pos", RUN, [REFUSED])),
    "TenantWarehouse.refusals_of_run": held(lambda own: own.refusals_of_run("pos", RUN)),
    "TenantWarehouse.missing_of_days": held(lambda own: own.missing_of_days([DAY])),
    "TenantWarehouse.products": held(lambda own: own.products()),
    "TenantWarehouse.order_days": held(lambda own: own.order_days()),
    "TenantWarehouse.stored_orders": held(lambda own: own.stored_orders(DAY)),
    "TenantWarehouse.uncosted_days": held(lambda own: own.uncosted_days(DAY, DAY)),
    "TenantWarehouse.store_costs": held(lambda own: own.store_costs([NEW_COST])),
    "TenantWarehouse.recompute_performance": held(lambda own: own.recompute_performance(DAY, DAY, Rates())),
    "TenantWarehouse.performance_of": held(lambda own: own.performance_of([DAY])),
    "TenantWarehouse.best_ads": held(lambda own: own.best_ads([DAY], 5)),
    "TenantWarehouse.best_associates": held(lambda own: own.best_associates([DAY], 5)),
    "TenantWarehouse.completeness": held(lambda own: known(own.completeness("pos", DAY, NOON))),
    "TenantWarehouse.committed_days": held(lambda own: own.committed_days([RUN])),
    "TenantWarehouse.save_delivery_rates": held(lambda own: own.save_delivery_rates(DAY, Rates())),
    "TenantWarehouse.outdated_performance_days": held(lambda own: own.outdated_performance_days(Rates())),
    "TenantWarehouse.credential_expiries": held(lambda own: own.credential_expiries()),
    "TenantWarehouse.add_counts": held(lambda own: own.add_counts("pos", COUNTS)),
    "TenantWarehouse.pending_exclusions": held(lambda own: own.pending_exclusions().markers),
    "TenantWarehouse.finish_exclusions": held(lambda own: own.finish_exclusions(PENDING)),
    "Recomputation.order_rules": recomputing(lambda stored: stored.order_rules()),
    "Recomputation.insight_rules": recomputing(lambda stored: stored.insight_rules()),
    "Recomputation.key_sources": recomputing(lambda stored: stored.key_sources()),
    "Recomputation.order_shops": recomputing(lambda stored: stored.order_shops()),
    "Recomputation.outdated_orders": recomputing(lambda stored: stored.outdated_orders("7", [None], None, 9)),
    "Recomputation.count_orders": recomputing(lambda stored: stored.count_orders("7")),
    "Recomputation.store_orders": recomputing(lambda stored: stored.store_orders("7", [ORDER], [], "new", [DAY])),
    "Recomputation.outdated_insight_days": recomputing(lambda stored: stored.outdated_insight_days([None])),
    "Recomputation.outdated_insights": recomputing(lambda stored: stored.outdated_insights(DAY, [None])),
    "Recomputation.store_insights": recomputing(lambda stored: stored.store_insights(DAY, [INSIGHT], changed=True)),
    "Recomputation.mark_orders_without_delivery": recomputing(lambda stored: stored.mark_orders_without_delivery()),
    "Recomputation.insight_span": recomputing(lambda stored: stored.insight_span([None])),
    "Staging.commit_day": held(stage_a_day),
    "rejected.replace_of_day": in_transaction(
        lambda c, tenant: rejected.replace_of_day(c, tenant, ORDERS, "pos", DAY, [REJECTED], run_id=RUN, scopes=["7"])
    ),
    "rejected.replace_products": connected(
        lambda c, tenant: rejected.replace_products(c, tenant, "pos", [REJECTED], run_id=RUN)
    ),
    "rejected.rejected_of_days": connected(lambda c, tenant: rejected.rejected_of_days(c, tenant, "pos", [DAY])),
    "rejected.rejected_products": connected(lambda c, tenant: rejected.rejected_products(c, tenant, "pos")),
    "rejected.rejected_by_source": rejected.rejected_by_source,
    "refusals.note_refusals": connected(lambda c, tenant: refusals.note_refusals(c, tenant, "pos", RUN, [REFUSED])),
    "refusals.refusals_of_run": connected(lambda c, tenant: refusals.refusals_of_run(c, tenant, "pos", RUN)),
    "refusals.missing_of_days": in_transaction(lambda c, tenant: refusals.missing_of_days(c, tenant, [DAY])),
    "refusals.standing_refusals": refusals.standing_refusals,
    "DayChecks.account_spend": held(lambda own: own.checks(Rates()).account_spend([DAY])),
    "DayChecks.incomplete": held(lambda own: own.checks(Rates()).incomplete([AFTER])),
    "DayChecks.order_counts": held(lambda own: own.checks(Rates()).order_counts([DAY])),
    "DayChecks.rejected": held(lambda own: own.checks(Rates()).rejected("pos", [DAY])),
    "DayChecks.rejected_products": held(lambda own: own.checks(Rates()).rejected_products("pos")),
    "DayChecks.reconciled": held(lambda own: own.checks(Rates()).reconciled([DAY])),
    "DayChecks.outdated": held(lambda own: own.checks(Rates()).outdated([DAY])),
    "DayChecks.unknown_statuses": held(lambda own: own.checks(Rates()).unknown_statuses([DAY])),
    "DayChecks.uncosted": held(lambda own: own.checks(Rates()).uncosted([DAY])),
    "DayChecks.spend_without_associate": held(lambda own: own.checks(Rates()).spend_without_associate([DAY])),
    "DayChecks.orders_without_ad": held(lambda own: own.checks(Rates()).orders_without_ad([DAY])),
    "DayChecks.currencies": held(lambda own: own.checks(Rates()).currencies([DAY])),
    "completeness.completeness": connected(
        lambda c, tenant: known(completeness.completeness(c, [(tenant, "pos", DAY, NOON)])[tenant, "pos"])
    ),
    "completeness.incomplete_days": connected(lambda c, tenant: completeness.incomplete_days(c, tenant, [AFTER])),
    "completeness.timezones_of": connected(lambda c, tenant: any(completeness.timezones_of(c, tenant, ["111"]))),
    "completeness.current_timezones": connected(completeness.current_timezones),
    "performance.recompute": connected(lambda c, tenant: performance.recompute(c, tenant, DAY, DAY, Rates())),
    "performance.save_delivery_rates": connected(
        lambda c, tenant: performance.save_delivery_rates(c, tenant, DAY, Rates())
    ),
    "performance.figures": connected(lambda c, tenant: performance.figures(c, tenant, [DAY])),
    "performance.best_ads": connected(lambda c, tenant: performance.best_ads(c, tenant, [DAY], 5)),
    "performance.best_associates": connected(lambda c, tenant: performance.best_associates(c, tenant, [DAY], 5)),
    "recomputation.outdated_performance_days": connected(
        lambda c, tenant: recomputation.outdated_performance_days(c, tenant, Rates())
    ),
    "counters.add_counts": in_transaction(lambda c, tenant: counters.add_counts(c, tenant, "pos", COUNTS)),
    "counters.store_counts": lambda engine, tenant: counters.store_counts(engine, tenant, "pos", COUNTS),
    "source_figures.figures_of": in_transaction(
        lambda c, tenant: stored_figures(source_figures.figures_of(c, tenant, ["meta", "pos"]))
    ),
    "credentials.store_expiries": lambda engine, tenant: credentials.store_expiries(engine, tenant, [EXPIRY]),
    "credentials.stored_expiries": credentials.stored_expiries,
    "credentials.expiries_of": connected(credentials.expiries_of),
    "corrections.reduce_orders": reduce_orders,
    "exclusions.entries": lambda engine, tenant: exclusions.entries(engine, tenant, exclusions.SHOPS),
    "exclusions.disable": lambda engine, tenant: exclusions.disable(engine, tenant, exclusions.SHOPS, "7", DAY),
    "exclusions.enable": lambda engine, tenant: exclusions.enable(engine, tenant, exclusions.SHOPS, "7"),
    "exclusions.pending": connected(lambda c, tenant: exclusions.pending(c, tenant).markers),
    "exclusions.finish": connected(lambda c, tenant: exclusions.finish(c, tenant, PENDING)),
    "order_costs.order_days": connected(order_costs.order_days),
    "order_costs.stored_orders": connected(lambda c, tenant: order_costs.stored_orders(c, tenant, DAY)),
    "order_costs.store_costs": connected(lambda c, tenant: order_costs.store_costs(c, tenant, [NEW_COST])),
    "order_costs.uncosted_days": connected(lambda c, tenant: order_costs.uncosted_days(c, tenant, DAY, DAY)),
    "reports.report": lambda engine, tenant: reports.report(engine, tenant, DayRange(DAY, DAY), Rates()),
    "health.source_health": health.source_health,
    "health.note_failures": lambda engine, tenant: health.note_failures(
        engine, tenant, RUN, [SourceFailure("meta", "failed")]
    ),
    "access.row_counts": in_transaction(lambda c, tenant: any(access.row_counts(c, tenant).values())),
    "access.delete_rows": in_transaction(lambda c, tenant: any(access.delete_rows(c, tenant).values())),
    "access.grant": lambda engine, tenant: access.grant(engine, tenant, f"{tenant}_{os.getpid()}"),
    "access.revoke": lambda engine, tenant: access.revoke(engine, tenant, f"nobody-of-{tenant}"),
    "access.forget_readers": in_transaction(access.forget_readers),
    "access.readers_of": in_transaction(lambda c, tenant: any(access.readers_of(c, tenant))),
}
# What these touch is no tenant's: temporary tables, locks, the schema itself, or what others of the table go through.
NO_ROWS = {
    "Warehouse.is_held",
    "TenantWarehouse.staging",
    "TenantWarehouse.checks",
    "TenantWarehouse.recomputation",
    "Staging.add",
    "Staging.add_lookup",
    "Staging.clear",
    "Staging.forget",
    "Staging.keys_without_lookup",
    "Staging.oversized_sums",
    "Staging.rows_of",
    "dependent_views.without_views_of",
    "access.secure",
    "access.unforce",
    "access.exposures",
    "access.tables_left_alone",
    "migrate.migrate",
    "migrate.require_current",
    "compatibility.require_during_run",
    "compatibility.store_oldest",
    "compatibility.stored_version",
    "database.bound_to",
    "database.bound_to_each",
    "source_figures.tenant_figures",  # `figures_of`, bound to each tenant
    *(
        f"locks.{name}"
        for name in (
            "acquire",
            "advice",
            "end_sessions",
            "holders",
            "limited_waits",
            "locked_out",
            "one_at_a_time",
            "restrict_advisory_locks",
            "restrict_to",
            "tenants_with_runs",
            "try_acquire",
            "unrestricted",
            "writers_without_locks",
        )
    ),
    "access.lock_warnings",
}


def test_every_method_that_reaches_the_warehouse_is_in_the_table() -> None:
    modules = [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    found = set()
    for module in modules:
        for name, one in inspect.getmembers(module, inspect.isfunction):
            takes = [str(p.annotation) for p in inspect.signature(one).parameters.values()]
            reaches = any("sqlalchemy" in kind and ("Engine" in kind or "Connection" in kind) for kind in takes)
            if one.__module__ == module.__name__ and not name.startswith("_") and reaches:
                found.add(f"{module.__name__.rpartition('.')[2]}.{name}")
    for kind in (Warehouse, TenantWarehouse, Staging, DayChecks, Recomputation):
        found |= {
            f"{kind.__name__}.{name}"
            for name, _ in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }
    assert found == WAYS.keys() | NO_ROWS


def statements(table: sa.Table, tenant: str) -> dict[str, Callable[[sa.Connection], object]]:
    mine = table.c.tenant_id == tenant
    locked = sa.select(table).where(mine).with_for_update()

    def insert(connection: sa.Connection) -> int:
        connection.execute(sa.delete(table).where(mine))
        return sum(connection.execute(sa.insert(table).values(row)).rowcount for row in rows_of(table, tenant))

    def copy_out(connection: sa.Connection) -> str:
        taken = StringIO()
        query = f"COPY (SELECT * FROM {table.name} WHERE tenant_id = '{tenant}') TO STDOUT"
        cursor(connection).copy_expert(query, taken)
        return taken.getvalue()

    def copy_in(connection: sa.Connection) -> None:
        cursor(connection).copy_expert(f"COPY {table.name} (tenant_id) FROM STDIN", StringIO(f"{tenant}\n"))

    def plain(statement: sa.Executable) -> Callable[[sa.Connection], int]:
        return lambda connection: connection.execute(statement).rowcount

    return {
        "SELECT": lambda connection: connection.execute(sa.select(table).where(mine)).all(),
        "SELECT FOR UPDATE": lambda connection: connection.execute(locked).all(),
        "COPY TO": copy_out,
        "INSERT": insert,
        "UPDATE": plain(sa.update(table).where(mine).values(tenant_id=table.c.tenant_id)),
        "UPDATE into": plain(sa.update(table).where(table.c.tenant_id == OURS).values(tenant_id=tenant)),
        "DELETE": plain(sa.delete(table).where(mine)),
        "COPY FROM": copy_in,
        "TRUNCATE": lambda connection: connection.execute(sa.text(f"TRUNCATE {table.name} CASCADE")),
    }


def cursor(connection: sa.Connection) -> Any:
    return connection.connection.cursor()


def in_sql() -> dict[str, Way]:
    ways: dict[str, Way] = {}

    def way(table: sa.Table, kind: str) -> Way:
        return in_transaction(lambda connection, tenant: statements(table, tenant)[kind](connection))

    for table in metadata.sorted_tables:
        for kind in statements(table, OURS):
            ways[f"{kind} {table.name}"] = way(table, kind)
    return ways


def view_ways(engine: sa.Engine) -> dict[str, Way]:
    def way(view: str) -> Way:
        return in_transaction(
            lambda c, tenant: c.execute(sa.text(f"SELECT * FROM {view} WHERE tenant_id = '{tenant}'")).all()
        )

    return {f"SELECT {view}": way(view) for view in sorted(sa.inspect(engine).get_view_names())}


def outcome(ground: Ground, way: Way, engine: sa.Engine, tenant: str) -> str:
    """What came of it: `refused`, `empty`, `rows`, or `written`."""
    found, error = tried(lambda: way(engine, tenant))
    if ground.dump() != ground.filled:
        ground.refill()
        return "written"
    if error is None:
        return "rows" if found else "empty"
    assert SECRET not in str(error)
    # Postgres: not allowed, and COPY into a table under row-level security, which it does not know.
    expected = isinstance(error, WarehouseError) or sqlstate(error) in {"42501", "0A000"}
    return "refused" if expected else repr(error)


def tried(way: Callable[[], object]) -> tuple[object, Exception | None]:
    try:
        return way(), None
    except (WarehouseError, sa.exc.DBAPIError, psycopg2.Error) as error:
        return None, error


def sqlstate(error: Exception | None) -> str | None:
    return getattr(getattr(error, "orig", error), "pgcode", None)


READING = ("SELECT", "COPY TO")


def test_no_way_leads_to_another_tenant(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    def unbound(engine: sa.Engine, _: str) -> AbstractContextManager[sa.Connection]:
        return engine.connect()

    def bound_to_ours(engine: sa.Engine, _: str) -> AbstractContextManager[sa.Connection]:
        return bound_to(engine, OURS)

    def widened(engine: sa.Engine, _: str) -> AbstractContextManager[sa.Connection]:
        return bound_to(engine, THEIRS)

    def bind(binding: Binding) -> None:
        for module in pkgutil.iter_modules(package.__path__):
            found = importlib.import_module(f"{package.__name__}.{module.name}")
            if module.name != "database" and hasattr(found, "bound_to"):
                monkeypatch.setattr(found, "bound_to", binding)

    lines = []
    wrong = []
    sql = {**in_sql(), **view_ways(ground.sync)}
    for name, way in {**WAYS, **sql}.items():
        cells = []
        bind(bound_to_ours)
        cells.append(outcome(ground, way, ground.sync, THEIRS))
        bind(unbound)
        cells += [outcome(ground, way, ground.sync, tenant) for tenant in (OURS, THEIRS)]
        theirs = cells[:]
        if name in sql:
            bind(widened)
            cells.append(outcome(ground, way, ground.reader, OURS))
            cells.append(outcome(ground, way, ground.reader, THEIRS))
            theirs.append(cells[-1])
        bind(bound_to_ours)
        own = outcome(ground, way, ground.sync, OURS)
        never = name.startswith(("COPY FROM", "TRUNCATE"))
        if own not in ({"refused"} if never else {"rows", "written"}) or not set(theirs) <= {"refused", "empty"}:
            wrong.append((name, own, cells))
        if name in sql and cells[3] != ("rows" if name.startswith(READING) and "FOR UPDATE" not in name else "refused"):
            wrong.append((name, own, cells))
        lines.append((name, own, *cells, *[""] * (5 - len(cells))))
    header = ("WAY", "OWN", "OTHER", "UNBOUND: OWN", "UNBOUND: OTHER", "READER: OWN", "READER: OTHER")
    print("\n" + as_table(header, lines))
    assert wrong == []
    assert len(lines) > 100


def test_the_table_covers_every_table_and_view_of_the_catalog(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        found = connection.execute(
            sa.text("SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        ).all()
    assert {name for name, kind in found if kind in "rpmf"} == {t.name for t in metadata.sorted_tables} | {
        "alembic_version"
    }
    assert {f"SELECT {name}" for name, kind in found if kind == "v"} == view_ways(engine).keys()


def test_a_table_or_view_added_later_without_it_is_noticed_and_migrate_mends_it(ground: Ground) -> None:
    assert access.exposures(ground.sync) == []
    with ground.sync.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE later (tenant_id text, figure text)")
        connection.exec_driver_sql("CREATE VIEW shown AS SELECT tenant_id FROM later")
    seeing_more = (
        "views that see more than their reader: shown; ALTER VIEW ... SET (security_invoker = true); a materialized "
        "view is for no reader"
    )
    not_on = "row-level security is not on for later: run `sync-pipeline migrate`"
    assert access.exposures(ground.sync) == [not_on, seeing_more]
    migrate.migrate(ground.sync)
    assert access.exposures(ground.sync) == [seeing_more]
    with ground.overseer.begin() as connection:
        connection.exec_driver_sql("ALTER VIEW shown SET (security_invoker = true)")
        connection.exec_driver_sql("INSERT INTO later VALUES ('acme', 'ours'), ('other', 'theirs')")
    migrate.migrate(ground.sync)
    assert access.exposures(ground.sync) == []
    with ground.reader.connect() as connection:
        assert connection.exec_driver_sql("SELECT figure FROM later").all() == [("ours",)]
        assert connection.exec_driver_sql("SELECT tenant_id FROM shown").all() == [("acme",)]


def test_a_superuser_is_told_of(engine: sa.Engine) -> None:
    [told] = access.exposures(engine)
    assert told.startswith("the warehouse is reached as the role postgres, which is a superuser")


ATTEMPTS = {
    "another tenant": "SET sync_pipeline.tenant = 'other'; SELECT * FROM pos_orders WHERE tenant_id = 'other'",
    "row-level security off": "SET row_security = off; SELECT * FROM pos_orders",
    "the sync's role": "SET ROLE sync_pipeline",
    "another's session": "SET SESSION AUTHORIZATION sync_pipeline",
    "its own line": "UPDATE tenant_readers SET tenant_id = 'other'",
    "another line": "INSERT INTO tenant_readers VALUES (current_user || '2', 'other', true)",
    "another's line": "SELECT * FROM tenant_readers WHERE tenant_id = 'other'",
    "a readers' table of its own": "CREATE TEMP TABLE tenant_readers AS SELECT current_user::text AS role_name, "
    "'other' AS tenant_id; SELECT * FROM pos_orders WHERE tenant_id = 'other'",
    "tenants named by policies": "SELECT * FROM pg_policies WHERE concat(qual, with_check) ~ 'acme|other'",
    "a table": "CREATE TABLE mine (a int)",
    "a view": "CREATE VIEW mine AS SELECT 1",
    "a function": "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "the policy": "DROP POLICY tenant_isolation ON pos_orders",
    "its switch": "ALTER TABLE pos_orders DISABLE ROW LEVEL SECURITY",
    "migrations": "SELECT * FROM alembic_version",
    "another role": "CREATE ROLE mine",
    "statistics": "SELECT * FROM pg_stats WHERE schemaname = 'public'",
    "files": "SELECT pg_read_file('postgresql.conf')",
}


def rows_by(connection: sa.Connection, statement: str) -> object:
    return connection.exec_driver_sql(statement).all()


def test_a_reader_cannot_widen_its_view(ground: Ground) -> None:
    with ground.overseer.begin() as connection:
        connection.exec_driver_sql("ANALYZE")
        assert rows_by(connection, ATTEMPTS["statistics"]), "who sees all rows sees what is known of them"
    for attempt, statement in ATTEMPTS.items():
        with ground.reader.connect() as connection:
            found, error = tried(partial(rows_by, connection, statement))
            assert found == [] or sqlstate(error) == "42501", attempt
        assert ground.dump() == ground.filled, attempt


def test_the_sync_does_not_see_with_the_eyes_of_its_readers(ground: Ground, warehouse_url: URL) -> None:
    greedy = sa.create_engine(warehouse_url, connect_args={"options": "-c createrole_self_grant=set,inherit"})
    role = f"{ground.role}_too"
    access.grant(greedy, OURS, role)
    for binding, seen in ((bound_to(greedy, THEIRS), [THEIRS]), (greedy.connect(), [])):
        with binding as connection:
            query = "SELECT DISTINCT tenant_id FROM pos_orders"
            assert connection.exec_driver_sql(query).scalars().all() == seen
    assert access.revoke(greedy, OURS, role)
    greedy.dispose()


def test_a_grant_waits_for_no_report_and_keeps_none_waiting(ground: Ground) -> None:
    role = f"{ground.role}_too"
    with ground.overseer.connect() as report:
        for table in metadata.sorted_tables:
            report.execute(sa.select(sa.func.count()).select_from(table))
        access.grant(ground.sync, OURS, role)
        assert access.revoke(ground.sync, OURS, role)


def test_a_reader_sees_its_tenant_as_the_sync_does(ground: Ground) -> None:
    for name in [*(table.name for table in metadata.sorted_tables), *sa.inspect(ground.sync).get_view_names()]:
        if name == "tenant_readers":
            continue
        query = sa.text(f"SELECT * FROM {name} ORDER BY 1, 2, 3")
        with bound_to(ground.sync, OURS) as connection:
            seen = connection.execute(query).all()
        with ground.reader.connect() as connection:
            assert connection.execute(query).all() == seen != []


def test_a_transaction_without_tenant_writes_nothing_not_even_after_a_bound_one(ground: Ground) -> None:
    with bound_to(ground.sync, OURS) as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM tenants")).scalar_one() == 1
        connection.rollback()
        backend = connection.connection.dbapi_connection
    with ground.sync.connect() as connection:
        assert connection.connection.dbapi_connection is backend, "the pool gives the same session again"
        assert connection.execute(sa.text("SELECT count(*) FROM tenants")).scalar_one() == 0
        for nobody in ("", OURS, THEIRS):
            connection.rollback()
            with pytest.raises(sa.exc.ProgrammingError, match="row-level security"), connection.begin():
                connection.execute(sa.text("INSERT INTO tenants VALUES (:id, 'x', 'UTC')"), {"id": nobody})


def test_rows_of_the_log_of_many_tenants_come_in_order_up_to_the_limit(ground: Ground) -> None:
    warehouse = Warehouse(ground.sync)
    everything = warehouse.log_after(0, [OURS, THEIRS], 9, LONG_AGO)
    lines = [one.line for _, one in everything]
    assert lines == sorted(lines)
    assert {tenant for tenant, _ in everything} == {OURS, THEIRS}
    assert warehouse.log_after(0, [THEIRS, OURS], 3, LONG_AGO) == everything[:3]
