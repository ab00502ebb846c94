"""Order lists of the Pancake POS API: the documented parameters, what each selects, and the order of the list."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sync_pipeline.sandbox.entities import DELETED, PARTNER_ID, Order, parse_wire_time
from sync_pipeline.sandbox.exchange import Call

DEFAULT_WINDOW = timedelta(days=31)
DELIVERY_ESTIMATE = timedelta(days=4)
DEFAULT_MOMENT = "inserted_at"
DEFAULT_SORT = "inserted_at_desc"

ARRAY_PARAMETERS = frozenset(
    {"filter_status[]", "fields[]", "partner_id[]", "order_sources[]", "ad_ids[]", "extra_fields[]"}
)
PARAMETERS = ARRAY_PARAMETERS | {
    "page_size",
    "page_number",
    "search",
    "include_removed",
    "updateStatus",
    "startDateTime",
    "endDateTime",
    "option_sort",
    "shop_partner_account",
    "customer_id",
    "is_filter_exclude_source",
    "project_ids",
}

Moment = Callable[[Order, datetime], datetime | None]
SortKey = Callable[[Order, datetime], Any]


class BadParameterError(Exception):
    """Raised for a parameter that cannot be read; `status` is that of the answer."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _reached(*statuses: int) -> Moment:
    """Return a function for the time at which an order first had one of the statuses."""
    return lambda order, now: next((at for at, status in order.timeline if status in statuses and at <= now), None)


def _never(_order: Order, _now: datetime) -> None:
    """Stand for a time that no order of the sandbox has."""


def _shown_time(order: Order, name: str) -> datetime | None:
    shown = order.field(name)
    return parse_wire_time(shown) if shown else None


def _estimated(order: Order, now: datetime) -> datetime | None:
    shipped_at = _reached(2)(order, now)
    return _shown_time(order, "estimate_delivery_date") or (shipped_at and shipped_at + DELIVERY_ESTIMATE)


# The times that `updateStatus` can select; a number is the time at which the order took that status.
MOMENTS: Mapping[str, Moment] = {
    "inserted_at": lambda order, _: order.inserted_at,
    "updated_at": lambda order, now: order.updated_at(now),
    "partner_inserted_at": _reached(9, 2),
    "paid_at": _reached(16),
    "estimate_delivery_date": _estimated,
    "picked_up_at": _reached(2),
    "first_delivery_at": _reached(3),
    "transfer_proof": _never,
    "time_assign_seller": lambda order, _: _shown_time(order, "time_assign_seller"),
    "time_assign_care": lambda order, _: _shown_time(order, "time_assign_care"),
    "time_assign_marketer": lambda order, _: _shown_time(order, "time_assign_marketer"),
    "-1": _never,
    **{str(status): _reached(status) for status in (0, 11, 20, 1, 12, 13, 8, 9, 2, 3, 16, 4, 15, 5)},
}


def _status_at(order: Order, now: datetime) -> datetime | None:
    return next((at for at, _ in reversed(order.timeline) if at <= now), None)


def _value(order: Order, _now: datetime) -> float:
    return float(order.field("total_price_after_sub_discount") or order.field("total_price") or order.field("cod") or 0)


def _product_name(order: Order, _now: datetime) -> str | None:
    items = order.field("items") or order.field("order_items") or []
    return items[0]["variation_info"]["name"] if items else None


# Each sorts in both directions, with `_asc` or `_desc` after its name.
SORT_KEYS: Mapping[str, SortKey] = {
    "inserted_at": MOMENTS["inserted_at"],
    "last_updated_order": MOMENTS["updated_at"],
    "last_update_status_at": _status_at,
    "order_valuation": _value,
    "product_quantity": lambda order, _: order.field("total_quantity"),
    "product_name": _product_name,
    "sub_status_sort": lambda order, _: order.field("sub_status"),
    "first_undeliverable_at": _reached(4),
    "customer_sort": lambda order, _: order.field("bill_full_name"),
    "estimate_delivery_date": _estimated,
    "order_source": lambda order, _: order.field("order_sources"),
}
SORTS = frozenset(f"{name}_{direction}" for name in SORT_KEYS for direction in ("asc", "desc"))


