from decimal import Decimal
from typing import Any

import pytest

from sync_pipeline.rows.errors import FieldError
from sync_pipeline.rows.totals import order_total
from sync_pipeline.rules import LineDiscounts

AFTER = "total_price_after_sub_discount"
BOTH = {"total_price": 1000, "total_discount": 300}
LINE = {"quantity": 2, "discount_each_product": 100}


def line(quantity: Any, each: Any, **more: Any) -> dict[str, Any]:
    return {"quantity": quantity, "discount_each_product": each, **more}


def total(raw: dict[str, Any], *items: dict[str, Any], line_discounts: LineDiscounts = "auto") -> Decimal:
    return order_total(raw, items, 1, line_discounts)


@pytest.mark.parametrize(
    ("raw", "items", "expected"),
    [
        ({"total_price": 1000, "total_discount": 1000, AFTER: 0, "cod": 0}, [], 0),
        ({"total_price": 559000, "total_discount": 39000, "transfer_money": 520000}, [], 520000),
        ({"total_price": 522000, "total_discount": 75000, "cod": 447000}, [], 447000),
        ({"total_price": 350000, "total_discount": 5000}, [line(2, 30000), line(3, 15000)], 240000),
        ({"total_price": 230000, "total_discount": -20700}, [line(1, 20700)], 230000),
        ({"total_price": 19900, "total_discount": 4268}, [line(1, 4268)], 15632),
        ({"total_price": 0, "total_discount": 50, "cod": 600}, [], 600),
        ({"total_price": 1000, AFTER: 0, "cod": 1000}, [], 1000),
        ({"total_price": 500, "total_discount": 100, AFTER: 450, "cod": 400}, [line(1, 50)], 450),
        ({"total_price": 100, "total_discount": 250, AFTER: -150}, [], -150),
    ],
)
def test_total_of_orders_seen_in_production(raw: dict[str, Any], items: list[dict[str, Any]], expected: int) -> None:
    assert total(raw, *items) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"cod": 0, "money_to_collect": "449.50", "prepaid": 1}, "449.50"),
        ({"prepaid": 100, "transfer_money": 20, "cash": 3}, "123.00"),
        ({"cod": 5, "money_to_collect": 6, "cash": 3}, "5.00"),
        ({}, "0.00"),
    ],
)
def test_total_without_a_price_is_what_is_paid(raw: dict[str, Any], expected: str) -> None:
    assert str(total(raw)) == expected


@pytest.mark.parametrize(
    ("items", "discounts"),
    [
        ([line(2, 10, is_discount_percent=True, variation_info={"retail_price": 250})], 50),
        ([line(2, "10", is_discount_percent=True, variation_info={"retail_price": "250"})], 50),
        ([line(2, 10, is_discount_percent=False, variation_info={"retail_price": 250})], 20),
        ([line(1, 10, is_discount_percent=True, is_bonus_product=True)], 0),
        ([line(Decimal("1.5"), 100)], 150),
        ([line(2, 0), line(2, None), line(2, "")], 0),
    ],
)
def test_a_line_s_discount_is_per_unit_or_a_percentage(items: list[dict[str, Any]], discounts: int) -> None:
    assert total({"total_price": 1000}, *items) == 1000 - discounts


@pytest.mark.parametrize(("setting", "expected"), [("auto", 500), ("separate", 500), ("included", 700)])
def test_line_discounts_are_subtracted_as_the_shop_says(setting: LineDiscounts, expected: int) -> None:
    assert total(BOTH, LINE, line_discounts=setting) == expected


@pytest.mark.parametrize(
    ("payments", "expected"),
    [
        ({"cod": 700}, 700),
        ({"cod": 400, "prepaid": 100, "transfer_money": 150, "cash": 50}, 700),
        ({"cod": 500}, 500),
        ({"cod": 650}, 500),
        ({}, 500),
        ({"cod": 760, "shipping_fee": 60, "customer_pay_fee": True}, 700),
        ({"cod": 760, "shipping_fee": 60, "customer_pay_fee": False}, 500),
        ({"cod": 700, "shipping_fee": 60, "customer_pay_fee": False}, 700),
    ],
)
def test_auto_takes_the_reading_that_was_paid(payments: dict[str, Any], expected: int) -> None:
    assert total({**BOTH, **payments}, LINE) == expected
    assert total({**BOTH, **payments}, LINE, line_discounts="separate") == 500


@pytest.mark.parametrize("setting", ["auto", "included", "separate"])
def test_a_free_order_is_free_although_lines_repeat_it(setting: LineDiscounts) -> None:
    raw = {"total_price": 1000, "total_discount": 1000, AFTER: 0, "cod": 50}
    assert total(raw, line(1, 400), line_discounts=setting) == 0


def test_equal_discounts_count_twice_where_the_shop_says_so() -> None:
    raw = {"total_price": 19900, "total_discount": 4268}
    assert total(raw, line(1, 4268), line_discounts="separate") == 11364


def test_amounts_are_divided_after_the_discounts() -> None:
    raw = {"total_price": 100000, "total_discount": 5000}
    assert str(order_total(raw, [line(1, 1250)], 100)) == "937.50"


@pytest.mark.parametrize("field", ["total_price", "total_discount", "cod", "shipping_fee"])
@pytest.mark.parametrize("value", ["12,5", Decimal("1E+999999"), Decimal("-1E+99999999"), [], True])
def test_an_unreadable_amount_names_its_field(field: str, value: object) -> None:
    with pytest.raises(FieldError) as raised:
        total({**BOTH, "customer_pay_fee": True, field: value}, LINE)
    assert raised.value.field == field


@pytest.mark.parametrize("field", ["quantity", "discount_each_product"])
def test_an_unreadable_line_names_its_field(field: str) -> None:
    with pytest.raises(FieldError) as raised:
        total(BOTH, {**LINE, field: "many"})
    assert raised.value.field == field
