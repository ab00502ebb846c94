"""The partitioned multi-asset: a range of days of a tenant's insights and orders, in one step."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date
from functools import cache
from typing import Any

import dagster as dg

from sync_pipeline.assets.performance import performance_materialization, refresh_with_outdated, tell_incomplete
from sync_pipeline.assets.recomputed import tell_recomputed
from sync_pipeline.assets.runs import MISSING_TAG, TENANT_TAG, RunOf, restated_days
from sync_pipeline.assets.specs import (
    SYNCED,
    TABLES,
    UPSTREAM,
    asset_key,
    attributes,
    backfill_policy,
    partitions,
    pool,
    read_once,
)
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.resources import MetaGraph, PancakePos, PostgresWarehouse
from sync_pipeline.rows.costs import ProductCosts
from sync_pipeline.sources.errors import SourceError
from sync_pipeline.sync import META, POS
from sync_pipeline.sync.costs import costs_by_catalogue
from sync_pipeline.sync.engine import Feed, sync_days
from sync_pipeline.sync.errors import DayFailedError, SyncError, SyncFailedError, on_day
from sync_pipeline.sync.meta import MetaFeed, discover_ad_accounts
from sync_pipeline.sync.pos import PosFeed, shops_of_run
from sync_pipeline.sync.recompute import recompute_stored
from sync_pipeline.sync.refusals import Refusal, to_store
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.staging import DayResult
from sync_pipeline.warehouse.tenancy import TenantWarehouse

DESCRIPTIONS = {
    META: "Spend, impressions, clicks and leads per ad and day, as Meta reports them now.",
    POS: "Orders of Pancake POS by the local day they were placed, with COGS and attribution.",
}
KINDS = {META: "meta", POS: "pancake"}
# How often a run's tags are written at most: each time Dagster reads the run and replaces all of them.
SHOWN_EVERY_S = 0.5
AMOUNTS = {META: "spend", POS: "order_total"}


def synced_days_asset(tenant: Tenant) -> dg.AssetsDefinition:
    """`meta_ad_insights` and `pos_orders` of a tenant: any range of days, either source or both, in one run.

    Each committed day becomes a materialization with its own figures, also when a later day fails or the run is
    cancelled. While the run goes, each committed day is a log line and an observation, and the run's tags count up.
    Re-executing a failed or cancelled run leaves out the days that it had committed. A day that was committed without
    an account or shop that refuses is an observation, no materialization; its figures are computed and marked.
    """

    @dg.multi_asset(
        name=f"{tenant.tenant_id}__sync",
        specs=[_spec(tenant, source) for source in tenant.sources],
        can_subset=True,
        partitions_def=partitions(tenant),
        backfill_policy=backfill_policy(tenant),
        pool=pool(tenant),
    )
    @read_once
    def sync(
        context: dg.AssetExecutionContext,
        meta_graph: MetaGraph,
        pancake_pos: PancakePos,
        warehouse: PostgresWarehouse,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        run = RunOf(tenant, context)
        sources = [s for s in tenant.sources if asset_key(tenant, SYNCED[s]) in context.selected_asset_keys]
        days = [date.fromisoformat(key) for key in context.partition_keys]
        restated = restated_days(context.run.tags)
        further: dict[str, list[date]] = {source: restated[source] for source in sources if source in restated}
        progress = _Progress(tenant, context, sources, days, further)
        try:
            with run.failing(progress.next_up), run.hold(warehouse) as held:
                # Read once, and only where orders are synced.
                costs = cache(lambda: costs_by_catalogue(tenant, held))
                open_feed: dict[str, Callable[[], Feed]] = {
                    META: lambda: _meta_feed(tenant, context, run, meta_graph, held),
                    POS: lambda: _pos_feed(tenant, context, run, pancake_pos, held, costs()),
                }
                feeds: list[Feed] = []
                failed: list[DayFailedError] = []
                for source in sources:
                    progress.next_up["source"] = source
                    try:
                        feeds.append(open_feed[source]())
                    except (SourceError, SyncError) as error:
                        if not run.go_on:
                            raise
                        failed.append(DayFailedError(source, days[0], [on_day(error, days[0])]))
                progress.next_up["source"] = sources[0]
                recomputed = recompute_stored(tenant, held, sources, costs() if POS in sources else None)
                tell_recomputed(context, recomputed)
                progress.take_over(held.committed_days(run.resumed_runs()))
                try:
                    for result in sync_days(
                        days, feeds, go_on=run.go_on, further=further, stored=progress.stored, failed=failed
                    ):
                        progress.note(result)
                        run.store_usage_regularly(held)
                except SyncFailedError as error:
                    _tell_missing(context, error)
                    # This step fails, so that the one that computes the figures is skipped.
                    progress.compute_incomplete_figures(held)
                    raise
        except BaseException:
            # Also when the run is cancelled: what was committed is shown as such, and nothing else.
            progress.materialize_committed()
            raise
        yield from progress.materializations()

    return sync


def _tell_missing(context: dg.AssetExecutionContext, error: SyncFailedError) -> None:
    """Log what the run went on without, and name it in the run's tags."""
    for one in error.missing:
        context.log.error(one.sentence)
    if error.missing:
        named = ", ".join(f"{one.source} {one.name}" for one in error.missing)
        context.instance.add_run_tags(context.run.run_id, {MISSING_TAG: named})


