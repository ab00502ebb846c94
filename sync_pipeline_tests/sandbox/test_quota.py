from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.sandbox.quota import Quota


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_points_decay_with_time() -> None:
    clock = Clock()
    quota = Quota(points=10, decay_seconds=100, clock=clock)
    assert all(quota.take("act_1") for _ in range(10))
    clock.seconds = 50
    assert quota.used_percent("act_1") == 50


def test_calling_while_blocked_prolongs_the_block() -> None:
    clock = Clock()
    quota = Quota(points=1, decay_seconds=10, block_seconds=60, clock=clock)
    assert [quota.take("act_1") for _ in range(2)] == [True, False]
    clock.seconds = 50
    assert not quota.take("act_1")
    assert quota.seconds_left("act_1") == 60
    assert quota.minutes_left("act_1") == 1
    clock.seconds = 111
    assert quota.take("act_1")


@given(st.lists(st.floats(0, 30), max_size=60))
def test_a_patient_caller_is_never_refused(pauses: list[float]) -> None:
    clock = Clock()
    quota = Quota(points=10, decay_seconds=100, clock=clock)
    for pause in pauses:
        clock.seconds += 10.01 + pause
        assert quota.take("act_1")


def test_reset_forgets_scores_and_brings_the_first_limits_back() -> None:
    quota = Quota(points=100)
    quota.configure(points=1)
    quota.take("act_1")
    quota.reset()
    assert quota.points == 100
    assert quota.used_percent("act_1") == 0
