from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.sandbox.asking import (
    CEBU_SHOP,
    MANILA_SHOP,
    SAIGON_SHOP,
    inserted,
    order_pages,
    pancake,
    window,
)

DAY = date(2026, 10, 5)
MANILA = ZoneInfo("Asia/Manila")


def test_a_key_sees_only_its_shops(sandbox: SandboxServer) -> None:
    seen = {
        key: [shop["id"] for shop in pancake(sandbox, "shops", key=key).json()["shops"]]
        for key in ("LUMINA_PANCAKE_KEY", "MEKONG_PANCAKE_KEY_HANOI", "MEKONG_PANCAKE_KEY_SAIGON")
    }
    assert list(seen.values()) == [[310001, 310002], [320001], [320002]]
    other = pancake(sandbox, "shops/320001/orders", key="MEKONG_PANCAKE_KEY_SAIGON")
    assert (other.status_code, other.json()["success"]) == (403, False)


def test_a_bad_key(sandbox: SandboxServer) -> None:
    answer = pancake(sandbox, "shops", key="wrong")
    assert answer.status_code == 403
    assert answer.json() == {"message": "api_key is invalid", "success": False, "error_code": 105}


def test_the_window_of_a_local_day_holds_its_orders_edges_included(sandbox: SandboxServer) -> None:
    [orders] = order_pages(sandbox, MANILA_SHOP, 500, **window(DAY))
    expected = {order.order_id for order in sandbox.world.orders(MANILA_SHOP, DAY)}
    deleted = order_pages(sandbox, MANILA_SHOP, 500, **window(DAY), **{"filter_status[]": 7})[0]
    assert {order["id"] for order in orders + deleted} == expected
    times = sorted(inserted(order).astimezone(MANILA) for order in orders + deleted)
    assert times[0] == datetime(2026, 10, 5, tzinfo=MANILA)
    assert times[-1].replace(microsecond=0) == datetime(2026, 10, 5, 23, 59, 59, tzinfo=MANILA)


