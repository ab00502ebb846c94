from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_pipeline.rows import values
from sync_pipeline.rows.errors import FieldError, RowError, label

# A slow machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refused(reader: Any, value: object) -> str:
    with pytest.raises(FieldError) as raised:
        reader({"x": value}, "x")
    assert raised.value.field == "x"
    return raised.value.why


class TestMoney:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("14.35", "14.35"),
            (Decimal("14.35"), "14.35"),
            (185, "185.00"),
            ("0.005", "0.01"),
            ("-0.005", "-0.01"),
            ("2.675", "2.68"),
            (" 7 ", "7.00"),
            ("1e3", "1000.00"),
            ("1e-999999", "0.00"),
            ("999999999999.994", "999999999999.99"),
            (None, "0.00"),
            ("", "0.00"),
        ],
    )
    def test_is_rounded_half_up_to_cents(self, written: object, read: str) -> None:
        assert str(values.money({"x": written}, "x")) == read

    @pytest.mark.parametrize(
        "value",
        [
            "12,5",
            "abc",
            "NaN",
            "Infinity",
            "1_000",
            "٣",
            "0x1F",
            True,
            [],
            {},
            1.5,
            Decimal("NaN"),
            Decimal("Infinity"),
        ],
    )
    def test_that_is_no_number_is_refused(self, value: object) -> None:
        assert refused(values.money, value) == "is not a number"

    @pytest.mark.parametrize(
        "value",
        [
            10**12,
            "-1e12",
            "999999999999.995",
            "1e999999",
            Decimal("9E+99999999"),
            pytest.param(10**5000, id="10**5000"),
            "9" * 5000,
        ],
    )
    def test_beyond_the_column_is_refused(self, value: object) -> None:
        assert refused(values.money, value) == "does not fit numeric(14,2)"

    @unhurried
    @given(cents=st.integers(-(10**14) + 1, 10**14 - 1))
    def test_is_the_same_from_text_or_number(self, cents: int) -> None:
        amount = Decimal(cents).scaleb(-2)
        assert values.money({"x": str(amount)}, "x") == values.money({"x": amount}, "x") == amount


class TestCounter:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("185", 185),
            (185, 185),
            (Decimal("185.0"), 185),
            ("007", 7),
            ("-3", -3),
            (None, 0),
            (str(2**63 - 1), 2**63 - 1),
        ],
    )
    def test_is_a_whole_number(self, written: object, read: int) -> None:
        assert values.counter({"x": written}, "x") == read

    @pytest.mark.parametrize("value", [2**63, -(2**63) - 1, str(2**63), "1e999999", Decimal("1E+99999999"), "9" * 5000])
    def test_beyond_bigint_is_refused(self, value: object) -> None:
        assert refused(values.counter, value) == "does not fit bigint"

    def test_with_a_fraction_is_refused(self) -> None:
        assert refused(values.counter, "1.5") == "is not a whole number"

    @pytest.mark.parametrize(("written", "read"), [(None, None), ("", None), (" ", None), (0, 0), ("17", 17)])
    def test_may_be_optional(self, written: object, read: int | None) -> None:
        assert values.optional_counter({"x": written}, "x") == read

    @unhurried
    @given(count=st.integers(-(2**63), 2**63 - 1))
    def test_is_the_same_from_text_or_number(self, count: int) -> None:
        assert values.counter({"x": str(count)}, "x") == values.counter({"x": count}, "x") == count


class TestRoundedCounter:
    @pytest.mark.parametrize(
        ("written", "read"),
        [("0.5", 1), ("-0.5", -1), ("1.49", 1), (Decimal("2.5"), 3), (7, 7), (None, 0), (" ", 0), ("1e-999999", 0)],
    )
    def test_is_rounded_half_up(self, written: object, read: int) -> None:
        assert values.rounded_counter({"x": written}, "x") == read

    @pytest.mark.parametrize("value", [2**63, Decimal(2**63) - Decimal("0.5"), "1e999999", Decimal("1E+99999999")])
    def test_beyond_bigint_is_refused(self, value: object) -> None:
        assert refused(values.rounded_counter, value) == "does not fit bigint"

    def test_of_text_is_refused(self) -> None:
        assert refused(values.rounded_counter, "many") == "is not a number"


