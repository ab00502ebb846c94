"""Pancake POS orders -> order rows: local date, amounts, cost of goods, mapping, marketing parameters."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from sync_pipeline.rows import values
from sync_pipeline.rows.costs import ProductCosts
from sync_pipeline.rows.customers import without_credentials, without_customer_data
from sync_pipeline.rows.errors import FieldError, RowError, label

_STATUS_NEW: Final = 0
_STATUS_DELETED: Final = 7
_INT4: Final = range(-(2**31), 2**31)

_CURRENCY_AND_DIVISOR: Final = re.compile(r"([A-Z]{3})([0-9]{1,9})", re.ASCII)
_LEADING_LETTERS: Final = re.compile(r"(?:[^\W\d_]|\s)+")
# More than nine digits in a free-text note are a phone number or a code.
_NOTE_COST: Final = re.compile(
    r"-\s*([0-9]{1,3}(?:,[0-9]{3}){1,2}(?![0-9])|[0-9]{1,9}(?![0-9]))(\.[0-9]{1,9})?", re.ASCII
)

# Characters of a text that are read for a mapping, a cost or an ad's id; these stay in caches, too.
_READ_OF_TEXT: Final = 2000
_LONGEST_CURRENCY: Final = 40
_LONG_RUN: Final = re.compile(r"[0-9]{8,}", re.ASCII)
_AD_ID_PARAMETER: Final = re.compile(r"ad_id=([0-9]+)", re.ASCII)
_LONGEST_AD_ID: Final = 30

_MARKED_NUMBER: Final = re.compile(r'"\\u0000([-+0-9.E]+)"', re.ASCII)
_LARGEST_EXPONENT: Final = 1000  # jsonb keeps numbers as numeric, which ends far below what JSON may say


class OrderRow(NamedTuple):
    """A row of `pos_orders`. Amounts in major units; `inserted_at` and `updated_at` aware in UTC.

    `date_local` is the day of `inserted_at` in the tenant's timezone, `uncosted_quantity` the part of
    `total_quantity` no cost was found for, `utm_ad_id` the ad id in `p_utm_content` and `ad_id` Pancake's own.
    `data` is the order as JSON text, its numbers exactly as sent: all but credentials, or the fields that
    `without_customer_data` keeps.
    """

    shop_id: str
    pos_order_id: str
    inserted_at: datetime
    updated_at: datetime | None
    date_local: date
    status: int | None
    status_name: str | None
    total: Decimal
    cod: Decimal
    currency: str | None
    cogs: Decimal
    uncosted_quantity: int
    total_quantity: int
    mapping: str | None
    p_utm_source: str | None
    p_utm_medium: str | None
    p_utm_campaign: str | None
    p_utm_content: str | None
    p_utm_term: str | None
    p_utm_id: str | None
    ad_id: str | None
    utm_ad_id: str | None
    tracking: str | None
    data: str


@dataclass(frozen=True, slots=True)
class Excluded:
    """An order that by rule is no row: deleted in the POS, or a checkout that was never completed.

    `date_local` is None where it has no readable `inserted_at`, which a checkout may lack.
    """

    pos_order_id: str
    reason: Literal["deleted", "abandoned_checkout"]
    date_local: date | None


class Recosted(NamedTuple):
    """Those columns of an order that product costs decide."""

    cogs: Decimal
    uncosted_quantity: int
    mapping: str | None


class UncostedItem(NamedTuple):
    """An item of an order no cost was found for."""

    product_id: str | None
    display_id: str | None
    name: str | None
    quantity: int


def order_row(
    raw: values.Raw,
    *,
    shop_id: str,
    timezone: ZoneInfo,
    costs: ProductCosts,
    money_divisor: int = 1,
    keep_customer_data: bool = False,
) -> OrderRow | Excluded:
    """Read one order of a shop.

    Its amounts are divided by the number in an `order_currency` like `PHP100` or else by `money_divisor`; unit costs,
    from the tenant's file or a note, are in major units already. Unknown status codes are kept. Only with
    `keep_customer_data` the row's `data` names the customer. Raises RowError for a missing id or `inserted_at` and for
    every value that cannot be read.
    """
    try:
        return _order_row(raw, shop_id, timezone, costs, money_divisor, keep_customer_data=keep_customer_data)
    except FieldError as error:
        raise _order_error(error, shop_id, raw.get("id")) from None


def recosted(
    items: str | None, *, shop_id: str, day: date, costs: ProductCosts, pos_order_id: str | None = None
) -> Recosted:
    """Compute a stored order's cost and mapping anew, the way `order_row` does.

    `items` is the JSON text of the items in the row's `data`: text, because a JSON number read as a float would not be
    the one that was sent. `day` is the row's `date_local`. Raises RowError, naming `pos_order_id`, where a sum no
    longer fits its column.
    """
    try:
        found = _stored_items(items)
        keys = [_product_keys(item) for item in found]
        cogs, uncosted_quantity, _ = _costs_of(found, keys, shop_id, day, costs)
        return Recosted(cogs, uncosted_quantity, order_mapping(found, keys, shop_id, costs))
    except FieldError as error:
        raise _order_error(error, shop_id, pos_order_id) from None


def uncosted_items(
    items: str | None, *, shop_id: str, day: date, costs: ProductCosts, pos_order_id: str | None = None
) -> list[UncostedItem]:
    """List the items of a stored order that its `uncosted_quantity` counts; arguments and errors like `recosted`."""
    try:
        return [
            UncostedItem(
                values.optional_text(item, "product_id"),
                values.optional_text(_variation(item), "display_id"),
                values.optional_text(_variation(item), "name"),
                values.counter(item, "quantity"),
            )
            for item in _stored_items(items)
            if _unit_cost(item, _product_keys(item), shop_id, day, costs) is None
        ]
    except FieldError as error:
        raise _order_error(error, shop_id, pos_order_id) from None


def _order_error(error: FieldError, shop_id: str, order_id: object) -> RowError:
    row_id = f"{label(order_id)} of shop {shop_id}"
    return RowError(kind="order", row_id=row_id, field=error.field, value=error.value, why=error.why)


def _day_if_any(raw: values.Raw, timezone: ZoneInfo) -> date | None:
    try:
        return values.instant(raw, "inserted_at").astimezone(timezone).date()
    except FieldError:
        return None


def _order_row(
    raw: values.Raw,
    shop_id: str,
    timezone: ZoneInfo,
    costs: ProductCosts,
    money_divisor: int,
    *,
    keep_customer_data: bool,
) -> OrderRow | Excluded:
    pos_order_id = values.identifier(raw, "id")
    status = values.optional_counter(raw, "status")
    if status == _STATUS_DELETED:
        return Excluded(pos_order_id, "deleted", _day_if_any(raw, timezone))
    # Before anything else is read: an abandoned checkout may lack what every order has.
    if status == _STATUS_NEW and raw.get("shopify_abandon_checkout_id"):
        return Excluded(pos_order_id, "abandoned_checkout", _day_if_any(raw, timezone))
    if status is not None and status not in _INT4:
        raise FieldError("status", status, "is out of range")

    inserted_at = values.instant(raw, "inserted_at")
    date_local = inserted_at.astimezone(timezone).date()
    order_currency = values.optional_text(raw, "order_currency")
    if order_currency is not None and len(order_currency) > _LONGEST_CURRENCY:
        raise FieldError("order_currency", order_currency, "is not a currency")
    currency, own_divisor = _currency(order_currency)
    divisor = own_divisor or money_divisor
    items = _items(raw)
    keys = [_product_keys(item) for item in items]
    partner = raw.get("partner")
    p_utm_content = values.optional_text(raw, "p_utm_content")
    cogs, uncosted_quantity, total_quantity = _costs_of(items, keys, shop_id, date_local, costs)
    return OrderRow(
        shop_id,
        pos_order_id,
        inserted_at,
        values.optional_instant(raw, "updated_at"),
        date_local,
        status,
        values.optional_text(raw, "status_name"),
        _total(raw, divisor),
        values.major_units(values.number(raw, "cod"), divisor, "cod"),
        currency,
        cogs,
        uncosted_quantity,
        total_quantity,
        order_mapping(items, keys, shop_id, costs),
        values.optional_text(raw, "p_utm_source"),
        values.optional_text(raw, "p_utm_medium"),
        values.optional_text(raw, "p_utm_campaign"),
        p_utm_content,
        values.optional_text(raw, "p_utm_term"),
        values.optional_text(raw, "p_utm_id"),
        values.optional_text(raw, "ad_id"),
        utm_ad_id(p_utm_content),
        values.optional_text(partner, "extend_code") if isinstance(partner, dict) else None,
        json_text(without_credentials(raw) if keep_customer_data else without_customer_data(raw)),
    )


def utm_ad_id(p_utm_content: str | None) -> str | None:
    """Find the ad id that an order's `p_utm_content` holds (facts on the ad match).

    All of it where it is digits only; else the longest run of eight digits or more, the first of equally long ones;
    else the digits of an `ad_id=` parameter. None where there is none, and for more than 30 digits: Meta's ids have
    about 18, so that these are something else, of which no part is to be taken for an ad.
    """
    if p_utm_content is None:
        return None
    p_utm_content = p_utm_content[:_READ_OF_TEXT]
    if p_utm_content.isascii() and p_utm_content.isdigit():
        found = p_utm_content
    elif runs := _LONG_RUN.findall(p_utm_content):
        found = max(runs, key=len)
    elif parameter := _AD_ID_PARAMETER.search(p_utm_content):
        found = parameter[1]
    else:
        return None
    return found if len(found) <= _LONGEST_AD_ID else None


@lru_cache(maxsize=256)
def _currency(order_currency: str | None) -> tuple[str | None, int | None]:
    """Split `PHP100` into the currency and the number its amounts are divided by; plain `PHP` names no number."""
    if order_currency is None:
        return None, None
    found = _CURRENCY_AND_DIVISOR.fullmatch(order_currency.strip().upper())
    if not found:
        return order_currency.strip().upper() or None, None
    divisor = int(found[2])
    if divisor == 0:
        raise FieldError("order_currency", order_currency, "would divide by 0")
    return found[1], divisor


def _total(raw: values.Raw, divisor: int) -> Decimal:
    for field in ("total_price_after_sub_discount", "total_price", "cod"):
        if amount := values.number(raw, field):
            return values.major_units(amount, divisor, field)
    return values.ZERO


def _items(raw: values.Raw) -> Sequence[dict[str, Any]]:
    items = raw.get("items")
    if items is None:
        return ()
    if not isinstance(items, list):
        raise FieldError("items", items, "is not a list")
    for item in items:
        if not isinstance(item, dict):
            raise FieldError("items", item, "holds something other than an item")
    return items


def _stored_items(text: str | None) -> Sequence[dict[str, Any]]:
    return _items({"items": None if text is None else json.loads(text, parse_float=Decimal)})


def _costs_of(
    items: Sequence[dict[str, Any]], keys: Sequence[Sequence[str]], shop_id: str, day: date, costs: ProductCosts
) -> tuple[Decimal, int, int]:
    """Return cost of goods, the quantity without a known cost, and the whole quantity."""
    cogs, uncosted, total = values.ZERO, 0, 0
    for item, of_item in zip(items, keys, strict=True):
        quantity = values.counter(item, "quantity")
        total += quantity
        unit_cost = _unit_cost(item, of_item, shop_id, day, costs)
        if unit_cost is None:
            uncosted += quantity
        else:
            cogs += unit_cost * quantity
    for field, value in (("total_quantity", total), ("uncosted_quantity", uncosted)):
        if not -(2**63) <= value < 2**63:
            raise FieldError(field, value, "does not fit bigint")
    return values.cents(cogs, "cogs"), uncosted, total


def _unit_cost(
    item: dict[str, Any], keys: Sequence[str], shop_id: str, day: date, costs: ProductCosts
) -> Decimal | None:
    unit_cost = costs.unit_cost(shop_id, keys, day)
    return _note_cost(item.get("note_product")) if unit_cost is None else unit_cost


def _variation(item: dict[str, Any]) -> dict[str, Any]:
    variation = item.get("variation_info")
    return variation if isinstance(variation, dict) else {}


def _product_keys(item: dict[str, Any]) -> list[str]:
    """List what a product may be known by: ids of variation and product, display ids of both, a custom id.

    The variation's comes first: what the catalogue says of it is more exact than what it says of the whole product.
    """
    variation = _variation(item)
    keys = (
        item.get("variation_id"),
        item.get("product_id"),
        variation.get("display_id"),
        variation.get("product_display_id"),
        item.get("custom_id"),
        variation.get("custom_id"),
    )
    # Clean as the stored order is, so that the cost found in that is the same.
    return [values.clean(key) if type(key) is str else str(key) for key in keys if key and type(key) in {str, int}]


def order_mapping(
    items: Sequence[dict[str, Any]], keys: Sequence[Sequence[str]], shop_id: str, costs: ProductCosts
) -> str | None:
    """Return an order's mapping: those of its products, in lower case, distinct, sorted, joined by `-`.

    `keys` are each item's product keys. Where no product has a mapping: the letters and spaces the first item's
    `note_product` begins with, or else its text before `-`; `Agriblast-100` gives `agriblast`. None where there is
    neither.
    """
    found = {mapping.lower() for of_item in keys if (mapping := costs.mapping(shop_id, of_item))}
    if found:
        return "-".join(sorted(found))
    note = items[0].get("note_product") if items else None
    return _note_mapping(note[:_READ_OF_TEXT]) if isinstance(note, str) else None


@lru_cache(maxsize=1024)
def _note_mapping(note: str) -> str | None:
    note = values.clean(note)
    letters = _LEADING_LETTERS.match(note)
    leading = letters[0].strip() if letters else ""
    return (leading or note.split("-", 1)[0].strip()).lower() or None


def _note_cost(note: Any) -> Decimal | None:
    return _note_cost_of(values.clean(note[:_READ_OF_TEXT])) if isinstance(note, str) else None


@lru_cache(maxsize=1024)
def _note_cost_of(note: str) -> Decimal | None:
    """Read the unit cost written after `-` in a product note: `Agriblast-100` gives 100."""
    found = _NOTE_COST.search(note)
    return Decimal(found[1].replace(",", "") + (found[2] or "")) if found else None


def json_text(raw: values.Raw) -> str:
    """Write a raw object as JSON text that jsonb takes: numbers exactly as sent, NUL and lone surrogates left out.

    Raises FieldError for NaN, infinities, exponents beyond what jsonb can keep, and nesting beyond the stack.
    """
    text, marked = _dump(raw)
    if text.count("\\u0000") != marked:
        text, _ = _dump(_without_nul(raw))
    return values.clean(_MARKED_NUMBER.sub(r"\1", text) if marked else text)


def _dump(raw: Any) -> tuple[str, int]:
    """Write JSON text with each Decimal as a string marked by a leading NUL, and return how many there are.

    The standard encoder writes no Decimal as a number; as no other NUL is kept, the marks are taken out again safely.
    """
    marked = 0

    def mark(value: object) -> str:
        nonlocal marked
        if not isinstance(value, Decimal) or not value.is_finite() or abs(value.adjusted()) > _LARGEST_EXPONENT:
            raise FieldError("data", value, "holds a number that JSON in Postgres cannot keep")
        marked += 1
        return f"\x00{value}"

    try:
        return json.dumps(raw, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=mark), marked
    except FieldError:
        raise
    except (ValueError, RecursionError) as error:
        raise FieldError("data", None, f"cannot be written as JSON ({type(error).__name__})") from None


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    return value