def _spec(tenant: Tenant, source: str) -> dg.AssetSpec:
    name = SYNCED[source]
    return dg.AssetSpec(
        key=asset_key(tenant, name),
        deps=[asset_key(tenant, upstream) for upstream in UPSTREAM[source]],
        description=DESCRIPTIONS[source],
        skippable=True,
        **attributes(tenant, TABLES[name], KINDS[source]),
    )


def _meta_feed(
    tenant: Tenant, context: dg.AssetExecutionContext, run: RunOf, meta_graph: MetaGraph, held: TenantWarehouse
) -> MetaFeed:
    client = run.meta_client(meta_graph)
    if held.ad_accounts(context.run.run_id) is None:  # a run of the partitioned assets alone
        run.warn_of_expiries(held)
        discover_ad_accounts(tenant, client, held, context.run.run_id, go_on=run.go_on)
    accounts = held.ad_accounts(context.run.run_id) or []
    if not accounts:
        context.log.warning("every ad account is disabled in meta_ad_accounts: there is nothing to fetch from Meta")
    run_id = context.run.run_id
    return MetaFeed(
        tenant,
        client,
        held,
        accounts,
        run_id,
        go_on=run.go_on,
        on_rejected=context.log.warning,
        on_unavailable=context.log.warning,
        on_refused=_on_refused(context, held, META),
    )


def _pos_feed(
    tenant: Tenant,
    context: dg.AssetExecutionContext,
    run: RunOf,
    pancake_pos: PancakePos,
    held: TenantWarehouse,
    costs: ProductCosts,
) -> PosFeed:
    clients = run.pancake_clients(pancake_pos)
    found = shops_of_run(tenant, clients, held, context.run.run_id, go_on=run.go_on, unusable=run.unusable_keys)
    if not found.shops and not found.refusals:
        context.log.warning("every shop is disabled in pos_shops: there is nothing to fetch from Pancake")
    return PosFeed(
        tenant,
        clients,
        held,
        found.shops,
        costs,
        context.run.run_id,
        go_on=run.go_on,
        on_incomplete=context.log.warning,
        on_rejected=context.log.warning,
        refusals=found.refusals,
        on_refused=_on_refused(context, held, POS),
    )


def _on_refused(context: dg.AssetExecutionContext, held: TenantWarehouse, source: str) -> Callable[[Refusal], None]:
    def on_refused(refusal: Refusal) -> None:
        context.log.error(f"not asked again in this run: {refusal.error}")
        held.note_refusals(source, context.run.run_id, to_store(refusal))

    return on_refused


