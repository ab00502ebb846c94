"""Orders are stored without customer data: only the fields on the list stay, and they are enough to compute the row."""

import ast
import inspect
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_pipeline.rows import pancake
from sync_pipeline.rows.costs import ProductCosts
from sync_pipeline.rows.customers import ALLOWED, Fields, without_credentials, without_customer_data
from sync_pipeline.rows.errors import RowError
from sync_pipeline.rows.pancake import order_row, recosted, uncosted_items

# A slow machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Every field of an order in the vendor's description, with its type.
DOCUMENTED: dict[str, Any] = json.loads((Path(__file__).parent / "documented_order.json").read_text())
MARKER = "MARKER"

# Documented fields that are left out on purpose; those below them are, too.
LEFT_OUT = {
    "customers": """
        bill_full_name bill_phone_number bill_email customer customer_referral_code shop_customer_address_id
        shipping_address.address shipping_address.commnue_name shipping_address.commune_id
        shipping_address.district_id shipping_address.district_name shipping_address.full_address
        shipping_address.full_name shipping_address.new_full_address shipping_address.phone_number
        shipping_address.post_code shipping_address.province_name shipping_address.render_type
        invoice_info_list einvoices""",
    "couriers and warehouses": """
        partner.delivery_name partner.delivery_tel partner.printed_form partner.sort_code warehouse_info.phone_number
        warehouse_info.full_address warehouse_info.address warehouse_info.district_id warehouse_info.commune_id
        warehouse_info.has_snappy_service""",
    "staff beyond their ids": """
        creator.name creator.fb_id creator.avatar_url marketer.name marketer.email marketer.phone_number
        marketer.fb_id marketer.avatar_url last_editor.name last_editor.email last_editor.phone_number
        last_editor.fb_id last_editor.avatar_url assigning_care.name assigning_care.email assigning_care.phone_number
        assigning_care.fb_id assigning_care.avatar_url assigning_seller.name assigning_seller.email
        assigning_seller.phone_number assigning_seller.fb_id assigning_seller.avatar_url status_history.avatar_url
        status_history.editor status_history.editor_fb status_history.name lock_order_by_user viewing""",
    "texts, links, images, logs": """
        note note_print note_image items.note partner.extend_update.note link tracking_link conversation_id histories
        call_laters bank_transfer_images items.variation_info.images""",
    "payment details": """
        bank_payments payment_purchase_histories.result_code payment_purchase_histories.ipn_reply
        payment_purchase_histories.tags transfer_proofs.order_id transfer_proofs.shop_id transfer_proofs.payment_id
        transfer_proofs.images transfer_proofs.note transfer_proofs.verifier transfer_proofs.creator
        transfer_proofs.last_editor transfer_proofs.order_info""",
    "objects of any content": """
        items.quantity_by_combo_products activated_combo_products.combo_product_info
        activated_promotion_advances.promotion_advance_info""",
    "others": "additional_info.service_partner",
}
# Sent by shops, and not in the vendor's description.
UNDOCUMENTED = {
    "customer_needs": MARKER,
    "new_field_of_tomorrow": MARKER,
    "buyer": {"name": MARKER},
    "link_confirm_order": MARKER,
    "order_link": MARKER,
    "customer_id": MARKER,
    "recipient": [MARKER],
    "partner": {"service_partner": {"token": MARKER}, "courier": MARKER, "extend_update": [{"tel": MARKER}]},
    "reports_by_phone": {"0917-MARKER": {"order_fail": 1, "order_success": 2}},
    "marketer": {"username": MARKER},
    "tags": [{"id": 1, "owner": MARKER}],
    "invoice_info_list": [{"invoice_detail": {"company_name": MARKER}}],
}


def test_every_documented_field_is_stored_or_left_out_on_purpose() -> None:
    intended = {path for paths in LEFT_OUT.values() for path in paths.split()}
    assert set(dropped(DOCUMENTED, without_customer_data(DOCUMENTED))) == intended


