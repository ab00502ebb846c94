"""The data both APIs show: ad accounts, ads and their daily figures, shops, products and orders.

Everything a day holds follows from (seed, ad account or shop, day) alone, so it is the same whatever was asked before,
and is made when first asked for. Edits lie over it as a second layer and can be undone.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

from sync_pipeline.sandbox.demo_tenants import DEMO_TENANTS, AccountPlan, ShopPlan, TenantPlan
from sync_pipeline.sandbox.entities import (
    DELETED,
    Ad,
    AdAccount,
    Insight,
    Json,
    Order,
    Shop,
    Tenant,
    local_midnight,
    wire_time,
)
from sync_pipeline.sandbox.generator import (
    OPENING_DAY,
    make_account,
    make_added_order,
    make_insights,
    make_orders,
    make_shop,
    make_tenant,
)

Row = TypeVar("Row")


class _DayCache(Generic[Row]):
    """Rows of the days used last, bounded by the number of rows."""

    def __init__(self, most_rows: int) -> None:
        self._most_rows = most_rows
        self._rows = 0
        self._days: OrderedDict[tuple[str, date], tuple[Row, ...]] = OrderedDict()

    def get(self, key: tuple[str, date], make: Callable[[], Iterable[Row]]) -> tuple[Row, ...]:
        found = self._days.get(key)
        if found is not None:
            self._days.move_to_end(key)
            return found
        made = tuple(make())
        self._days[key] = made
        self._rows += len(made)
        while self._rows > self._most_rows and len(self._days) > 1:
            self._rows -= len(self._days.popitem(last=False)[1])
        return made


@dataclass
class _Edits:
    hidden_ads: set[str] = field(default_factory=set)
    restated: dict[tuple[str, date], float] = field(default_factory=dict)
    changed_orders: dict[tuple[int, int], Json] = field(default_factory=dict)
    added_orders: dict[tuple[int, date], list[Order]] = field(default_factory=dict)
    awaited_orders: list[tuple[int, Order, date]] = field(default_factory=list)
    expired_tokens: set[str] = field(default_factory=set)


class World:
    """The data of all tenants, and the edits that tests make to it.

    `ads` is the number of ads and `orders` about the number of orders a day, both per tenant. `now` is the clock that
    ages orders and hides what has not happened yet. Days before 2023-01-01 are empty. Safe to use from several threads.
    """

    def __init__(
        self,
        *,
        seed: int = 7,
        ads: int = 64,
        orders: int = 120,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        plans: Sequence[TenantPlan] = DEMO_TENANTS,
    ) -> None:
        self.seed = seed
        self.now = now
        self.version = 0
        self._ads = ads
        self._orders = orders
        self._id_stride = 2 * orders + 80
        self._lock = threading.RLock()
        self._plans = tuple(plans)
        self._edits = _Edits()
        self._build()

    def _build(self) -> None:
        self._insight_days: _DayCache[Insight] = _DayCache(300_000)
        self._order_days: _DayCache[Order] = _DayCache(40_000)
        self.tenants = {
            plan.name: make_tenant(plan, rank, self._ads, self._orders) for rank, plan in enumerate(self._plans)
        }
        self._ads_for_orders = {
            name: [ad for account in tenant.accounts for ad in account.ads] for name, tenant in self.tenants.items()
        }
        self._index()

    def _index(self) -> None:
        self._accounts = {a.account_id: (t, a) for t in self.tenants.values() for a in t.accounts}
        self._shops = {s.shop_id: (t, s) for t in self.tenants.values() for s in t.shops}
        self._ads_by_id = {ad.ad_id: ad for _, account in self._accounts.values() for ad in account.ads}

    # Looking things up

    def secrets(self) -> dict[str, str]:
        """Every tenant's token and keys by the name of the environment variable that holds it."""
        found: dict[str, str] = {}
        for tenant in self.tenants.values():
            found[tenant.plan.meta_variable] = tenant.meta_token
            found.update(tenant.pancake_keys)
        return found

    def tenant_of_token(self, token: str) -> Tenant | None:
        """The tenant whose Meta token this is."""
        return next((tenant for tenant in self.tenants.values() if tenant.meta_token == token), None)

    def token_expired(self, tenant: Tenant) -> bool:
        """Whether `expire_token` was called for the tenant."""
        return tenant.name in self._edits.expired_tokens

    def tenant_of_key(self, key: str) -> Tenant | None:
        """The tenant one of whose Pancake keys this is."""
        return next((tenant for tenant in self.tenants.values() if key in tenant.pancake_keys.values()), None)

    def account(self, account_id: str) -> tuple[Tenant, AdAccount] | None:
        """The ad account (id without `act_`) and its tenant."""
        return self._accounts.get(account_id)

    def shop(self, shop_id: int) -> tuple[Tenant, Shop] | None:
        """The shop and its tenant."""
        return self._shops.get(shop_id)

    def ad(self, ad_id: str) -> Ad | None:
        """The ad, unless hidden."""
        return None if ad_id in self._edits.hidden_ads else self._ads_by_id.get(ad_id)

    def ads(self, account_id: str) -> list[Ad]:
        """All ads of an account, archived and deleted ones included, hidden ones not."""
        _, account = self._accounts[account_id]
        return [ad for ad in account.ads if ad.ad_id not in self._edits.hidden_ads]

    def today(self, timezone: ZoneInfo) -> date:
        """Today there."""
        return self.now().astimezone(timezone).date()

    def insights(self, account_id: str, day: date) -> list[Insight]:
        """The figures of one day of the account, of all ads that delivered, archived and deleted ones included."""
        with self._lock:
            _, account = self._accounts[account_id]
            if not OPENING_DAY <= day <= self.today(account.timezone):
                return []
            rows = self._insight_days.get((account_id, day), lambda: make_insights(self.seed, account, day))
            factor = self._edits.restated.get((account_id, day))
            hidden = self._edits.hidden_ads
            seen = [row for row in rows if row.ad.ad_id not in hidden] if hidden else list(rows)
            return seen if factor is None else [_scaled(row, factor) for row in seen]

    def orders(self, shop_id: int, day: date) -> list[Order]:
        """The orders inserted on one local day of the tenant, oldest first, deleted ones (status 7) included."""
        with self._lock:
            tenant, shop = self._shops[shop_id]
            rows: list[Order] = []
            if OPENING_DAY <= day <= self.today(tenant.timezone):
                made = self._order_days.get((str(shop_id), day), lambda: self._made_orders(tenant, shop, day))
                now = self.now()
                rows = list(made) if day < self.today(tenant.timezone) else [o for o in made if o.inserted_at <= now]
            rows += self._edits.added_orders.get((shop_id, day), [])
            changed = self._edits.changed_orders
            if changed:
                rows = [
                    replace(order, changes=changed[shop_id, order.order_id])
                    if (shop_id, order.order_id) in changed
                    else order
                    for order in rows
                ]
            return sorted(rows, key=lambda order: (order.inserted_at, order.order_id))

    def changed_days(self, shop_id: int) -> set[date]:
        """The days whose orders were edited: what they were updated at no longer follows from their age."""
        with self._lock:
            numbers = [number for shop, number in self._edits.changed_orders if shop == shop_id]
            return {self._day_of(number) for number in numbers}

    def _first_id(self, day: date) -> int:
        # Every day has a block of numbers: what a day's orders are called depends on no other day.
        return (day - OPENING_DAY).days * self._id_stride + 1

    def _made_orders(self, tenant: Tenant, shop: Shop, day: date) -> Iterable[Order]:
        return make_orders(self.seed, tenant, shop, day, self._first_id(day), self._ads_for_orders[tenant.name])

    def _day_of(self, order_id: int) -> date:
        return OPENING_DAY + timedelta(days=(order_id - 1) // self._id_stride)

    def order(self, shop_id: int, order_id: int) -> Order | None:
        """One order by its number in the shop."""
        orders = self.orders(shop_id, self._day_of(order_id))
        return next((order for order in orders if order.order_id == order_id), None)

    def order_called(self, shop_id: int, name: str) -> Order | None:
        """One order by its id, which is a number or, where it was edited or added so, any text."""
        if re.fullmatch(r"[1-9]\d{0,9}", name, re.ASCII) and (found := self.order(shop_id, int(name))):
            return found
        with self._lock:
            edited = [number for shop, number in self._edits.changed_orders if shop == shop_id]
            added = [
                one.order_id for (shop, _), many in self._edits.added_orders.items() if shop == shop_id for one in many
            ]
        orders = (self.order(shop_id, number) for number in (*edited, *added))
        return next((order for order in orders if order is not None and order.field("id") == name), None)

    def settled_until(self, tenant: Tenant) -> datetime:
        """How far the orders' lives have run: to the last local midnight, so that a day's answers hold still."""
        return local_midnight(self.today(tenant.timezone), tenant.timezone)

    # Edits

    def undo_edits(self) -> None:
        """Puts everything back as it was at the start."""
        with self._lock:
            self._edits = _Edits()
            self._build()
            self.version += 1

    def hide_ad(self, ad_id: str) -> None:
        """Makes an ad vanish upstream, with its figures of all days."""
        self._edit(lambda: self._edits.hidden_ads.add(ad_id))

    def restate(self, account_id: str, day: date, factor: float) -> None:
        """Multiplies the figures of a day by `factor`, as Meta restates days for up to four weeks."""
        self._edit(lambda: self._edits.restated.__setitem__((account_id, day), factor))

    def expire_token(self, tenant: str) -> None:
        """Lets the tenant's Meta token expire."""
        self._edit(lambda: self._edits.expired_tokens.add(tenant))

    def change_order(self, shop_id: int, order_id: int, **changes: object) -> None:
        """Sets fields of an order, also ones it never had; `updated_at` becomes now unless given."""
        with self._lock:
            before = self._edits.changed_orders.get((shop_id, order_id), {})
            stamp = {"updated_at": wire_time(self.now())}
            self._edits.changed_orders[shop_id, order_id] = {**before, **stamp, **changes}
            self.version += 1

    def delete_order(self, shop_id: int, order_id: int) -> None:
        """Deletes an order as Pancake does: status 7, gone from the default list."""
        self.change_order(shop_id, order_id, status=DELETED)

    def add_bonus_line(self, shop_id: int, order_id: int) -> None:
        """Give an order one more item, a bonus of its first product, which has no price."""
        order = self.order(shop_id, order_id)
        if order is None:
            raise ValueError(f"shop {shop_id} has no order {order_id}")
        name = "order_items" if order.field("order_items") else "items"
        items = order.field(name)
        bonus = {
            **items[0],
            "id": items[0]["id"] + 1,
            "quantity": 1,
            "discount_each_product": 0,
            "is_bonus_product": True,
            "variation_info": {**items[0]["variation_info"], "retail_price": None},
        }
        changed = {name: [*items, bonus], "total_quantity": order.field("total_quantity") + 1}
        self.change_order(shop_id, order_id, **changed)

    def add_order(
        self, shop_id: int, day: date, *, at: time = time(23, 58), after_page: int | None = None, **fields: object
    ) -> int:
        """Adds an order to a local day and returns its id; `fields` are set on it.

        With `after_page=1` it arrives once page 1 of a list that covers the day was served, and so shifts what follows.
        """
        with self._lock:
            tenant, shop = self._shops[shop_id]
            waiting = [order for shop_, order, day_ in self._edits.awaited_orders if (shop_, day_) == (shop_id, day)]
            present = self.orders(shop_id, day) + waiting
            first = self._first_id(day) + shop.orders_per_day * 2
            order_id = max([first, *(order.order_id + 1 for order in present if order.order_id >= first)])
            moment = datetime.combine(day, at, tenant.timezone).astimezone(UTC)
            ads = self._ads_for_orders[tenant.name]
            order = make_added_order(self.seed, tenant, shop, moment, order_id, ads, fields)
            if after_page is None:
                self._edits.added_orders.setdefault((shop_id, day), []).append(order)
            else:
                self._edits.awaited_orders.append((after_page, order, day))
            self.version += 1
            return order_id

    def add_ad_account(self, tenant: str, account_id: str, name: str, *, ads: int = 5, timezone: str = "") -> None:
        """Gives a tenant one more ad account."""
        with self._lock:
            owner = self.tenants[tenant]
            plan = AccountPlan(account_id, name, owner.plan.currency, timezone or owner.plan.timezone, 1.0)
            account = make_account(owner.plan, plan, f"9{account_id[-5:]}", ads)
            self.tenants[tenant] = replace(owner, accounts=(*owner.accounts, account))
            self._index()
            self.version += 1

    def add_shop(self, tenant: str, shop_id: int, name: str, *, key_variable: str = "", orders: int = 10) -> None:
        """Gives a tenant one more shop, seen by its first shop's key unless `key_variable` names another."""
        with self._lock:
            if orders * 2 > self._id_stride:
                raise ValueError(f"at most {self._id_stride // 2} orders a day fit the numbering of this world")
            owner = self.tenants[tenant]
            plan = ShopPlan(shop_id, name, key_variable or owner.shops[0].key_variable, 1.0)
            self.tenants[tenant] = replace(owner, shops=(*owner.shops, make_shop(owner.plan, plan, orders)))
            self._index()
            self.version += 1

    def page_served(self, shop_id: int, page: int, since: date, until: date) -> None:
        """Lets the orders arrive that wait for this page of this shop."""
        with self._lock:
            due = [
                entry
                for entry in self._edits.awaited_orders
                if entry[0] == page and entry[1].shop_id == shop_id and since <= entry[2] <= until
            ]
            for entry in due:
                self._edits.awaited_orders.remove(entry)
                self._edits.added_orders.setdefault((shop_id, entry[2]), []).append(entry[1])
                self.version += 1

    def _edit(self, change: Callable[[], None]) -> None:
        with self._lock:
            change()
            self.version += 1


def _scaled(row: Insight, factor: float) -> Insight:
    return row._replace(
        spend=round(row.spend * factor),
        impressions=max(1, round(row.impressions * factor)),
        clicks=round(row.clicks * factor),
        link_clicks=round(row.link_clicks * factor),
        landing_page_views=round(row.landing_page_views * factor),
        leads=round(row.leads * factor),
    )
