"""The helper that lets something happen in the middle of a run."""

import pytest

from sync_pipeline.sandbox import faults
from sync_pipeline.sandbox.faults import Fault
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.faults.holding import during
from sync_pipeline_tests.sandbox.asking import graph


def test_the_event_comes_before_the_answer(sandbox: SandboxServer) -> None:
    held = sandbox.faults.add(Fault(faults.held(), path="/me$"))
    requests_at_event: list[int] = []
    with during(held, lambda: requests_at_event.append(sandbox.requests.count("me"))):
        assert graph(sandbox, "me").ok
    assert (requests_at_event, sandbox.requests.count("me")) == ([0], 1)


def test_a_run_that_is_never_held_fails(sandbox: SandboxServer) -> None:
    held = sandbox.faults.add(Fault(faults.held(), path="/me$"))
    with pytest.raises(AssertionError, match="without a request that the fault holds"), during(held, lambda: None):
        assert graph(sandbox, "me/adaccounts").ok


def test_an_event_that_fails_fails_the_test_and_releases(sandbox: SandboxServer) -> None:
    held = sandbox.faults.add(Fault(faults.held(), path="/me$"))
    with pytest.raises(ZeroDivisionError), during(held, lambda: print(1 / 0)):
        assert graph(sandbox, "me").ok
