"""The Pancake POS API: shops, orders and products, as Pancake answers them."""

import re
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Any

from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.entities import DELETED, Json, Order, Product, Shop, Tenant
from sync_pipeline.sandbox.exchange import Call, Reply, json_reply
from sync_pipeline.sandbox.generator import LONGEST_ORDER_LIFE
from sync_pipeline.sandbox.world import World

PREFIX = "/pancake/api/v1"
DEFAULT_PAGE = 30
LARGEST_PAGE = 500
DEFAULT_WINDOW = timedelta(days=31)
BAD_KEY: Json = {"message": "api_key is invalid", "success": False, "error_code": 105}
RATE_LIMITED: Json = {"success": False, "message": "You have reached the limit of requests", "error_code": 106}


class PancakeApi:
    """Answers everything under `/pancake/api/v1`."""

    def __init__(self, world: World, behaviour: Behaviour) -> None:
        self._world = world
        self._behaviour = behaviour
        self._lists: OrderedDict[object, list[Order]] = OrderedDict()

    def answer(self, call: Call) -> Reply:
        """The answer to one request, errors included."""
        key = call.first("api_key")
        tenant = self._world.tenant_of_key(key)
        if tenant is None:
            return json_reply(BAD_KEY, 403)
        path = call.path.removeprefix(PREFIX).strip("/")
        if path == "shops":
            return json_reply({"success": True, "shops": [_shop(shop) for shop in tenant.shops_of_key(key)]})
        found = re.fullmatch(r"shops/(\d+)/(.+)", path)
        if not found:
            return _failure("Not found", 404)
        shop = next((shop for shop in tenant.shops_of_key(key) if shop.shop_id == int(found[1])), None)
        if shop is None:
            return _failure("You do not have permission to access this shop", 403)
        match found[2].split("/"):
            case ["orders"]:
                return self._orders(call, tenant, shop)
            case ["orders", order_id]:
                return self._order(tenant, shop, order_id)
            case ["products"]:
                return self._listed(call, shop.products, _product)
            case ["products", "variations"]:
                return self._listed(call, [(p, v) for p in shop.products for v in p.variations], _variation)
            case _:
                return _failure("Not found", 404)

    def _order(self, tenant: Tenant, shop: Shop, order_id: str) -> Reply:
        order = self._world.order(shop.shop_id, int(order_id)) if order_id.isdigit() and int(order_id) > 0 else None
        if order is None:
            return _failure("Order not found", 200)
        return json_reply({"success": True, "data": order.seen_at(self._world.settled_until(tenant))})

    def _orders(self, call: Call, tenant: Tenant, shop: Shop) -> Reply:
        if call.has("filter_status"):
            # Only the repeated form `filter_status[]` is understood.
            return _failure("Internal Server Error", 500)
        by = call.first("updateStatus", "inserted_at")
        sort = call.first("option_sort", "inserted_at_desc")
        known_sort = re.fullmatch(r"(inserted_at|last_updated_order)_(a|de)sc", sort)
        if by not in {"inserted_at", "updated_at"} or not known_sort:
            return _failure("Unknown updateStatus or option_sort", 200)
        try:
            start, end = self._window(call)
            statuses = frozenset(int(status) for status in call.every("filter_status[]"))
        except (ValueError, OverflowError, OSError):
            return _failure("Invalid parameter", 400)
        orders = self._matching(tenant, shop, start, end, by, statuses, sort)
        settled = self._world.settled_until(tenant)
        reply = self._listed(
            call, orders, lambda order: order.seen_at(settled), list_name=self._behaviour.pancake_orders_key
        )
        since, until = _local_days(tenant, start, end)
        self._world.page_served(shop.shop_id, _number(call, "page_number", 1), since, until)
        return reply

    def _window(self, call: Call) -> tuple[datetime, datetime]:
        now = self._world.now()
        end = datetime.fromtimestamp(int(call.first("endDateTime")), UTC) if call.first("endDateTime") else now
        start = call.first("startDateTime")
        return (datetime.fromtimestamp(int(start), UTC) if start else end - DEFAULT_WINDOW), end

    def _matching(
        self, tenant: Tenant, shop: Shop, start: datetime, end: datetime, by: str, statuses: frozenset[int], sort: str
    ) -> list[Order]:
        settled = self._world.settled_until(tenant)
        key = (shop.shop_id, start, end, by, statuses, sort, self._world.version, settled)
        found = self._lists.get(key)
        if found is not None:
            return found
        wanted = [
            order
            for day in self._candidate_days(tenant, shop, start, end, by)
            for order in self._world.orders(shop.shop_id, day)
            if self._in_window(order, by, start, end, settled)
            and (order.status_at(settled) in statuses if statuses else order.status_at(settled) != DELETED)
        ]
        moment: Callable[[Order], datetime] = (
            (lambda order: order.inserted_at)
            if sort.startswith("inserted")
            else (lambda order: order.updated_at(settled))
        )
        wanted.sort(key=lambda order: (moment(order), order.order_id), reverse=sort.endswith("desc"))
        # Today's list grows by itself.
        if end < settled:
            self._lists[key] = wanted
            if len(self._lists) > 24:
                self._lists.popitem(last=False)
        return wanted

    def _candidate_days(self, tenant: Tenant, shop: Shop, start: datetime, end: datetime, by: str) -> list[date]:
        life = LONGEST_ORDER_LIFE if by == "updated_at" else timedelta()
        since, until = _local_days(tenant, start - life, end)
        until = min(until, self._world.today(tenant.timezone))
        days = {since + timedelta(days=n) for n in range((until - since).days + 1)}
        return sorted(days | (self._world.changed_days(shop.shop_id) if by == "updated_at" else set()))

    def _in_window(self, order: Order, by: str, start: datetime, end: datetime, settled: datetime) -> bool:
        moment = order.inserted_at if by == "inserted_at" else order.updated_at(settled)
        # Whole seconds, both ends inclusive: an order in the last second of the day is in the day.
        return start <= moment.replace(microsecond=0) <= end

    def _listed(
        self,
        call: Call,
        items: Any,
        render: Callable[[Any], Json],
        *,
        list_name: str = "data",
    ) -> Reply:
        page = _number(call, "page_number", 1)
        size = min(LARGEST_PAGE, _number(call, "page_size", DEFAULT_PAGE))
        shown = [render(item) for item in items[(page - 1) * size : page * size]]
        counters: Json = {
            "page_number": page,
            "page_size": size,
            "total_entries": len(items),
            "total_pages": ceil(len(items) / size),
        }
        if self._behaviour.pancake_text_counters:
            counters = {name: str(value) for name, value in counters.items()}
        return json_reply({list_name: shown, "success": True, **counters})


