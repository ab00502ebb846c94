"""Product costs: a tenant's CSV of unit costs by date, and the mappings (product groups) of its products."""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import combinations, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.rows import values
from sync_pipeline.rows.errors import FieldError

COLUMNS = ("shop_id", "product_id", "mapping", "cogs", "start_date", "end_date")
_MONEY = re.compile(r"[0-9]{1,12}(?:\.[0-9]+)?", re.ASCII)
_NO_ALIASES: Final[Mapping[tuple[str, str], Sequence[str]]] = MappingProxyType({})


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
    """One thing wrong with the file; `line` 1 is the header, `column` is None where no single one is at fault."""

    line: int
    column: str | None
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.column} {self.why}" if self.column else f"line {self.line}: {self.why}"


class ProductCostError(SyncPipelineError):
    """A product cost file cannot be used; holds everything wrong with it."""

    def __init__(self, file: Path, problems: Sequence[ProductCostProblem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        super().__init__(f"{file}: {'; '.join(map(str, self.problems))}")


def load_product_costs(path: Path) -> tuple[ProductCost, ...]:
    """Read a product cost CSV: UTF-8, a header, the columns of `COLUMNS` in any order.

    Dates of a product may overlap: of the costs that hold on a day the one with the latest start counts (facts on
    COGS). Two with the same start are a mistake. Raises ProductCostError with all problems of the file.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProductCostError(path, [ProductCostProblem(1, None, f"not UTF-8 text (byte {error.start})")]) from None
    except OSError as error:
        raise ProductCostError(path, [ProductCostProblem(1, None, f"cannot be read ({error.strerror})")]) from None
    problems: list[ProductCostProblem] = []
    costs = _parse(text, problems)
    problems.extend(_same_starts(costs))
    if problems:
        raise ProductCostError(path, sorted(problems, key=lambda problem: problem.line))
    return tuple(costs)


def _parse(text: str, problems: list[ProductCostProblem]) -> list[ProductCost]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    costs: list[ProductCost] = []
    try:
        header = [column.strip() for column in next(reader, [])]
        header_problems = list(_header_problems(header))
        problems.extend(header_problems)
        if header_problems:
            return []
        line = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if len(cells) == len(header):
                    read = _Line(line, dict(zip(header, (cell.strip() for cell in cells), strict=True)))
                    costs.extend(read.cost())
                    problems.extend(read.problems)
                else:
                    why = f"has {len(cells)} cells, the header has {len(header)}"
                    problems.append(ProductCostProblem(line, None, why))
            line = reader.line_num + 1
    except csv.Error as error:
        problems.append(ProductCostProblem(reader.line_num, None, f"not valid CSV: {error}"))
    return costs


def _header_problems(header: Sequence[str]) -> Iterator[ProductCostProblem]:
    for column in dict.fromkeys(header):
        if column not in COLUMNS:
            known = ", ".join(COLUMNS)
            yield ProductCostProblem(1, repr(column[:40]), f"is not a known column; the columns are {known}")
        elif header.count(column) > 1:
            yield ProductCostProblem(1, column, "is there twice")
    for column in COLUMNS:
        if column not in header:
            yield ProductCostProblem(1, column, "is missing")


class _Line:
    """One line's cells, and what is wrong with them."""

    def __init__(self, line: int, cells: dict[str, str]) -> None:
        self.line = line
        self.cells = cells
        self.problems: list[ProductCostProblem] = []

    def cost(self) -> Iterator[ProductCost]:
        product_id = values.clean(self.cells["product_id"])
        if not product_id:
            self._problem("product_id", "is blank")
        cogs = self._cogs()
        start, end = self._day("start_date"), self._day("end_date")
        if start and end and end < start:
            self._problem("end_date", f"{end} is before start_date {start}")
        if not self.problems:
            yield ProductCost(self._text("shop_id"), product_id, self._text("mapping"), cogs, start, end, self.line)

    def _text(self, column: str) -> str | None:
        return values.clean(self.cells[column]) or None

    def _cogs(self) -> Decimal | None:
        cell = self.cells["cogs"]
        if not cell:
            return None
        if cell.startswith("-") and _MONEY.fullmatch(cell[1:]):
            self._problem("cogs", f"{cell} is negative")
        elif not _MONEY.fullmatch(cell):
            self._problem("cogs", f"{cell[:40]!r} is not an amount such as 120 or 99.50")
        else:
            try:
                return values.cents(Decimal(cell), "cogs")
            except FieldError as error:
                self._problem("cogs", f"{cell[:40]} {error.why}")
        return None

    def _day(self, column: str) -> date | None:
        cell = self.cells[column]
        if not cell:
            return None
        try:
            return values.day(self.cells, column)
        except FieldError:
            self._problem(column, f"{cell[:40]!r} is not a day YYYY-MM-DD")
            return None

    def _problem(self, column: str, why: str) -> None:
        self.problems.append(ProductCostProblem(self.line, column, why))


def _same_starts(costs: Iterable[ProductCost]) -> Iterator[ProductCostProblem]:
    for same_product in _dated(costs).values():
        for earlier, later in pairwise(reversed(same_product)):
            if earlier.start_date == later.start_date:
                why = f"is that of line {earlier.line} too, for the same shop and product"
                yield ProductCostProblem(later.line, "start_date", why)


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
    """Find every two lines with a cost of the same shop and product whose dates overlap, in the file's order."""
    found = []
    for (shop_id, product_id), group in _dated(costs).items():
        for later, earlier in combinations(group, 2):
            until = min((cost.end_date for cost in (later, earlier) if cost.end_date), default=None)
            # The later one's start is the overlap's: it is not before the other's.
            if until is None or (later.start_date or date.min) <= until:
                found.append(CostOverlap(shop_id, product_id, earlier.line, later.line, later.start_date, until))
    return sorted(found, key=lambda overlap: sorted((overlap.earlier_line, overlap.later_line), reverse=True))


class ProductCosts:
    """Finds unit costs and mappings. `product_keys` are an item's ids in the order they are tried.

    `aliases` are further keys of an item with such an id in such a shop, tried after the item's own (see
    `products.aliases_of`).
    """

    def __init__(
        self,
        costs: Iterable[ProductCost] = (),
        aliases: Mapping[tuple[str, str], Sequence[str]] = _NO_ALIASES,
    ) -> None:
        costs = tuple(costs)
        self._aliases = aliases
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

    def _with_aliases(self, shop_id: str, product_keys: Sequence[str]) -> Sequence[str]:
        if not self._aliases:
            return product_keys
        return [*product_keys, *(alias for key in product_keys for alias in self._aliases.get((shop_id, key), ()))]
