"""Something happens to this machine while a request of a run is held."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sync_pipeline.sandbox.faults import Fault
from sync_pipeline_tests.waiting import wait_until


@contextmanager
def during(held: Fault, event: Callable[[], None]) -> Iterator[None]:
    """Call `event` when the fault holds a request of the run in the body, and then release the request."""
    ended = threading.Event()

    def watch() -> None:
        try:
            wait_until(lambda: held.hits or ended.is_set())
            assert held.hits, "the run has ended without a request that the fault holds"
            event()
        finally:
            held.release()

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield
        finally:
            ended.set()
        watching.result()
