"""A tenant's own corner of the warehouse: its lock, its accounts, shops and costs, and what was synced when."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert

from sync_pipeline.rates import RateSchedule
from sync_pipeline.warehouse import (
    access,
    checks,
    compatibility,
    completeness,
    exclusions,
    locks,
    order_costs,
    performance,
    refusals,
)
from sync_pipeline.warehouse.completeness import Completeness
from sync_pipeline.warehouse.counters import Counts, add_counts
from sync_pipeline.warehouse.credentials import CredentialExpiry, expiries_of
from sync_pipeline.warehouse.database import bound_to, failing_clearly
from sync_pipeline.warehouse.errors import TenantBusyError, TenantNotStoredError
from sync_pipeline.warehouse.locks import LIMITS, LockLimits, LockWait, log_wait, one_at_a_time
from sync_pipeline.warehouse.order_costs import NewCost, StoredOrder
from sync_pipeline.warehouse.recomputation import Recomputation, outdated_performance_days
from sync_pipeline.warehouse.rejected import RejectedRow, replace_products
from sync_pipeline.warehouse.schema import (
    DailyTable,
    meta_ad_accounts,
    pos_products,
    pos_shops,
    product_costs,
    sync_log,
    tenants,
)
from sync_pipeline.warehouse.staging import RESULT_COLUMNS, DayResult, Staging

PRODUCTS_PER_STATEMENT = 500
# For the whole session. A hundred thousand rows are some 30 MB; with the usual 8 they go to disk and back.
_ROOM_FOR_STAGING = sa.text("SET temp_buffers = '64MB'")


@dataclass(frozen=True, slots=True)
class Listing:
    """What a discovery changed: entries seen for the first time, and entries that are no longer listed."""

    listed: int
    new: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KnownShop:
    """A stored shop: the place of the key that last listed it, None where none has, and whether it is synced."""

    key_source: str | None
    enabled: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted of a tenant: rows of all tables, and the roles that could read it, and no longer can."""

    rows: int
    readers: list[str]


