"""Something happens to this machine while a request of a run is held."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sync_pipeline.sandbox.faults import Fault
from sync_pipeline_tests.waiting import PATIENCE_S, wait_until


@contextmanager
def during(held: Fault, event: Callable[[], None]) -> Iterator[None]:
    """Call `event` when the fault holds a request of the run in the body, and then release the request."""
    failures: list[BaseException] = []

    def watch() -> None:
        try:
            wait_until(lambda: held.hits)
            event()
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread of the test
            failures.append(error)
        finally:
            held.release()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    yield
    watching.join(PATIENCE_S)
    assert not watching.is_alive()
    assert not failures, failures
