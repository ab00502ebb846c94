"""A tenant on a sandbox and a warehouse, synced by the engine alone: no Dagster, and no wait that really passes."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sync_pipeline.sandbox.demo_tenants import LUMINA
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline.sandbox.world import World
from sync_pipeline.sources.http import Pacing, Wait
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sources.pancake import PancakeClient
from sync_pipeline.sync import META, POS
from sync_pipeline.sync.costs import costs_by_catalogue
from sync_pipeline.sync.engine import Feed, sync_days
from sync_pipeline.sync.meta import MetaFeed, discover_ad_accounts
from sync_pipeline.sync.pos import PosFeed, shops_of_run
from sync_pipeline.sync.refusals import Refusal, error_facts
from sync_pipeline.tenants import Tenant, find_tenant, load_tenants
from sync_pipeline.warehouse.staging import DayResult
from sync_pipeline.warehouse.tenancy import TenantWarehouse, Warehouse
from sync_pipeline_tests.pipeline import copied_demo_tenants
from sync_pipeline_tests.waiting import PATIENCE_S

NOW = datetime(2026, 10, 20, 7, 0, tzinfo=UTC)
FIRST_ACCOUNT, SECOND_ACCOUNT = "100000000000101", "100000000000102"
FIRST_SHOP, SECOND_SHOP = "310001", "310002"

# The day comes first, so that a day's rows are told apart without knowing the other columns.
INSIGHTS_QUERY = "SELECT date, * FROM meta_ad_insights ORDER BY tenant_id, date, account_id, ad_id"
ORDERS_QUERY = "SELECT date_local, * FROM pos_orders ORDER BY tenant_id, date_local, shop_id, pos_order_id"

Row = tuple[Any, ...]
Tables = tuple[list[Row], list[Row]]

# To connect and to read: for requests that get an answer, however loaded the machine, and for those that get none.
LONG_TIMEOUTS_S, SHORT_TIMEOUTS_S = (PATIENCE_S, PATIENCE_S), (PATIENCE_S, 4.0)


def days_from(first: date, count: int) -> list[date]:
    """`count` days in a row."""
    return [first + timedelta(days=n) for n in range(count)]


def small_world(*, ads: int, orders: int) -> World:
    """A world of one tenant with two ad accounts and two shops, of which the second ones have nearly everything."""
    accounts = (LUMINA.accounts[0], LUMINA.accounts[1]._replace(share=0.8, quiet_weekday=None))
    shops = (LUMINA.shops[0]._replace(share=0.2), LUMINA.shops[1]._replace(share=0.8))
    return World(ads=ads, orders=orders, now=lambda: NOW, plans=[LUMINA._replace(accounts=accounts, shops=shops)])


def demo_tenant(folder: Path, *, meta_days: int = 31, pos_days: int = 31) -> Tenant:
    """The demo's lumina, read from an edited copy of its file, with so many days per request."""
    name = f"meta_{meta_days}_pos_{pos_days}"
    if not (folder / name).exists():
        file = copied_demo_tenants(folder / name) / "lumina.yaml"
        text = file.read_text()
        text = text.replace("  accounts: all", f"  days_per_request: {meta_days}\n  accounts: all", 1)
        file.write_text(text.replace("    shops: all", f"    days_per_request: {pos_days}\n    shops: all", 1))
    return find_tenant(load_tenants(folder / name), "lumina")