class Warehouse:
    """The warehouse, reached through an engine; everything in it is done on behalf of one tenant at a time."""

    def __init__(self, engine: sa.Engine, limits: LockLimits = LIMITS) -> None:
        self.engine = engine
        self.limits = limits

    @contextmanager
    def tenant(
        self,
        tenant_id: str,
        *,
        name: str,
        timezone: str,
        run_id: str = "",
        on_wait: Callable[[LockWait], None] = log_wait,
    ) -> Iterator["TenantWarehouse"]:
        """A connection for writing one tenant's rows, held by one process at a time.

        Whoever started them, two runs of a tenant never write at once: the second waits here, and `on_wait` is
        called with the session that holds the lock. The lock ends with the connection, so a killed process leaves none
        behind; for the same reason `is_held` can tell whether the process of the run `run_id` is still there.

        Raises `LockHeldError` where a role without write rights keeps the lock, `SchemaTooNewError` once the tables are
        those of a newer version that this one cannot work with, and `WarehouseFailedError` when Postgres refuses
        something or goes away.
        """
        with failing_clearly(in_run=True), bound_to(self.engine, tenant_id) as connection:
            sa.event.listen(connection, "begin", compatibility.require_during_run)
            with connection.begin():
                connection.execute(_ROOM_FOR_STAGING)
            try:
                locks.acquire(connection, locks.run_lock(run_id, tenant_id), self.limits, on_wait)
                locks.acquire(connection, locks.tenant_lock(tenant_id), self.limits, on_wait)
                with connection.begin():
                    row = insert(tenants).values(tenant_id=tenant_id, name=name, timezone=timezone)
                    connection.execute(
                        row.on_conflict_do_update(
                            index_elements=["tenant_id"], set_={"name": name, "timezone": timezone}
                        )
                    )
                yield TenantWarehouse(connection, tenant_id)
            finally:
                # Also on an interrupt: closing the session drops its temporary tables and its lock at once.
                connection.invalidate()

    def is_held(self, run_id: str) -> bool:
        """Whether a process is in a step of that run: it holds, or waits to hold, its tenant."""
        with self.engine.connect() as connection:
            # Every role may be able to take a lock of this number; a role without write rights holds it for no run.
            return any(holder.may_write for holder in locks.holders(connection, locks.run_lock(run_id, "")))

    def row_counts(self, tenant_id: str) -> dict[str, int]:
        """How many rows each table holds of the tenant that `delete` deletes. Raises `TenantNotStoredError`."""
        with failing_clearly(), bound_to(self.engine, tenant_id) as connection, connection.begin():
            counts = access.row_counts(connection, tenant_id)
        if not counts[tenants.name]:
            raise TenantNotStoredError(tenant_id)
        return counts

    def delete(self, tenant_id: str) -> Deleted:
        """Delete all rows of the tenant, in one transaction, and what its readers were given.

        The readers lose their sessions first, so that none of them holds a lock in the meantime. Raises
        `TenantBusyError` while a run holds the tenant, `TenantNotStoredError`, `LockHeldError`, `LockTimeoutError` and
        `WarehouseFailedError`.
        """

        def refuse_if_busy(wait: LockWait) -> None:
            if wait.holder.may_write:
                raise TenantBusyError(tenant_id)
            log_wait(wait)

        lock = locks.tenant_lock_in_transaction(tenant_id)
        with failing_clearly(), bound_to(self.engine, tenant_id) as connection:
            with connection.begin():
                locks.acquire(connection, lock, self.limits, refuse_if_busy)
                made, others = access.readers_of(connection, tenant_id)
            with locks.locked_out(self.engine, made, self.limits), connection.begin():
                for role in others:
                    locks.end_sessions(connection, role, here=True)
                one_at_a_time(connection, self.limits)
                locks.acquire(connection, lock, self.limits, refuse_if_busy)
                with locks.limited_waits(connection, self.limits):
                    readers = access.forget_readers(connection, tenant_id)
                    rows = access.delete_rows(connection, tenant_id)
                if not rows[tenants.name]:
                    raise TenantNotStoredError(tenant_id)
        return Deleted(sum(rows.values()) + len(readers), readers)

    def log_after(
        self, line: int, tenant_ids: Collection[str], limit: int, older_than: timedelta
    ) -> list[tuple[str, DayResult]]:
        """The next lines of these tenants' sync log after `line`, in order, each with its tenant.

        Lines are numbered before they are committed, so only those `older_than` a moment are sure to have no smaller
        number still to come; it ends before the first that is not. A line of the future was written by a clock that
        has been moved back since, or by one that is ahead.
        """
        now = datetime.now(UTC)
        found = self._log(sync_log.c.id > line, tenant_ids, limit)
        return list(takewhile(lambda one: abs(now - one[1].finished) >= older_than, found))

    def committed_by(self, run_id: str, tenant_ids: Collection[str]) -> list[DayResult]:
        """What a run has committed of these tenants' days, in the order it did."""
        return [result for _, result in self._log(sync_log.c.run_id == run_id, tenant_ids, None)]

    def log_lines(self, lines: Collection[int], tenant_ids: Collection[str]) -> list[tuple[str, DayResult]]:
        """These lines of these tenants' sync log, in order, each with its tenant."""
        return self._log(sync_log.c.id.in_(list(lines)), tenant_ids, len(lines)) if lines else []

    def completeness(
        self, wanted: Collection[tuple[str, str, date, datetime | None]]
    ) -> dict[tuple[str, str], Completeness]:
        """For each tenant, source and day wanted: whether that day is complete; see `completeness.completeness`."""
        found: dict[tuple[str, str], Completeness] = {}
        for tenant_id in sorted({tenant_id for tenant_id, *_ in wanted}):
            with failing_clearly(), bound_to(self.engine, tenant_id) as connection:
                found |= completeness.completeness(connection, [one for one in wanted if one[0] == tenant_id])
        return found

    def account_timezones(self, tenant_id: str) -> dict[str, str | None]:
        """Return the timezone of each ad account that the tenant's next run fetches, as far as it is known."""
        with failing_clearly(), bound_to(self.engine, tenant_id) as connection:
            return completeness.current_timezones(connection, tenant_id)

    def enabled_shops(self, tenant_id: str) -> dict[str, str]:
        """The enabled shops that were listed last, each with the variable of its key."""
        c = pos_shops.c
        statement = sa.select(c.shop_id, c.api_key_variable).where(
            c.tenant_id == tenant_id, c.enabled, c.api_key_variable.is_not(None)
        )
        with failing_clearly(), bound_to(self.engine, tenant_id) as connection:
            return {
                str(shop_id): str(variable) for shop_id, variable in connection.execute(statement.order_by(c.shop_id))
            }

    def synced_since(self, tenant_id: str, source: str, days: Collection[date]) -> dict[date, datetime]:
        """Of these days, those of which all rows were read, and when the sync that read them last began to.

        The day need not have been over then. A line without `fetched_at` was fetched with its window, whose requests
        are counted on its first day; the lines of the others begin later, after waits for the other source perhaps.
        """
        c = sync_log.c
        runs = sa.select(c.run_id).where(c.tenant_id == tenant_id, c.source == source, c.day.in_(list(days)))
        fetched = sa.func.max(c.started).filter(c.requests > 0).over(partition_by=c.run_id, order_by=c.id)
        lines = (
            sa.select(c.day, c.complete, sa.func.coalesce(c.fetched_at, fetched, c.started).label("fetched"))
            .where(c.tenant_id == tenant_id, c.source == source, c.run_id.in_(runs))
            .subquery()
        )
        statement = (
            sa.select(lines.c.day, sa.func.max(lines.c.fetched))
            .where(lines.c.complete, lines.c.day.in_(list(days)))
            .group_by(lines.c.day)
        )
        with failing_clearly(), bound_to(self.engine, tenant_id) as connection:
            # A result has keys, so dict() would take it for a mapping of its own.
            return {row[0]: row[1] for row in connection.execute(statement)}

    def _log(
        self, which: sa.ColumnElement[bool], tenant_ids: Collection[str], limit: int | None
    ) -> list[tuple[str, DayResult]]:
        statement = sa.select(*RESULT_COLUMNS).where(which).order_by(sync_log.c.id).limit(limit)
        found: list[tuple[str, DayResult]] = []
        for tenant_id in tenant_ids:
            with failing_clearly(), bound_to(self.engine, tenant_id) as connection:
                lines = connection.execute(statement.where(sync_log.c.tenant_id == tenant_id))
                found += [(tenant_id, DayResult(*row)) for row in lines]
        return sorted(found, key=lambda one: one[1].line)[:limit]


