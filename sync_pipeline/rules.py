"""What stored columns are derived by: settings of a tenant, and the fingerprint that shows which rows are outdated."""

from hashlib import sha256
from typing import Final, Literal, TypeAlias

# Raise it with every change to how a stored column is derived from what an API sent: the next run recomputes all rows.
RULES_VERSION: Final = 3

LineDiscounts: TypeAlias = Literal["auto", "included", "separate"]
"""Whether an order's `total_discount` contains the discounts of its lines."""

AdIdField: TypeAlias = Literal[
    "p_utm_source", "p_utm_medium", "p_utm_campaign", "p_utm_content", "p_utm_term", "p_utm_id", "ad_id"
]
"""A field of an order that may hold an ad id; `ad_id` is Pancake's own attribution."""
DEFAULT_AD_ID_FIELDS: Final[tuple[AdIdField, ...]] = ("p_utm_content", "ad_id")


def fingerprint(*settings: object) -> str:
    """Return a short hash of the version of the rules and of these settings, which must have a stable repr."""
    return sha256(repr((RULES_VERSION, *settings)).encode()).hexdigest()[:12]
