"""The unreadable rows of a fetch: which there are of each day, and when they are too many."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from sync_pipeline.rows.errors import RowError
from sync_pipeline.warehouse.rejected import RejectedRow

MOST_ROWS: Final = 20
MOST_PERCENT: Final = 10


def too_many(rejected: int, rows: int) -> bool:
    """Whether this many rejected rows of all `rows` mean that the format has changed: more than 20 and than 10 %."""
    return rejected > MOST_ROWS and 100 * rejected > MOST_PERCENT * rows


def rejected_row(error: RowError, *, account_id: str | None = None, shop_id: str | None = None) -> RejectedRow:
    """Describe the row that an error is about, without its content."""
    return RejectedRow(
        kind=error.kind,
        field=error.field,
        reason=error.reason,
        row_id=error.key,
        account_id=account_id,
        shop_id=shop_id,
    )


@dataclass(frozen=True, slots=True)
class _Key:
    scope: str
    kind: str
    row_id: str
    part: Hashable


@dataclass(slots=True)
class _Day:
    identified: dict[_Key, RejectedRow] = field(default_factory=dict)
    # By account or shop; each of these may be any row.
    unidentified: defaultdict[str, list[RejectedRow]] = field(default_factory=lambda: defaultdict(list))


class Rejections:
    """The rejected rows of a window. Of a row that comes several times, the last version counts.

    `part` distinguishes rows of the same id: a readable row does not replace an unreadable one of another part.
    """

    def __init__(self) -> None:
        self._days: defaultdict[date, _Day] = defaultdict(_Day)

    def add(self, day: date, scope: str, row: RejectedRow, part: Hashable = None) -> None:
        """Note a rejected row of an account or shop."""
        if row.row_id is None:
            self._days[day].unidentified[scope].append(row)
        else:
            self._days[day].identified[_Key(scope, row.kind, row.row_id, part)] = row

    def accept(self, day: date, scope: str, kind: str, row_id: str, part: Hashable = None) -> None:
        """Forget an earlier rejection of a row that could be read now."""
        if self._days and (of_day := self._days.get(day)):
            of_day.identified.pop(_Key(scope, kind, row_id, part), None)

    def begin_pass(self, scope: str) -> None:
        """Forget the rows without an id of an account or shop that is read again: nothing tells whether they recur."""
        for of_day in self._days.values():
            of_day.unidentified.pop(scope, None)

    def forget(self, scope: str, days: Collection[date] | None = None) -> None:
        """Forget the rows of an account or shop; with `days`, only those of these days."""
        for day, of_day in self._days.items():
            if days is not None and day not in days:
                continue
            of_day.unidentified.pop(scope, None)
            of_day.identified = {key: row for key, row in of_day.identified.items() if key.scope != scope}

    def clear(self) -> None:
        """Forget all of them."""
        self._days.clear()

    def of_day(self, day: date) -> Sequence[RejectedRow]:
        """Return the rejected rows of a day."""
        if day not in self._days:
            return ()
        found = self._days[day]
        return [*found.identified.values(), *(row for rows in found.unidentified.values() for row in rows)]

    def has_unidentified(self, day: date, scope: str, kind: str) -> bool:
        """Whether a rejected row of this kind has no id, so that any stored row may be an older version of it."""
        return day in self._days and any(row.kind == kind for row in self._days[day].unidentified.get(scope, ()))
