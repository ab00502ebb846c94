import re
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.sandbox.entities import ORDER_STATUSES, Order
from sync_pipeline.sandbox.generator import CART_MARKS
from sync_pipeline.sandbox.world import World
from sync_pipeline_tests.sandbox.asking import CEBU_SHOP, MAIN, MANILA_SHOP, QUIET_ON_SUNDAYS, SAIGON_SHOP

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
TODAY = NOW.date()
DAY = date(2026, 10, 4)
SUNDAY = date(2026, 11, 15)

days_of_the_last_37_months = st.dates(date(2023, 10, 21), TODAY)


def world(seed: int = 7, ads: int = 64, orders: int = 120) -> World:
    return World(now=lambda: NOW, seed=seed, ads=ads, orders=orders)


def local_times(found: World, orders: list[Order]) -> list[time]:
    zone = found.tenants["lumina"].timezone
    return [order.inserted_at.astimezone(zone).time() for order in orders]


@settings(max_examples=15, deadline=None)
@given(days=st.lists(days_of_the_last_37_months, min_size=1, max_size=4), last=days_of_the_last_37_months)
def test_a_day_is_the_same_whatever_was_asked_before(days: list[date], last: date) -> None:
    asked_much, asked_once = world(), world()
    for day in days:
        asked_much.insights(MAIN, day)
        asked_much.orders(MANILA_SHOP, day)
    assert asked_much.insights(MAIN, last) == asked_once.insights(MAIN, last)
    assert asked_much.orders(MANILA_SHOP, last) == asked_once.orders(MANILA_SHOP, last)


@settings(max_examples=10, deadline=None)
@given(day=days_of_the_last_37_months.filter(lambda day: day < TODAY))
def test_every_order_lies_in_its_local_day_with_both_edges_taken(day: date) -> None:
    found = world()
    zone = found.tenants["lumina"].timezone
    orders = found.orders(MANILA_SHOP, day)
    assert {order.inserted_at.astimezone(zone).date() for order in orders} == {day}
    times = local_times(found, orders)
    assert times[0] == time(0, 0)
    assert times[-1].replace(microsecond=0) == time(23, 59, 59)
    assert len({order.order_id for order in orders}) == len(orders)


def test_another_seed_gives_other_figures_for_the_same_ads() -> None:
    one, other = world(seed=1), world(seed=2)
    assert one.ads(MAIN) == other.ads(MAIN)
    assert one.insights(MAIN, DAY) != other.insights(MAIN, DAY)


def test_sizes_are_per_tenant() -> None:
    found = world(ads=2000, orders=400)
    for tenant in found.tenants.values():
        assert sum(len(account.ads) for account in tenant.accounts) == 2000
        friday = date(2026, 11, 13)
        assert 300 < sum(len(found.orders(shop.shop_id, friday)) for shop in tenant.shops) < 500


def test_the_default_size_is_over_sixty_ads_and_a_hundred_orders_a_day() -> None:
    found = world()
    for tenant in found.tenants.values():
        assert len(tenant.accounts) >= 2
        assert len(tenant.shops) == 2
        assert sum(len(account.ads) for account in tenant.accounts) >= 60
        assert sum(len(found.orders(shop.shop_id, DAY - timedelta(days=1))) for shop in tenant.shops) >= 100


def test_some_days_are_empty() -> None:
    found = world()
    assert found.insights(QUIET_ON_SUNDAYS, SUNDAY) == []
    assert found.orders(SAIGON_SHOP, SUNDAY) == []
    assert found.insights(MAIN, SUNDAY)
    assert found.insights(MAIN, TODAY + timedelta(days=1)) == []
    assert found.orders(MANILA_SHOP, TODAY + timedelta(days=1)) == []


def test_two_shops_share_order_ids() -> None:
    found = world()
    manila, cebu = ({order.order_id for order in found.orders(shop, DAY)} for shop in (MANILA_SHOP, CEBU_SHOP))
    assert len(manila & cebu) > 20


def test_today_holds_only_what_has_happened() -> None:
    assert max(order.inserted_at for order in world().orders(MANILA_SHOP, TODAY)) <= NOW


def test_all_statuses_occur_and_old_orders_have_come_to_an_end() -> None:
    found = world(orders=300)
    settled = found.settled_until(found.tenants["lumina"])

    def statuses(days: range) -> Counter[int]:
        return Counter(
            order.status_at(settled) for n in days for order in found.orders(MANILA_SHOP, TODAY - timedelta(days=n))
        )

    assert statuses(range(30)).keys() == ORDER_STATUSES.keys()
    recent, old = statuses(range(3)), statuses(range(40, 43))
    assert sum(old[status] for status in (3, 5, 6, 16)) > 0.7 * old.total()
    assert sum(recent[status] for status in (3, 5, 16)) < 0.2 * recent.total()