@dataclass(frozen=True, slots=True)
class OrderQuery:
    """A parsed request for orders. Empty text and empty sets select everything."""

    start: datetime
    end: datetime
    moment: str
    sort: str
    statuses: frozenset[int]
    include_removed: bool
    search: str
    customer_id: str
    ad_ids: frozenset[str]
    partner_ids: frozenset[int]
    sources: frozenset[tuple[str, ...]]
    exclude_sources: bool
    shop_partner_id: str
    project_id: str

    def takes(self, order: Order, now: datetime) -> bool:
        """Return whether the list includes an order."""
        moment = MOMENTS[self.moment](order, now)
        # Whole seconds, both ends inclusive: an order in the last second of the day is in the day.
        if moment is None or not self.start <= moment.replace(microsecond=0) <= self.end:
            return False
        status = order.status_at(now)
        if self.statuses:
            if status not in self.statuses:
                return False
        elif status == DELETED and not self.include_removed:
            return False
        return not self.is_narrowed or self._narrowed(order, now)

    @property
    def is_narrowed(self) -> bool:
        """Whether the request filters by more than time and status."""
        return bool(
            self.search
            or self.customer_id
            or self.ad_ids
            or self.partner_ids
            or self.sources
            or self.shop_partner_id
            or self.project_id
        )

    def sorted_orders(self, orders: list[Order], now: datetime) -> list[Order]:
        """Sort the orders; those without a value in the sort column come last."""
        name, _, direction = self.sort.rpartition("_")
        key = SORT_KEYS[name]
        keyed = [(key(order, now), order.order_id, order) for order in orders]
        valued = sorted(
            (entry for entry in keyed if entry[0] is not None), key=lambda e: e[:2], reverse=direction == "desc"
        )
        return [entry[2] for entry in [*valued, *(entry for entry in keyed if entry[0] is None)]]

    def _narrowed(self, order: Order, now: datetime) -> bool:
        customer = order.field("customer") or {}
        partner = PARTNER_ID if _reached(2)(order, now) else None
        return (
            (not self.search or _found(self.search, order))
            and self.customer_id in {"", customer.get("id")}
            and (not self.ad_ids or str(order.field("ad_id")) in self.ad_ids)
            and (not self.partner_ids or partner in self.partner_ids)
            and (not self.sources or self._of_source(order) != self.exclude_sources)
            and self.shop_partner_id in {"", str(order.field("shop_partner_id"))}
            and self.project_id in {"", str(order.field("project_id"))}
        )

    def _of_source(self, order: Order) -> bool:
        source = str(order.field("order_sources"))
        return bool({(source,), (source, str(order.field("account")))} & self.sources)


def read_order_query(call: Call, now: datetime) -> OrderQuery:
    """Parse a request. Unknown values of `updateStatus` and `option_sort` mean their defaults."""
    for name in ARRAY_PARAMETERS:
        if call.has(name.removesuffix("[]")):
            raise BadParameterError("Internal Server Error", 500)
    try:
        end = _instant(call.first("endDateTime")) or now
        start = _instant(call.first("startDateTime")) or end - DEFAULT_WINDOW
        moment, sort = call.first("updateStatus"), call.first("option_sort")
        return OrderQuery(
            start=start,
            end=end,
            moment=moment if moment in MOMENTS else DEFAULT_MOMENT,
            sort=sort if sort in SORTS else DEFAULT_SORT,
            statuses=_numbers(call, "filter_status[]"),
            include_removed=call.first("include_removed") in {"1", "true"},
            search=call.first("search").casefold(),
            customer_id=call.first("customer_id"),
            ad_ids=frozenset(_texts(call, "ad_ids[]")),
            partner_ids=_numbers(call, "partner_id[]"),
            sources=frozenset(_source(text) for text in call.every("order_sources[]")),
            exclude_sources=call.first("is_filter_exclude_source") in {"1", "true"},
            shop_partner_id=call.first("shop_partner_account"),
            project_id=call.first("project_ids"),
        )
    except (ValueError, OverflowError, OSError):
        raise BadParameterError("Invalid parameter", 400) from None


def chosen_fields(call: Call) -> frozenset[str]:
    """Return the order fields that `fields[]` selects; empty means all."""
    return frozenset(_texts(call, "fields[]"))


def _instant(text: str) -> datetime | None:
    return datetime.fromtimestamp(int(text), UTC) if text else None


def _texts(call: Call, name: str) -> list[str]:
    texts = call.every(name)
    if any(text.startswith("[") for text in texts):
        raise BadParameterError("Internal Server Error", 500)
    return texts


def _numbers(call: Call, name: str) -> frozenset[int]:
    return frozenset(int(text) for text in _texts(call, name))


def _source(text: str) -> tuple[str, ...]:
    """Parse an order source, alone or with its account: `-1` or `["-1", "314"]`."""
    values = json.loads(text) if text.startswith("[") else [text]
    return tuple(str(value) for value in values)


def _found(wanted: str, order: Order) -> bool:
    names = ("id", "display_id", "bill_full_name", "bill_phone_number", "note")
    return any(wanted in str(order.field(name) or "").casefold() for name in names)
