import os
import traceback
import tracemalloc
import unicodedata
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sync_pipeline.rows.costs import (
    CostOverlap,
    ProductCost,
    ProductCostError,
    ProductCosts,
    load_product_costs,
    overlaps,
)

# A slow machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

HEADER = "shop_id,product_id,mapping,cogs,start_date,end_date"
MAY = date(2026, 5, 15)


def load(folder: Path, *lines: str, header: str = HEADER) -> tuple[ProductCost, ...]:
    (folder / "costs.csv").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return load_product_costs(folder / "costs.csv")


def problems(folder: Path, *lines: str, header: str = HEADER) -> list[str]:
    with pytest.raises(ProductCostError) as raised:
        load(folder, *lines, header=header)
    assert str(raised.value).startswith(f"{folder}/costs.csv: line ")
    return [str(problem) for problem in raised.value.problems]


class TestAFile:
    def test_is_read_line_by_line(self, tmp_path: Path) -> None:
        assert load(tmp_path, ",b7c1,Agriblast,120,2026-01-01,", "", '100200, D-7 ,"Evil, Eye",99.505,,2026-03-31') == (
            ProductCost(None, "b7c1", "Agriblast", Decimal("120.00"), date(2026, 1, 1), None, 2),
            ProductCost("100200", "D-7", "Evil, Eye", Decimal("99.51"), None, date(2026, 3, 31), 4),
        )

    def test_may_have_a_byte_order_mark_windows_line_ends_and_any_column_order(self, tmp_path: Path) -> None:
        content = "\ufeffend_date,start_date,cogs,mapping,product_id,shop_id\r\n,,5,,b7c1,\r\n"
        (tmp_path / "costs.csv").write_bytes(content.encode())
        assert load_product_costs(tmp_path / "costs.csv") == (
            ProductCost(None, "b7c1", None, Decimal("5.00"), None, None, 2),
        )

    def test_may_give_a_mapping_without_a_cost(self, tmp_path: Path) -> None:
        costs = ProductCosts(load(tmp_path, ",b7c1,Agriblast,,,"))
        assert costs.mapping("100200", ["b7c1"]) == "Agriblast"
        assert costs.unit_cost("100200", ["b7c1"], MAY) is None

    def test_normalizes_mappings_but_not_ids(self, tmp_path: Path) -> None:
        decomposed = unicodedata.normalize("NFD", "Sữa")
        [cost] = load(tmp_path, f",{decomposed},{decomposed},,,")
        assert (cost.product_id, cost.mapping) == (decomposed, "Sữa")

    def test_may_hold_no_lines(self, tmp_path: Path) -> None:
        assert load(tmp_path) == ()

    def test_counts_lines_through_quoted_line_breaks(self, tmp_path: Path) -> None:
        assert problems(tmp_path, ',b7c1,"two\nlines",1,,', ",,x,1,,") == ["line 4: product_id is blank"]

    def test_reports_all_its_problems_at_once(self, tmp_path: Path) -> None:
        assert problems(
            tmp_path,
            ",,Agriblast,120,,",
            ",a,,abc,2026-02-30,31/03/2026",
            ",b,,-5,2026-03-01,2026-02-01",
            ",c,,1,",
            ",d,,9999999999999,,",
            ",e,,999999999999.999,,",
        ) == [
            "line 2: product_id is blank",
            "line 3: cogs is not an amount such as 120 or 99.50",
            "line 3: start_date is not a day YYYY-MM-DD",
            "line 3: end_date is not a day YYYY-MM-DD",
            "line 4: cogs is negative",
            "line 4: end_date is before start_date",
            "line 5: has 5 cells, the header has 6",
            "line 6: cogs is not an amount such as 120 or 99.50",
            "line 7: cogs does not fit numeric(14,2)",
        ]

    def test_with_wrong_columns_names_them(self, tmp_path: Path) -> None:
        columns = "the columns are shop_id, product_id, mapping, cogs, start_date, end_date"
        assert problems(tmp_path, header="shop_id,Product ID,product_id,mapping,mapping,price") == [
            "line 1: column 2 is not a known column; did you mean product_id?",
            "line 1: mapping is there twice",
            f"line 1: column 6 is not a known column; {columns}",
            "line 1: cogs is missing",
            "line 1: start_date is missing",
            "line 1: end_date is missing",
        ]

    @pytest.mark.parametrize("content", [b"", b"\n"])
    def test_that_is_empty_misses_its_columns(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "costs.csv").write_bytes(content)
        with pytest.raises(ProductCostError, match="line 1: product_id is missing"):
            load_product_costs(tmp_path / "costs.csv")

    def test_that_cannot_be_read_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(ProductCostError, match="cannot be read"):
            load_product_costs(tmp_path / "nowhere.csv")
        (tmp_path / "costs.csv").write_bytes(HEADER.encode() + b"\n,\xff,,,,\n")
        with pytest.raises(ProductCostError, match="not UTF-8 text"):
            load_product_costs(tmp_path / "costs.csv")
        assert problems(tmp_path, ',"b7c1,,1,,') == ["line 2: not valid CSV: unexpected end of data"]


