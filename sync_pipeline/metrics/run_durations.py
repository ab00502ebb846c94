"""A histogram of how long runs took, of those that ended since this process started."""

import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from sync_pipeline.dagster_internals.stored_runs import FINISHED, runs_ended_within

BUCKETS_S: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0)
# A run is written a moment after its end, and again when its tags change.
OVERLAP_S: Final = 120.0
REMEMBERED_S: Final = 86_400.0


class RunDurations:
    """Counts each run once, by its status."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._since = self._read_at = clock()
        self._seen: dict[int, float] = {}
        self._counts = {status: [0] * (len(BUCKETS_S) + 1) for status in FINISHED}
        self._sums = dict.fromkeys(FINISHED, 0.0)

    def read(self, connection: sa.Connection) -> None:
        """Count the runs that have ended since the last time."""
        now = self._clock()
        for number, run in runs_ended_within(connection, now - self._read_at + OVERLAP_S):
            if run.ended is None or run.ended < max(self._since, now - REMEMBERED_S) or number in self._seen:
                continue
            self._seen[number] = run.ended
            # A run that was cancelled in the queue took no time.
            seconds = run.seconds or 0.0
            self._counts[run.status][bisect_left(BUCKETS_S, seconds)] += 1
            self._sums[run.status] += seconds
        self._read_at = now
        self._seen = {number: ended for number, ended in self._seen.items() if now - ended < REMEMBERED_S}

    def histogram(self, status: str) -> tuple[list[tuple[str, float]], float]:
        """Return the cumulative buckets of a status, and the sum of its seconds."""
        bounds = [str(bound) for bound in BUCKETS_S] + ["+Inf"]
        total, buckets = 0, []
        for bound, count in zip(bounds, self._counts[status], strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets, self._sums[status]