def test_the_statuses_of_an_order_follow_each_other_in_time() -> None:
    found = world()
    for order in found.orders(MANILA_SHOP, DAY):
        moments = [at for at, _ in order.timeline]
        assert moments[0] == order.inserted_at
        assert all(earlier < later for earlier, later in pairwise(moments))


def test_ad_and_campaign_names_follow_the_naming_rules_but_for_some() -> None:
    found = world()
    associates = set(found.tenants["lumina"].plan.associates)
    mappings = {product.mapping for product in found.tenants["lumina"].plan.products}
    fourth = [dict(enumerate(ad.name.split("_"))).get(3, "").strip() for ad in found.ads(MAIN)]
    assert set(fourth) == associates | {""}
    campaigns = {ad.campaign_name for ad in found.ads(MAIN)}
    assert {[part for part in name.split("_") if part][4].lower() for name in campaigns} <= mappings
    assert any("__" in name for name in campaigns)


def test_orders_name_their_ad_in_all_known_forms() -> None:
    found = world()
    known = {ad.ad_id for account in found.tenants["lumina"].accounts for ad in account.ads}
    forms: Counter[str] = Counter()
    for order in found.orders(MANILA_SHOP, DAY) + found.orders(CEBU_SHOP, DAY):
        content, own = order.body["p_utm_content"], order.body["ad_id"]
        if content is None:
            forms["pancake's own" if own in known else "none"] += 1
        elif content in known:
            forms["plain"] += 1
        elif re.search(r"ad_id=(\d+)", content):
            forms["parameter"] += 1
        else:
            inside = re.search(r"\d{8,}", content)
            forms["inside" if inside and inside[0] in known else "of no ad"] += 1
    assert forms.keys() == {"pancake's own", "none", "plain", "parameter", "inside", "of no ad"}


def test_orders_come_in_the_shapes_a_client_must_know() -> None:
    found = world()
    orders = [order.body for n in range(10) for order in found.orders(MANILA_SHOP, DAY + timedelta(days=n))]
    assert any(order["total_price"] == 0 and order["cod"] > 0 for order in orders)
    assert any(order["total_price"] > 0 and order["total_price_after_sub_discount"] == 0 for order in orders)
    assert {"." in order["inserted_at"] for order in orders} == {True, False}
    assert any(order["shopify_abandon_checkout_id"] for order in orders)
    assert {type(order["tags"]) for order in orders} == {list, str}
    notes = {item["note_product"] for order in orders for item in order["items"]}
    assert {None, "Serum-100"} <= notes
    cebu = found.orders(CEBU_SHOP, DAY)[0].body
    assert (type(orders[0]["id"]), type(cebu["id"])) == (int, str)


def test_abandoned_carts_have_the_mark_of_one_shop_builder() -> None:
    found = world()
    carts: Counter[str] = Counter()
    for order in (order for n in range(30) for order in found.orders(MANILA_SHOP, DAY - timedelta(days=n))):
        marks = [mark for mark in CART_MARKS if order.body[mark]]
        carts.update(marks)
        assert len(marks) <= 1
        if marks:
            assert order.status_at(NOW) == 0
    assert carts.keys() == set(CART_MARKS)


def test_a_hidden_ad_is_gone_from_every_day() -> None:
    found = world()
    ad = found.insights(MAIN, DAY)[0].ad
    found.hide_ad(ad.ad_id)
    assert ad not in found.ads(MAIN)
    assert ad not in [row.ad for row in found.insights(MAIN, DAY)]


def test_a_restated_day_has_other_figures() -> None:
    found = world()
    before = sum(row.spend for row in found.insights(MAIN, DAY))
    found.restate(MAIN, DAY, 1.5)
    assert sum(row.spend for row in found.insights(MAIN, DAY)) == pytest.approx(1.5 * before, rel=0.001)


def test_an_added_order_gets_a_number_of_its_own() -> None:
    found = world()
    before = {order.order_id for order in found.orders(MANILA_SHOP, DAY)}
    added = [found.add_order(MANILA_SHOP, DAY, cod=5), found.add_order(MANILA_SHOP, DAY, after_page=1)]
    assert len(set(added)) == 2
    assert not before & set(added)
    order = found.order(MANILA_SHOP, added[0])
    assert order is not None
    assert order.body["cod"] == 5
    assert found.order(MANILA_SHOP, added[1]) is None


def test_edits_can_be_undone() -> None:
    found = world()
    before = found.orders(MANILA_SHOP, DAY), found.insights(MAIN, DAY), dict(found.tenants)
    found.add_order(MANILA_SHOP, DAY)
    found.delete_order(MANILA_SHOP, before[0][0].order_id)
    found.hide_ad(before[1][0].ad.ad_id)
    found.add_ad_account("lumina", "100000000000199", "New")
    found.add_shop("lumina", 310099, "New")
    found.undo_edits()
    assert (found.orders(MANILA_SHOP, DAY), found.insights(MAIN, DAY), found.tenants) == before


def test_a_shop_too_busy_for_the_numbering_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        world().add_shop("lumina", 310099, "New", orders=100_000)
