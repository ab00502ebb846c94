"""Both clients and the rows made of what they read, against the sandbox's figures."""

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from sync_pipeline.rows.costs import ProductCosts
from sync_pipeline.rows.meta import account_spend, insight_row
from sync_pipeline.rows.pancake import OrderRow, order_row
from sync_pipeline.rows.products import aliases_of, product_rows
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sources.http import Pacing
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.pancake import PancakeClient

ACCOUNT, SHOP = "100000000000101", "310001"
NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
SINCE, UNTIL = date(2026, 11, 2), date(2026, 11, 4)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxServer]:
    with SandboxServer(now=lambda: NOW) as server:
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
