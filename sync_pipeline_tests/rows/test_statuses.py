import pytest

from sync_pipeline.rows.statuses import (
    ALL_GROUPS,
    COUNTED,
    DELIVERED,
    NOT_CANCELLED,
    OPEN,
    OTHER,
    SETTLED,
    STATUS_GROUPS,
    group_of,
    group_sql,
    numbers_sql,
)


def test_every_status_of_the_vendor_is_in_one_group() -> None:
    assert dict(STATUS_GROUPS) == {
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
    numbers = [number for group in STATUS_GROUPS.values() for number in group]
    assert len(numbers) == len(set(numbers)) == 19


@pytest.mark.parametrize(
    ("status", "group"), [(0, "unconfirmed"), (8, "waiting_pickup"), (-1, "cancelled"), (-2, "excluded")]
)
def test_a_known_status_belongs_to_its_group(status: int, group: str) -> None:
    assert group_of(status) == group


@pytest.mark.parametrize("status", [None, 10, 14, 18, 19, 99, -3])
def test_an_unknown_status_belongs_to_other(status: int | None) -> None:
    assert group_of(status) == OTHER


def test_counted_groups_are_settled_or_open() -> None:
    assert sorted((*SETTLED, *OPEN)) == sorted(COUNTED)
    assert set(ALL_GROUPS) - set(COUNTED) == {"excluded"}
    assert set(COUNTED) - set(NOT_CANCELLED) == {"cancelled"}
    assert SETTLED == ("delivered", "partly_returned", "returned", "cancelled")
    assert DELIVERED == ("delivered", "partly_returned")


def test_sql_is_made_of_the_groups() -> None:
    sql = group_sql("o.status")
    assert sql.startswith("CASE WHEN o.status IN (0, 17) THEN 'unconfirmed' WHEN o.status IN (11) THEN 'restocking'")
    assert sql.endswith("ELSE 'other' END")
    assert numbers_sql(("cancelled", "excluded")) == "(6, -1, 7, -2)"
