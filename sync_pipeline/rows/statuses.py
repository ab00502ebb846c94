"""The groups of Pancake's order statuses, which every figure by status is computed from."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# The vendor's numbers. 7 (deleted) is stored only until its day is fetched again; -1 and -2 are not in the vendor's
# list, but are used for cancelled and removed orders.
STATUS_GROUPS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "unconfirmed": (0, 17),
        "restocking": (11,),
        "confirmed": (1, 20),
        "waiting_pickup": (8, 9, 12, 13),
        "shipped": (2,),
        "delivered": (3, 16),
        "partly_returned": (15,),
        "returning": (4,),
        "returned": (5,),
        "cancelled": (6, -1),
        "excluded": (7, -2),
    }
)
OTHER: Final = "other"
"""The group of orders without a status, and of numbers in no other group."""
EXCLUDED: Final = "excluded"
"""The group that counts in no figure of orders."""

ALL_GROUPS: Final = (*STATUS_GROUPS, OTHER)
COUNTED: Final = tuple(group for group in ALL_GROUPS if group != EXCLUDED)
DELIVERED: Final = ("delivered", "partly_returned")
SETTLED: Final = (*DELIVERED, "returned", "cancelled")
NOT_CANCELLED: Final = tuple(group for group in COUNTED if group != "cancelled")
OPEN: Final = tuple(group for group in COUNTED if group not in SETTLED)
SENT: Final = ("shipped", *DELIVERED, "returning", "returned")
"""Handed to the courier, including parcels in transit."""


def group_of(status: int | None) -> str:
    """Return the group of a status number."""
    return next((group for group, numbers in STATUS_GROUPS.items() if status in numbers), OTHER)


def group_sql(column: str) -> str:
    """Return the SQL expression of the group that the status in a column belongs to."""
    cases = " ".join(
        f"WHEN {column} IN ({', '.join(map(str, numbers))}) THEN '{group}'" for group, numbers in STATUS_GROUPS.items()
    )
    return f"CASE {cases} ELSE '{OTHER}' END"


def numbers_sql(groups: tuple[str, ...]) -> str:
    """Return the status numbers of groups with known numbers as an SQL list."""
    return f"({', '.join(str(number) for group in groups for number in STATUS_GROUPS[group])})"
