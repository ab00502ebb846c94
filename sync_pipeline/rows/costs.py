"""Product costs: a tenant's CSV of unit costs by date, and the mappings (product groups) of its products.

No message quotes a cell or a column: a wrong path may name any file, a secret included.
"""

import csv
import difflib
import io
import re
import sys
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import lru_cache
from itertools import chain, islice, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.files import UTF16_MARKS, FileReadError, read_regular_file, shown_path
from sync_pipeline.rows import spreadsheets, values
from sync_pipeline.rows.errors import FieldError

COLUMNS = ("shop_id", "product_id", "mapping", "cogs", "start_date", "end_date")
MAX_FILE_BYTES: Final = 50_000_000
# Of a list of 50 MB each row has 50 characters. Many shorter ones would take gigabytes once they are parsed.
MAX_ROWS: Final = 1_000_000
MAX_ROW_CHARACTERS: Final = 100_000
MAX_PROBLEMS: Final = 20
MAX_OVERLAPS: Final = 1_000
_MAX_HINTED_LENGTH: Final = 40
_VALUES_SHARED: Final = 10_000
_MONEY = re.compile(r"[0-9]{1,12}(?:\.[0-9]+)?", re.ASCII)
# Programs save semicolons or tabs where a comma separates decimals, and a dot perhaps thousands.
_DECIMAL_COMMA: Final = re.compile(r"(-?[0-9]{1,12}),([0-9]{1,2})", re.ASCII)
_THOUSANDS: Final = re.compile(r"-?[1-9][0-9]{0,2}(?:[.,][0-9]{3})+", re.ASCII)
# Without such a mark, the NUL bytes among the names of the columns tell UTF-16 text.
_HEADER_BYTES: Final = 60
_SAVE_AS: Final = 'save the file as "CSV UTF-8"'
_NO_ALIASES: Final[Mapping[tuple[str, str], Sequence[str]]] = MappingProxyType({})
_NO_CUSTOM_IDS: Final[Mapping[tuple[str, str], str]] = MappingProxyType({})


class ProductCost(NamedTuple):
    """One line of the file. `cogs` is the cost of one unit in major units; without it the line gives a mapping only.

    `shop_id` None is every shop, `start_date` and `end_date` None are open ends; both dates are included.
    """

    shop_id: str | None
    product_id: str
    mapping: str | None
    cogs: Decimal | None
    start_date: date | None
    end_date: date | None
    line: int


class ProductCostProblem(NamedTuple):
    """One thing wrong with the file; `column` is None where no single one is at fault."""

    line: int
    column: str | None
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.column} {self.why}" if self.column else f"line {self.line}: {self.why}"


