"""Both clients and the rows made of what they read, against the sandbox's figures."""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from sync_pipeline.date_ranges import day_window
from sync_pipeline.rows.costs import ProductCost, ProductCosts
from sync_pipeline.rows.meta import account_spend, insight_row
from sync_pipeline.rows.pancake import Excluded, OrderRow, order_row, recosted
from sync_pipeline.rows.products import aliases_of, custom_ids_of, product_rows
from sync_pipeline.sandbox.generator import CART_MARKS
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline_tests.sandboxes import demanding

MANILA = ZoneInfo("Asia/Manila")
ACCOUNT, SHOP = "100000000000101", "310001"
NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
SINCE, UNTIL = date(2026, 11, 2), date(2026, 11, 4)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(now=lambda: NOW, behaviour=demanding()) as server:
        yield server


@pytest.fixture
def pancake(sandbox: SandboxServer) -> PancakeClient:
    environment = sandbox.environment
    return PancakeClient(
        tenant="lumina",
        api_url=environment["PANCAKE_API_URL"],
        api_key=environment["LUMINA_PANCAKE_KEY"],
        pacing=Pacing(delay_s=0),
        page_size=20,
    )


def test_the_ads_of_a_day_add_up_to_the_account_s_own_total(sandbox: SandboxServer) -> None:
    client = MetaClient(
        tenant="lumina",
        graph_url=sandbox.environment["META_GRAPH_URL"],
        token=sandbox.world.tenants["lumina"].meta_token,
        pacing=Pacing(delay_s=0),
    )
    days = [row for page in client.account_days(ACCOUNT, SINCE, UNTIL) for row in page]
    ads: defaultdict[date, Decimal] = defaultdict(Decimal)
    for page in client.insights(ACCOUNT, SINCE, UNTIL):
        for raw in page:
            row = insight_row(raw, account_id=ACCOUNT, lead_action_types=("lead",))
            ads[row.date] += row.spend
    assert dict(account_spend(raw, account_id=ACCOUNT) for raw in days) == ads
    assert len(ads) == 3
    assert all(ads.values())


def test_updated_orders_are_those_changed_in_the_window_deleted_ones_on_demand(pancake: PancakeClient) -> None:
    start = datetime(2026, 11, 3, tzinfo=UTC)
    end = start + timedelta(hours=12)
    listing = pancake.updated_orders(SHOP, start, end)
    moments = [order["updated_at"] for page in listing for order in page]
    assert listing.complete
    assert len(moments) == listing.total_entries
    assert len(moments) > 20
    assert moments == sorted(moments)
    assert "2026-11-03T00:00:00" <= moments[0] < moments[-1] <= "2026-11-03T12:00:00.999999"
    deleted_ones = pancake.updated_orders(SHOP, start - timedelta(days=3), end, statuses=[7])
    deleted = [order["status"] for page in deleted_ones for order in page]
    assert set(deleted) == {7}


def test_the_catalogue_knows_what_the_orders_sell(pancake: PancakeClient) -> None:
    listing = pancake.products(SHOP)
    rows = [row for page in listing for raw in page for row in product_rows(raw, shop_id=SHOP)]
    aliases = aliases_of(rows)
    start = datetime(2026, 11, 3, tzinfo=UTC)
    orders = [order for page in pancake.orders(SHOP, SINCE, SINCE, start, start + timedelta(hours=6)) for order in page]
    items = [item for order in orders for item in order["items"]]
    assert listing.complete
    assert items
    for item in items:
        info = item["variation_info"]
        assert aliases[SHOP, item["variation_id"]] == (info["display_id"], info["product_display_id"])