# Stored though the vendor's description does not have them: production data does.
STORED_UNDOCUMENTED = """
    assigning_seller_id buyer_total_amount is_webcake_abandoned_cart order_sources_name page page.id page.name prepaid
    returned_reason_name time_assign_seller total_price_after_sub_discount"""
UNDOCUMENTED_OF_ITEMS = """
    custom_id exchange_count returning_quantity total_discount variation_info.average_imported_price
    variation_info.custom_id"""


def paths(fields: Fields, parent: str = "") -> Iterator[str]:
    """Every path on the list."""
    for key, inner in fields.items():
        yield f"{parent}{key}"
        yield from paths(inner or {}, f"{parent}{key}.")


def documented_paths(found: Any, parent: str = "") -> Iterator[str]:
    """Every path of an order in the vendor's description."""
    for entry in found if isinstance(found, list) else [found]:
        if isinstance(entry, dict):
            for key, value in entry.items():
                yield f"{parent}{key}"
                yield from documented_paths(value, f"{parent}{key}.")


def test_the_list_names_exactly_the_fields_that_are_known() -> None:
    documented = set(documented_paths(DOCUMENTED))
    stored = {*STORED_UNDOCUMENTED.split(), *(f"items.{path}" for path in UNDOCUMENTED_OF_ITEMS.split())}
    assert {path for path in stored if not listed(path)} == set()
    assert {path for path in stored if path in documented} == set()
    # Items have other names in some shops, and components have what items have of a variation.
    assert ALLOWED["order_items"] == ALLOWED["items"]
    variation = "items.variation_info"
    assert fields_below("items.components.variation_info") == fields_below(variation)
    known = documented | stored | {path.replace(variation, "items.components.variation_info") for path in stored}
    known |= {path.replace(variation, "items.components.variation_info") for path in documented}
    assert {path for path in paths({**ALLOWED, "order_items": None}) if path not in known} == {"order_items"}


def fields_below(path: str) -> Fields | None:
    """What the list has of the object at a path."""
    fields: Fields | None = ALLOWED
    for key in path.split("."):
        assert fields is not None
        fields = fields[key]
    return fields


def test_order_items_are_stored_as_items_are() -> None:
    item = {"id": 1, "custom_id": "c", "note": MARKER, "variation_info": {"custom_id": "v", "images": [MARKER]}}
    kept = {"id": 1, "custom_id": "c", "variation_info": {"custom_id": "v"}}
    nested = {**item, "components": [{"component_id": 2, "variation_info": {"name": "n", "images": [MARKER]}}]}
    kept_nested = {**kept, "components": [{"component_id": 2, "variation_info": {"name": "n"}}]}
    for key in ("items", "order_items"):
        assert without_customer_data({key: [item, nested]}) == {key: [kept, kept_nested]}


def dropped(found: dict[str, Any], kept: dict[str, Any], parent: str = "") -> Iterator[str]:
    """The paths of what a copy lacks, without those below them."""
    for key, value in found.items():
        path = f"{parent}{key}"
        if key not in kept:
            yield path
            continue
        for one, other in zip(*((v if isinstance(v, list) else [v]) for v in (value, kept[key])), strict=True):
            if isinstance(one, dict):
                yield from dropped(one, other, f"{path}.")


@pytest.mark.parametrize("path", sorted({path for paths in LEFT_OUT.values() for path in paths.split()}))
@pytest.mark.parametrize("mark", [MARKER, [MARKER], {"name": MARKER}, [{"id": MARKER}]], ids=str)
def test_a_field_that_is_left_out_leaves_no_trace(path: str, mark: Any) -> None:
    order: Any = mark
    for key in reversed(path.split(".")):
        order = {key: order}
    assert MARKER not in json.dumps(without_customer_data({"id": 1, **order}))


@pytest.mark.parametrize(("key", "value"), UNDOCUMENTED.items())
def test_a_field_that_nobody_described_is_not_stored(key: str, value: Any) -> None:
    assert MARKER not in json.dumps(without_customer_data({"id": 1, key: value}))


