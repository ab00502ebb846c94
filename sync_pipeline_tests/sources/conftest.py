"""Servers and clients for the tests of the API clients."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from sync_pipeline.sources.http import Pacing, Wait
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline_tests.sources.scripted import FakeClock, Reply, ScriptedServer

MARKER = "MARKER+secret/0123456789=="


@dataclass
class Bench:
    """A scripted server with a client on it, a clock that only sleeps move, and what the client reported."""

    server: ScriptedServer
    clock: FakeClock = field(default_factory=FakeClock)
    waits: list[Wait] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def meta(self, pacing: Pacing | None = None, page_size: int = 500, app_secret: str | None = None) -> MetaClient:
        return MetaClient(
            tenant="acme",
            graph_url=self.server.url,
            api_version="v26.0",
            token=MARKER,
            app_secret=app_secret,
            pacing=pacing or Pacing(delay_s=0),
            page_size=page_size,
            on_wait=self.waits.append,
            on_notice=lambda notice: self.notices.append(notice.text),
            sleep=self.clock.sleep,
            clock=self.clock,
        )

    def pancake(self, pacing: Pacing | None = None, page_size: int = 200) -> PancakeClient:
        return PancakeClient(
            tenant="acme",
            api_url=f"{self.server.url}/api/v1",
            api_key=MARKER,
            pacing=pacing or Pacing(delay_s=0),
            page_size=page_size,
            on_wait=self.waits.append,
            sleep=self.clock.sleep,
            clock=self.clock,
        )


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """Makes a bench whose server plays the given replies."""
    with ExitStack() as stack:

        def make(*replies: Reply | object) -> Bench:
            return Bench(stack.enter_context(ScriptedServer(*replies)))

        yield make
