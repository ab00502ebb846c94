"""The total of an order, from the prices, discounts and payments that Pancake sends."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from sync_pipeline.rows import values
from sync_pipeline.rules import LineDiscounts

_PAID_IN_ADVANCE: Final = ("prepaid", "transfer_money", "cash")


def order_total(
    raw: values.Raw, items: Sequence[dict[str, Any]], divisor: int, line_discounts: LineDiscounts = "auto"
) -> Decimal:
    """Return an order's total in major units, from its amounts in minor ones.

    It is `total_price_after_sub_discount` where that is not 0, or is 0 because the discounts equal the price; else
    `total_price` less the discounts; else `cod`, `money_to_collect`, or what was paid in advance, the
    first of these that is not 0.
    """
    after = values.number(raw, "total_price_after_sub_discount")
    if after:
        return values.major_units(after, divisor, "total_price_after_sub_discount")
    price = values.amount(raw, "total_price")
    if price:
        stated_as_free = not _is_blank(raw.get("total_price_after_sub_discount"))
        discounts = _discounts(raw, items, price, line_discounts, stated_as_free=stated_as_free)
        return values.major_units(price - discounts, divisor, "total_price")
    for field in ("cod", "money_to_collect"):
        if amount := values.number(raw, field):
            return values.major_units(amount, divisor, field)
    paid = sum((values.amount(raw, field) for field in _PAID_IN_ADVANCE), Decimal(0))
    return values.major_units(paid, divisor, "prepaid")


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _discounts(
    raw: values.Raw,
    items: Sequence[dict[str, Any]],
    price: Decimal,
    line_discounts: LineDiscounts,
    *,
    stated_as_free: bool,
) -> Decimal:
    """Return all discounts of an order whose `total_price` is not 0."""
    whole = values.amount(raw, "total_discount")
    lines = _line_discounts(items)
    separate = whole + lines
    if stated_as_free and price in (whole, lines, separate):
        return price
    if line_discounts != "auto":
        return whole if line_discounts == "included" else separate
    # Equal amounts are the same discount written twice.
    if not lines or lines == whole:
        return whole
    return whole if price - whole == _paid(raw) else separate


def _line_discounts(items: Sequence[dict[str, Any]]) -> Decimal:
    total = Decimal(0)
    for item in items:
        if not item.get("discount_each_product"):
            continue
        each = values.amount(item, "discount_each_product")
        if values.flag(item, "is_discount_percent"):
            variation = item.get("variation_info")
            unit_price = values.amount(variation, "retail_price") if isinstance(variation, dict) else Decimal(0)
            each = unit_price * each / 100
        total += each * values.amount(item, "quantity")
    return total


def _paid(raw: values.Raw) -> Decimal:
    """Return what the customer pays for the goods: all payments, less the shipping fee where the customer pays it."""
    paid = sum((values.amount(raw, field) for field in ("cod", *_PAID_IN_ADVANCE)), Decimal(0))
    return paid - values.amount(raw, "shipping_fee") if values.flag(raw, "customer_pay_fee") else paid
