"""An interrupt ends a run, also one that comes while Python cannot raise it."""

import gc
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import dagster as dg
import pytest

from sync_pipeline.assets.interrupts import insistent_interrupts
from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline_tests.pipeline import Pipeline


def interrupt(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class Closing:
    def __del__(self) -> None:
        interrupt()


class Failing:
    def __del__(self) -> None:
        raise RuntimeError("no matter")


def in_a_weak_references_callback() -> None:
    passing = type("Passing", (), {})()
    watch = weakref.ref(passing, interrupt)
    del passing
    assert watch() is None


@pytest.mark.parametrize("interrupted", [in_a_weak_references_callback, Closing])
def test_an_interrupt_that_python_drops_comes_again(interrupted: Callable[[], object]) -> None:
    with pytest.raises(dg.DagsterExecutionInterruptedError), dg.raise_execution_interrupts(), insistent_interrupts():
        interrupted()
        time.sleep(60)


def test_other_dropped_errors_are_shown_as_ever_and_interrupt_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = list[Any]()
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: shown.append(str(dropped.exc_value)))
    before = sys.unraisablehook
    with dg.raise_execution_interrupts(), insistent_interrupts():
        Failing()
        time.sleep(0.2)
    assert shown == ["no matter"]
    assert sys.unraisablehook is before


@pytest.fixture
def frequent_collections() -> Iterator[None]:
    """Have Python collect garbage so often that it does so between a response and the wait that it asks for."""
    threshold = gc.get_threshold()
    gc.set_threshold(20, *threshold[1:])
    yield
    gc.set_threshold(*threshold)


@pytest.mark.usefixtures("frequent_collections")
def test_a_run_that_is_interrupted_in_the_middle_of_a_garbage_collection_ends(pipeline: Pipeline) -> None:
    limit = Fault(faults.rate_limited("600"), path="insights", times=None)
    pipeline.sandbox.faults.add(limit)

    def collecting(phase: str, info: dict[str, int]) -> None:
        if limit.hits:
            gc.callbacks.remove(collecting)
            interrupt()

    gc.callbacks.append(collecting)
    result = pipeline.run("lumina__daily_sync", date(2026, 10, 5), date(2026, 10, 7))
    assert collecting not in gc.callbacks
    [failure] = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert failure.error is not None
    assert failure.error.cls_name == "DagsterExecutionInterruptedError"