class TestQuantity:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            (2, "2"),
            (100, "100"),
            ("2.0", "2"),
            (Decimal("1E+2"), "100"),
            ("1.5", "1.5"),
            (Decimal("1.50"), "1.5"),
            ("0.0005", "0.001"),
            ("0.0004", "0"),
            ("-1.25", "-1.25"),
            (None, "0"),
            ("", "0"),
        ],
    )
    def test_has_at_most_three_decimal_places(self, written: object, read: str) -> None:
        assert str(values.quantity({"x": written}, "x")) == read

    @pytest.mark.parametrize("value", [2**63, str(2**63), "1e999999", Decimal("1E+99999999"), "9" * 5000])
    def test_beyond_bigint_is_refused(self, value: object) -> None:
        assert refused(values.quantity, value) == "does not fit bigint"

    @pytest.mark.parametrize("value", ["many", [], True, Decimal("NaN")])
    def test_that_is_no_number_is_refused(self, value: object) -> None:
        assert refused(values.quantity, value) == "is not a number"

    @unhurried
    @given(thousandths=st.integers(-(10**18), 10**18))
    def test_is_the_same_from_text_or_number(self, thousandths: int) -> None:
        amount = Decimal(thousandths).scaleb(-3)
        assert values.quantity({"x": str(amount)}, "x") == values.quantity({"x": amount}, "x") == amount


class TestText:
    @pytest.mark.parametrize(
        ("written", "stored"),
        [
            ("Promo 🎉 ñ", "Promo 🎉 ñ"),
            ("a\x00b", "ab"),
            ("a\ud83db", "a\ufffdb"),
            ("\ude00\x00", "\ufffd"),
            ("", None),
            ("\x00", None),
            (None, None),
            (12, "12"),
            (Decimal("1.50"), "1.50"),
            (Decimal("1.2E+14"), "120000000000000"),
            (Decimal("1E-7"), "0.0000001"),
        ],
    )
    def test_is_what_postgres_can_store(self, written: object, stored: str | None) -> None:
        assert values.optional_text({"x": written}, "x") == stored

    @pytest.mark.parametrize("value", [True, [], {"a": 1}])
    def test_of_another_kind_is_refused(self, value: object) -> None:
        assert refused(values.optional_text, value) == "is not text"

    @unhurried
    @given(text=st.text(st.characters(codec=None, categories=None)))
    def test_cleaned_can_always_be_stored_and_stays_as_it_is(self, text: str) -> None:
        stored = values.clean(text)
        assert "\x00" not in stored
        assert values.clean(stored) == stored.encode().decode()

    def test_of_ten_kilobytes_is_kept_whole(self) -> None:
        assert values.optional_text({"x": "né" * 5000}, "x") == "né" * 5000


class TestIdentifier:
    @pytest.mark.parametrize("value", ["120210000000000001", 120210000000000001, 2**63 + 1, "PO-17", "ñ-1"])
    def test_is_kept_as_text_whatever_its_size(self, value: str | int) -> None:
        assert values.identifier({"x": value}, "x") == str(value)

    @pytest.mark.parametrize("value", [None, "", "  ", "1\x00", "\ud800", True, 1.0, Decimal("1.0"), [], {}])
    def test_that_could_be_mistaken_is_refused(self, value: object) -> None:
        assert refused(values.identifier, value) == "is not an id"

    def test_of_thousands_of_digits_is_refused(self) -> None:
        assert refused(values.identifier, 10**5000) == "is longer than 64 characters"


