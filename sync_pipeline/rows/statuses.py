"""What the numbers of Pancake's order statuses come to."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# Facts on Pancake, status groups. Every other number is of the group OTHER; 7, deleted, is no row at all.
STATUS_GROUPS: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "unconfirmed",
        11: "unconfirmed",
        1: "confirmed",
        9: "waiting_pickup",
        13: "waiting_pickup",
        2: "shipped",
        3: "delivered",
        16: "delivered",
        4: "returned",
        5: "returned",
        15: "returned",
        6: "cancelled",
    }
)
OTHER: Final = "other"
