from sync_pipeline.rows.statuses import OTHER, STATUS_GROUPS


def test_every_status_of_pancake_that_is_counted_is_of_one_group() -> None:
    numbers = (0, 17, 11, 20, 1, 12, 13, 8, 9, 2, 3, 16, 4, 15, 5, 6)
    groups: dict[str, list[int]] = {}
    for number in numbers:
        groups.setdefault(STATUS_GROUPS.get(number, OTHER), []).append(number)
    assert groups == {
        "unconfirmed": [0, 11],
        "confirmed": [1],
        "waiting_pickup": [13, 9],
        "shipped": [2],
        "delivered": [3, 16],
        "returned": [4, 15, 5],
        "cancelled": [6],
        "other": [17, 20, 12, 8],
    }
    assert 7 not in STATUS_GROUPS
