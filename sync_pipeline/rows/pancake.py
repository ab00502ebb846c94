"""Pancake POS orders -> order rows: local date, amounts, cost of goods, mapping, marketing parameters."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from sync_pipeline.rows import values
from sync_pipeline.rows.costs import ProductCosts
from sync_pipeline.rows.customers import without_credentials, without_customer_data
from sync_pipeline.rows.errors import FieldError, RowError, key_of, label, part_of, require_object
from sync_pipeline.rows.notes import note_cost, note_mapping
from sync_pipeline.rows.totals import order_total
from sync_pipeline.rules import DEFAULT_AD_ID_FIELDS, AdIdField, LineDiscounts

_STATUS_NEW: Final = 0
_STATUS_DELETED: Final = 7
_INT4: Final = range(-(2**31), 2**31)

# Not only ASCII spaces: spreadsheets and browsers put no-break spaces between a currency and a number.
_CURRENCY_AND_DIVISOR: Final = re.compile(r"([A-Z]{3})\s*([0-9]{1,9})(?:\.([0-9]*))?")
_DIGIT: Final = re.compile("[0-9]")
# Shopify, Webcake and Storecake each mark their abandoned carts in their own way.
_CART_MARKS: Final = ("is_abandoned_order", "is_webcake_abandoned_cart")

# Pancake's own attribution is an ad id as it is; in the other fields the id is searched for.
_OWN_AD_ID: Final = "ad_id"

# Figures are grouped by the mapping, in an index of Postgres that takes 2,704 bytes.
_LONGEST_MAPPING: Final = 500

# Characters of a text that are read for an ad's id.
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
    `ad_candidates` are the ad ids found, as JSON text in the order they are tried, or None where that order is the
    default one, `utm_ad_id` and then `ad_id`. `rules` is the fingerprint of the settings the row was read with.
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
    uncosted_quantity: Decimal
    total_quantity: Decimal
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
    rules: str | None = None
    ad_candidates: str | None = None


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
    uncosted_quantity: Decimal
    mapping: str | None


class UncostedItem(NamedTuple):
    """An item of an order no cost was found for."""

    product_id: str | None
    display_id: str | None
    name: str | None
    quantity: Decimal


def order_row(
    raw: values.Raw,
    *,
    shop_id: str,
    timezone: ZoneInfo,
    costs: ProductCosts,
    money_divisor: int = 1,
    line_discounts: LineDiscounts = "auto",
    ad_id_fields: Sequence[AdIdField] = DEFAULT_AD_ID_FIELDS,
    rules: str | None = None,
    keep_customer_data: bool = False,
) -> OrderRow | Excluded:
    """Read one order of a shop.

    Its amounts are divided by the number in an `order_currency` like `PHP100` or else by `money_divisor`; unit costs,
    from the tenant's file or a note, are in major units already. `line_discounts` says whether `total_discount`
    contains them (see `order_total`), `ad_id_fields` which fields hold the ad id, in the order they are tried, and
    `rules` is stored with the row. Unknown status codes are kept. Only with
    `keep_customer_data` the row's `data` names the customer. Raises RowError for a missing id or `inserted_at` and for
    every value that cannot be read.
    """
    try:
        row = _order_row(
            raw, shop_id, timezone, costs, money_divisor, line_discounts, keep_customer_data=keep_customer_data
        )
    except FieldError as error:
        day = _day_if_any(raw, timezone) if isinstance(raw, Mapping) else None
        raise _order_error(error, shop_id, part_of(raw, "id"), day) from None
    if isinstance(row, Excluded):
        return row
    ordinary = tuple(ad_id_fields) == DEFAULT_AD_ID_FIELDS
    return row._replace(rules=rules, ad_candidates=None if ordinary else _ad_candidates(row, ad_id_fields))


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
        keys = [_product_keys(item, shop_id, costs) for item in found]
        cogs, uncosted_quantity, _ = _costs_of(found, keys, shop_id, day, costs)
        return Recosted(cogs, uncosted_quantity, order_mapping(found, keys, shop_id, costs))
    except FieldError as error:
        raise _order_error(error, shop_id, pos_order_id, day) from None


def uncosted_items(
    items: str | None, *, shop_id: str, day: date, costs: ProductCosts, pos_order_id: str | None = None
) -> list[UncostedItem]:
    """List the items of a stored order that its `uncosted_quantity` counts; arguments and errors like `recosted`."""
    try:
        return [
            UncostedItem(
                values.optional_text(item, "product_id"),
                values.optional_text(_variation(item), "display_id"),
                values.optional_name(_variation(item), "name"),
                values.quantity(item, "quantity"),
            )
            for item in _stored_items(items)
            if _unit_cost(item, _product_keys(item, shop_id, costs), shop_id, day, costs) is None
        ]
    except FieldError as error:
        raise _order_error(error, shop_id, pos_order_id, day) from None


def _order_error(error: FieldError, shop_id: str, order_id: object, day: date | None) -> RowError:
    return RowError(
        kind="order",
        row_id=f"{label(order_id)} of shop {shop_id}",
        field=error.field,
        value=error.value,
        why=error.why,
        key=key_of(order_id),
        day=day,
    )


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
    line_discounts: LineDiscounts,
    *,
    keep_customer_data: bool,
) -> OrderRow | Excluded:
    require_object(raw)
    pos_order_id = values.identifier(raw, "id")
    status = values.optional_counter(raw, "status")
    if status == _STATUS_DELETED:
        return Excluded(pos_order_id, "deleted", _day_if_any(raw, timezone))
    # Before anything else is read: an abandoned checkout may lack what every order has.
    if status == _STATUS_NEW and _is_abandoned_cart(raw):
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
    keys = [_product_keys(item, shop_id, costs) for item in items]
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
        order_total(raw, items, divisor, line_discounts),
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


def _ad_candidates(row: OrderRow, ad_id_fields: Sequence[AdIdField]) -> str:
    """Return the ad ids in these fields of a row, in this order, as JSON text."""
    found = []
    for field in ad_id_fields:
        text: str | None = getattr(row, field)
        if ad_id := text if field == _OWN_AD_ID else utm_ad_id(text):
            found.append({"field": field, "ad_id": ad_id})
    return json.dumps(found, ensure_ascii=False)


def _is_abandoned_cart(raw: values.Raw) -> bool:
    checkout = raw.get("shopify_abandon_checkout_id")
    if isinstance(checkout, str):
        checkout = checkout.strip() not in {"", "0"}
    return bool(checkout) or any(values.flag(raw, mark) for mark in _CART_MARKS)


def utm_ad_id(p_utm_content: str | None) -> str | None:
    """Find the ad id that an order's `p_utm_content`, or another marketing parameter, holds.

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
    """Split `PHP100`, also written `PHP 100` and `PHP100.0`, into the currency and the number that divides its amounts.

    Plain `PHP` and `PHP0` name no number. Raises FieldError where there is another number: amounts that are not divided
    by it would be a hundred times too large.
    """
    if order_currency is None:
        return None, None
    text = order_currency.strip().upper()
    found = _CURRENCY_AND_DIVISOR.fullmatch(text)
    if not found:
        if _DIGIT.search(text):
            raise FieldError("order_currency", order_currency, "is not a currency and a divisor, such as PHP100")
        return text or None, None
    if found[3] and found[3].strip("0"):
        raise FieldError("order_currency", order_currency, "has a divisor that is not a whole number")
    return found[1], int(found[2]) or None


