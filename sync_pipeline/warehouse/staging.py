"""Whole days into a table: rows gather in a temporary table page by page, then one transaction makes them the day.

Nothing is visible to anybody before `commit_day`, and after it the table holds exactly what the API returned.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert

from sync_pipeline.warehouse.bulk import Value, copy_rows
from sync_pipeline.warehouse.schema import DailyTable, sync_log


@dataclass(frozen=True, slots=True)
class DayEntry:
    """What the sync log says of a committed day besides its row counts.

    `proven_until` is the last instant of the day that the fetch covered, where the day has rows by the instant;
    `reported` what the API says of the day itself, for the checks.
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


@dataclass(frozen=True, slots=True)
class DayResult:
    """A line of the sync log: one day of one source, as a run committed it. `amount` is spend or order total.

    The requests and the time of a window are counted on the first of its days.
    """

    line: int
    source: str
    day: date
    run_id: str
    rows: int
    changed: int
    removed: int
    excluded: int
    amount: Decimal
    requests: int
    complete: bool
    started: datetime
    finished: datetime

    @property
    def seconds(self) -> float:
        """How long the day took, waits included."""
        return (self.finished - self.started).total_seconds()


RESULT_COLUMNS = tuple(sync_log.c["id" if name == "line" else name] for name in DayResult.__dataclass_fields__)


class Staging:
    """A temporary table for the rows of one daily table, on a connection of its own tenant.

    Rows may come twice (pages drift, a window is asked for again): the last one to arrive is the one that counts.
    `lookup` names columns that are not in the rows but known later, per key, such as an ad's status: they are staged
    by `add_lookup` and joined when the day is committed.
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
        self._staged = _temporary(target.table, f"stage_{target.table.name}", self._columns)
        self._looked_up = _temporary(
            target.table, f"stage_{target.table.name}_lookup", self._lookup_key + self._lookup_values
        )

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
        return self._copy(self._staged, self._columns, rows)

    def add_lookup(self, rows: Iterable[Sequence[Value]]) -> None:
        """Stage values of the lookup columns: the key's columns first, then the values."""
        self._copy(self._looked_up, self._lookup_key + self._lookup_values, rows)

    def keys_without_lookup(self, scope: str) -> list[str]:
        """The last lookup key's values of one account that are staged but not looked up yet, in order."""
        staged, known = self._staged.c, self._looked_up.c
        wanted = self._lookup_key[-1]
        statement = (
            sa.select(staged[wanted])
            .distinct()
            .where(staged[self._target.scope] == scope)
            .where(~sa.exists().where(*(staged[name] == known[name] for name in self._lookup_key)))
            .order_by(staged[wanted])
        )
        with self._connection.begin():
            return list(self._connection.execute(statement).scalars())

    def clear(self) -> None:
        """Forget the staged rows; what was looked up stays known."""
        with self._connection.begin():
            self._connection.execute(sa.text(f"TRUNCATE {self._staged.name}"))

    def commit_day(self, entry: DayEntry, complete_scopes: Collection[str]) -> DayResult:
        """Make the staged rows of `entry.day` the day, in one transaction together with its row in the sync log.

        Rows of that day that were not staged are removed, but only those of `complete_scopes`: the accounts or shops
        whose every row is known to have been read.
        """
        with self._connection.begin():
            self._connection.execute(sa.text(f"ANALYZE {self._staged.name}"))
            changed = self._connection.execute(self._upsert(entry.day)).rowcount
            removed = self._connection.execute(self._removal(entry, complete_scopes)).rowcount
            rows, amount = self._connection.execute(self._figures(entry.day)).one()
            logged = sa.insert(sync_log).values(
                tenant_id=self._tenant_id,
                source=entry.source,
                day=entry.day,
                run_id=entry.run_id,
                rows=rows,
                changed=changed,
                removed=removed,
                excluded=entry.excluded,
                amount=amount,
                requests=entry.requests,
                complete=entry.complete,
                reported=dict(entry.reported),
                started=entry.started,
                finished=datetime.now(UTC),
            )
            return DayResult(*self._connection.execute(logged.returning(*RESULT_COLUMNS)).one())

    def _copy(self, table: sa.Table, columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> int:
        with self._connection.begin():
            cursor: Any = self._connection.connection.cursor()
            with cursor:
                return copy_rows(cursor, table.name, columns, rows)

    def _latest(self, day: date) -> sa.Subquery:
        staged = self._staged.c
        return (
            sa.select(*(staged[name] for name in self._columns))
            .ext(distinct_on(*(staged[name] for name in self._key)))
            .where(staged[self._target.day] == day)
            .order_by(*(staged[name] for name in self._key), staged.arrival.desc())
            .subquery("latest")
        )

    def _upsert(self, day: date) -> sa.Insert:
        table, latest, known = self._target.table, self._latest(day), self._looked_up
        source: sa.FromClause = latest
        if self._lookup_values:
            on = sa.and_(*(latest.c[name] == known.c[name] for name in self._lookup_key))
            source = latest.outerjoin(known, on)
        names = self._columns + self._lookup_values
        statement = insert(table).from_select(
            ["tenant_id", *names],
            sa.select(
                sa.literal(self._tenant_id),
                *(latest.c[name] for name in self._columns),
                *(known.c[name] for name in self._lookup_values),
            ).select_from(source),
        )
        changing = [name for name in names if name not in self._key]
        new = statement.excluded
        return statement.on_conflict_do_update(
            index_elements=table.primary_key.columns,
            set_={name: new[name] for name in changing},
            # An unchanged row is not rewritten: a re-sync of a settled day costs no dead tuples.
            where=sa.tuple_(*(table.c[name] for name in changing)).is_distinct_from(
                sa.tuple_(*(new[name] for name in changing))
            ),
        )

    def _removal(self, entry: DayEntry, scopes: Collection[str]) -> sa.Delete:
        table, staged = self._target.table, self._staged.c
        removal = sa.delete(table).where(
            table.c.tenant_id == self._tenant_id,
            table.c[self._target.day] == entry.day,
            table.c[self._target.scope].in_(list(scopes)),
            ~sa.exists().where(*(staged[name] == table.c[name] for name in self._key)),
        )
        if self._target.instant is None or entry.proven_until is None:
            return removal
        return removal.where(table.c[self._target.instant] <= entry.proven_until)

    def _figures(self, day: date) -> sa.Select[Any]:
        latest = self._latest(day)
        return sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(latest.c[self._target.amount]), 0)).select_from(
            latest
        )


def _temporary(table: sa.Table, name: str, columns: Sequence[str]) -> sa.Table:
    return sa.Table(
        name,
        sa.MetaData(),
        *(sa.Column(column, table.c[column].type) for column in columns),
        sa.Column("arrival", sa.BigInteger, sa.Identity(always=True)),
        prefixes=["TEMPORARY"],
    )