BLANK_END = (HEADER + ",,", ",b7c1,serum,120,2026-01-01,,,", ",b7c2,toner,99.50,,,,")
PLAIN = (HEADER, ",b7c1,serum,120,2026-01-01,", ",b7c2,toner,99.50,,")


def save(folder: Path, text: str) -> Path:
    (folder / "costs.csv").write_bytes(text.encode())
    return folder / "costs.csv"


class TestAFileOfASpreadsheet:
    """Each is the same list, as another program or another person saves it."""

    EXPECTED = (
        ProductCost(None, "b7c1", "serum", Decimal("120.00"), date(2026, 1, 1), None, 0),
        ProductCost(None, "b7c2", "toner", Decimal("99.50"), None, None, 0),
    )

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    @pytest.mark.parametrize("lines", [PLAIN, BLANK_END], ids=["plain", "blank columns at the end"])
    @pytest.mark.parametrize("first", ["", "sep={0}\r\n", '"sep={0}"\r\n', "SEP={0}{0}{0}{0}{0}{0}\r\n"])
    def test_is_read_with_any_separator(
        self, tmp_path: Path, separator: str, lines: tuple[str, ...], first: str
    ) -> None:
        text = first.format(separator) + "\r\n".join(line.replace(",", separator) for line in lines) + "\r\n"
        found = load_product_costs(save(tmp_path, "\ufeff" + text))
        assert tuple(cost._replace(line=0) for cost in found) == self.EXPECTED
        assert [cost.line for cost in found] == ([3, 4] if first else [2, 3])

    def test_with_another_separator_than_its_first_line_is_read(self, tmp_path: Path) -> None:
        found = load_product_costs(save(tmp_path, "sep=;,,,,,\n" + "\n".join(PLAIN)))
        assert tuple(cost._replace(line=0) for cost in found) == self.EXPECTED

    def test_with_semicolons_may_have_decimal_commas(self, tmp_path: Path) -> None:
        text = "\n".join([HEADER.replace(",", ";"), ";a;;99,5;;", ";b;;1200,50;;", ";c;;0.125;;"])
        assert [cost.cogs for cost in load_product_costs(save(tmp_path, text))] == [
            Decimal("99.50"),
            Decimal("1200.50"),
            Decimal("0.13"),
        ]

    @pytest.mark.parametrize("cogs", ["1.200", "1,200", "100.000", "1.200.000"])
    def test_with_semicolons_and_unclear_thousands_is_refused(self, tmp_path: Path, cogs: str) -> None:
        assert problems(tmp_path, f";a;;{cogs};;", header=HEADER.replace(",", ";")) == [
            "line 2: cogs may be thousands or decimals; write 1200 or 1.20 instead of 1.200 or 1,200"
        ]

    def test_with_an_unsupported_separator_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ProductCostError) as raised:
            load_product_costs(save(tmp_path, "sep=|\n" + "\n".join(PLAIN).replace(",", "|")))
        why = "names a separator that is not supported; save the file with commas, semicolons or tabs"
        assert [str(problem) for problem in raised.value.problems] == [f"line 1: {why}"]

    @pytest.mark.timeout(60)
    def test_with_an_endless_sep_line_is_refused_soon(self, tmp_path: Path) -> None:
        with pytest.raises(ProductCostError, match="line 1: column 1 is not a known column"):
            load_product_costs(save(tmp_path, "sep=," + "\t" * 99_000 + "x"))

    def test_below_a_sep_line_counts_lines_from_the_top(self, tmp_path: Path) -> None:
        with pytest.raises(ProductCostError) as raised:
            load_product_costs(save(tmp_path, "sep=;\nshop_id;price\n"))
        assert {problem.line for problem in raised.value.problems} == {2}
        with pytest.raises(ProductCostError) as raised:
            load_product_costs(save(tmp_path, f'sep=,\n{HEADER}\n,a,"two\nlines",1,,\n,,,1,,\n,"a,,1,,\n'))
        assert [str(problem) for problem in raised.value.problems] == [
            "line 5: product_id is blank",
            "line 6: not valid CSV: unexpected end of data",
        ]

    def test_with_values_beyond_the_header_is_refused(self, tmp_path: Path) -> None:
        assert problems(tmp_path, ",b7c1,,120,,,,x,") == [
            "line 2: has 8 cells, the header has 6; put a cell that contains the separator in quotes"
        ]

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "cp1252"])
    def test_in_another_encoding_says_how_to_save_it(self, tmp_path: Path, encoding: str) -> None:
        text = "\ufeff" if encoding == "utf-16-be" else ""
        (tmp_path / "costs.csv").write_bytes((f"{text}{HEADER}\n,a,Crème,1,,\n").encode(encoding))
        with pytest.raises(ProductCostError, match=r'line [12]: .*text.*; save the file as "CSV UTF-8"') as raised:
            load_product_costs(tmp_path / "costs.csv")
        assert len(raised.value.problems) == 1