def _items(raw: values.Raw) -> Sequence[dict[str, Any]]:
    """Return an order's items, which some shops send as `order_items`."""
    field = "order_items" if raw.get("items") in (None, []) else "items"
    items = raw.get(field)
    if items is None:
        return ()
    if not isinstance(items, list):
        raise FieldError(field, items, "is not a list")
    for item in items:
        if not isinstance(item, dict):
            raise FieldError(field, item, "holds something other than an item")
    return items


def _stored_items(text: str | None) -> Sequence[dict[str, Any]]:
    return _items({"items": None if text is None else json.loads(text, parse_float=Decimal)})


def _costs_of(
    items: Sequence[dict[str, Any]], keys: Sequence[Sequence[str]], shop_id: str, day: date, costs: ProductCosts
) -> tuple[Decimal, Decimal, Decimal]:
    """Return cost of goods, the quantity without a known cost, and the whole quantity."""
    cogs, uncosted, total = values.ZERO, Decimal(0), Decimal(0)
    for item, of_item in zip(items, keys, strict=True):
        quantity = values.quantity(item, "quantity")
        total += quantity
        unit_cost = _unit_cost(item, of_item, shop_id, day, costs)
        if unit_cost is None:
            uncosted += quantity
        else:
            cogs += unit_cost * quantity
    for field, value in (("total_quantity", total), ("uncosted_quantity", uncosted)):
        values.require_moderate(value, field)
    return values.cents(cogs, "cogs"), values.plain(uncosted), values.plain(total)


def _unit_cost(
    item: dict[str, Any], keys: Sequence[str], shop_id: str, day: date, costs: ProductCosts
) -> Decimal | None:
    unit_cost = costs.unit_cost(shop_id, keys, day)
    return note_cost(item.get("note_product")) if unit_cost is None else unit_cost


def _variation(item: dict[str, Any]) -> dict[str, Any]:
    variation = item.get("variation_info")
    return variation if isinstance(variation, dict) else {}


def _product_keys(item: dict[str, Any], shop_id: str, costs: ProductCosts) -> list[str]:
    """List what a product may be known by: ids and custom ids of variation and product, display ids of both.

    The variation's come first: what is said of it is more exact than what is said of the whole product. Display ids
    that several products of the shop share are left out.
    """
    variation = _variation(item)
    keys = [_key(item.get("variation_id")), _key(variation.get("custom_id")), _key(item.get("product_id"))]
    display_ids = (_key(variation.get("display_id")), _key(variation.get("product_display_id")))
    keys += [key for key in display_ids if key and not costs.is_shared(shop_id, key)]
    keys.append(_key(item.get("custom_id")))
    return [key for key in keys if key]


def _key(value: object) -> str | None:
    # Clean as the stored order is, so that the cost found in that is the same.
    if type(value) is str:
        return values.clean(value)
    return str(value) if type(value) is int and value else None


def order_mapping(
    items: Sequence[dict[str, Any]], keys: Sequence[Sequence[str]], shop_id: str, costs: ProductCosts
) -> str | None:
    """Return an order's mapping: those of its products, in lower case, distinct, sorted, joined by `-`.

    `keys` are each item's product keys. Where no product has a mapping, the first item's note decides (see
    `note_mapping`). At most 500 characters of it are kept.
    """
    found = {values.nfc(mapping.lower()) for of_item in keys if (mapping := costs.mapping(shop_id, of_item))}
    if found:
        return "-".join(sorted(found))[:_LONGEST_MAPPING]
    of_note = note_mapping(items[0].get("note_product")) if items else None
    return of_note[:_LONGEST_MAPPING].rstrip() if of_note else None


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
