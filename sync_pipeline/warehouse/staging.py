"""Whole days into a table: rows gather in a temporary table page by page, then one transaction makes them the day.

Nothing is visible to anybody before `commit_day`, and after it the table holds exactly what the API returned.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert, distinct_on, insert

from sync_pipeline.warehouse.bulk import CopyBuffer, Value
from sync_pipeline.warehouse.counters import DAYS, NO_CLASS, ROWS, Counts, add_counts
from sync_pipeline.warehouse.rejected import RejectedRow, is_rejected, replace_of_day
from sync_pipeline.warehouse.schema import DailyTable, ad_performance, sync_log


@dataclass(frozen=True, slots=True)
class DayEntry:
    """What the sync log says of a committed day besides its row counts.

    `proven_until` is the last instant of the day that the fetch covered, where the day has rows by the instant;
    `reported` what the API says of the day itself, for the checks. `rejected` are the day's unreadable rows, and
    `scopes` the accounts or shops that were fetched, whose rejected rows they replace. Those that refused are in
    `missing`. `complete` says whether all rows were read, `fetched_at` when their requests began, and `over_at` when
    the day is over in all of its timezones.
    """

    source: str
    day: date
    run_id: str
    excluded: int
    requests: int
    complete: bool
    started: datetime
    proven_until: datetime | None = None
    reported: Mapping[str, Any] = field(default_factory=dict)
    rejected: Sequence[RejectedRow] = ()
    scopes: Collection[str] = ()
    missing: Sequence[str] = ()
    fetched_at: datetime | None = None
    over_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OversizedSum:
    """A figure of one row whose parts add up to more than its column holds."""

    scope: str
    row_id: str
    figure: str
    value: Decimal


@dataclass(frozen=True, slots=True)
class DayResult:
    """A line of the sync log: one day of one source, as a run committed it. `amount` is spend or order total.

    The requests and the time of a window are counted on the first of its days. `missing` are the accounts and shops
    that refused, whose rows are those of an earlier sync. `complete` says only whether all rows were read;
    `is_complete` also whether the day was over when it was fetched. The last two are None where a version before 0.2
    wrote the line.
    """

    line: int
    source: str
    day: date
    run_id: str
    rows: int
    changed: int
    removed: int
    excluded: int
    rejected: int
    amount: Decimal
    requests: int
    complete: bool
    started: datetime
    finished: datetime
    missing: Sequence[str] = ()
    fetched_at: datetime | None = None
    over_at: datetime | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all rows were read, and this after the day was over in all of its timezones."""
        return self.complete and self.was_over

    @property
    def was_over(self) -> bool:
        """Whether the day was fetched after it was over in all of its timezones."""
        return self.over_at is not None and (self.fetched_at or self.started) >= self.over_at

    @property
    def incomplete_because(self) -> str | None:
        """Why the day is not complete, None where it is."""
        if self.missing:
            return f"it lacks {', '.join(self.missing)}"
        if not self.complete:
            return "not all of it could be read"
        if self.was_over:
            return None
        over_at = f", at {self.over_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if self.over_at else ""
        return f"it was fetched before the day was over{over_at}"

    @property
    def seconds(self) -> float:
        """How long the day took, waits included; never less than nothing, whatever the clock did meanwhile."""
        return max(0.0, (self.finished - self.started).total_seconds())


def _counts_of(result: DayResult) -> Counts:
    kinds = {
        "fetched": result.rows,
        "changed": result.changed,
        "removed": result.removed,
        "excluded": result.excluded,
        "rejected": result.rejected,
    }
    return {**{(ROWS, kind): count for kind, count in kinds.items()}, (DAYS, NO_CLASS): 1}


KEYS_AT_ONCE = 10_000
RESULT_COLUMNS = tuple(sync_log.c["id" if name == "line" else name] for name in DayResult.__dataclass_fields__)


# A day is compared with what is stored of it as a whole. A table that has just been filled has no statistics yet, and a
# planner without them takes a day for a row or two and compares each with each. Settings hold for the transaction.
_AS_A_WHOLE = sa.text("SELECT set_config('enable_nestloop', 'off', true), set_config('work_mem', '64MB', true)")