LOST_DIGITS = (
    "is a number in scientific notation, which has lost digits; format the column as text and enter the whole id again"
)
DECIMALS = "is a number with decimals; write the id without them"
EVERY_SHOP = "must be blank for every shop; leave the cell empty"
SEVERAL = "names several shops; write a line for each shop"


class TestACellThatASpreadsheetChanged:
    @pytest.mark.parametrize(
        ("product_id", "why"),
        [
            ("1.20E+17", LOST_DIGITS),
            ("1E+17", LOST_DIGITS),
            ("1.2e17", LOST_DIGITS),
            ("123456.0", DECIMALS),
            ("123456.00", DECIMALS),
            ("b7\u200bc1", "contains the invisible character U+200B; delete it"),
            ("b7c1\u200d", "contains the invisible character U+200D; delete it"),
            ("\ufeffb7c1", "contains the invisible character U+FEFF; delete it"),
            ("b7\u00adc1", "contains the invisible character U+00AD; delete it"),
            ("\u202db7c1", "contains the invisible character U+202D; delete it"),
            ("b7\u034fc1", "contains the invisible character U+034F; delete it"),
            ("b7c1\u3164", "contains the invisible character U+3164; delete it"),
            ("#N/A", "is an error value of a spreadsheet; correct its formula"),
        ],
    )
    def test_is_no_product_id(self, tmp_path: Path, product_id: str, why: str) -> None:
        assert problems(tmp_path, f",{product_id},,1,,") == [f"line 2: product_id {why}"]

    @pytest.mark.parametrize("product_id", ['"1,20E+17"', '"123456,0"'])
    def test_with_a_decimal_comma_is_no_product_id(self, tmp_path: Path, product_id: str) -> None:
        [found] = problems(tmp_path, f",{product_id},,1,,")
        assert found in {f"line 2: product_id {LOST_DIGITS}", f"line 2: product_id {DECIMALS}"}

    @pytest.mark.parametrize("product_id", ["12E5", "E+17", "1.5", "123456.01", "SER-1.0", "00123", "C400000001.88"])
    def test_is_not_any_other_product_id(self, tmp_path: Path, product_id: str) -> None:
        assert [cost.product_id for cost in load(tmp_path, f",{product_id},,1,,")] == [product_id]

    @pytest.mark.parametrize(
        ("shop_id", "why"),
        [
            ("all", EVERY_SHOP),
            ("ALL", EVERY_SHOP),
            ("*", EVERY_SHOP),
            ("all shops", EVERY_SHOP),
            ("each", EVERY_SHOP),
            ("None", EVERY_SHOP),
            ("null", EVERY_SHOP),
            ("N/A", EVERY_SHOP),
            ("-", EVERY_SHOP),
            ("4401.0", DECIMALS),
            ("4.401E+03", LOST_DIGITS),
            ('"4401,4402"', SEVERAL),
            ('"4401, 4402"', SEVERAL),
            ("4401;4402", SEVERAL),
            ("4401/4402", SEVERAL),
            ("4401 4402", SEVERAL),
            ("4401\u200b", "contains the invisible character U+200B; delete it"),
            ("'4401", "is not a shop id, such as 100200"),
        ],
    )
    def test_is_no_shop_id(self, tmp_path: Path, shop_id: str, why: str) -> None:
        assert problems(tmp_path, f"{shop_id},a,,1,,") == [f"line 2: shop_id {why}"]

    def test_with_unquoted_shops_is_refused(self, tmp_path: Path) -> None:
        assert problems(tmp_path, "4401,4402,b7c1,serum,120,2026-01-01,2026-12-31") == [
            "line 2: has 7 cells, the header has 6; put a cell that contains the separator in quotes"
        ]

    def test_with_invisible_characters_is_refused_anywhere(self, tmp_path: Path) -> None:
        assert problems(tmp_path, ",a,ser\u200bum,1\u200b,2026-01-01\u200b,\u20602026-02-01") == [
            "line 2: mapping contains the invisible character U+200B; delete it",
            "line 2: cogs contains the invisible character U+200B; delete it",
            "line 2: start_date contains the invisible character U+200B; delete it",
            "line 2: end_date contains the invisible character U+2060; delete it",
        ]
        assert problems(tmp_path, header=HEADER.replace("cogs", "\u200bcogs")) == [
            "line 1: column 4 contains the invisible character U+200B; delete it",
            "line 1: cogs is missing",
        ]

    def test_keeps_the_joiners_that_scripts_need(self, tmp_path: Path) -> None:
        mapping = "\u0645\u06cc\u200c\u062e\u0648"
        assert [cost.mapping for cost in load(tmp_path, f",a,{mapping},1,,")] == [mapping]