class TestInstant:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("2026-10-06T02:49:22.963202", datetime(2026, 10, 6, 2, 49, 22, 963202, tzinfo=UTC)),
            ("2020-05-12T04:51:42", datetime(2020, 5, 12, 4, 51, 42, tzinfo=UTC)),
            ("2020-05-12 04:51:42", datetime(2020, 5, 12, 4, 51, 42, tzinfo=UTC)),
            ("2020-05-12T04:51:42Z", datetime(2020, 5, 12, 4, 51, 42, tzinfo=UTC)),
            ("2020-05-12T04:51:42.5Z", datetime(2020, 5, 12, 4, 51, 42, 500000, tzinfo=UTC)),
            ("2020-05-12T04:51:42+08:00", datetime(2020, 5, 11, 20, 51, 42, tzinfo=UTC)),
        ],
    )
    def test_is_utc_unless_it_says_otherwise(self, written: str, read: datetime) -> None:
        found = values.instant({"x": written}, "x")
        assert found == read
        assert found.utcoffset() == timedelta(0)

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "",
            1759719000,
            "2026-10-06",
            "2026-W01-1T00:00",
            "06/10/2026 02:49",
            "0001-01-01T00:00:00+14:00",
            "x" * 99,
        ],
    )
    def test_of_another_form_is_refused(self, value: object) -> None:
        assert refused(values.instant, value) == "is not a timestamp"

    @pytest.mark.parametrize("value", [None, ""])
    def test_may_be_optional(self, value: object) -> None:
        assert values.optional_instant({"x": value}, "x") is None

    def test_that_is_optional_is_refused_all_the_same_when_unreadable(self) -> None:
        assert refused(values.optional_instant, []) == "is not a timestamp"

    @unhurried
    @given(
        moment=st.datetimes(datetime(1900, 1, 2), datetime(2199, 12, 30)),  # noqa: DTZ001 (the offset is drawn apart)
        minutes=st.none() | st.integers(-14 * 60, 14 * 60),
    )
    def test_survives_being_written_with_any_offset(self, moment: datetime, minutes: int | None) -> None:
        zone = None if minutes is None else timezone(timedelta(minutes=minutes))
        written = moment.replace(tzinfo=zone).isoformat()
        assert values.instant({"x": written}, "x") == moment.replace(tzinfo=zone or UTC)


class TestRowError:
    def test_is_one_clear_line(self) -> None:
        error = RowError(kind="order", row_id="17 of shop 100200", field="cod", value="12,5", why="is not a number")
        assert str(error) == "order 17 of shop 100200: cod is not a number, found '12,5'"
        assert (error.kind, error.row_id, error.field, error.value) == ("order", "17 of shop 100200", "cod", "'12,5'")

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("12,5", "'12,5'"),
            ("2026-10-05", "'2026-10-05'"),
            (1.5, "a float"),
            (Decimal("1.5"), "1.5"),
            (-17, "-17"),
            (True, "true"),
            (" \n", "a blank text"),
            ("", "a blank text"),
            (None, "nothing"),
            ({"secret": 1}, "an object"),
            ([1], "a list"),
            pytest.param(10**5000, "a number of more than 40 digits", id="10**5000"),
            (Decimal("1E+999999"), "a number of 9 characters"),
        ],
    )
    def test_describes_any_value_in_one_line(self, value: object, shown: str) -> None:
        assert described(value) == shown

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("MARIA", "a text of 5 characters"),
            ("J X", "a text of 3 characters"),
            ("0917123", "a text of 7 characters"),
            (639171234567, "a number of 12 characters"),
            (Decimal("639171234567.0"), "a number of 14 characters"),
            ("é" * 10_000, "a text of 10000 characters"),
        ],
    )
    def test_quotes_nothing_that_may_be_a_customer_s(self, value: object, shown: str) -> None:
        assert described(value) == shown

    @pytest.mark.parametrize(
        ("value", "label_of_it"),
        [
            (17, "17"),
            ("C400000001.88", "C400000001.88"),
            ("CRM-7/1", "CRM-7/1"),
            ("MARIA X", "?"),
            ("x" * 41, "?"),
            ("", "?"),
            ({}, "?"),
            pytest.param(10**5000, "?", id="10**5000"),
        ],
    )
    def test_names_a_row_by_nothing_but_an_id(self, value: object, label_of_it: str) -> None:
        assert label(value) == label_of_it


def described(value: object) -> str:
    return RowError(kind="order", row_id="1", field="x", value=value, why="is odd").value