class _Progress:
    """What a run has committed so far, and how Dagster comes to show it."""

    def __init__(
        self,
        tenant: Tenant,
        context: dg.AssetExecutionContext,
        sources: Sequence[str],
        days: Sequence[date],
        further: Mapping[str, Sequence[date]],
    ) -> None:
        self._tenant = tenant
        self._context = context
        self._sources = sources
        self._own_days = frozenset(days)
        asked = {(day, source) for source in sources for day in (*days, *further.get(source, ()))}
        self._steps = sorted(asked, key=lambda step: (step[0], sources.index(step[1])))
        self._results: dict[tuple[str, date], DayResult] = {}
        # Committed without an account or shop that refused, and so not done.
        self._incomplete: dict[tuple[str, date], DayResult] = {}
        # A live mapping of the step to come, for failures that do not know their day themselves.
        self.next_up: dict[str, str] = {}
        self._show()

    @property
    def stored(self) -> Collection[tuple[str, date]]:
        """What is committed so far, as (source, day)."""
        return self._results.keys()

    def take_over(self, results: Sequence[DayResult]) -> None:
        """Count days that an earlier run has committed as complete, and log them.

        A day that was not over then is fetched again.
        """
        wanted = [result for result in results if result.is_complete and (result.day, result.source) in self._steps]
        for result in wanted:
            self._results[result.source, result.day] = result
        for source in self._sources:
            if days := [result.day for result in wanted if result.source == source]:
                run_ids = ", ".join(sorted({result.run_id for result in wanted if result.source == source}))
                span = f"{len(days)} days, {days[0]} to {days[-1]}"
                self._context.log.info(f"{source}: {span}, were committed by run {run_ids} and are skipped")
        self._show()

    def note(self, result: DayResult) -> None:
        """Take in a committed day: log line, observation, run tags."""
        committed = self._incomplete if result.missing else self._results
        committed[result.source, result.day] = result
        figures = ", ".join(f"{name} {value}" for name, value in _plain(result).items())
        without = f" without {', '.join(result.missing)}" if result.missing else ""
        self._context.log.info(
            f"{result.day} {result.source}: committed{without}, {figures}",
            extra={"source": result.source, "day": result.day.isoformat()},
        )
        self._context.log_event(
            dg.AssetObservation(self._key(result), partition=result.day.isoformat(), metadata=day_figures(result))
        )
        self._look_ahead()
        if time.monotonic() - self._shown >= SHOWN_EVERY_S:
            self._show()

    def materializations(self) -> Iterator[dg.MaterializeResult[Any]]:
        """One result per asset; Dagster makes a materialization of every day out of it, each with its figures."""
        self._show()
        for result in self._results.values():
            if result.day in self._own_days:
                self._context.add_asset_metadata(
                    day_figures(result), asset_key=self._key(result), partition_key=result.day.isoformat()
                )
            elif result.run_id == self._context.run.run_id:
                # Restated days lie outside of the run's partitions.
                self._context.log_event(day_materialization(self._tenant, result))
        for source in self._sources:
            yield dg.MaterializeResult(asset_key=asset_key(self._tenant, SYNCED[source]))

    def materialize_committed(self) -> None:
        """Show the days that this run committed, and only those, as materialized: for a run that misses its end."""
        self._show()
        for result in self._results.values():
            if result.run_id == self._context.run.run_id:
                self._context.log_event(day_materialization(self._tenant, result))

    def compute_incomplete_figures(self, held: TenantWarehouse) -> None:
        """Compute the performance of committed days, where some of them lack an account or shop.

        Days that one of the sources failed on are left out, as in a run that stops at the first error.
        """
        if not self._incomplete:
            return
        committed = self._results.keys() | self._incomplete.keys()
        failed = {day for day, source in self._steps if (source, day) not in committed}
        days = {day for _, day in committed} - failed
        try:
            figures = refresh_with_outdated(self._tenant, held, days)
        except SyncPipelineError as problem:
            # The error that ends the run is the one to show.
            self._context.log.warning(f"the figures of the committed days are not computed: {problem}")
            return
        for day in sorted(figures):
            self._context.log_event(performance_materialization(self._tenant, day, figures[day]))
        tell_incomplete(self._context, figures)

    def _left(self) -> Iterator[tuple[date, str]]:
        return ((day, source) for day, source in self._steps if (source, day) not in self._results)

    def _look_ahead(self) -> None:
        for day, source in self._left():
            if (source, day) in self._incomplete:
                continue
            self.next_up.update(date=day.isoformat(), source=source)
            return

    def _show(self) -> None:
        """Have the run's tags count up."""
        self._look_ahead()
        self._shown = time.monotonic()
        asked = len({day for day, _ in self._steps})
        done = asked - len({day for day, _ in self._left()})
        fetched = Counter[str]()
        for result in (*self._results.values(), *self._incomplete.values()):
            fetched[result.source] += result.rows
        self._context.instance.add_run_tags(
            self._context.run.run_id,
            {
                # A run of the day assets alone belongs to no job, and so has no tag of its tenant yet.
                TENANT_TAG: self._tenant.tenant_id,
                "days_processed": f"{done}/{asked}",
                **{f"{source}_fetched": str(fetched[source]) for source in self._sources},
            },
        )

    def _key(self, result: DayResult) -> dg.AssetKey:
        return asset_key(self._tenant, SYNCED[result.source])


def day_materialization(tenant: Tenant, result: DayResult) -> dg.AssetMaterialization:
    """A committed day as the materialization of its partition."""
    key = asset_key(tenant, SYNCED[result.source])
    return dg.AssetMaterialization(key, partition=result.day.isoformat(), metadata=day_figures(result))


def day_figures(result: DayResult) -> Mapping[str, Any]:
    """The day's figures as metadata, which Dagster plots over the partitions."""
    figures = dict(_plain(result))
    rows = figures.pop("rows")
    # Dagster plots floats and ints; the exact amount is in the table and in the sync log.
    figures[AMOUNTS[result.source]] = float(result.amount)
    figures["complete"] = result.is_complete
    if result.incomplete_because:
        figures["incomplete_because"] = result.incomplete_because
    missing = {"missing": list(result.missing)} if result.missing else {}
    return {"dagster/partition_row_count": rows, **figures, **missing, "run": result.run_id}


def _plain(result: DayResult) -> Mapping[str, Any]:
    return {
        "rows": result.rows,
        AMOUNTS[result.source]: result.amount,
        "changed": result.changed,
        "removed": result.removed,
        "excluded": result.excluded,
        "rejected": result.rejected,
        "requests": result.requests,
        "seconds": round(result.seconds, 3),
    }
