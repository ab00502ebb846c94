"""Bounds on series of pages: an API that always names one more page must not keep a run going."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

from sync_pipeline.sources.errors import LimitExceededError, Place
from sync_pipeline.sources.limits import (
    MAX_PAGES_PER_WINDOW,
    MAX_PAGES_WITHOUT_NEW_ROWS,
    MAX_ROWS_PER_WINDOW,
)

# Names a row among all those of a series of pages; None for a row that does not count as progress.
RowKey = Callable[[Any], object]

_FILTER_BITS: Final = 2**24


@dataclass(slots=True)
class PageSize:
    """The number of rows to request per page, halved when the API refuses a page as too much data.

    Requests for the same edge share one, so that a size that was refused is not requested again.
    """

    rows: int
    smallest: int = 1

    def halve(self) -> bool:
        """Halve the size. Returns False if it is the smallest already."""
        if self.rows <= self.smallest:
            return False
        self.rows = max(self.smallest, self.rows // 2)
        return True

    def fixed(self) -> Self:
        """Return the same size as one that is never halved."""
        return type(self)(self.rows, smallest=self.rows)


class WindowBudget:
    """The pages and rows that are left to one window, through however many requests it is read."""

    def __init__(
        self, place: Place, *, max_pages: int = MAX_PAGES_PER_WINDOW, max_rows: int = MAX_ROWS_PER_WINDOW
    ) -> None:
        self._place = place
        self._max_pages = max_pages
        self._max_rows = max_rows
        self._pages = 0
        self._rows = 0

    def count(self, rows: int) -> None:
        """Count a page and its rows. Raises `LimitExceededError` if a limit is exceeded."""
        self._pages += 1
        self._rows += rows
        if self._pages > self._max_pages:
            what = f"there are more than {self._max_pages} pages"
            raise LimitExceededError(self._place, what, limit="MAX_PAGES_PER_WINDOW", maximum=self._max_pages)
        if self._rows > self._max_rows:
            what = f"there are more than {self._max_rows} rows"
            raise LimitExceededError(self._place, what, limit="MAX_ROWS_PER_WINDOW", maximum=self._max_rows)


class PageProgress:
    """Whether the pages of one series still bring new rows.

    A Bloom filter of 2 MiB, because the keys of a million rows would take a hundred. It may take a new row for a known
    one, which matters only if it did so for every row of many pages in a row; it never takes a known row for a new one.
    """

    def __init__(self, place: Place, key: RowKey) -> None:
        self._place = place
        self._key = key
        self._known = bytearray(_FILTER_BITS // 8)
        self._pages_without_new_rows = 0

    def follow(self, rows: Collection[Any]) -> None:
        """Note a page. Raises `LimitExceededError` after too many in a row without a new row."""
        if self._note(rows):
            self._pages_without_new_rows = 0
            return
        self._pages_without_new_rows += 1
        check_progress(self._place, self._pages_without_new_rows)

    def _note(self, rows: Iterable[Any]) -> bool:
        key, known, fresh = self._key, self._known, False
        for row in rows:
            if (named := key(row)) is None:
                continue
            number = hash(named) % _FILTER_BITS
            byte, bit = number >> 3, 1 << (number & 7)
            if not known[byte] & bit:
                known[byte] |= bit
                fresh = True
        return fresh


def check_progress(place: Place, pages_without_new_rows: int) -> None:
    """Raise `LimitExceededError` if too many pages in a row brought no new row."""
    if pages_without_new_rows > MAX_PAGES_WITHOUT_NEW_ROWS:
        what = f"more than {MAX_PAGES_WITHOUT_NEW_ROWS} pages in a row brought no new row"
        raise LimitExceededError(place, what, limit="MAX_PAGES_WITHOUT_NEW_ROWS", maximum=MAX_PAGES_WITHOUT_NEW_ROWS)


def key_of(*fields: str) -> RowKey:
    """The key of rows that these fields name; a row in which none of them is an id counts as no progress."""

    def key(row: Any) -> object:
        if not isinstance(row, dict):
            return None
        found = tuple([value if type(value := row.get(field)) in {str, int} else None for field in fields])
        return None if found.count(None) == len(found) else found

    return key
