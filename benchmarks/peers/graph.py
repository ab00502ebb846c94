"""The API that every contender asks: one ad account whose every ad delivers on every day, each answer equally late."""

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime
from functools import partial

from sync_pipeline.sandbox import graph_reports
from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.demo_tenants import LUMINA
from sync_pipeline.sandbox.entities import AdAccount, Insight, Json, Tenant
from sync_pipeline.sandbox.exchange import Call, Reply
from sync_pipeline.sandbox.faults import Fault, slow
from sync_pipeline.sandbox.graph_insights import Insights, InsightsQuery
from sync_pipeline.sandbox.quota import Quota
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sandbox.world import World

PLAN = LUMINA._replace(
    name="bench", meta_variable="BENCH_META_TOKEN", accounts=(LUMINA.accounts[0]._replace(share=1.0),), shops=()
)
ACCOUNT_ID = PLAN.accounts[0].account_id


class EveryAdDelivers(World):
    """A world in which rows are ads times days.

    No ad is archived or deleted: what a contender leaves out because nobody asked for it would count in its favour.
    """

    def __init__(self, ads: int) -> None:
        self._days: dict[date, tuple[Insight, ...]] = {}
        super().__init__(ads=ads, orders=0, plans=[PLAN])

    def _build(self) -> None:
        super()._build()
        for name, tenant in self.tenants.items():
            accounts = tuple(
                replace(account, ads=tuple(replace(ad, effective_status="ACTIVE") for ad in account.ads))
                for account in tenant.accounts
            )
            self.tenants[name] = replace(tenant, accounts=accounts)
        self._index()

    def insights(self, account_id: str, day: date) -> list[Insight]:
        """The figures of one day, of all ads."""
        if day not in self._days:
            self._days[day] = tuple(_figures(self._accounts[account_id][1], day))
        return list(self._days[day])


class TimedReports(graph_reports.Reports):
    """Reports that are ready `seconds` after they were asked for, however often somebody looks."""

    def __init__(self, insights: Insights, behaviour: Behaviour, now: Callable[[], datetime], seconds: float) -> None:
        super().__init__(insights, behaviour, now)
        self._seconds = seconds
        self._asked_at: dict[str, float] = {}

    def start(self, tenant: Tenant, query: InsightsQuery) -> Reply:
        """Start a report and answer its id."""
        reply = super().start(tenant, query)
        answer: Json = json.loads(reply.body)
        self._asked_at[answer["report_run_id"]] = time.monotonic()
        return reply

    def poll(self, call: Call, name: str, tenant: Tenant) -> Reply:
        """Whether the report is ready."""
        ready = time.monotonic() - self._asked_at[name] >= self._seconds
        self._find(call, name, tenant).polls = self._behaviour.reports_unfinished_polls if ready else 1
        return super().poll(call, name, tenant)


@contextmanager
def api(*, ads: int, days: Iterable[date], latency_ms: int, report_s: float) -> Iterator[SandboxServer]:
    """The API, serving from another thread of this process; figures of `days` are made beforehand.

    The quota never runs out, because some contenders pause near its end.
    """
    world = EveryAdDelivers(ads)
    for day in days:
        world.insights(ACCOUNT_ID, day)
    behaviour = Behaviour()
    sandbox = SandboxServer(world=world, quota=Quota(points=1e9), behaviour=behaviour)
    sandbox._graph._reports = TimedReports(sandbox._graph._insights, behaviour, world.now, report_s)
    if latency_ms:
        sandbox.faults.add(Fault(slow(latency_ms / 1000), path="^/graph", times=None))
    with sandbox:
        yield sandbox


def forget(sandbox: SandboxServer) -> None:
    """Empty the request log, and let nobody profit from what was worked out for those before."""
    sandbox.requests.clear()
    sandbox.world.version += 1


def _figures(account: AdAccount, day: date) -> Iterator[Insight]:
    figure = partial(random.Random(f"{account.account_id}:{day}").randint, 1)  # noqa: S311 - figures, not secrets
    for ad in account.ads:
        impressions = figure(50_000)
        clicks = figure(impressions)
        links = figure(clicks)
        yield Insight(ad, day, day, figure(900_000), impressions, clicks, links, figure(links), figure(9))
