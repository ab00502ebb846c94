"""The sandbox's POS API against a table of what the vendor documents."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.entities import ORDER_STATUSES
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.pancake_orders import ARRAY_PARAMETERS, MOMENTS, PARAMETERS, SORTS
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.sandbox.asking import CEBU_SHOP, MANILA_SHOP, inserted, order_pages, pancake, window
from sync_pipeline_tests.sandbox.documented import PANCAKE

DAY = date(2026, 10, 5)
ORDERS, RECORDED = PANCAKE["orders"], PANCAKE["recorded"]
VALUES = {
    "page_size": 20,
    "page_number": 1,
    "search": "Customer",
    "include_removed": 1,
    "updateStatus": "updated_at",
    "startDateTime": 1_790_000_000,
    "endDateTime": 1_790_100_000,
    "option_sort": "order_valuation_desc",
    "shop_partner_account": 1,
    "customer_id": "c-1",
    "is_filter_exclude_source": "true",
    "project_ids": 1,
    "filter_status[]": 3,
    "fields[]": "id",
    "partner_id[]": 5,
    "order_sources[]": "-1",
    "ad_ids[]": "1",
    "extra_fields[]": "tags",
}


def listed(sandbox: SandboxServer, shop: int = MANILA_SHOP, day: date = DAY, **more: Any) -> list[dict[str, Any]]:
    return [order for page in order_pages(sandbox, shop, 500, **{**window(day), **more}) for order in page]


def test_parameters_are_the_documented_ones(sandbox: SandboxServer) -> None:
    assert set(ORDERS["parameters"]) == PARAMETERS == VALUES.keys()
    assert set(ORDERS["array_parameters"]) == ARRAY_PARAMETERS
    for name, value in VALUES.items():
        answer = pancake(sandbox, f"shops/{MANILA_SHOP}/orders", **{**window(DAY), name: value})
        assert answer.json()["success"] is True, name


@pytest.mark.parametrize("name", ORDERS["array_parameters"])
def test_an_array_parameter_as_json_is_a_server_error(sandbox: SandboxServer, name: str) -> None:
    answer = pancake(sandbox, f"shops/{MANILA_SHOP}/orders", **{**window(DAY), name.removesuffix("[]"): "[3]"})
    assert answer.status_code == RECORDED["array_as_json_status"]


def test_enumerations_are_the_documented_ones() -> None:
    assert set(ORDERS["option_sort"]) == SORTS
    assert set(ORDERS["updateStatus"]) == set(MOMENTS)
    assert {int(status) for status in ORDERS["statuses"]} == set(ORDER_STATUSES)


@pytest.mark.parametrize("value", [*ORDERS["option_sort"], "updated_at_asc", "inserted_at", "nonsense"])
def test_a_list_is_sorted_by_a_documented_value_or_newest_first(sandbox: SandboxServer, value: str) -> None:
    keys: dict[str, Any] = {
        "inserted_at": inserted,
        "last_updated_order": lambda order: datetime.fromisoformat(order["updated_at"]),
        "last_update_status_at": lambda order: datetime.fromisoformat(order["updated_at"]),
        "order_valuation": lambda order: (
            order["total_price_after_sub_discount"] or order["total_price"] or order["cod"]
        ),
        "product_quantity": lambda order: order["total_quantity"],
        "product_name": lambda order: order["items"][0]["variation_info"]["name"],
        "customer_sort": lambda order: order["bill_full_name"],
        "order_source": lambda order: order["order_sources"],
    }
    found, default = listed(sandbox, option_sort=value), listed(sandbox)
    assert {order["id"] for order in found} == {order["id"] for order in default}
    assert [inserted(order) for order in default] == sorted(map(inserted, default), reverse=True)
    if value not in ORDERS["option_sort"]:
        assert found == default
        return
    name, _, direction = value.rpartition("_")
    if key := keys.get(name):
        shown = [key(order) for order in found]
        assert shown == sorted(shown, reverse=direction == "desc")
        assert len(set(shown)) > 1


@pytest.mark.parametrize("value", ORDERS["updateStatus"])
def test_a_window_is_of_the_time_that_was_asked_for(sandbox: SandboxServer, value: str) -> None:
    orders = listed(sandbox, updateStatus=value)
    if value in {"-1", "transfer_proof"} or value.startswith("time_assign"):
        assert orders == [], "no order of the sandbox has this time"
        return
    assert orders
    first, last = (datetime.fromtimestamp(second, UTC).replace(tzinfo=None) for second in window(DAY).values())
    shown = {"picked_up_at": "picked_up_at", "first_delivery_at": "first_delivery_at", "paid_at": "paid_at"}
    for order in orders:
        if value == "updated_at":
            assert first <= datetime.fromisoformat(order["updated_at"]).replace(microsecond=0) <= last
        elif value in shown:
            assert first <= datetime.fromisoformat(order["partner"][shown[value]]).replace(microsecond=0) <= last
        elif value.isdigit() and value != "0":
            [change] = [one for one in order["status_history"] if one["status"] == int(value)]
            assert first <= datetime.fromisoformat(change["updated_at"]).replace(microsecond=0) <= last


def test_an_unknown_window_is_of_insertions(sandbox: SandboxServer) -> None:
    assert listed(sandbox, updateStatus="nonsense") == listed(sandbox)


def test_removed_orders_come_when_included(sandbox: SandboxServer) -> None:
    kept = listed(sandbox)
    sandbox.world.delete_order(MANILA_SHOP, kept[0]["id"])
    assert kept[0]["id"] not in {order["id"] for order in listed(sandbox)}
    found = listed(sandbox, include_removed=1)
    assert {7} < {order["status"] for order in found}
    assert {order["id"] for order in found} >= {order["id"] for order in kept}


def test_fields_choose_what_an_order_shows(sandbox: SandboxServer) -> None:
    found = listed(sandbox, **{"fields[]": ["id", "status", "cod"]})
    assert [order.keys() for order in found] == [{"id", "status", "cod"}] * len(listed(sandbox))


def test_orders_are_filtered_by_ad_source_partner_and_customer(sandbox: SandboxServer) -> None:
    every = listed(sandbox)
    ad_ids = sorted({order["ad_id"] for order in every if order["ad_id"]})[:2]
    customer = every[0]["customer"]["id"]
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"ad_ids[]": ad_ids}, lambda order: order["ad_id"] in ad_ids),
        ({"order_sources[]": ["-1"]}, lambda order: order["order_sources"] == "-1"),
        ({"order_sources[]": ['["-1"]', "-7"]}, lambda order: order["order_sources"] in {"-1", "-7"}),
        (
            {"order_sources[]": ["-1"], "is_filter_exclude_source": "true"},
            lambda order: order["order_sources"] != "-1",
        ),
        ({"partner_id[]": [5]}, lambda order: order["partner"] is not None),
        ({"customer_id": customer}, lambda order: order["customer"]["id"] == customer),
        ({"search": every[0]["bill_full_name"]}, lambda order: order["bill_full_name"] == every[0]["bill_full_name"]),
    ]
    for asked, wanted in cases:
        assert listed(sandbox, **asked) == [order for order in every if wanted(order)], asked
        assert listed(sandbox, **asked), asked


def test_orders_show_only_documented_or_recorded_fields(sandbox: SandboxServer) -> None:
    orders = listed(sandbox) + listed(sandbox, CEBU_SHOP)
    items = [item for order in orders for item in order["items"]]
    shown = {
        "order": set().union(*orders),
        "item": set().union(*items),
        "variation_info": set().union(*(item["variation_info"] for item in items)),
        "partner": set().union(*(order["partner"] for order in orders if order["partner"])),
        "status_history": set().union(*(change for order in orders for change in order["status_history"])),
    }
    for part, fields in shown.items():
        assert fields <= set(ORDERS[part]) | set(RECORDED.get(part, [])), part


def test_shops_and_variations_show_only_documented_fields(sandbox: SandboxServer) -> None:
    for shop in pancake(sandbox, "shops").json()["shops"]:
        assert shop.keys() == set(PANCAKE["shops"]["shop"])
        assert all(page.keys() == set(PANCAKE["shops"]["page"]) for page in shop["pages"])
        [link] = shop["link_post_marketer"]
        assert link.keys() == set(PANCAKE["shops"]["link_post_marketer"])
    answer = pancake(sandbox, f"shops/{MANILA_SHOP}/products/variations", page_size=100).json()
    assert answer.keys() == set(ORDERS["envelope"])
    for variation in answer["data"]:
        product = variation["product"]
        assert variation.keys() <= {*PANCAKE["variations"]["variation"], *RECORDED["variation"]}
        assert product.keys() <= {*PANCAKE["variations"]["product"], *RECORDED["product"]}


def test_variations_are_filtered_by_id_and_name(sandbox: SandboxServer) -> None:
    path = f"shops/{MANILA_SHOP}/products/variations"
    every = pancake(sandbox, path, page_size=100).json()["data"]
    wanted = [one["id"] for one in every[:3]]
    assert [one["id"] for one in pancake(sandbox, path, **{"variation_ids[]": wanted}).json()["data"]] == wanted
    found = pancake(sandbox, path, search="serum").json()["data"]
    assert {one["product"]["name"] for one in found} == {"Serum"}
    assert pancake(sandbox, path, product_status="locked").json()["data"] == []


def test_error_bodies_are_the_documented_ones(sandbox: SandboxServer) -> None:
    bad_key = pancake(sandbox, "shops", key="nobody's")
    sandbox.faults.add(Fault(faults.pancake_rate_limited()))
    limited = pancake(sandbox, "shops")
    for answer, expected in ((bad_key, "bad_key"), (limited, "rate_limit")):
        documented = PANCAKE["errors"][expected]
        assert (answer.status_code, answer.json()) == (documented["status"], documented["body"])


@pytest.mark.parametrize("order_id", ["C400000001.88", "CRM-71", "400000000000000001"])
def test_an_order_may_have_any_text_as_its_id(sandbox: SandboxServer, order_id: str) -> None:
    number = sandbox.world.add_order(CEBU_SHOP, DAY, id=order_id)
    assert order_id in [order["id"] for order in listed(sandbox, CEBU_SHOP)]
    found = pancake(sandbox, f"shops/{CEBU_SHOP}/orders/{order_id}").json()["data"]
    assert (found["id"], found["system_id"]) == (order_id, number)


def test_a_bonus_line_has_no_price(sandbox: SandboxServer) -> None:
    order = listed(sandbox)[0]
    sandbox.world.add_bonus_line(MANILA_SHOP, order["id"])
    changed = listed(sandbox)[0]
    assert [item["is_bonus_product"] for item in changed["items"]] == [*[False] * len(order["items"]), True]
    assert changed["items"][-1]["variation_info"]["retail_price"] is None
    assert changed["total_quantity"] == order["total_quantity"] + 1
    assert changed["total_price"] == order["total_price"]
