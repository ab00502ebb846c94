"""The collector that a scrape asks: scrapes share what was read, and none of them waits for long."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sync_pipeline.metrics.families import build_info, families, up
from sync_pipeline.metrics.snapshot import Snapshot

FRESH_FOR_S: Final = 15.0
# Prometheus gives a scrape 10 s unless its configuration says otherwise.
ANSWER_WITHIN_S: Final = 8.0


class SnapshotCollector(Collector):
    """Reads a snapshot when it is asked and the last one is older than `fresh_for_s`.

    One thread reads at a time. A scrape that has waited for it for `answer_within_s` gets the last snapshot, whose age
    is among the metrics, or, where there is none yet, only `sync_pipeline_up 0`.
    """

    def __init__(
        self,
        read: Callable[[], Snapshot],
        *,
        fresh_for_s: float = FRESH_FOR_S,
        answer_within_s: float = ANSWER_WITHIN_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._read = read
        self._fresh_for_s = fresh_for_s
        self._answer_within_s = answer_within_s
        self._clock = clock
        self._lock = threading.Lock()
        self._reading: threading.Thread | None = None
        self._snapshot: Snapshot | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the latest snapshot."""
        reading = self.begin_if_due()
        if reading is not None:
            reading.join(self._answer_within_s)
        snapshot = self._snapshot
        yield build_info()
        if snapshot is None:
            yield up(False)  # noqa: FBT003
            return
        yield from families(snapshot, self._clock())

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: that would read everything when the collector is registered."""
        return iter(())

    def begin_if_due(self) -> threading.Thread | None:
        """Begin to read if the snapshot is old; returns the thread that reads."""
        with self._lock:
            if self._reading is not None and self._reading.is_alive():
                return self._reading
            if self._snapshot is not None and 0 <= self._clock() - self._snapshot.taken_at < self._fresh_for_s:
                return None
            self._reading = threading.Thread(target=self._take, name="snapshot", daemon=True)
            self._reading.start()
            return self._reading

    def _take(self) -> None:
        self._snapshot = self._read()