MARKER = "hunter2-SECRET"


class TestAFileThatIsNoCostFile:
    @pytest.mark.parametrize(
        "content",
        [
            f"{MARKER}",
            f"DATABASE_PASSWORD={MARKER}\nOTHER={MARKER}",
            f'{{"token": "{MARKER}"}}',
            f"{MARKER},{MARKER}\n",
            f'"{MARKER}',
            f'"{MARKER}"{MARKER}',
            f"{HEADER}\n{MARKER}\n",
            f"{HEADER}\n,a,,{MARKER},{MARKER},{MARKER}\n",
            f"{HEADER}\n,a,,-1{MARKER},2026-01-01,2025-01-01\n",
            f'{HEADER}\n,a,"{MARKER}"{MARKER},,,\n',
            f"{HEADER}\n{MARKER}\xff",
            f"{HEADER}\n" + f"{MARKER}," * 10_000,
        ],
    )
    def test_is_refused_without_a_word_of_its_content(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "costs.csv").write_bytes(content.encode("latin-1"))
        with pytest.raises(ProductCostError) as raised:
            load_product_costs(tmp_path / "costs.csv")
        error = raised.value
        shown = "".join(traceback.format_exception(error)) + repr(error.problems)
        assert MARKER[:4] not in shown
        assert all(str(problem).startswith("line ") for problem in error.problems)

    def test_has_its_first_20_problems_listed(self, tmp_path: Path) -> None:
        found = problems(tmp_path, *[",a,,x,,"] * 5_000)
        assert len(found) == 21
        assert found[-1] == "line 22: more problems are not listed"

    @pytest.mark.parametrize("header", [",".join(["x"] * 40_000), HEADER + ",x" * 30])
    def test_has_its_first_20_unknown_columns_listed(self, tmp_path: Path, header: str) -> None:
        found = problems(tmp_path, header=header)
        assert len(found) == 21
        assert found[-1] == "line 1: more problems are not listed"

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            ("x," * 5_000_000, 1),
            (f"{HEADER}\n,a,,1,,\n" + "x," * 5_000_000, 3),
            (f"{HEADER}\n" + '"\n",' * 2_000_000, 2),
        ],
    )
    def test_with_an_endless_row_is_refused_in_little_memory(self, tmp_path: Path, content: str, line: int) -> None:
        (tmp_path / "costs.csv").write_text(content)
        del content
        tracemalloc.start()
        try:
            with pytest.raises(ProductCostError, match=f"line {line}: longer than 100,000 characters"):
                load_product_costs(tmp_path / "costs.csv")
            assert tracemalloc.get_traced_memory()[1] < 60_000_000
        finally:
            tracemalloc.stop()

    def test_larger_than_50_mb_is_refused(self, tmp_path: Path) -> None:
        with (tmp_path / "costs.csv").open("wb") as file:
            file.truncate(50_000_001)
        with pytest.raises(ProductCostError, match=r"line 1: is larger than 50 MB, the limit for this kind of file"):
            load_product_costs(tmp_path / "costs.csv")

    def test_of_more_rows_than_memory_should_hold_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sync_pipeline.rows.costs.MAX_ROWS", 3)
        rows = [f",p{number},,1,," for number in range(4)]
        assert len(load(tmp_path, *rows[:3])) == 3
        assert problems(tmp_path, *rows) == ["line 5: is one more than the 3 rows that a file may have"]

    def test_with_the_shortest_rows_takes_less_than_half_a_kilobyte_for_each(self, tmp_path: Path) -> None:
        rows = [f",{number:x},,1,," for number in range(20_000)]
        (tmp_path / "costs.csv").write_text("\n".join([HEADER, *rows]), encoding="utf-8")
        tracemalloc.start()
        try:
            load_product_costs(tmp_path / "costs.csv")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 500 * len(rows)

    def test_that_is_a_pipe_is_refused_at_once(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "costs.csv")
        with pytest.raises(ProductCostError, match="line 1: is a pipe, socket or device, not a regular file"):
            load_product_costs(tmp_path / "costs.csv")


