"""The fields of an order that are stored: an allowlist, so that a field which Pancake adds is not stored by accident.

Names of fields are those of the vendor's description and of production data. Not listed are names, phones, e-mail and
postal addresses of customers and couriers, names of staff, free text (but an item's `note_product`, which cost and
mapping are read from), edit logs, links (`tracking_link` opens the order to anyone), ids and texts of conversations,
invoices, images, and credentials of couriers' accounts.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from sync_pipeline.rows import values

Fields: TypeAlias = Mapping[str, "Fields | None"]
"""What to keep of an object by key: a scalar (None), or an object or list of objects with these fields."""


def _scalars(names: str) -> dict[str, "Fields | None"]:
    return dict.fromkeys(names.split())


_VARIATION: Final[Fields] = {
    **_scalars(
        "id product_id name detail display_id product_display_id custom_id barcode brand_id category_ids retail_price "
        "last_imported_price average_imported_price avg_price weight is_upsale_product"
    ),
    "fields": _scalars("id name value keyValue"),
    "measure_info": _scalars("measure_id exchange_value"),
}
_ITEM: Final[Fields] = {
    **_scalars(
        "id product_id variation_id custom_id quantity returned_count returning_quantity exchange_count "
        "discount_each_product total_discount is_discount_percent is_bonus_product is_wholesale is_composite "
        "one_time_product note_product assigning_seller_id inserted_at measure_group_id"
    ),
    "variation_info": _VARIATION,
    "components": {**_scalars("component_id quantity variation_id"), "variation_info": _VARIATION},
}
_STAFF: Final[Fields] = _scalars("id")

ALLOWED: Final[Fields] = {
    # Identity and origin
    **_scalars(
        "id system_id display_id custom_id shop_id warehouse_id page_id post_id ad_id ads_source account account_name "
        "marketplace_id order_sources order_sources_name shopify_order_id shopify_draft_order_id "
        "shopify_abandon_checkout_id is_abandoned_order is_webcake_abandoned_cart is_from_ecommerce is_livestream "
        "is_live_shopping is_smc received_at_shop order_returned_ids merge_order is_locked printing_count"
    ),
    **_scalars("p_utm_source p_utm_medium p_utm_campaign p_utm_content p_utm_term p_utm_id utm_affiliate"),
    "page": _scalars("id name"),
    "warehouse_info": _scalars("name custom_id province_id ffm_id affiliate_id"),
    "tags": _scalars("id name"),
    # Times and statuses
    **_scalars(
        "inserted_at updated_at last_update_status_at time_send_partner estimate_delivery_date time_assign_seller "
        "time_assign_care time_assign_marketer status status_name sub_status returned_reason returned_reason_name"
    ),
    "status_history": _scalars("status old_status updated_at editor_id"),
    "additional_info": _scalars("delivery_deadline"),
    # Money
    **_scalars(
        "order_currency total_price total_price_after_sub_discount total_discount discount discount_by_customer_level "
        "total_quantity cod money_to_collect prepaid cash transfer_money buyer_total_amount shipping_fee partner_fee "
        "fee_marketplace customer_pay_fee is_free_shipping surcharge cost_surcharge tax charged_by_card "
        "charged_by_fundiin charged_by_kredivo charged_by_momo charged_by_qrpay charged_by_vnpay"
    ),
    "prepaid_by_point": _scalars("money point"),
    "advanced_platform_fee": _scalars(
        "ads_top_up affiliate_commission diff_shipping_fee marketplace_voucher payment_fee platform_commission "
        "seller_transaction_fee service_fee sfp_service_fee"
    ),
    "payment_purchase_histories": _scalars("amount type inserted_at voucher_amount"),
    "transfer_proofs": _scalars("id amount is_income is_verify verify_at inserted_at updated_at"),
    "activated_combo_products": _scalars("combo_product_id quantity_combo_activated"),
    "activated_promotion_advances": _scalars("id promotion_advance_id"),
    # Goods; some shops send `order_items`.
    "items": _ITEM,
    "order_items": _ITEM,
    # Delivery
    **_scalars("is_linked_partner shop_partner_id duplicated_phone duplicated_customer"),
    "partner": {
        **_scalars(
            "partner_id partner_name partner_status extend_code order_number_vtp cod total_fee updated_at picked_up_at "
            "first_delivery_at paid_at system_created"
        ),
        "extend_update": _scalars("key status tracking_id update_at"),
    },
    "shipping_address": _scalars("province_id new_province_id country_code"),
    "reports_by_phone": _scalars("order_fail order_success warning"),
    # Staff, by id alone
    **_scalars("creator_id assigning_seller_id assigning_care_id last_editor_id pke_mkter"),
    "creator": _STAFF,
    "assigning_seller": _STAFF,
    "assigning_care": _STAFF,
    "last_editor": _STAFF,
    "marketer": _STAFF,
}
# Lists of scalars.
_LISTS: Final = frozenset({"category_ids", "order_sources", "order_returned_ids"})
# Tags come as objects, texts, or one text.
_SCALARS_TOO: Final = frozenset({"tags"})
# A credential of the shop's courier account, which nobody needs.
_CREDENTIALS: Final = frozenset({"service_partner"})


def without_customer_data(raw: values.Raw) -> dict[str, Any]:
    """Copy the fields of an order that are on the list, however deep they are.

    Where the list describes an object, only objects stay, also in lists; where it names a scalar, only scalars. A value
    of another kind than Pancake documents might be anything.
    """
    return _kept(raw, ALLOWED)


def without_credentials(raw: values.Raw) -> dict[str, Any]:
    """Copy a whole order, customer data included, except for credentials that Pancake sends with it."""
    partner = raw.get("partner")
    if not isinstance(partner, dict) or _CREDENTIALS.isdisjoint(partner):
        return dict(raw)
    return {**raw, "partner": {key: value for key, value in partner.items() if key not in _CREDENTIALS}}


def _kept(found: values.Raw, fields: Fields) -> dict[str, Any]:
    # Recursion ends where the list does, after its own few levels.
    kept: dict[str, Any] = {}
    for key, value in found.items():
        if key not in fields:
            continue
        inner = fields[key]
        if isinstance(value, list):
            if inner is not None or key in _LISTS:
                kept[key] = [part for entry in value if (part := _part(key, entry, inner)) is not _NOTHING]
        elif (part := _part(key, value, inner)) is not _NOTHING:
            kept[key] = part
    return kept


def _part(key: str, value: Any, fields: Fields | None) -> Any:
    if isinstance(value, list):
        return _NOTHING
    if isinstance(value, dict):
        return _NOTHING if fields is None else _kept(value, fields)
    return value if fields is None or value is None or key in _SCALARS_TOO else _NOTHING


_NOTHING: Final = object()
