"""Makes the world's data: pure functions of the seed, the ad account or shop, and the day."""

import random
import uuid
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from sync_pipeline.sandbox.demo_tenants import AccountPlan, ProductPlan, ShopPlan, TenantPlan
from sync_pipeline.sandbox.entities import (
    Ad,
    AdAccount,
    Insight,
    Json,
    Order,
    Product,
    Shop,
    Tenant,
    Variation,
    local_midnight,
    wire_time,
)

OPENING_DAY = date(2023, 1, 1)
LONGEST_ORDER_LIFE = timedelta(days=15)
# Every account of 16 ads and more has ads archived and deleted since: the ones a careless request leaves out.
_STATUS_CYCLE = (
    "ACTIVE",
    "ACTIVE",
    "ARCHIVED",
    "ACTIVE",
    "PAUSED",
    "ACTIVE",
    "CAMPAIGN_PAUSED",
    "DELETED",
    "ACTIVE",
    "ACTIVE",
    "ADSET_PAUSED",
    "ACTIVE",
    "WITH_ISSUES",
    "ACTIVE",
    "ACTIVE",
    "IN_PROCESS",
)
# Shopify, Webcake and Storecake each mark their abandoned carts in their own way.
CART_MARKS = ("shopify_abandon_checkout_id", "is_webcake_abandoned_cart", "is_abandoned_order")
# What becomes of an order, with its weight: the statuses it runs through.
_LIVES: tuple[tuple[int, tuple[int, ...]], ...] = (
    (46, (0, 1, 13, 9, 2, 3)),
    (10, (0, 1, 12, 13, 9, 2, 3, 16)),
    (11, (0, 1, 13, 9, 2, 4, 5)),
    (2, (0, 1, 13, 9, 2, 3, 15)),
    (12, (0, 6)),
    (3, (0, 7)),
    (6, (0, 11, 20, 1, 8, 9, 2, 3)),
    (6, (0, 17, 1, 13, 8, 9, 2, 3)),
    (4, (0,)),
    # A few stay where they are, so that every status is there at any time.
    (1, (0, 17)),
    (1, (0, 11, 20)),
    (1, (0, 1, 12)),
    (1, (0, 1, 13, 8)),
    (1, (0, 1, 13, 9, 2, 4)),
)
_HOURS_UNTIL = {
    17: (1, 4),
    11: (2, 12),
    20: (12, 48),
    1: (1, 14),
    12: (1, 4),
    13: (1, 6),
    8: (1, 6),
    9: (2, 12),
    2: (4, 24),
    3: (36, 120),
    16: (48, 96),
    4: (72, 120),
    5: (48, 96),
    15: (24, 72),
    6: (2, 30),
    7: (1, 20),
}
_FORMATS = ("UGC", "VIDEO", "CAROUSEL", "STATIC")
_TEAMS = ("1001", "1002", "2001")
_AREAS = {"PH": ("Cebu", "Davao", "Quezon City", "Makati"), "VN": ("Hanoi", "Hue", "Da Nang", "Can Tho")}


def make_tenant(plan: TenantPlan, rank: int, ads: int, orders: int) -> Tenant:
    """The tenant of a plan, its ads and daily orders shared out; `rank` keeps its ad ids apart from other tenants'."""
    variables = {shop.key_variable for shop in plan.shops}
    others = [max(1, round(ads * account.share)) for account in plan.accounts[1:]]
    shares = [max(1, ads - sum(others)), *others]
    return Tenant(
        plan=plan,
        name=plan.name,
        timezone=ZoneInfo(plan.timezone),
        meta_token=f"sandbox-{plan.meta_variable.lower()}",
        pancake_keys={variable: f"sandbox-{variable.lower()}" for variable in sorted(variables)},
        accounts=tuple(
            make_account(plan, account, f"{rank + 1:02d}{place + 1:02d}", count)
            for place, (account, count) in enumerate(zip(plan.accounts, shares, strict=True))
        ),
        shops=tuple(make_shop(plan, shop, max(1, round(orders * shop.share))) for shop in plan.shops),
    )


