"""An interrupt that cannot get lost: cancelling a run must end it, whatever it is doing just then."""

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

AGAIN_AFTER_S = 0.05
_INTERRUPTS = (KeyboardInterrupt, dg.DagsterExecutionInterruptedError)


@contextmanager
def insistent_interrupts() -> Iterator[None]:
    """Send an interrupt once more that Python has dropped within this block.

    Dagster raises an interrupt in the signal's handler, wherever the main thread happens to be. In a finalizer or a
    weak reference's callback, which may run at any moment, Python prints such an exception and forgets it: the run
    would go on, for as long as its requests and waits take.
    """
    before = sys.unraisablehook

    def look(dropped: "UnraisableHookArgs") -> None:
        if not isinstance(dropped.exc_value, _INTERRUPTS):
            before(dropped)
            return
        # Not at once: within this hook it would be dropped again.
        again = threading.Timer(AGAIN_AFTER_S, interrupt_main_thread)
        again.daemon = True
        again.start()

    sys.unraisablehook = look
    try:
        yield
    finally:
        sys.unraisablehook = before


def interrupt_main_thread() -> None:
    """Interrupt the process's main thread as Ctrl-C does."""
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        # Unlike the former this also wakes it from a request or a wait.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