def _local_days(tenant: Tenant, start: datetime, end: datetime) -> tuple[date, date]:
    return start.astimezone(tenant.timezone).date(), end.astimezone(tenant.timezone).date()


def _number(call: Call, name: str, default: int) -> int:
    text = call.first(name)
    return int(text) if text.isdigit() and int(text) > 0 else default


def _failure(message: str, status: int) -> Reply:
    return json_reply({"success": False, "message": message}, status)


def _shop(shop: Shop) -> Json:
    page = {"id": f"1500{shop.shop_id}", "name": shop.name, "platform": "facebook"}
    return {"id": shop.shop_id, "name": shop.name, "avatar_url": None, "pages": [page]}


def _product(product: Product) -> Json:
    return {
        "id": product.product_id,
        "custom_id": product.custom_id,
        "name": product.plan.name,
        "variations": [_bare_variation(product, variation) for variation in product.variations],
    }


def _variation(pair: tuple[Product, Any]) -> Json:
    product, variation = pair
    return {
        **_bare_variation(product, variation),
        "product": {"id": product.product_id, "custom_id": product.custom_id, "name": product.plan.name},
    }


def _bare_variation(product: Product, variation: Any) -> Json:
    return {
        "id": variation.variation_id,
        "product_id": product.product_id,
        "display_id": variation.display_id,
        "custom_id": variation.custom_id,
        # Often 0 in real shops, whatever the orders say.
        "retail_price": 0 if product.plan.unit_cost < 50 else variation.price,
        "last_imported_price": 0,
    }