def make_account(tenant: TenantPlan, plan: AccountPlan, prefix: str, ads: int) -> AdAccount:
    """An ad account with its ads; `prefix` is part of their ids."""
    rng = _rng("ads", plan.account_id)
    return AdAccount(
        account_id=plan.account_id,
        name=plan.name,
        currency=plan.currency,
        timezone=ZoneInfo(plan.timezone),
        ads=tuple(_ad(tenant, plan.account_id, prefix, index, rng) for index in range(ads)),
        quiet_weekday=plan.quiet_weekday,
        web_shop=plan.web_shop,
        messaging=plan.messaging,
    )


def make_shop(tenant: TenantPlan, plan: ShopPlan, orders: int) -> Shop:
    """A shop with its products; `orders` is about how many a day it has."""
    return Shop(
        shop_id=plan.shop_id,
        name=plan.name,
        key_variable=plan.key_variable,
        products=tuple(_product(tenant, plan, product) for product in tenant.products),
        orders_per_day=orders,
        quiet_weekday=plan.quiet_weekday,
        text_ids=plan.text_ids,
        order_items=plan.order_items,
    )


def _product(tenant: TenantPlan, shop: ShopPlan, plan: ProductPlan) -> Product:
    def identity(*parts: object) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, ".".join(map(str, (shop.shop_id, plan.code, *parts)))))

    custom_id = f"{tenant.name[:3].upper()}-{plan.code}"
    return Product(
        product_id=identity(),
        custom_id=custom_id,
        plan=plan,
        variations=(
            Variation(identity("S"), None, f"{plan.code}-S", "Small", plan.price),
            Variation(identity("L"), f"{custom_id}-L", f"{plan.code}-L", "Large", plan.price * 3 // 2),
        ),
    )


def make_insights(seed: int, account: AdAccount, day: date) -> Iterable[Insight]:
    """The figures of one day of an account."""
    if day.weekday() == account.quiet_weekday:
        return
    draw = _rng(seed, account.account_id, day).random
    unit = {"USD": 8.0, "PHP": 400.0, "VND": 180_000.0}.get(account.currency, 8.0)
    whole_units = account.currency == "VND"
    for ad in account.ads:
        delivered, size, price, clicked, linked, landed, led = (draw() for _ in range(7))
        # A tenth of the ads rests on any day: ads without delivery have no row.
        if delivered < 0.1:
            continue
        spend = round(unit * ad.weight * (0.4 + 1.2 * size) * 100)
        spend = spend // 100 * 100 if whole_units else spend
        impressions = 1 + round(900 * ad.weight * (0.4 + 1.2 * size) * (0.7 + 0.6 * price))
        clicks = round(impressions * 0.03 * clicked)
        link_clicks = round(clicks * 0.7 * linked)
        leads = round(link_clicks * 0.4 * led) if ad.collects_leads else 0
        yield Insight(ad, day, day, spend, impressions, clicks, link_clicks, round(link_clicks * landed), leads)


def make_orders(seed: int, tenant: Tenant, shop: Shop, day: date, first_id: int, ads: Sequence[Ad]) -> Iterable[Order]:
    """The orders of one local day of a shop, oldest first, numbered from `first_id`; they came through `ads`."""
    if day.weekday() == shop.quiet_weekday:
        return
    rng = _rng(seed, shop.shop_id, day)
    count = max(1, round(shop.orders_per_day * (0.85 + 0.3 * rng.random())))
    midnight = local_midnight(day, tenant.timezone)
    # Both edges of the day are always there: they are where a wrong timezone or an open window end shows.
    edges = [0.0, 86_399.75, 86_100.0 + rng.randrange(290)][:count]
    offsets = sorted([*edges, *(rng.random() * 86_399 for _ in range(count - len(edges)))])
    for place, offset in enumerate(offsets):
        # Some of the API's times carry microseconds and some do not.
        exact = offset if place % 3 else float(int(offset))
        inserted = midnight + timedelta(seconds=exact)
        order_id = first_id + place
        body = _order_body(rng, tenant, shop, order_id, inserted, ads)
        abandoned = any(body[mark] for mark in CART_MARKS)
        yield Order(shop.shop_id, order_id, inserted, _timeline(rng, inserted, abandoned=abandoned), body)


def make_added_order(
    seed: int, tenant: Tenant, shop: Shop, inserted: datetime, order_id: int, ads: Sequence[Ad], fields: Json
) -> Order:
    """An order beside those of its day, new for ever, with `fields` set on it."""
    rng = _rng(seed, "added", shop.shop_id, order_id)
    body = _order_body(rng, tenant, shop, order_id, inserted, ads)
    return Order(shop.shop_id, order_id, inserted, ((inserted, 0),), {**body, **fields})


def _rng(*parts: object) -> random.Random:
    return random.Random(":".join(map(str, parts)))  # noqa: S311 - figures, not secrets


def _ad(tenant: TenantPlan, account_id: str, prefix: str, index: int, rng: random.Random) -> Ad:
    campaign = index // 6
    product = tenant.products[campaign % len(tenant.products)]
    label, mapping = product.name.upper(), product.mapping.upper()
    associate = tenant.associates[index % len(tenant.associates)]
    name = f"{label}_{_FORMATS[index % 4]}_{_TEAMS[index % 3]}_{associate}_{index + 1:03d}"
    if index % 11 == 7:
        name = f"{label} boosted post {index + 1}"
    elif index % 11 == 9:
        name = f"{label}_{_FORMATS[index % 4]}_{_TEAMS[index % 3]}_ _{index + 1:03d}"
    gap = "__" if campaign % 2 else "_"
    return Ad(
        ad_id=f"12021{prefix:0>6}{index + 1:07d}",
        name=name,
        account_id=account_id,
        adset_id=f"12022{prefix:0>6}{index // 3 + 1:07d}",
        adset_name=f"{tenant.market} broad {index // 3 + 1}",
        campaign_id=f"12023{prefix:0>6}{campaign + 1:07d}",
        campaign_name=f"{tenant.market}{gap}CONV_ABO_{tenant.name.upper()}_{mapping}_{campaign + 1:02d}",
        effective_status=_STATUS_CYCLE[index % len(_STATUS_CYCLE)],
        created=OPENING_DAY + timedelta(days=index % 200),
        product=product,
        weight=0.3 + 2.0 * rng.random() ** 2,
        collects_leads=index % 3 == 0,
        index=index,
    )


def _order_body(
    rng: random.Random, tenant: Tenant, shop: Shop, order_id: int, inserted: datetime, ads: Sequence[Ad]
) -> Json:
    ad = rng.choice(ads)
    wanted = next((p for p in shop.products if p.plan.code == ad.product.code), shop.products[0])
    chosen = [wanted] if rng.random() < 0.8 else [wanted, rng.choice(shop.products)]
    items = [_item(rng, product) for product in chosen]
    goods = sum(item["quantity"] * item["variation_info"]["retail_price"] for item in items)
    discount = sum(item["discount_each_product"] * item["quantity"] for item in items)
    payment = rng.random()
    on_delivery = payment < 0.35
    total, after = (0, 0) if on_delivery else (goods, 0 if payment > 0.9 else goods - discount)
    page = f"1500{shop.shop_id}"
    body = {
        "id": str(order_id) if shop.text_ids else order_id,
        "system_id": order_id,
        "display_id": str(order_id),
        "shop_id": shop.shop_id,
        "inserted_at": wire_time(inserted),
        "total_price": total,
        "total_price_after_sub_discount": after,
        "total_discount": discount,
        "cod": goods - discount if on_delivery else 0,
        "money_to_collect": goods - discount if on_delivery else 0,
        "prepaid": 0 if on_delivery else goods - discount,
        "cash": 0,
        "transfer_money": 0,
        "shipping_fee": 0,
        "partner_fee": round(goods * 0.08),
        "surcharge": 0,
        "tax": 0,
        "order_currency": tenant.plan.currency,
        "total_quantity": sum(item["quantity"] for item in items),
        "order_items" if shop.order_items else "items": items,
        **_marketing(rng, ad, page),
        "marketer": None if rng.random() < 0.6 else {"id": f"m-{rng.randrange(9)}", "name": "Marketer"},
        "tags": rng.choice(([], [{"id": 1, "name": "VIP"}], ["repeat"], '[{"id":2,"name":"gift"}]')),
        "bill_full_name": f"Customer {rng.randrange(10_000):04d}",
        "bill_phone_number": "0000000000",
        "shipping_address": {"province_name": rng.choice(_AREAS.get(tenant.plan.market, ("Centre",)))},
        "note": "",
        **_cart_marks(shop, order_id, abandoned=rng.random() < 0.008),
    }
    return {**body, **_person(body)}


def _cart_marks(shop: Shop, order_id: int, *, abandoned: bool) -> Json:
    """The marks of an abandoned cart, each as one of the shop builders sets it."""
    marks: Json = dict(zip(CART_MARKS, (None, False, False), strict=True))
    if abandoned:
        builder = CART_MARKS[order_id % len(CART_MARKS)]
        marks[builder] = f"co-{shop.shop_id}-{order_id}" if builder == CART_MARKS[0] else True
    return marks


def _person(body: Json) -> Json:
    """Where else an order names its customer."""
    name, phone, address = body["bill_full_name"], body["bill_phone_number"], body["shipping_address"]
    full_address = f"1 Example Street, {address['province_name']}"
    return {
        "bill_email": "customer@example.com",
        "customer": {
            "id": f"c-{name[-4:]}",
            "name": name,
            "phone_numbers": [phone],
            "emails": ["customer@example.com"],
        },
        "shipping_address": {**address, "full_name": name, "phone_number": phone, "full_address": full_address},
        "note": f"{name} is home after six",
        "histories": [{"note": {"old": None, "new": f"call {phone}"}, "updated_at": body["inserted_at"]}],
    }


def _item(rng: random.Random, product: Product) -> Json:
    variation = product.variations[rng.random() < 0.3]
    plan = product.plan
    return {
        "id": rng.randrange(10**9),
        "product_id": product.product_id,
        "variation_id": variation.variation_id,
        "quantity": rng.choice((1, 1, 1, 2, 3)),
        "returned_count": 0,
        "discount_each_product": plan.price // 10 if rng.random() < 0.2 else 0,
        "is_discount_percent": False,
        "is_bonus_product": False,
        "is_composite": False,
        "note_product": f"{plan.name}-{plan.unit_cost}" if rng.random() < 0.4 else None,
        "variation_info": {
            "name": plan.name,
            "detail": variation.detail,
            "display_id": variation.display_id,
            "custom_id": variation.custom_id,
            "product_display_id": product.custom_id,
            "barcode": None,
            "retail_price": variation.price,
            "last_imported_price": 0,
        },
    }


def _marketing(rng: random.Random, ad: Ad, page: str) -> Json:
    form = rng.random()
    content: str | None = None
    own_ad_id: str | None = None
    if form < 0.30:
        content, own_ad_id = ad.ad_id, ad.ad_id
    elif form < 0.45:
        content = f"fb-{ad.ad_id}-feed 2x"
    elif form < 0.60:
        content = f"utm_id=9&ad_id={ad.ad_id}&placement=reels"
    elif form < 0.72:
        own_ad_id = ad.ad_id
    elif form < 0.76:
        content = "120219999999999999"
    elif form < 0.80:
        content = "story_link"
    known = content is not None or own_ad_id is not None
    return {
        "p_utm_source": "facebook" if content else None,
        "p_utm_medium": "paid" if content else None,
        "p_utm_campaign": ad.campaign_name if content else None,
        "p_utm_content": content,
        "p_utm_term": None,
        "p_utm_id": None,
        "ad_id": own_ad_id,
        "ads_source": "facebook" if known else None,
        "post_id": f"{page}_{rng.randrange(10**9)}" if own_ad_id else None,
        "page_id": page,
        "conversation_id": f"{page}_{rng.randrange(10**12)}",
        "order_sources": "-1" if known else "-7",
        "order_sources_name": "Facebook" if known else "Website",
    }


def _timeline(rng: random.Random, inserted: datetime, *, abandoned: bool) -> tuple[tuple[datetime, int], ...]:
    life = rng.choices([life for _, life in _LIVES], [weight for weight, _ in _LIVES])[0]
    steps = [(inserted, 0)]
    for status in () if abandoned else life[1:]:
        low, high = _HOURS_UNTIL[status]
        hours = low + (high - low) * rng.random()
        steps.append((steps[-1][0] + timedelta(seconds=int(hours * 3600)), status))
    return tuple(steps)