@pytest.mark.parametrize(
    ("order", "kept"),
    [
        ({"shipping_address": f"1 {MARKER} Street"}, {}),
        ({"creator": MARKER, "partner": [MARKER], "reports_by_phone": 917}, {"partner": []}),
        ({"account_name": {"name": MARKER}, "status_name": [MARKER]}, {}),
        ({"items": [MARKER, None, [{"id": 1}], {"id": 1}]}, {"items": [None, {"id": 1}]}),
        ({"marketer": None, "partner": None, "items": None}, {"marketer": None, "partner": None, "items": None}),
        ({"tags": ["vip", {"id": 1, "name": "gift"}]}, {"tags": ["vip", {"id": 1, "name": "gift"}]}),
        ({"tags": '[{"id":2,"name":"gift"}]'}, {"tags": '[{"id":2,"name":"gift"}]'}),
        (
            {"order_sources": [1, "-1"], "order_returned_ids": [7], "warehouse_id": [7]},
            {"order_sources": [1, "-1"], "order_returned_ids": [7]},
        ),
        (
            {"items": [{"variation_info": {"category_ids": [7]}}]},
            {"items": [{"variation_info": {"category_ids": [7]}}]},
        ),
        ({"it\x00ems": [], "BILL_full_name": "x", "ID": 1}, {}),
    ],
)
def test_a_value_of_another_kind_than_documented_is_not_stored(order: dict[str, Any], kept: dict[str, Any]) -> None:
    assert without_customer_data(order) == kept


def test_the_copy_keeps_numbers_order_and_the_original() -> None:
    order = {"cod": Decimal("450.10"), "note": "x", "id": 17, "items": [{"note": "y", "quantity": 2}]}
    before = json.dumps(order, default=str)
    assert list(without_customer_data(order).items()) == [
        ("cod", Decimal("450.10")),
        ("id", 17),
        ("items", [{"quantity": 2}]),
    ]
    assert json.dumps(order, default=str) == before


def test_an_order_deeper_than_the_stack_is_copied() -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    assert without_customer_data({"tags": nested, "id": 1}) == {"tags": [], "id": 1}


def test_a_whole_order_is_stored_without_the_credentials_in_it() -> None:
    order = {"bill_full_name": "Ana", "partner": {"extend_code": "JT1", "service_partner": {"token": MARKER}}}
    assert without_credentials(order) == {"bill_full_name": "Ana", "partner": {"extend_code": "JT1"}}
    assert "service_partner" in order["partner"]
    for partner in ([MARKER], None, 5, {"extend_code": "JT1"}):
        assert without_credentials({"partner": partner}) == {"partner": partner}


# What is computed from the stored order


class Recording(dict[str, Any]):
    """An object of an order that notes which of its fields are read."""

    def __init__(self, found: dict[str, Any], read: set[str], parent: str = "") -> None:
        super().__init__({key: _recording(value, read, f"{parent}{key}") for key, value in found.items()})
        self._read, self._parent = read, parent

    def get(self, key: str, default: Any = None) -> Any:
        self._read.add(f"{self._parent}{key}")
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self._read.add(f"{self._parent}{key}")
        return super().__getitem__(key)


def _recording(value: Any, read: set[str], path: str) -> Any:
    if isinstance(value, dict):
        return Recording(value, read, f"{path}.")
    return [_recording(entry, read, path) for entry in value] if isinstance(value, list) else value


COSTS = ProductCosts((), {})
ITEM = {"product_id": "p", "variation_id": "v", "quantity": 2, "note_product": "Agriblast-100", "variation_info": {}}
ORDER = {
    "id": 17,
    "status": 3,
    "inserted_at": "2026-10-06T02:49:22",
    "items": [ITEM],
    "partner": {"extend_code": "JT1"},
    "cod": 1,
}


def row_of(raw: dict[str, Any], *, keep: bool = False) -> Any:
    return order_row(
        raw, shop_id="7", timezone=ZoneInfo("Asia/Manila"), costs=COSTS, money_divisor=100, keep_customer_data=keep
    )


