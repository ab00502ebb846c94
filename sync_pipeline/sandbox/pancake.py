"""The Pancake POS API: shops, orders and products, as Pancake answers them."""

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from math import ceil
from typing import Any

from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.entities import Json, Order, Product, Shop, Tenant
from sync_pipeline.sandbox.exchange import Call, Reply, json_reply
from sync_pipeline.sandbox.generator import LONGEST_ORDER_LIFE
from sync_pipeline.sandbox.pancake_orders import (
    DEFAULT_MOMENT,
    DELIVERY_ESTIMATE,
    BadParameterError,
    OrderQuery,
    chosen_fields,
    read_order_query,
)
from sync_pipeline.sandbox.world import World

PREFIX = "/pancake/api/v1"
DEFAULT_PAGE = 30
LARGEST_PAGE = 500
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
                return self._variations(call, shop)
            case _:
                return _failure("Not found", 404)

    def _variations(self, call: Call, shop: Shop) -> Reply:
        wanted, search = set(call.every("variation_ids[]")), call.first("search").casefold()
        found = [
            (product, variation)
            for product in shop.products
            for variation in product.variations
            if (not wanted or variation.variation_id in wanted)
            and (not search or search in f"{product.plan.name} {variation.display_id}".casefold())
        ]
        # No product here is deactivated.
        return self._listed(call, [] if call.first("product_status") == "locked" else found, _variation)

    def _order(self, tenant: Tenant, shop: Shop, order_id: str) -> Reply:
        order = self._world.order_called(shop.shop_id, order_id)
        if order is None:
            return _failure("Order not found", 200)
        return json_reply({"success": True, "data": order.seen_at(self._world.settled_until(tenant))})

    def _orders(self, call: Call, tenant: Tenant, shop: Shop) -> Reply:
        try:
            query = read_order_query(call, self._world.now())
            fields = chosen_fields(call)
        except BadParameterError as error:
            return _failure(str(error), error.status)
        settled = self._world.settled_until(tenant)

        def render(order: Order) -> Json:
            shown = order.seen_at(settled)
            return {name: value for name, value in shown.items() if name in fields} if fields else shown

        orders = self._matching(tenant, shop, query)
        reply = self._listed(call, orders, render, list_name=self._behaviour.pancake_orders_key)
        since, until = _local_days(tenant, query.start, query.end)
        self._world.page_served(shop.shop_id, _number(call, "page_number", 1), since, until)
        return reply

    def _matching(self, tenant: Tenant, shop: Shop, query: OrderQuery) -> list[Order]:
        settled = self._world.settled_until(tenant)
        key = (shop.shop_id, query, self._world.version, settled)
        found = self._lists.get(key)
        if found is not None:
            return found
        wanted = [
            order
            for day in self._candidate_days(tenant, shop, query)
            for order in self._world.orders(shop.shop_id, day)
            if query.takes(order, settled)
        ]
        listed = query.sorted_orders(wanted, settled)
        # Today's list grows by itself.
        if query.end < settled:
            self._lists[key] = listed
            if len(self._lists) > 24:
                self._lists.popitem(last=False)
        return listed

    def _candidate_days(self, tenant: Tenant, shop: Shop, query: OrderQuery) -> list[date]:
        """The days of insertion whose orders can have the query's time in its window."""
        if query.moment == DEFAULT_MOMENT:
            life, edited = timedelta(), set()
        else:
            life, edited = LONGEST_ORDER_LIFE + DELIVERY_ESTIMATE, self._world.changed_days(shop.shop_id)
        since, until = _local_days(tenant, query.start - life, query.end)
        until = min(until, self._world.today(tenant.timezone))
        return sorted({since + timedelta(days=n) for n in range((until - since).days + 1)} | edited)

    def _listed(
        self,
        call: Call,
        items: Sequence[Any],
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
    page_id = f"1500{shop.shop_id}"
    return {
        "id": shop.shop_id,
        "name": shop.name,
        "avatar_url": None,
        "pages": [
            {
                "id": page_id,
                "name": shop.name,
                "platform": "facebook",
                "settings": {"auto_create_order": True},
                "shop_id": shop.shop_id,
            }
        ],
        "link_post_marketer": [
            {
                "id": f"l-{shop.shop_id}",
                "type": "post",
                "marketer": "m-1",
                "ad_account_id": None,
                "multiple_post": [f"{page_id}_1"],
                "multiple_source": [],
                "inserted_at": "2023-01-01T00:00:00",
                "shop_id": shop.shop_id,
            }
        ],
    }


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