class TestTwoCostsOfOneProduct:
    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            ("2026-01-01,", "2026-01-01,", "line 3: start_date is that of line 2 too, for the same shop and product"),
            (",", ",2026-01-01", "line 3: start_date is that of line 2 too, for the same shop and product"),
        ],
    )
    def test_with_the_same_start_are_a_mistake(self, tmp_path: Path, first: str, second: str, expected: str) -> None:
        assert problems(tmp_path, f",a,,1,{first}", f",a,,2,{second}") == [expected]

    def test_are_none_where_shop_or_product_differ_or_a_line_has_no_cost(self, tmp_path: Path) -> None:
        assert len(load(tmp_path, ",a,,1,,", "1,a,,1,,", "2,a,,1,,", ",b,,1,,", ",a,x,,,", ",a,y,,,")) == 6

    def test_may_overlap_and_then_the_latest_start_counts(self, tmp_path: Path) -> None:
        costs = ProductCosts(load(tmp_path, ",a,,1,2026-01-01,2026-05-31", ",a,,2,2026-05-15,2026-05-20"))
        days = [MAY - timedelta(days=1), MAY, date(2026, 5, 20), date(2026, 5, 21), date(2026, 6, 1)]
        assert [costs.unit_cost("1", ["a"], day) for day in days] == [1, 2, 2, 1, None]

    def test_left_open_ends_when_the_next_begins(self, tmp_path: Path) -> None:
        costs = ProductCosts(load(tmp_path, ",a,,1,,", ",a,,2,2026-05-15,", ",a,,3,2026-06-01,"))
        days = [MAY - timedelta(days=1), MAY, date(2026, 5, 31), date(2026, 6, 1)]
        assert [costs.unit_cost("1", ["a"], day) for day in days] == [1, 2, 2, 3]


