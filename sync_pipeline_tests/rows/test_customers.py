import copy
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_pipeline.rows.customers import is_customer_key, without_customer_data

# A slow machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

MARKER = "MARKER"
# Under these Pancake's orders name, reach or place a person, or hold text that does.
TELLING = (
    "bill_full_name",
    "bill_phone_number",
    "bill_email",
    "customer",
    "customers",
    "customer_id",
    "customer_needs",
    "customer_referral_code",
    "shop_customer_addresses",
    "shipping_address",
    "new_full_address",
    "marketplace_address",
    "full_name",
    "first_name",
    "lastName",
    "phone",
    "phone_number",
    "phone_numbers",
    "phoneNumber",
    "email",
    "e_mail",
    "Email",
    "date_of_birth",
    "province_name",
    "district_id",
    "commnue_name",
    "commune_code_sicepat",
    "post_code",
    "postCode",
    "recipient",
    "receiver_name",
    "buyer_name",
    "contact_name",
    "delivery_name",
    "delivery_tel",
    "shipper_name",
    "courier",
    "note",
    "note_print",
    "note_image",
    "notes",
    "customer_note",
    "seller_note",
    "message",
    "histories",
    "activities",
    "conversation_id",
    "conversation_link",
    "link",
    "order_link",
    "link_confirm_order",
    "fb_id",
    "avatar_url",
    "einvoices",
    "bank_transfer_images",
)
HARMLESS = (
    "id",
    "shop_id",
    "system_id",
    "display_id",
    "custom_id",
    "product_id",
    "variation_id",
    "page_id",
    "post_id",
    "ad_id",
    "ads_source",
    "name",
    "detail",
    "barcode",
    "quantity",
    "items",
    "variation_info",
    "product_display_id",
    "note_product",
    "total_price",
    "total_price_after_sub_discount",
    "cod",
    "money_to_collect",
    "partner_fee",
    "shipping_fee",
    "fee_marketplace",
    "buyer_total_amount",
    "discount_by_customer_level",
    "bank_payments",
    "order_currency",
    "p_utm_content",
    "p_utm_id",
    "marketer",
    "assigning_seller",
    "account_name",
    "order_sources_name",
    "status",
    "status_name",
    "status_history",
    "sub_status",
    "returned_reason_name",
    "received_at_shop",
    "inserted_at",
    "updated_at",
    "time_send_partner",
    "estimate_delivery_date",
    "partner",
    "partner_name",
    "extend_code",
    "tracking_link",
    "warehouse_info",
    "tags",
    "shopify_abandon_checkout_id",
    "page",
    "username",
)


@pytest.mark.parametrize("key", TELLING)
def test_what_names_or_reaches_a_person_goes(key: str) -> None:
    assert without_customer_data({"id": 1, key: MARKER}) == {"id": 1}


@pytest.mark.parametrize("key", HARMLESS)
def test_everything_else_stays(key: str) -> None:
    assert without_customer_data({key: MARKER}) == {key: MARKER}


def test_an_order_keeps_all_but_its_customer() -> None:
    item = {
        "product_id": "b7c1",
        "quantity": 2,
        "note_product": "Agriblast-100",
        "variation_info": {"name": "Agriblast"},
    }
    order = {
        "id": 17,
        "bill_full_name": "Ana Cruz",
        "items": [{**item, "note": "gift for Ana"}],
        "partner": {
            "extend_code": "JT0012345",
            "delivery_tel": "0917",
            "extend_update": [{"status": "on the way", "note": "called 0917"}],
        },
        "assigning_seller": {"name": "Bea", "phone_number": "0918", "email": "bea@example.com"},
        "histories": [{"field": "name", "new": "Ana Cruz"}],
        "tags": ["vip"],
        "cod": Decimal("450.10"),
    }
    assert without_customer_data(order) == {
        "id": 17,
        "items": [item],
        "partner": {"extend_code": "JT0012345", "extend_update": [{"status": "on the way"}]},
        "assigning_seller": {"name": "Bea"},
        "tags": ["vip"],
        "cod": Decimal("450.10"),
    }


@pytest.mark.parametrize("flag", [True, False])
def test_a_flag_stays_whatever_it_is_about(flag: bool) -> None:
    order = {"customer_pay_fee": flag, "duplicated_phone": flag}
    assert without_customer_data(order) == order
    assert without_customer_data({"customer_pay_fee": 1, "duplicated_phone": None}) == {}


@pytest.mark.parametrize("key", ["bill\x00_full_name", "ph\x00one", "BILL_NAME", "Bill-Name", "Số_phone"])
def test_a_key_in_disguise_is_known(key: str) -> None:
    assert is_customer_key(key)


def test_an_order_deeper_than_the_stack_is_copied_all_the_same() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    depth, found = 0, without_customer_data({"tags": nested})["tags"]
    while found:
        depth, found = depth + 1, found[0]
    assert depth == 100_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(HARMLESS), inner, max_size=4),
    max_leaves=10,
)
orders = st.dictionaries(st.sampled_from(HARMLESS), json_values, max_size=6)


def places(value: Any) -> list[dict[str, Any]]:
    """Every object in a value, itself included."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [*([value] if isinstance(value, dict) else []), *(place for part in inner for place in places(part))]


@unhurried
@given(order=orders, data=st.data())
def test_a_mark_under_a_telling_key_at_any_depth_is_gone_and_nothing_else_is(
    order: dict[str, Any], data: st.DataObject
) -> None:
    marked = copy.deepcopy(order)
    mark = st.sampled_from([MARKER, [MARKER], {"name": MARKER}, {"old": None, "new": [{"name": MARKER}]}])
    for place in data.draw(st.lists(st.sampled_from(places(marked)), min_size=1, max_size=4)):
        place[data.draw(st.sampled_from(TELLING))] = data.draw(mark)
    before = copy.deepcopy(marked)
    found = without_customer_data(marked)
    assert found == order
    assert MARKER not in json.dumps(found)
    assert marked == before


@unhurried
@given(orders)
def test_the_copy_keeps_the_order_of_keys(order: dict[str, Any]) -> None:
    assert json.dumps(without_customer_data(order)) == json.dumps(order)
