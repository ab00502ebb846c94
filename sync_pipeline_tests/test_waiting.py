"""The helpers that other tests wait with and reserve ports with."""

import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import pytest

from sync_pipeline_tests.pipeline import DEMO_TENANTS, schedule_months_ahead
from sync_pipeline_tests.ports import reserve_port
from sync_pipeline_tests.waiting import lasting_today, wait_until


def test_a_state_that_never_comes_fails_with_the_last_result() -> None:
    with pytest.raises(AssertionError, match=r"not within 0.1 s; last result: 'QUEUED'"):
        wait_until(lambda: "QUEUED", lambda status: status == "STARTED", patience_s=0.1)


def test_a_process_that_has_ended_is_not_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process, pytest.raises(AssertionError, match="has ended"):
        wait_until(lambda: False, process=process)


def test_an_ignored_error_is_not_the_end() -> None:
    results = iter([OSError("busy"), "ready"])

    def look() -> str:
        match next(results):
            case Exception() as error:
                raise error
            case other:
                return str(other)

    assert wait_until(look, ignored=(OSError,)) == "ready"


@pytest.mark.parametrize(
    ("now", "today", "waited"),
    [
        (datetime(2026, 11, 27, 15, 57, tzinfo=UTC), date(2026, 11, 27), 0),
        (datetime(2026, 11, 27, 15, 59, 1, tzinfo=UTC), date(2026, 11, 28), 59),
        (datetime(2026, 11, 27, 16, 0, tzinfo=UTC), date(2026, 11, 28), 0),
        (datetime(2026, 11, 27, 23, 59, 59, tzinfo=UTC), date(2026, 11, 28), 0),
    ],
)
def test_today_is_asked_for_after_midnight_if_it_is_near(now: datetime, today: date, waited: int) -> None:
    slept: list[float] = []
    found = lasting_today("Asia/Manila", now=lambda: now + timedelta(seconds=sum(slept)), sleep=slept.append)
    assert (found, sum(slept)) == (today, waited)


def test_a_reserved_port_is_given_to_no_other_process() -> None:
    ours = {reserve_port() for _ in range(3)}
    code = (
        "import os; os.getpid = lambda: {}; from sync_pipeline_tests.ports import reserve_port; print(reserve_port())"
    )
    done = subprocess.run([sys.executable, "-c", code.format(os.getpid())], capture_output=True, text=True, check=True)
    assert len(ours) == 3
    assert int(done.stdout) not in ours


@pytest.mark.parametrize(("month", "due"), [(1, 7), (6, 12), (7, 1), (11, 5), (12, 6)])
def test_schedules_of_a_test_are_due_months_ahead(month: int, due: int) -> None:
    file = (DEMO_TENANTS / "lumina.yaml").read_text()
    moved = schedule_months_ahead(file, datetime(2026, month, 27, tzinfo=UTC))
    assert re.findall(r'schedule: "(.+)"', moved) == [f"0 2 15 {due} *", f"0 3 15 {due} *"]