class ProductCostError(SyncPipelineError):
    """A product cost file cannot be used; holds its first problems, at most `MAX_PROBLEMS`."""

    def __init__(self, file: Path, problems: Sequence[ProductCostProblem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        super().__init__(f"{shown_path(file)}: {'; '.join(map(str, self.problems))}")


def load_product_costs(path: Path) -> tuple[ProductCost, ...]:
    """Read a product cost CSV: UTF-8, a header, the columns of `COLUMNS` in any order.

    The separator is a comma, semicolon or tab. A first line such as `sep=;` and blank columns at the end are accepted.
    Dates of a product may overlap: of the costs that hold on a day the one with the latest start counts (facts on
    COGS). Two with the same start are a mistake. Raises ProductCostError with the first problems of the file.
    """
    try:
        content = read_regular_file(path, MAX_FILE_BYTES)
    except FileReadError as error:
        raise ProductCostError(path, [ProductCostProblem(1, None, error.why)]) from None
    if b"\0" in content[:_HEADER_BYTES] and not content.startswith(UTF16_MARKS):
        raise ProductCostError(path, [ProductCostProblem(1, None, f"UTF-16 text or a binary file; {_SAVE_AS}")])
    problems: list[ProductCostProblem] = []
    try:
        costs = _parse(content, problems)
    except UnicodeDecodeError:
        raise ProductCostError(path, [ProductCostProblem(*_not_text(content))]) from None
    problems.extend(islice(_same_starts(costs), MAX_PROBLEMS + 1))
    if problems:
        raise ProductCostError(path, _first(problems))
    return tuple(costs)


def _first(problems: Iterable[ProductCostProblem]) -> list[ProductCostProblem]:
    found = sorted(problems, key=lambda problem: problem.line)
    if len(found) > MAX_PROBLEMS:
        found[MAX_PROBLEMS:] = [ProductCostProblem(found[MAX_PROBLEMS].line, None, "more problems are not listed")]
    return found


def _not_text(content: bytes) -> tuple[int, None, str]:
    if content.startswith(UTF16_MARKS):
        return 1, None, f"UTF-16 text; {_SAVE_AS}"
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1, None, f"not UTF-8 text (byte {error.start}); {_SAVE_AS}"
    raise AssertionError("the content is UTF-8 text")


class _LongRowError(Exception):
    """One row of the file is longer than `MAX_ROW_CHARACTERS`."""


class _Lines:
    """The lines of a file, read one at a time so that neither a long line nor a long row fills the memory."""

    def __init__(self, content: bytes) -> None:
        self._text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
        self._row_characters = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(MAX_ROW_CHARACTERS + 1)
        if not line:
            raise StopIteration
        self._row_characters += len(line)
        if self._row_characters > MAX_ROW_CHARACTERS:
            raise _LongRowError
        return line

    def end_row(self) -> None:
        """Begin to count the next row, which may take several lines."""
        self._row_characters = 0


class _Opening(NamedTuple):
    """How a file begins: the text of its header, the separator, and how many lines come before the header."""

    header: str
    separator: str
    lines_before: int


def _opening(lines: _Lines, problems: list[ProductCostProblem]) -> _Opening:
    """Read as far as the header. A separator that is not supported is added to `problems`."""
    first = next(lines, "")
    named = spreadsheets.named_separator(first)
    if named is None:
        return _Opening(first, spreadsheets.separator_of(first, COLUMNS), 0)
    if named not in spreadsheets.SEPARATORS:
        why = "names a separator that is not supported; save the file with commas, semicolons or tabs"
        problems.append(ProductCostProblem(1, None, why))
        return _Opening("", spreadsheets.SEPARATORS[0], 1)
    lines.end_row()
    header = next(lines, "")
    return _Opening(header, spreadsheets.separator_of(header, COLUMNS, named), 1)


def _parse(content: bytes, problems: list[ProductCostProblem]) -> list[ProductCost]:
    """Read the rows up to the first `MAX_PROBLEMS` problems, which are added to `problems`."""
    lines = _Lines(content)
    costs: list[ProductCost] = []
    line = 1
    try:
        header_text, separator, lines_before = _opening(lines, problems)
        if problems:
            return []
        line += lines_before
        reader = csv.reader(chain([header_text], lines), delimiter=separator, strict=True)
        try:
            header = _without_blank_end(next(reader, []))
            problems.extend(islice(_header_problems(header, line), MAX_PROBLEMS + 1))
            if problems:
                return []
            lines.end_row()
            line = lines_before + reader.line_num + 1
            for cells in reader:
                lines.end_row()
                costs.extend(_row(line, header, cells, separator, problems))
                if len(costs) > MAX_ROWS:
                    why = f"is one more than the {MAX_ROWS:,} rows that a file may have"
                    problems.append(ProductCostProblem(line, None, why))
                    return []
                if len(problems) > MAX_PROBLEMS:
                    return []
                line = lines_before + reader.line_num + 1
        except csv.Error as error:
            problems.append(ProductCostProblem(lines_before + reader.line_num, None, f"not valid CSV: {error}"))
    except _LongRowError:
        why = f"longer than {MAX_ROW_CHARACTERS:,} characters; is this a product cost file, and is every quote closed?"
        problems.append(ProductCostProblem(line, None, why))
    return costs


def _row(
    line: int, header: Sequence[str], cells: Sequence[str], separator: str, problems: list[ProductCostProblem]
) -> Iterator[ProductCost]:
    """Read one row unless it is blank, and add its problems to `problems`."""
    if not any(cell.strip() for cell in cells):
        return
    if len(cells) > len(header):
        cells = [*cells[: len(header)], *_without_blank_end(cells[len(header) :])]
    if len(cells) == len(header):
        read = _Line(line, dict(zip(header, (cell.strip() for cell in cells), strict=True)), separator)
        yield from read.cost()
        problems.extend(read.problems)
        return
    why = f"has {len(cells)} cells, the header has {len(header)}"
    if len(cells) > len(header):
        why += "; put a cell that contains the separator in quotes"
    problems.append(ProductCostProblem(line, None, why))


def _without_blank_end(cells: Sequence[str]) -> list[str]:
    """Return the cells, trimmed, without the blank ones at the end."""
    trimmed = [cell.strip() for cell in cells]
    while trimmed and not trimmed[-1]:
        trimmed.pop()
    return trimmed


def _header_problems(header: Sequence[str], line: int) -> Iterator[ProductCostProblem]:
    seen: set[str] = set()
    for position, column in enumerate(header, 1):
        if why := spreadsheets.invisible_problem(column):
            yield ProductCostProblem(line, f"column {position}", why)
        elif column not in COLUMNS:
            yield ProductCostProblem(line, f"column {position}", f"is not a known column; {_hint(column)}")
        elif column in seen:
            yield ProductCostProblem(line, column, "is there twice")
        seen.add(column)
    for column in COLUMNS:
        if column not in seen:
            yield ProductCostProblem(line, column, "is missing")


def _hint(column: str) -> str:
    near = difflib.get_close_matches(column.lower(), COLUMNS, n=1) if len(column) <= _MAX_HINTED_LENGTH else []
    return f"did you mean {near[0]}?" if near else f"the columns are {', '.join(COLUMNS)}"


class _Line:
    """One line's cells, and what is wrong with them."""

    def __init__(self, line: int, cells: dict[str, str], separator: str) -> None:
        self.line = line
        self.cells = cells
        self.problems: list[ProductCostProblem] = []
        self._separator = separator

    def cost(self) -> Iterator[ProductCost]:
        product_id = values.clean(self.cells["product_id"])
        if not product_id:
            self._problem("product_id", "is blank")
        elif why := spreadsheets.id_problem(product_id):
            self._problem("product_id", why)
        shop_id, mapping, cogs = self._shop_id(), self._mapping(), self._cogs()
        start, end = self._day("start_date"), self._day("end_date")
        if start and end and end < start:
            self._problem("end_date", "is before start_date")
        if not self.problems:
            yield ProductCost(shop_id, product_id, mapping, cogs, start, end, self.line)

    def _shop_id(self) -> str | None:
        # Interned, because the shops and mappings of a long file are few.
        shop_id = sys.intern(values.clean(self.cells["shop_id"])) or None
        if shop_id and (why := _shop_id_problem(shop_id)):
            self._problem("shop_id", why)
        return shop_id

    def _mapping(self) -> str | None:
        mapping = sys.intern(values.nfc(values.clean(self.cells["mapping"]))) or None
        if mapping and (why := spreadsheets.text_problem(mapping)):
            self._problem("mapping", why)
        return mapping

    def _cogs(self) -> Decimal | None:
        cell = self.cells["cogs"]
        if not cell:
            return None
        if self._separator != spreadsheets.SEPARATORS[0]:
            if _THOUSANDS.fullmatch(cell):
                self._problem("cogs", "may be thousands or decimals; write 1200 or 1.20 instead of 1.200 or 1,200")
                return None
            cell = _DECIMAL_COMMA.sub(r"\1.\2", cell) if _DECIMAL_COMMA.fullmatch(cell) else cell
        if cell.startswith("-") and _MONEY.fullmatch(cell[1:]):
            self._problem("cogs", "is negative")
        elif why := spreadsheets.invisible_problem(cell):
            self._problem("cogs", why)
        elif not _MONEY.fullmatch(cell):
            self._problem("cogs", "is not an amount such as 120 or 99.50")
        else:
            try:
                return _cents(cell)
            except FieldError as error:
                self._problem("cogs", error.why)
        return None

    def _day(self, column: str) -> date | None:
        cell = self.cells[column]
        if not cell:
            return None
        try:
            return values.day(self.cells, column)
        except FieldError:
            self._problem(column, spreadsheets.invisible_problem(cell) or "is not a day YYYY-MM-DD")
            return None

    def _problem(self, column: str, why: str) -> None:
        self.problems.append(ProductCostProblem(self.line, column, why))


@lru_cache(maxsize=_VALUES_SHARED)
def _shop_id_problem(shop_id: str) -> str | None:
    return spreadsheets.shop_id_problem(shop_id)


@lru_cache(maxsize=_VALUES_SHARED)
def _cents(cell: str) -> Decimal:
    return values.cents(Decimal(cell), "cogs")


def _same_starts(costs: Sequence[ProductCost]) -> Iterator[ProductCostProblem]:
    # Hashes first: groups of a million products take hundreds of megabytes, and hardly any file has two equal starts.
    starts = Counter(map(_start_hash, costs))
    suspects = (cost for cost in costs if starts[_start_hash(cost)] > 1)
    for same_product in _dated(suspects).values():
        for earlier, later in pairwise(reversed(same_product)):
            if earlier.start_date == later.start_date:
                why = f"is that of line {earlier.line} too, for the same shop and product"
                yield ProductCostProblem(later.line, "start_date", why)


def _start_hash(cost: ProductCost) -> int:
    return hash((cost.shop_id, cost.product_id, cost.start_date))


def _dated(costs: Iterable[ProductCost]) -> dict[tuple[str | None, str], list[ProductCost]]:
    """Group the lines that have a cost by shop and product, the latest start first."""
    groups: defaultdict[tuple[str | None, str], list[ProductCost]] = defaultdict(list)
    for cost in costs:
        if cost.cogs is not None:
            groups[cost.shop_id, cost.product_id].append(cost)
    for group in groups.values():
        group.sort(key=lambda cost: (cost.start_date or date.min, cost.line), reverse=True)
    return dict(groups)


class CostOverlap(NamedTuple):
    """Two lines of the file that both give the cost of a product from `since` to `until`, both included.

    On these days the later one counts: the one that starts later. None is an open end.
    """

    shop_id: str | None
    product_id: str
    earlier_line: int
    later_line: int
    since: date | None
    until: date | None


def overlaps(costs: Iterable[ProductCost]) -> list[CostOverlap]:
    """Find pairs of lines with a cost of the same shop and product whose dates overlap, at most `MAX_OVERLAPS`.

    They are in the file's order.
    """
    found = islice(
        (overlap for group in _dated(costs).values() for overlap in _overlaps_of(group)),
        MAX_OVERLAPS,
    )
    return sorted(found, key=lambda overlap: sorted((overlap.earlier_line, overlap.later_line), reverse=True))


def _overlaps_of(latest_first: Sequence[ProductCost]) -> Iterator[CostOverlap]:
    costs = latest_first[::-1]
    starts = [cost.start_date or date.min for cost in costs]
    for position, earlier in enumerate(costs):
        # Every later one that starts before this one ends overlaps with it.
        end = bisect_right(starts, earlier.end_date or date.max)
        for later in costs[position + 1 : end]:
            until = min((cost.end_date for cost in (later, earlier) if cost.end_date), default=None)
            yield CostOverlap(later.shop_id, later.product_id, earlier.line, later.line, later.start_date, until)


class ProductCosts:
    """Finds unit costs and mappings. `product_keys` are an item's ids in the order they are tried.

    The catalogue of each shop adds to an item's keys: `custom_ids` of variations are tried right after the variation's
    id, `aliases` after all of the item's own keys. `shared_display_ids` are those that match no cost, because several
    products of the shop have them (see the functions of `products`).
    """

    def __init__(
        self,
        costs: Iterable[ProductCost] = (),
        aliases: Mapping[tuple[str, str], Sequence[str]] = _NO_ALIASES,
        *,
        custom_ids: Mapping[tuple[str, str], str] = _NO_CUSTOM_IDS,
        shared_display_ids: Container[tuple[str, str]] = frozenset(),
    ) -> None:
        costs = tuple(costs)
        self._aliases = aliases
        self._custom_ids = custom_ids
        self._shared_display_ids = shared_display_ids
        self._costs = _dated(costs)
        self._mappings: dict[tuple[str | None, str], str] = {}
        for cost in sorted(costs, key=lambda cost: (cost.start_date or date.min, cost.line)):
            if cost.mapping:
                self._mappings[cost.shop_id, cost.product_id] = cost.mapping

    def unit_cost(self, shop_id: str, product_keys: Sequence[str], day: date) -> Decimal | None:
        """Return what one unit cost on a day, in major units, or None where no cost is known for it.

        A shop's own cost wins over one for every shop, then the first product key that has one, then the latest start.
        """
        if self._costs:
            keys = self._with_aliases(shop_id, product_keys)
            for shop in (shop_id, None):
                for key in keys:
                    for cost in self._costs.get((shop, key), ()):
                        if (cost.start_date or day) <= day <= (cost.end_date or day):
                            return cost.cogs
        return None

    def mapping(self, shop_id: str, product_keys: Sequence[str]) -> str | None:
        """Return a product's mapping as written, or None; chosen like a cost, but whatever the day."""
        if self._mappings:
            keys = self._with_aliases(shop_id, product_keys)
            for shop in (shop_id, None):
                for key in keys:
                    if found := self._mappings.get((shop, key)):
                        return found
        return None

    def is_shared(self, shop_id: str, display_id: str) -> bool:
        """Whether several products of the shop have this display id, so that it tells nothing of a product's cost."""
        return bool(self._shared_display_ids) and (shop_id, display_id) in self._shared_display_ids

    def _with_aliases(self, shop_id: str, product_keys: Sequence[str]) -> Sequence[str]:
        if self._custom_ids:
            product_keys = list(self._with_custom_ids(shop_id, product_keys))
        if not self._aliases:
            return product_keys
        return [*product_keys, *(alias for key in product_keys for alias in self._aliases.get((shop_id, key), ()))]

    def _with_custom_ids(self, shop_id: str, product_keys: Sequence[str]) -> Iterator[str]:
        for key in product_keys:
            yield key
            if custom_id := self._custom_ids.get((shop_id, key)):
                yield custom_id