class Staging:
    """A temporary table for the rows of one daily table, on a connection of its own tenant.

    Rows may come twice (pages drift, a window is requested again): the last one to arrive counts. Where the target
    allows several rows of a key (`DailyTable.part`), that holds for each part; the figures of the parts are added up,
    and the other columns come from the part with the highest amount.

    `lookup` names columns that are not in the rows but become known later, per key, such as an ad's status: they are
    staged by `add_lookup` and joined when the day is committed. A key without staged lookup values keeps stored ones.
    """

    def __init__(
        self,
        connection: sa.Connection,
        tenant_id: str,
        target: DailyTable,
        columns: Sequence[str],
        *,
        lookup_key: Sequence[str] = (),
        lookup: Sequence[str] = (),
    ) -> None:
        self._connection = connection
        self._tenant_id = tenant_id
        self._target = target
        self._columns = tuple(columns)
        self._lookup_key = tuple(lookup_key)
        self._lookup_values = tuple(lookup)
        self._key = tuple(c.name for c in target.table.primary_key.columns if c.name != "tenant_id")
        self._part = tuple(name for name in target.part if name in self._columns)
        self._figures_of_parts = tuple(name for name in target.figures if name in self._columns)
        self._indexed = False
        self._staged = _temporary(target.table, f"stage_{target.table.name}", self._columns)
        self._looked_up = _temporary(
            target.table, f"stage_{target.table.name}_lookup", self._lookup_key + self._lookup_values
        )
        self._arriving = CopyBuffer(self._staged.name, self._columns)
        self._arriving_lookup = CopyBuffer(self._looked_up.name, self._lookup_key + self._lookup_values)
        self._days = f"{self._staged.name}_days"

    @property
    def kind(self) -> str:
        """What `rejected_rows` calls a row of the daily table."""
        return self._target.kind

    def __enter__(self) -> Self:
        with self._connection.begin():
            self._staged.create(self._connection)
            if self._lookup_values:
                self._looked_up.create(self._connection)
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection.closed or self._connection.invalidated:
            return
        with self._connection.begin():
            self._staged.drop(self._connection)
            if self._lookup_values:
                self._looked_up.drop(self._connection)

    def add(self, rows: Iterable[Sequence[Value]]) -> int:
        """Stage a page of rows and return how many it held."""
        count = self._arriving.add(rows)
        if self._arriving.is_full:
            with self._connection.begin():
                self._send(self._arriving)
        return count

    def add_lookup(self, rows: Iterable[Sequence[Value]]) -> None:
        """Stage values of the lookup columns: the key's columns first, then the values."""
        self._arriving_lookup.add(rows)
        if self._arriving_lookup.is_full:
            with self._connection.begin():
                self._send(self._arriving_lookup)

    def keys_without_lookup(self, scope: str, *, at_most: int | None = None) -> list[str]:
        """The last lookup key's values of one account that are staged but not looked up yet, in order."""
        staged, known = self._staged.c, self._looked_up.c
        wanted = self._lookup_key[-1]
        statement = (
            sa.select(staged[wanted])
            .distinct()
            .where(staged[self._target.scope] == scope)
            .where(~sa.exists().where(*(staged[name] == known[name] for name in self._lookup_key)))
            .order_by(staged[wanted])
            .limit(at_most)
        )
        with self._connection.begin():
            self._send(self._arriving)
            self._send(self._arriving_lookup)
            # An account may have a million ads: not all of the answer is held beside the list that is made of it.
            found = self._connection.execute(statement, execution_options={"yield_per": KEYS_AT_ONCE})
            return list(found.scalars())

    def clear(self) -> None:
        """Forget the staged rows; what was looked up stays known."""
        self._arriving.clear()
        self._indexed = False
        with self._connection.begin():
            self._connection.execute(sa.text(f"DROP INDEX IF EXISTS {self._days}; TRUNCATE {self._staged.name}"))

    def forget(self, scope: str, days: Collection[date] | None = None) -> None:
        """Forget the staged rows of one account or shop; with `days`, only those of these days."""
        forgotten = sa.delete(self._staged).where(self._staged.c[self._target.scope] == scope)
        if days is not None:
            forgotten = forgotten.where(self._staged.c[self._target.day].in_(list(days)))
        with self._connection.begin():
            self._send(self._arriving)
            self._connection.execute(forgotten)

    def rows_of(self, day: date) -> int:
        """Return how many rows of a day are staged, each counted once, however often it came."""
        names = (*self._key, *self._part)
        rows = sa.select(*(self._staged.c[name] for name in names)).where(self._staged.c[self._target.day] == day)
        with self._connection.begin():
            self._send(self._arriving)
            return int(
                self._connection.execute(
                    sa.select(sa.func.count()).select_from(rows.distinct().subquery())
                ).scalar_one()
            )

    def oversized_sums(self, day: date) -> list[OversizedSum]:
        """Return the figures of a day that are too large to be stored once the parts of a row are added up."""
        with self._connection.begin():
            self._prepare()
            if not self._may_be_oversized(day):
                return []
            last = self._last_versions(self._staged, self._staged.c[self._target.day] == day).c
            row = [last[self._target.scope], last[self._target.row_id]]
            sums = {name: sa.func.sum(last[name]) for name in self._figures_of_parts}
            too_large = sa.or_(*(sa.func.abs(total) > _largest(last[name].type) for name, total in sums.items()))
            statement = sa.select(*row, *sums.values()).group_by(*row).having(too_large).order_by(*row)
            return [
                OversizedSum(scope, row_id, name, total)
                for scope, row_id, *totals in self._connection.execute(statement)
                for name, total in zip(sums, totals, strict=True)
                if abs(total) > _largest(last[name].type)
            ]

    def _may_be_oversized(self, day: date) -> bool:
        """Whether a sum of the day could be too large: a look at the largest figures costs little."""
        if not self._part:
            return False
        staged = self._staged.c
        rows = sa.cast(sa.func.count(), sa.Numeric)
        bounds = [
            rows * sa.func.max(sa.func.abs(sa.cast(staged[name], sa.Numeric))) > _largest(staged[name].type)
            for name in self._figures_of_parts
        ]
        statement = sa.select(sa.func.coalesce(sa.or_(*bounds), sa.false())).where(staged[self._target.day] == day)
        return bool(self._connection.execute(statement).scalar_one())

    def commit_day(self, entry: DayEntry, complete_scopes: Collection[str]) -> DayResult:
        """Make the staged rows of `entry.day` the day, in one transaction together with its row in the sync log.

        Rows of that day that were not staged are removed, but only those of `complete_scopes`: the accounts or shops
        whose every row is known to have been read. A row whose newer version is rejected is neither stored nor removed.
        """
        with self._connection.begin():
            self._prepare()
            replace_of_day(
                self._connection,
                self._tenant_id,
                self._target,
                entry.source,
                entry.day,
                entry.rejected,
                run_id=entry.run_id,
                scopes=entry.scopes,
            )
            statement = self._new_day(entry) if self._is_new(entry.day) else self._day(entry, complete_scopes)
            figures = self._connection.execute(statement).one()._asdict()
            if figures["changed"] or figures["removed"]:
                self._mark_performance(entry.day)
            logged = sa.insert(sync_log).values(
                tenant_id=self._tenant_id,
                source=entry.source,
                day=entry.day,
                run_id=entry.run_id,
                excluded=entry.excluded,
                rejected=len(entry.rejected),
                requests=entry.requests,
                complete=entry.complete,
                missing=list(entry.missing),
                reported=dict(entry.reported),
                started=entry.started,
                finished=datetime.now(UTC),
                fetched_at=entry.fetched_at,
                over_at=entry.over_at,
                **figures,
            )
            result = DayResult(*self._connection.execute(logged.returning(*RESULT_COLUMNS)).one())
            add_counts(self._connection, self._tenant_id, entry.source, _counts_of(result))
            return result

    def _mark_performance(self, day: date) -> None:
        """Have the figures of a changed day recomputed by the next run, also if this one fails on a later day."""
        c = ad_performance.c
        self._connection.execute(
            sa.update(ad_performance).where(c.tenant_id == self._tenant_id, c.date == day).values(rules=None)
        )

    def _prepare(self) -> None:
        self._send(self._arriving)
        self._send(self._arriving_lookup)
        self._connection.execute(_AS_A_WHOLE)
        if not self._indexed:
            # A window's days are committed one by one, and not each shall read all of it.
            index = f"CREATE INDEX {self._days} ON {self._staged.name} ({self._target.day})"
            self._connection.execute(sa.text(index))
            self._indexed = True

    def _send(self, arriving: CopyBuffer) -> None:
        cursor: Any = self._connection.connection.cursor()
        with cursor:
            arriving.send(cursor)

    def _is_new(self, day: date) -> bool:
        """Whether none of the day's rows can be in the table yet; no other run of the tenant is writing."""
        table = self._target.table
        if self._target.day not in self._key:
            return False
        of_day = sa.exists().where(table.c.tenant_id == self._tenant_id, table.c[self._target.day] == day)
        return not self._connection.execute(sa.select(of_day)).scalar_one()

    def _new_day(self, entry: DayEntry) -> sa.Select[Any]:
        """Store as `_day` does, where there is nothing to compare with: a quarter faster."""
        latest = self._latest(entry)
        values = [latest.c[name] for name in self._columns + self._lookup_values]
        return self._figures(latest, self._insert(latest, values), removal=None)

    def _day(self, entry: DayEntry, complete_scopes: Collection[str]) -> sa.Select[Any]:
        """Store and remove, in one statement, and count: rows, changed, removed, amount."""
        latest = self._latest(entry)
        return self._figures(latest, self._upsert(latest, entry.day), self._removal(latest, entry, complete_scopes))

    def _figures(self, latest: sa.CTE, storing: Insert, removal: sa.Delete | None) -> sa.Select[Any]:
        def count(change: Insert | sa.Delete, name: str) -> Any:
            changed = change.returning(sa.literal(1).label("one")).cte(name)
            return sa.select(sa.func.count()).select_from(changed).scalar_subquery()

        return sa.select(
            sa.func.count().label("rows"),
            count(storing, "stored").label("changed"),
            (sa.literal(0) if removal is None else count(removal, "removed")).label("removed"),
            sa.func.coalesce(sa.func.sum(latest.c[self._target.amount]), 0).label("amount"),
        ).select_from(latest)

    def _latest(self, entry: DayEntry) -> sa.CTE:
        """Select one row per key, with its lookup values and whether there are any (`looked_up`)."""
        rows = self._added_up(entry) if self._has_repeats(entry.day) else self._wanted(entry)
        known = self._looked_up
        columns = [rows.c[name] for name in self._columns]
        # Where the key is unique but for repeats, the arrival tells which row is the last.
        order = [rows.c.arrival.desc()] if "arrival" in rows.c else []
        source: sa.FromClause = rows
        if self._lookup_values:
            source = rows.outerjoin(known, sa.and_(*(rows.c[name] == known.c[name] for name in self._lookup_key)))
            columns += [
                *(known.c[name] for name in self._lookup_values),
                known.c.arrival.is_not(None).label("looked_up"),
            ]
            order.append(known.c.arrival.desc())
        key = [rows.c[name] for name in self._key]
        return (
            sa.select(*columns)
            .ext(distinct_on(*key))
            .select_from(source)
            .order_by(*key, *order)
            .cte("latest")
            .prefix_with("MATERIALIZED", dialect="postgresql")
        )

    def _has_repeats(self, day: date) -> bool:
        """Whether any key may have several parts; adding them up costs more than a look at the keys."""
        if not self._part:
            return False
        staged = self._staged.c
        repeated = (
            sa.select(sa.literal(1))
            .where(staged[self._target.day] == day)
            .group_by(*(staged[name] for name in self._key))
            .having(sa.func.count() > 1)
        )
        return bool(self._connection.execute(sa.select(repeated.exists())).scalar_one())

    def _wanted(self, entry: DayEntry) -> sa.Subquery:
        """Select the staged rows of the day, without those whose newer version is rejected."""
        conditions = [self._staged.c[self._target.day] == entry.day]
        if entry.rejected:
            conditions.append(~is_rejected(self._target, self._staged, self._tenant_id, entry.source, entry.day))
        return sa.select(self._staged).where(*conditions).subquery("wanted")

    def _added_up(self, entry: DayEntry) -> sa.Subquery:
        """Select one row per key: the figures of its parts added up, the rest from the part with the highest amount."""
        last = self._last_versions(self._wanted(entry)).c
        key = [last[name] for name in self._key]
        figures = self._figures_of_parts
        sums = [
            sa.cast(sa.func.sum(last[name]).over(partition_by=key), last[name].type).label(name) for name in figures
        ]
        # No two parts have the same ids, so that the order of equal amounts never depends on the order of arrival.
        ranking = [last[self._target.amount].desc(), *(last[name] for name in self._part)]
        rank = sa.func.row_number().over(partition_by=key, order_by=ranking).label("rank")
        others = [last[name] for name in self._columns if name not in figures]
        ranked = sa.select(*others, *sums, rank).subquery("ranked")
        return sa.select(ranked).where(ranked.c.rank == 1).subquery("added_up")

    def _last_versions(self, rows: sa.FromClause, *conditions: sa.ColumnElement[bool]) -> sa.Subquery:
        """Select of each part the row that arrived last."""
        part = [rows.c[name] for name in (*self._key, *self._part)]
        return (
            sa.select(*(rows.c[name] for name in self._columns))
            .ext(distinct_on(*part))
            .where(*conditions)
            .order_by(*part, rows.c.arrival.desc())
            .subquery("last_versions")
        )

    def _insert(
        self, source: sa.FromClause, values: Sequence[sa.ColumnElement[Any]], *conditions: sa.ColumnElement[bool]
    ) -> Insert:
        rows = sa.select(sa.literal(self._tenant_id), *values).select_from(source).where(*conditions)
        return insert(self._target.table).from_select(["tenant_id", *self._columns, *self._lookup_values], rows)

    def _upsert(self, latest: sa.CTE, day: date) -> Insert:
        table = self._target.table
        stored = table.alias("before")
        values: dict[str, sa.ColumnElement[Any]] = {name: latest.c[name] for name in self._columns}
        values |= {
            name: sa.case((latest.c.looked_up, latest.c[name]), else_=stored.c[name]) for name in self._lookup_values
        }
        changing = [name for name in values if name not in self._key]
        same_row = sa.and_(
            stored.c.tenant_id == self._tenant_id,
            stored.c[self._target.day] == day,
            *(stored.c[name] == latest.c[name] for name in self._key),
        )
        # An unchanged row is neither rewritten nor locked: a re-sync of a settled day leaves no trace in the table.
        is_other = sa.tuple_(*(stored.c[name] for name in changing)).is_distinct_from(
            sa.tuple_(*(values[name] for name in changing))
        )
        source = latest.outerjoin(stored, same_row)
        statement = self._insert(source, list(values.values()), sa.or_(stored.c.tenant_id.is_(None), is_other))
        return statement.on_conflict_do_update(
            index_elements=table.primary_key.columns, set_={name: statement.excluded[name] for name in changing}
        )

    def _removal(self, latest: sa.CTE, entry: DayEntry, scopes: Collection[str]) -> sa.Delete:
        table = self._target.table
        removal = sa.delete(table).where(
            table.c.tenant_id == self._tenant_id,
            table.c[self._target.day] == entry.day,
            table.c[self._target.scope].in_(list(scopes)),
            ~sa.exists().where(*(latest.c[name] == table.c[name] for name in self._key)),
            ~is_rejected(self._target, table, self._tenant_id, entry.source),
        )
        if self._target.instant is None or entry.proven_until is None:
            return removal
        return removal.where(table.c[self._target.instant] <= entry.proven_until)


def _largest(kind: sa.types.TypeEngine[Any]) -> Decimal:
    """Return the largest number that a column of this type holds: numeric(p,s) or bigint."""
    if isinstance(kind, sa.Numeric) and kind.precision is not None:
        return Decimal(10**kind.precision - 1).scaleb(-(kind.scale or 0))
    return Decimal(2**63 - 1)


def _temporary(table: sa.Table, name: str, columns: Sequence[str]) -> sa.Table:
    return sa.Table(
        name,
        sa.MetaData(),
        *(sa.Column(column, table.c[column].type) for column in columns),
        sa.Column("arrival", sa.BigInteger, sa.Identity(always=True)),
        prefixes=["TEMPORARY"],
    )