class TestUnitCost:
    def test_counts_from_its_start_to_its_end_included(self, tmp_path: Path) -> None:
        costs = ProductCosts(load(tmp_path, ",a,,7,2026-05-10,2026-05-20"))
        days = [date(2026, 5, day) for day in (9, 10, 20, 21)]
        assert [costs.unit_cost("1", ["a"], day) for day in days] == [None, 7, 7, None]

    def test_of_the_shop_itself_beats_that_of_every_shop(self, tmp_path: Path) -> None:
        costs = ProductCosts(load(tmp_path, ",a,,7,2026-05-10,", "1,display,,8,,2026-05-20"))
        assert costs.unit_cost("1", ["a", "display"], MAY) == 8
        assert costs.unit_cost("2", ["a", "display"], MAY) == 7
        assert costs.unit_cost("1", ["a", "display"], date(2026, 5, 21)) == 7

    def test_is_found_by_the_first_key_that_has_one(self, tmp_path: Path) -> None:
        costs = ProductCosts(load(tmp_path, ",display,,8,,", ",custom,,9,,", ",a,,7,2026-05-16,"))
        assert costs.unit_cost("1", ["a", "display", "custom"], MAY) == 8
        assert costs.unit_cost("1", ["a", "custom"], MAY) == 9
        assert costs.unit_cost("1", ["a"], MAY) is None
        assert costs.unit_cost("1", [], MAY) is None

    def test_of_zero_is_a_cost(self, tmp_path: Path) -> None:
        assert ProductCosts(load(tmp_path, ",a,,0,,")).unit_cost("1", ["a"], MAY) == 0

    @unhurried
    @given(
        starts=st.lists(st.integers(0, 60), unique=True, max_size=6),
        always=st.sampled_from([None, Decimal(1000)]),
        offset=st.integers(-5, 65),
    )
    @example(starts=[3, 7], always=None, offset=7)
    @example(starts=[3, 7], always=None, offset=6)
    @example(starts=[3], always=Decimal(1000), offset=2)
    def test_is_the_one_with_the_latest_start_not_after_the_day(
        self, starts: list[int], always: Decimal | None, offset: int
    ) -> None:
        costs = [ProductCost(None, "a", None, Decimal(n), MAY + timedelta(days=n), None, n + 2) for n in starts]
        if always is not None:
            costs.append(ProductCost(None, "a", None, always, None, None, 99))
        begun = [n for n in starts if n <= offset]
        expected = max(begun) if begun else always
        assert ProductCosts(costs).unit_cost("1", ["a"], MAY + timedelta(days=offset)) == expected


class TestMapping:
    def test_of_the_shop_itself_wins_then_the_first_key_then_the_latest_start(self, tmp_path: Path) -> None:
        costs = ProductCosts(
            load(
                tmp_path,
                ",a,Old,1,,",
                ",a,New,2,2026-05-15,",
                ",a,,3,2026-06-01,",
                ",display,Other,1,,",
                "1,display,Own,1,,",
            )
        )
        assert costs.mapping("1", ["a", "display"]) == "Own"
        assert costs.mapping("2", ["a", "display"]) == "New"
        assert costs.mapping("2", ["unknown", "display"]) == "Other"
        assert costs.mapping("2", ["unknown"]) is None


class TestAliases:
    ALIASES: ClassVar = {("1", "uuid"): ("custom",), ("1", "variation"): ("display", "custom")}

    def test_find_cost_and_mapping_where_the_item_s_own_keys_have_none(self, tmp_path: Path) -> None:
        costs = ProductCosts(load(tmp_path, ",custom,Agriblast,8,,"), self.ALIASES)
        assert costs.unit_cost("1", ["uuid"], MAY) == 8
        assert costs.mapping("1", ["uuid"]) == "Agriblast"
        assert costs.unit_cost("1", ["unknown"], MAY) is None

    def test_of_another_shop_do_not_count(self, tmp_path: Path) -> None:
        costs = ProductCosts(load(tmp_path, ",custom,Agriblast,8,,"), self.ALIASES)
        assert costs.unit_cost("2", ["uuid"], MAY) is None
        assert costs.mapping("2", ["uuid"]) is None

    def test_come_after_all_of_the_item_s_own_keys(self, tmp_path: Path) -> None:
        costs = ProductCosts(load(tmp_path, ",custom,A,8,,", ",own,B,9,,", ",display,C,7,,"), self.ALIASES)
        assert costs.unit_cost("1", ["variation", "uuid", "own"], MAY) == 9
        assert costs.mapping("1", ["variation", "uuid", "own"]) == "B"
        assert costs.unit_cost("1", ["variation", "uuid"], MAY) == 7

    def test_find_the_shop_s_own_cost_before_one_for_every_shop(self, tmp_path: Path) -> None:
        costs = ProductCosts(load(tmp_path, ",uuid,,9,,", "1,custom,,8,,"), self.ALIASES)
        assert costs.unit_cost("1", ["uuid"], MAY) == 8