def listed(path: str) -> bool:
    fields: Fields | None = ALLOWED
    for key in path.split("."):
        if fields is None or key not in fields:
            return False
        fields = fields[key]
    return True


def test_every_field_that_a_row_is_computed_from_is_on_the_list() -> None:
    read: set[str] = set()
    for order in (ORDER, {**ORDER, "status": 0}, {**ORDER, "total_price": 5}, {**ORDER, "cod": 0}):
        row_of(Recording(order, read), keep=True)
    assert {"id", "items", "cod", "p_utm_content", "items.note_product", "partner.extend_code"} <= read
    assert [path for path in sorted(read) if not listed(path)] == []


def test_every_field_that_the_code_names_is_on_the_list() -> None:
    known = {key for fields in every_object(ALLOWED) for key in fields}
    named = set(fields_named_in(pancake))
    assert {"id", "inserted_at", "display_id", "shopify_abandon_checkout_id"} <= named
    assert named - known == set()


def every_object(fields: Fields) -> Iterator[Fields]:
    yield fields
    for inner in fields.values():
        if inner is not None:
            yield from every_object(inner)


def fields_named_in(module: Any) -> Iterator[str]:
    """The texts that the module's functions look up in an object, or have `values` look up."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        of_values = isinstance(node.func.value, ast.Name) and node.func.value.id == "values"
        if node.func.attr in {"cents", "major_units"}:
            continue  # of a column
        if of_values or node.func.attr == "get":
            arguments = node.args[1:2] if of_values else node.args[:1]
            yield from (a.value for a in arguments if isinstance(a, ast.Constant) and isinstance(a.value, str))


# Read as text, so that other values would not make a row.
TEXTS = ["ad_id", "status_name", *(key for key in ALLOWED if key.startswith("p_utm_"))]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-10, 10**7)
    | st.sampled_from(["", "7", "PHP100", "a-100", "2026-10-06T02:49"])
)
odd = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "name", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
items = st.lists(
    st.fixed_dictionaries(
        {"quantity": st.integers(0, 5)},
        optional={
            **dict.fromkeys(("product_id", "variation_id", "custom_id", "note", "components"), odd),
            "note_product": st.none() | st.sampled_from(["Agriblast-100", "a b-1,000.50", "-5", "Sữa-9"]) | odd,
            "variation_info": odd
            | st.dictionaries(st.sampled_from(["display_id", "custom_id", "name"]), odd, max_size=3),
        },
    ),
    max_size=3,
)
orders = st.fixed_dictionaries(
    {"id": st.integers(1, 99) | st.just("C400000001.88"), "inserted_at": st.just("2026-10-06T02:49:22.963202")},
    optional={
        **{key: odd for key in [*ALLOWED, "bill_full_name", "customer", "note"] if key not in {"id", "inserted_at"}},
        "items": items,
        "status": st.none() | st.integers(-2, 20),
        "order_currency": st.sampled_from(["PHP", "PHP100", None]),
        **dict.fromkeys(["cod", "total_price", "total_price_after_sub_discount"], st.integers(-5, 10**6)),
        "updated_at": st.none(),
        **dict.fromkeys(TEXTS, st.none() | st.sampled_from(["", "ad_id=123", "Serum", "120219999999999999"])),
    },
)


@unhurried
@given(orders)
def test_a_row_computed_from_what_is_stored_is_the_same(order: dict[str, Any]) -> None:
    try:
        row = row_of(order)
    except RowError:
        return
    if isinstance(row, pancake.Excluded):
        return
    again = row_of(json.loads(row.data, parse_float=Decimal))
    assert again == row
    stored, whole = (json.dumps(data.get("items")) for data in (json.loads(row.data), order))
    arguments: dict[str, Any] = {"shop_id": "7", "day": date(2026, 10, 6), "costs": COSTS}
    assert recosted(stored, **arguments) == recosted(whole, **arguments)
    # Of the items as sent, some cannot be listed, since an id is an object; what is stored of them can.
    with suppress(RowError):
        assert uncosted_items(whole, **arguments) == uncosted_items(stored, **arguments)