def test_the_envelope(sandbox: SandboxServer) -> None:
    answer = pancake(sandbox, f"shops/{MANILA_SHOP}/orders", **window(DAY)).json()
    total = answer["total_entries"]
    assert {name: value for name, value in answer.items() if name != "data"} == {
        "success": True,
        "page_number": 1,
        "page_size": 30,
        "total_entries": total,
        "total_pages": -(-total // 30),
    }
    assert len(answer["data"]) == 30
    sandbox.behaviour.pancake_text_counters = True
    sandbox.behaviour.pancake_orders_key = "orders"
    other = pancake(sandbox, f"shops/{MANILA_SHOP}/orders", **window(DAY)).json()
    assert other["orders"] == answer["data"]
    assert other["total_entries"] == str(total)


@settings(max_examples=10, deadline=None)
@given(size=st.integers(1, 80), days=st.integers(1, 3))
def test_the_pages_together_are_the_list_newest_first(shared_sandbox: SandboxServer, size: int, days: int) -> None:
    shared_sandbox.reset()
    asked = window(DAY, days=days)
    [whole] = order_pages(shared_sandbox, MANILA_SHOP, 500, **asked)
    assert [order for page in order_pages(shared_sandbox, MANILA_SHOP, size, **asked) for order in page] == whole
    assert sorted(whole, key=inserted, reverse=True) == whole


def test_only_the_repeated_form_of_filter_status_is_understood(sandbox: SandboxServer) -> None:
    repeated: dict[str, Any] = {"filter_status[]": [3, 16]}
    answer = pancake(sandbox, f"shops/{MANILA_SHOP}/orders", **window(DAY), **repeated)
    assert {order["status"] for order in answer.json()["data"]} == {3, 16}
    assert pancake(sandbox, f"shops/{MANILA_SHOP}/orders", filter_status="[3]").status_code == 500


def test_the_window_can_be_of_updates(sandbox: SandboxServer) -> None:
    asked = window(DAY)
    orders = order_pages(sandbox, MANILA_SHOP, 500, **asked, updateStatus="updated_at")[0]
    start, end = (datetime.fromtimestamp(asked[name], UTC) for name in ("startDateTime", "endDateTime"))
    moments = [datetime.fromisoformat(order["updated_at"]).replace(tzinfo=UTC) for order in orders]
    assert moments
    assert all(start <= moment.replace(microsecond=0) <= end for moment in moments)
    assert any(inserted(order) < start for order in orders)


def test_a_changed_order_shows_under_its_update(sandbox: SandboxServer) -> None:
    order_id = sandbox.world.orders(MANILA_SHOP, date(2026, 3, 1))[0].order_id
    sandbox.world.change_order(MANILA_SHOP, order_id, status=5, cod=77)
    today = window(date(2026, 11, 20))
    [orders] = order_pages(sandbox, MANILA_SHOP, 500, **today, updateStatus="updated_at")
    [changed] = [order for order in orders if order["id"] == order_id]
    assert (changed["status"], changed["status_name"], changed["cod"]) == (5, "returned", 77)
    assert changed["status_history"][-1]["status"] == 5


def test_a_deleted_order_leaves_the_default_list(sandbox: SandboxServer) -> None:
    [before] = order_pages(sandbox, MANILA_SHOP, 500, **window(DAY))
    sandbox.world.delete_order(MANILA_SHOP, before[0]["id"])
    [after] = order_pages(sandbox, MANILA_SHOP, 500, **window(DAY))
    assert after == before[1:]
    [deleted] = order_pages(sandbox, MANILA_SHOP, 500, **window(DAY), **{"filter_status[]": 7})
    assert before[0]["id"] in {order["id"] for order in deleted}


def test_an_order_that_arrives_while_paging_pushes_one_to_the_next_page(sandbox: SandboxServer) -> None:
    sandbox.world.add_order(MANILA_SHOP, DAY, after_page=1)
    other_day = order_pages(sandbox, MANILA_SHOP, 20, **window(DAY - timedelta(days=1)))
    first, second, *_ = order_pages(sandbox, MANILA_SHOP, 20, **window(DAY))
    assert first[-1]["id"] == second[0]["id"]
    assert len({order["id"] for page in other_day for order in page}) == sum(map(len, other_day))


def test_one_order_by_its_number(sandbox: SandboxServer) -> None:
    order = sandbox.world.orders(CEBU_SHOP, DAY)[3]
    found = pancake(sandbox, f"shops/{CEBU_SHOP}/orders/{order.order_id}").json()
    assert found["data"]["id"] == str(order.order_id)
    assert pancake(sandbox, f"shops/{CEBU_SHOP}/orders/0").json() == {"success": False, "message": "Order not found"}


def test_products_and_their_variations(sandbox: SandboxServer) -> None:
    products = pancake(sandbox, f"shops/{MANILA_SHOP}/products", page_size=100).json()
    variations = pancake(sandbox, f"shops/{MANILA_SHOP}/products/variations", page_size=100).json()
    assert products["total_entries"] == 6
    assert {one["id"] for product in products["data"] for one in product["variations"]} == {
        one["id"] for one in variations["data"]
    }
    sold = {item["product_id"] for order in sandbox.world.orders(MANILA_SHOP, DAY) for item in order.body["items"]}
    assert sold <= {product["id"] for product in products["data"]}
    assert any(one["retail_price"] == 0 for one in variations["data"])


def test_variations_have_their_own_custom_id(sandbox: SandboxServer) -> None:
    products = pancake(sandbox, f"shops/{MANILA_SHOP}/products", page_size=100).json()
    listed = {one["id"]: one["custom_id"] for product in products["data"] for one in product["variations"]}
    assert {"LUM-SER-L", None} <= set(listed.values())
    assert not set(listed.values()) & {product["custom_id"] for product in products["data"]}
    orders = order_pages(sandbox, MANILA_SHOP, 500, **window(DAY))[0]
    sold = {item["variation_id"]: item["variation_info"]["custom_id"] for order in orders for item in order["items"]}
    assert sold.items() <= listed.items()


def test_one_shop_lists_items_under_order_items(sandbox: SandboxServer) -> None:
    for shop, key, name in (
        (SAIGON_SHOP, "MEKONG_PANCAKE_KEY_SAIGON", "order_items"),
        (MANILA_SHOP, "LUMINA_PANCAKE_KEY", "items"),
    ):
        for order in pancake(sandbox, f"shops/{shop}/orders", key=key, **window(DAY)).json()["data"]:
            assert {"items", "order_items"} & order.keys() == {name}
            assert order[name][0]["quantity"] >= 1


def test_a_shop_added_later_is_seen_by_the_key_that_was_named(sandbox: SandboxServer) -> None:
    sandbox.world.add_shop("mekong", 320003, "Mekong Hue", key_variable="MEKONG_PANCAKE_KEY_SAIGON")
    shops = pancake(sandbox, "shops", key="MEKONG_PANCAKE_KEY_SAIGON").json()["shops"]
    assert [shop["id"] for shop in shops] == [320002, 320003]
    assert pancake(sandbox, "shops/320003/orders", key="MEKONG_PANCAKE_KEY_SAIGON").json()["total_entries"] > 0


@pytest.mark.parametrize("path", ["nothing", f"shops/{MANILA_SHOP}/nothing"])
def test_unknown_paths(sandbox: SandboxServer, path: str) -> None:
    assert pancake(sandbox, path).status_code == 404