@pytest.mark.parametrize("mark", CART_MARKS)
def test_a_cart_of_each_shop_builder_is_no_order_until_converted(
    sandbox: SandboxServer, pancake: PancakeClient, mark: str
) -> None:
    carts = {
        order.order_id: day
        for day in (UNTIL - timedelta(days=n) for n in range(30))
        for order in sandbox.world.orders(int(SHOP), day)
        if order.body[mark]
    }
    order_id, day = next(iter(carts.items()))

    def read() -> OrderRow | Excluded:
        start, end = day_window(day, MANILA.key)
        listed = [raw for page in pancake.orders(SHOP, day, day, start, end) for raw in page]
        [raw] = [raw for raw in listed if raw["id"] == order_id]
        return order_row(raw, shop_id=SHOP, timezone=MANILA, costs=ProductCosts())

    assert read() == Excluded(str(order_id), "abandoned_checkout", day)
    sandbox.world.change_order(int(SHOP), order_id, status=1)
    row = read()
    sandbox.world.undo_edits()
    assert isinstance(row, OrderRow)
    assert row.total_quantity > 0


def test_items_under_order_items_are_counted_and_costed(sandbox: SandboxServer) -> None:
    shop = "320002"
    client = PancakeClient(
        tenant="mekong",
        api_url=sandbox.environment["PANCAKE_API_URL"],
        api_key=sandbox.environment["MEKONG_PANCAKE_KEY_SAIGON"],
        pacing=Pacing(delay_s=0),
    )
    products = [raw for page in client.products(shop) for raw in page]
    costs = ProductCosts(ProductCost(None, raw["custom_id"], "all", Decimal(7), None, None, 2) for raw in products)
    start, end = day_window(SINCE, "Asia/Ho_Chi_Minh")
    listed = [raw for page in client.orders(shop, SINCE, SINCE, start, end) for raw in page]
    rows = [order_row(raw, shop_id=shop, timezone=ZoneInfo("Asia/Ho_Chi_Minh"), costs=costs) for raw in listed]
    orders = {row.pos_order_id: row for row in rows if isinstance(row, OrderRow)}
    assert len(orders) > 10
    for raw in listed:
        if row := orders.get(str(raw["id"])):
            quantity = sum(item["quantity"] for item in raw["order_items"])
            assert (row.total_quantity, row.uncosted_quantity, row.cogs) == (quantity, 0, 7 * quantity)
            stored = json.dumps(json.loads(row.data)["order_items"])
            assert recosted(stored, shop_id=shop, day=SINCE, costs=costs).cogs == row.cogs


@pytest.mark.parametrize("named", [True, False], ids=["items name it", "only the catalogue names it"])
def test_a_variations_own_custom_id_comes_before_the_products(pancake: PancakeClient, named: bool) -> None:
    rows = [row for page in pancake.products(SHOP) for raw in page for row in product_rows(raw, shop_id=SHOP)]
    costs = ProductCosts(
        [
            ProductCost(None, custom_id, None, Decimal(cogs), None, None, line)
            for line, (custom_id, cogs) in enumerate((("LUM-SER", 3), ("LUM-SER-L", 5)), 2)
        ],
        aliases_of(rows),
        custom_ids=custom_ids_of(rows),
    )
    start, end = day_window(SINCE, MANILA.key)
    found: defaultdict[str, set[Decimal]] = defaultdict(set)
    for page in pancake.orders(SHOP, SINCE, SINCE, start, end):
        for raw in page:
            for item in raw["items"]:
                if item["variation_info"]["product_display_id"] == "LUM-SER":
                    size = item["variation_info"]["detail"]
                    text = json.dumps([item if named else {**item, "variation_info": None}])
                    cost = recosted(text, shop_id=SHOP, day=SINCE, costs=costs)
                    found[size].add(cost.cogs / item["quantity"])
    assert found == {"Small": {Decimal(3)}, "Large": {Decimal(5)}}


def test_no_order_s_data_names_its_customer(pancake: PancakeClient) -> None:
    start = datetime(2026, 11, 3, tzinfo=UTC)
    for page in pancake.orders(SHOP, SINCE, SINCE, start, start + timedelta(hours=6)):
        for raw in page:
            row = order_row(raw, shop_id=SHOP, timezone=ZoneInfo("Asia/Manila"), costs=ProductCosts())
            if isinstance(row, OrderRow):
                name, phone = raw["bill_full_name"], raw["bill_phone_number"]
                assert name in json.dumps(raw)
                assert name not in row.data
                assert phone not in row.data
                assert "Example Street" not in row.data