@dataclass(repr=False)
class Bench:
    """A tenant on a sandbox and a warehouse.

    `committed` are the days of the last sync in the order they came, also where it ended in an error. Waits do not
    pass: `slept` has what was asked of the clock, `waits` what was told of it, `incomplete` and `rejected` what the
    feed warned of, `unavailable` the supplementary data that could not be fetched, and `refused` what was refused.
    `keys` are other keys than the sandbox's, by the name of their variable.
    """

    sandbox: SandboxServer
    engine: sa.Engine
    tenant: Tenant
    insights_page: int = 500
    orders_page: int = 200
    timeouts_s: tuple[float, float] = LONG_TIMEOUTS_S
    pacing: Pacing = Pacing(delay_s=0)  # noqa: RUF009 - frozen
    on_sleep: Callable[[float], None] = lambda _: None
    slept: list[float] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    unavailable: list[str] = field(default_factory=list)
    committed: list[DayResult] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    _runs: int = 0

    @cached_property
    def secrets(self) -> list[str]:
        """The token and keys of the tenant, and of others in its world."""
        return list(self.sandbox.world.secrets().values())

    def secret_of(self, source: str) -> str:
        """The token, or the first key."""
        assert self.tenant.meta is not None
        variable = self.tenant.meta.access_token.source if source == META else self.tenant.pancake[0].api_key.source
        return self.sandbox.environment[variable]

    def sync(
        self,
        days: Sequence[date],
        sources: Collection[str] = (META, POS),
        *,
        go_on: bool = False,
        stored: Collection[tuple[str, date]] = (),
    ) -> list[DayResult]:
        """Discover accounts and shops, then sync the days, as a run of its own."""
        records = (self.slept, self.waits, self.incomplete, self.rejected, self.unavailable, self.committed)
        for record in (*records, self.refused):
            record.clear()
        self._runs += 1
        run_id = f"run-{self._runs}"
        tenant = self.tenant
        with Warehouse(self.engine).tenant(
            tenant.tenant_id, name=tenant.name, timezone=tenant.timezone, run_id=run_id
        ) as held:
            feeds: list[Feed] = []
            if META in sources:
                meta = self.meta_client()
                discover_ad_accounts(tenant, meta, held, run_id, go_on=go_on)
                accounts = held.ad_accounts(run_id) or []
                feeds.append(
                    MetaFeed(
                        tenant,
                        meta,
                        held,
                        accounts,
                        run_id,
                        go_on=go_on,
                        on_rejected=self.rejected.append,
                        on_unavailable=self.unavailable.append,
                        on_refused=partial(self._note, held, run_id, META),
                    )
                )
            if POS in sources:
                clients = self.pancake_clients()
                found = shops_of_run(tenant, clients, held, run_id, go_on=go_on)
                feeds.append(
                    PosFeed(
                        tenant,
                        clients,
                        held,
                        found.shops,
                        costs_by_catalogue(tenant, held),
                        run_id,
                        go_on=go_on,
                        on_incomplete=self.incomplete.append,
                        on_rejected=self.rejected.append,
                        refusals=found.refusals,
                        on_refused=partial(self._note, held, run_id, POS),
                    )
                )
            for result in sync_days(days, feeds, go_on=go_on, stored=stored):
                self.committed.append(result)
        return list(self.committed)

    def meta_client(self) -> MetaClient:
        """A client with the tenant's token."""
        assert self.tenant.meta is not None
        return MetaClient(
            tenant=self.tenant.tenant_id,
            graph_url=self.sandbox.environment["META_GRAPH_URL"],
            api_version=self.tenant.meta.api_version,
            token=self.sandbox.environment[self.tenant.meta.access_token.source],
            pacing=self.pacing,
            page_size=self.insights_page,
            on_wait=self.waits.append,
            sleep=self._sleep,
            timeouts_s=self.timeouts_s,
        )

    def pancake_clients(self) -> dict[str, PancakeClient]:
        """A client per key, by the name of its variable."""
        return {
            key.api_key.source: PancakeClient(
                tenant=self.tenant.tenant_id,
                api_url=self.sandbox.environment["PANCAKE_API_URL"],
                api_key=self.keys.get(key.api_key.source) or self.sandbox.environment[key.api_key.source],
                key_source=key.api_key.source,
                pacing=self.pacing,
                page_size=self.orders_page,
                on_wait=self.waits.append,
                sleep=self._sleep,
                timeouts_s=self.timeouts_s,
            )
            for key in self.tenant.pancake
        }

    def steps(self) -> list[tuple[date, str]]:
        """What the last sync committed, in order."""
        return [(result.day, result.source) for result in self.committed]

    def query(self, statement: str) -> list[Row]:
        """Rows of the warehouse."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(statement))]

    def execute(self, statement: str) -> None:
        """Change something in the warehouse."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement))

    def tables(self) -> Tables:
        """All insights and all orders in order, each row led by its day."""
        return self.query(INSIGHTS_QUERY), self.query(ORDERS_QUERY)

    def everything(self) -> str:
        """Every value of every table, as text."""
        names = self.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return repr([self.query(f"SELECT * FROM {name}") for (name,) in names])

    def stored_days(self) -> dict[str, list[date]]:
        """The days that have rows, per source."""
        return {
            META: [day for (day,) in self.query("SELECT DISTINCT date FROM meta_ad_insights ORDER BY 1")],
            POS: [day for (day,) in self.query("SELECT DISTINCT date_local FROM pos_orders ORDER BY 1")],
        }

    def start_over(self) -> None:
        """An empty warehouse and an untouched sandbox."""
        self.execute("DELETE FROM tenants")
        self.sandbox.reset()

    def _note(self, held: TenantWarehouse, run_id: str, source: str, refusal: Refusal) -> None:
        self.refused.append(refusal)
        facts = error_facts(refusal.error)
        held.note_refusals(source, run_id, [(scope, str(refusal.error), facts) for scope in refusal.scopes])

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.on_sleep(seconds)