class TestOverlaps:
    def test_name_both_lines_and_the_days(self, tmp_path: Path) -> None:
        costs = load(tmp_path, "1,a,,1,2026-01-01,2026-05-31", "1,a,,2,2026-05-15,2026-06-20")
        assert overlaps(costs) == [CostOverlap("1", "a", 2, 3, date(2026, 5, 15), date(2026, 5, 31))]

    def test_may_be_open_at_either_end(self, tmp_path: Path) -> None:
        costs = load(tmp_path, ",a,,2,2026-05-15,", ",a,,1,,")
        assert overlaps(costs) == [CostOverlap(None, "a", 3, 2, date(2026, 5, 15), None)]
        assert overlaps([cost._replace(start_date=None) for cost in costs]) == [
            CostOverlap(None, "a", 2, 3, None, None)
        ]

    def test_are_none_between_adjoining_days_shops_products_and_mere_mappings(self, tmp_path: Path) -> None:
        costs = load(tmp_path, ",a,,1,,2026-05-14", ",a,,2,2026-05-15,", "1,a,,1,,", "2,a,,1,,", ",b,,1,,", ",b,x,,,")
        assert overlaps(costs) == []

    def test_are_found_up_to_a_limit_in_a_long_file(self) -> None:
        costs = [ProductCost(None, "a", None, Decimal(1), MAY + timedelta(days=n), None, n + 2) for n in range(20_000)]
        assert len(overlaps(costs)) == 1_000
        assert overlaps([cost._replace(end_date=cost.start_date) for cost in costs]) == []

    @unhurried
    @given(
        st.lists(
            st.tuples(st.integers(0, 9), st.none() | st.integers(0, 4)), max_size=6, unique_by=lambda span: span[0]
        )
    )
    @example([(0, 2), (2, 0)])
    @example([(0, 1), (2, None)])
    @example([(0, None), (3, 1), (5, None)])
    def test_are_the_pairs_of_lines_with_a_common_day_and_the_one_that_counts_then_is_the_later(
        self, spans: list[tuple[int, int | None]]
    ) -> None:
        costs = [
            ProductCost(
                None,
                "a",
                None,
                Decimal(line),
                MAY + timedelta(days=start),
                None if length is None else MAY + timedelta(days=start + length),
                line,
            )
            for line, (start, length) in enumerate(spans, 2)
        ]
        days = [MAY + timedelta(days=n) for n in range(20)]

        def valid(cost: ProductCost) -> set[date]:
            assert cost.start_date
            return {day for day in days if cost.start_date <= day <= (cost.end_date or day)}

        shared = {
            (one.line, other.line): common
            for one in costs
            for other in costs
            if one.line != other.line and (one.start_date or MAY) < (other.start_date or MAY)
            if (common := valid(one) & valid(other))
        }
        found = overlaps(costs)
        assert {(overlap.earlier_line, overlap.later_line) for overlap in found} == shared.keys()
        assert len(found) == len(shared)
        for overlap in found:
            common = shared[overlap.earlier_line, overlap.later_line]
            assert (overlap.since, overlap.until or days[-1]) == (min(common), max(common))
            both = [cost for cost in costs if cost.line in (overlap.earlier_line, overlap.later_line)]
            assert {ProductCosts(both).unit_cost("1", ["a"], day) for day in common} == {Decimal(overlap.later_line)}