class TenantWarehouse:
    """What may be read and written on behalf of one tenant, while its lock is held."""

    def __init__(self, connection: sa.Connection, tenant_id: str) -> None:
        self._connection = connection
        self.tenant_id = tenant_id

    def staging(
        self, target: DailyTable, columns: Sequence[str], *, lookup_key: Sequence[str] = (), lookup: Sequence[str] = ()
    ) -> Staging:
        """A staging table for `target`; see `Staging`."""
        return Staging(self._connection, self.tenant_id, target, columns, lookup_key=lookup_key, lookup=lookup)

    def save_ad_accounts(self, accounts: Collection[Mapping[str, Any]], run_id: str) -> Listing:
        """Note the ad accounts that Meta lists now; `enabled` stays as its owner set it."""
        return self._save_listing(meta_ad_accounts, "account_id", accounts, run_id)

    def save_shops(self, shops: Collection[Mapping[str, Any]], run_id: str) -> Listing:
        """Note the shops that Pancake lists now; `enabled` stays as its owner set it."""
        return self._save_listing(pos_shops, "shop_id", shops, run_id)

    def ad_accounts(self, run_id: str) -> list[str] | None:
        """The enabled accounts that this run's discovery listed; None where it has not looked yet."""
        c = meta_ad_accounts.c
        enabled = self._enabled(meta_ad_accounts, [c.account_id], run_id)
        return None if enabled is None else [account_id for (account_id,) in enabled]

    def shops(self, run_id: str) -> dict[str, str] | None:
        """The enabled shops that this run's discovery listed, with the variable of the key that sees each.

        None where this run has not looked yet.
        """
        c = pos_shops.c
        enabled = self._enabled(pos_shops, [c.shop_id, c.api_key_variable], run_id)
        return None if enabled is None else {str(shop_id): str(variable) for shop_id, variable in enabled}

    def known_shops(self) -> dict[str, KnownShop]:
        """The shops that were ever listed."""
        c = pos_shops.c
        statement = sa.select(c.shop_id, c.api_key_variable, c.enabled).where(c.tenant_id == self.tenant_id)
        with self._connection.begin():
            return {row[0]: KnownShop(row[1], row[2]) for row in self._connection.execute(statement)}

    def add_unlisted_shops(self, shop_ids: Collection[str]) -> None:
        """Note shops that no key has listed yet, so that they can be disabled; known ones stay as they are."""
        rows = [{"tenant_id": self.tenant_id, "shop_id": shop_id} for shop_id in shop_ids]
        if rows:
            with self._connection.begin():
                self._connection.execute(insert(pos_shops).on_conflict_do_nothing(), rows)

    def note_refusals(self, source: str, run_id: str, refused: Collection[tuple[str, str, dict[str, Any]]]) -> None:
        """Note accounts or shops that refuse: scope, sentence and facts of each."""
        refusals.note_refusals(self._connection, self.tenant_id, source, run_id, refused)

    def refusals_of_run(self, source: str, run_id: str) -> list[tuple[str, dict[str, Any]]]:
        """The accounts or shops that have refused in a run, each with the facts of its error."""
        return refusals.refusals_of_run(self._connection, self.tenant_id, source, run_id)

    def missing_of_days(self, days: Collection[date]) -> dict[date, list[tuple[str, str]]]:
        """Of each incomplete day the accounts and shops, as (source, id), that figures count but it lacks."""
        with self._connection.begin():
            return refusals.missing_of_days(self._connection, self.tenant_id, days)

    def replace_product_costs(self, costs: Iterable[Mapping[str, Any]]) -> int:
        """Make the table hold exactly these costs; returns how many."""
        rows = [{"tenant_id": self.tenant_id, **cost} for cost in costs]
        with self._connection.begin():
            self._connection.execute(sa.delete(product_costs).where(product_costs.c.tenant_id == self.tenant_id))
            if rows:
                self._connection.execute(sa.insert(product_costs), rows)
        return len(rows)

    def product_costs(self) -> list[tuple[Any, ...]]:
        """The lines stored last, as `replace_product_costs` took them."""
        c = product_costs.c
        columns = (c.shop_id, c.product_id, c.mapping, c.cogs, c.start_date, c.end_date, c.line)
        statement = sa.select(*columns).where(c.tenant_id == self.tenant_id).order_by(c.line)
        with self._connection.begin():
            return [tuple(row) for row in self._connection.execute(statement)]

    def save_products(self, products: Collection[Mapping[str, Any]]) -> None:
        """Note the products that shops list now; ones that are no longer listed stay, for orders still name them."""
        statement = insert(pos_products)
        key = {"tenant_id", "shop_id", "product_id", "variation_id"}
        values = {column.name: statement.excluded[column.name] for column in pos_products.c if column.name not in key}
        rows = [{"tenant_id": self.tenant_id, "listed_at": sa.func.now(), **product} for product in products]
        with self._connection.begin():
            for start in range(0, len(rows), PRODUCTS_PER_STATEMENT):
                chunk = statement.values(rows[start : start + PRODUCTS_PER_STATEMENT])
                self._connection.execute(chunk.on_conflict_do_update(index_elements=sorted(key), set_=values))

    def replace_rejected_products(
        self, source: str, rows: Sequence[RejectedRow], *, run_id: str, kept_shops: Collection[str] = ()
    ) -> None:
        """Make these the rejected products, those of `kept_shops` aside."""
        replace_products(self._connection, self.tenant_id, source, rows, run_id=run_id, kept_shops=kept_shops)

    def products(self) -> list[tuple[Any, ...]]:
        """The catalogue of all shops, the columns in the order of `ProductRow`."""
        c = pos_products.c
        columns = (
            c.shop_id,
            c.variation_id,
            c.product_id,
            c.custom_id,
            c.display_id,
            c.name,
            c.retail_price,
            c.variation_custom_id,
        )
        statement = sa.select(*columns).where(c.tenant_id == self.tenant_id).order_by(*columns[:3])
        with self._connection.begin():
            return [tuple(row) for row in self._connection.execute(statement)]

    def order_days(self) -> list[date]:
        """The days that have orders, oldest first."""
        return order_costs.order_days(self._connection, self.tenant_id)

    def stored_orders(self, day: date, *, uncosted_only: bool = False) -> list[StoredOrder]:
        """The orders of a day with the items their cost comes from."""
        return order_costs.stored_orders(self._connection, self.tenant_id, day, uncosted_only=uncosted_only)

    def uncosted_days(self, since: date, until: date) -> Collection[date]:
        """The days of orders with a quantity without cost."""
        return order_costs.uncosted_days(self._connection, self.tenant_id, since, until)

    def store_costs(self, costs: Sequence[NewCost]) -> None:
        """Write orders' costs in one transaction."""
        order_costs.store_costs(self._connection, self.tenant_id, costs)

    def recomputation(self) -> Recomputation:
        """Access to rows that were derived by other rules or settings than now."""
        return Recomputation(self._connection, self.tenant_id)

    def outdated_performance_days(self, rates: RateSchedule) -> list[date]:
        """The days of `ad_performance` that were computed by other rules or rates, or whose orders or ads changed."""
        return outdated_performance_days(self._connection, self.tenant_id, rates)

    def pending_exclusions(self) -> exclusions.Pending:
        """Days whose figures are outdated because accounts or shops were disabled or enabled."""
        return exclusions.pending(self._connection, self.tenant_id)

    def finish_exclusions(self, done: exclusions.Pending) -> None:
        """Note that the figures of these days are computed."""
        exclusions.finish(self._connection, self.tenant_id, done)

    def save_delivery_rates(self, as_of: date, rates: RateSchedule) -> int:
        """Store the delivery rate of each shop's last settled days; returns how many shops."""
        return performance.save_delivery_rates(self._connection, self.tenant_id, as_of, rates)

    def recompute_performance(self, since: date, until: date, rates: RateSchedule) -> int:
        """Replace these days of `ad_performance` by what insights and orders give; returns the rows."""
        return performance.recompute(self._connection, self.tenant_id, since, until, rates)

    def performance_of(self, days: Collection[date]) -> dict[date, performance.DayFigures]:
        """The sums of each of these days that has any performance."""
        return performance.figures(self._connection, self.tenant_id, days)

    def best_ads(self, days: Collection[date], most: int) -> dict[date, list[performance.Earner]]:
        """Each day's ads with the highest revenue."""
        return performance.best_ads(self._connection, self.tenant_id, days, most)

    def best_associates(self, days: Collection[date], most: int) -> dict[date, list[performance.Earner]]:
        """Each day's marketing associates with the highest revenue."""
        return performance.best_associates(self._connection, self.tenant_id, days, most)

    def completeness(self, source: str, day: date, since: datetime | None) -> Completeness:
        """Whether a day of a source is complete, or here in part since `since`, and which day is the last complete."""
        wanted = [(self.tenant_id, source, day, since)]
        return completeness.completeness(self._connection, wanted)[self.tenant_id, source]

    def account_timezones(self, account_ids: Collection[str]) -> list[str | None]:
        """Return the timezone of each of these ad accounts, None where it is not known."""
        return completeness.timezones_of(self._connection, self.tenant_id, account_ids)

    def current_account_timezones(self) -> dict[str, str | None]:
        """Return the timezone of each ad account that the tenant's next run fetches, as far as it is known."""
        return completeness.current_timezones(self._connection, self.tenant_id)

    def credential_expiries(self) -> list[CredentialExpiry]:
        """Return what the daily check stored about the tenant's API version and credentials."""
        return expiries_of(self._connection, self.tenant_id)

    def add_counts(self, source: str, counts: Counts) -> None:
        """Add to the totals of a source that metrics are read from."""
        with self._connection.begin():
            add_counts(self._connection, self.tenant_id, source, counts)

    def checks(self, rates: RateSchedule) -> checks.DayChecks:
        """What the stored days are checked against."""
        return checks.DayChecks(self._connection, self.tenant_id, rates)

    def committed_days(self, run_ids: Collection[str]) -> list[DayResult]:
        """The days that these runs committed, each as it was committed last, oldest first."""
        statement = (
            sa.select(*RESULT_COLUMNS)
            .ext(distinct_on(sync_log.c.day, sync_log.c.source))
            .where(sync_log.c.tenant_id == self.tenant_id, sync_log.c.run_id.in_(list(run_ids)))
            .order_by(sync_log.c.day, sync_log.c.source, sync_log.c.id.desc())
        )
        with self._connection.begin():
            return [DayResult(*row) for row in self._connection.execute(statement)]

    def _save_listing(self, table: sa.Table, key: str, entries: Collection[Mapping[str, Any]], run_id: str) -> Listing:
        ids = [entry[key] for entry in entries]
        mine = table.c.tenant_id == self.tenant_id
        with self._connection.begin():
            known = set(self._connection.execute(sa.select(table.c[key]).where(mine)).scalars())
            for entry in entries:
                values = {**entry, "listed_at": sa.func.now(), "listed_run_id": run_id}
                statement = insert(table).values(tenant_id=self.tenant_id, **values)
                self._connection.execute(
                    statement.on_conflict_do_update(index_elements=["tenant_id", key], set_=values)
                )
        return Listing(
            listed=len(ids),
            new=tuple(sorted(set(ids) - known)),
            missing=tuple(sorted(known - set(ids))),
        )

    def _enabled(self, table: sa.Table, columns: Sequence[sa.Column[Any]], run_id: str) -> list[tuple[Any, ...]] | None:
        statement = (
            sa.select(table.c.enabled, *columns)
            .where(table.c.tenant_id == self.tenant_id, table.c.listed_run_id == run_id)
            .order_by(columns[0])
        )
        with self._connection.begin():
            listed = self._connection.execute(statement).all()
        return [tuple(values) for enabled, *values in listed if enabled] if listed else None
