"""Checks of every stored day, made in the same run after the figures: each names the figures on both sides."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import dagster as dg

from sync_pipeline.assets.costs import COGS_CURRENT, COST_DATES, cogs_verdict
from sync_pipeline.assets.credentials import CREDENTIALS_CURRENT, credentials_verdict
from sync_pipeline.assets.freshness import UP_TO_DATE, expectation, freshness_verdict, switched
from sync_pipeline.assets.runs import RunOf, days_of, restated_days
from sync_pipeline.assets.specs import (
    AD_PERFORMANCE,
    META_AD_ACCOUNTS,
    META_AD_INSIGHTS,
    POS_ORDERS,
    POS_PRODUCTS,
    PRODUCT_COSTS,
    asset_key,
    partitions,
    pool,
    read_once,
)
from sync_pipeline.assets.verdicts import WARN, Check, Evaluation, Verdict, evaluation, log_check_evaluations
from sync_pipeline.dagster_internals.workspace import schedule_switches
from sync_pipeline.date_ranges import today_in
from sync_pipeline.resources import PostgresWarehouse
from sync_pipeline.rows.costs import overlaps
from sync_pipeline.sync import META, POS
from sync_pipeline.sync.costs import (
    ambiguous_costs,
    compare_costs,
    costs_by_catalogue,
    read_product_costs,
    sold_without_cost,
    unlisted_costs,
)
from sync_pipeline.sync.credentials import findings
from sync_pipeline.tenants import Tenant
from sync_pipeline.warehouse.checks import DayChecks, Share
from sync_pipeline.warehouse.completeness import IncompleteDay
from sync_pipeline.warehouse.rejected import sentence
from sync_pipeline.warehouse.tenancy import TenantWarehouse

SPEND_MATCHES_ACCOUNT = Check(
    "spend_matches_account",
    META_AD_INSIGHTS,
    "The spend of a day's ads adds up to the ad account's own total, as Meta reports it at account level, to the cent.",
)
ORDERS_ALL_STORED = Check(
    "orders_all_stored",
    POS_ORDERS,
    "As many orders are stored as were fetched, and as many were listed as Pancake counts (`total_entries`).",
)
ROWS_READABLE = {
    META: Check(
        "insights_readable",
        META_AD_INSIGHTS,
        "Every insight that was fetched could be read; `rejected_rows` lists the others.",
    ),
    POS: Check(
        "orders_readable",
        POS_ORDERS,
        "Every order that was fetched could be read; `rejected_rows` lists the others.",
    ),
}
PRODUCTS_READABLE = Check(
    "products_readable",
    POS_PRODUCTS,
    "Every product of the catalogues could be read; `rejected_rows` lists the others.",
    daily=False,
)
ORDERS_COSTED = Check(
    "orders_costed", POS_ORDERS, "No order has a quantity for which no cost was found.", severity=WARN
)
SOURCES_RECONCILED = Check(
    "sources_reconciled",
    AD_PERFORMANCE,
    "Spend, orders, revenue, COD and COGS are those of the insights and orders: none lost, none counted twice.",
)
SPEND_HAS_ASSOCIATE = Check(
    "spend_has_associate",
    AD_PERFORMANCE,
    "The share of spend on ads whose name holds no marketing associate is within the tenant's limit.",
    severity=WARN,
)
ORDERS_HAVE_AD = Check(
    "orders_have_ad",
    AD_PERFORMANCE,
    "The share of orders that matched no ad is within the tenant's limit.",
    severity=WARN,
)
STATUSES_KNOWN = Check(
    "statuses_known",
    POS_ORDERS,
    "Every order has a status that belongs to a group. Orders of other statuses count as other and as open.",
    severity=WARN,
)
FIGURES_CURRENT = Check(
    "figures_current",
    AD_PERFORMANCE,
    "All figures were computed by the present rules, fees, taxes and multipliers. The next run, or order_costs, "
    "recomputes those that were not.",
    severity=WARN,
)
ONE_CURRENCY = Check(
    "one_currency",
    AD_PERFORMANCE,
    "Spend and orders are in one currency, the tenant's; an account in another has a `spend_multiplier`.",
    severity=WARN,
)
SOLD_PRODUCTS_HAVE_COSTS = Check(
    "sold_products_have_costs",
    PRODUCT_COSTS,
    "Every product sold in the last 30 days had a valid cost.",
    severity=WARN,
    daily=False,
)
COST_IDS_UNIQUE = Check(
    "cost_ids_unique",
    PRODUCT_COSTS,
    "No line of the product cost file names a display id that several products of a shop share: it matches none.",
    severity=WARN,
    daily=False,
)
COST_PRODUCTS_LISTED = Check(
    "cost_products_listed",
    PRODUCT_COSTS,
    "The product of every line of the product cost file is in the stored catalogue of a shop.",
    severity=WARN,
    daily=False,
)

SOLD_WITHIN = timedelta(days=30)
# What a check that is started by hand, without days, looks at.
DAYS_BY_HAND = 30
UNPARTITIONED = frozenset({META_AD_ACCOUNTS, PRODUCT_COSTS, POS_PRODUCTS})
# Whose days an asset's checks look at, by asset; those of the others look at both.
_SOURCES_OF = {META_AD_INSIGHTS: (META,), POS_ORDERS: (POS,)}
_BY_SOURCE = {
    META: (CREDENTIALS_CURRENT, UP_TO_DATE[META], ROWS_READABLE[META], SPEND_MATCHES_ACCOUNT),
    POS: (
        UP_TO_DATE[POS],
        ROWS_READABLE[POS],
        PRODUCTS_READABLE,
        ORDERS_ALL_STORED,
        ORDERS_COSTED,
        STATUSES_KNOWN,
        COGS_CURRENT,
        SOLD_PRODUCTS_HAVE_COSTS,
        COST_DATES,
        COST_IDS_UNIQUE,
        COST_PRODUCTS_LISTED,
    ),
}
_OF_PERFORMANCE = (SOURCES_RECONCILED, FIGURES_CURRENT, SPEND_HAS_ASSOCIATE, ORDERS_HAVE_AD, ONE_CURRENCY)

Verdicts = Iterable[tuple[date, Verdict]]


def checks_of(tenant: Tenant) -> list[Check]:
    """Every check that the tenant's sources allow."""
    return [*(check for source in tenant.sources for check in _BY_SOURCE[source]), *_OF_PERFORMANCE]


def day_checks(tenant: Tenant) -> dg.AssetChecksDefinition:
    """The tenant's checks, of the days of the run, or by hand of the last 30; each day has an evaluation of its own."""
    checks = {(asset_key(tenant, check.asset), check.name): check for check in checks_of(tenant)}
    with warnings.catch_warnings():
        # Partitions of checks are still in preview in the Dagster that pyproject.toml allows.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        specs = [_spec(tenant, check) for check in checks.values()]

        @dg.multi_asset_check(name=f"{tenant.tenant_id}__checks", specs=specs, can_subset=True, pool=pool(tenant))
        @read_once
        def check_days(
            context: dg.AssetCheckExecutionContext, warehouse: PostgresWarehouse
        ) -> Iterator[dg.AssetCheckResult]:
            selected = {(key.asset_key, key.name) for key in context.selected_asset_check_keys}
            wanted = [check for key, check in checks.items() if key in selected]
            run = RunOf(tenant, context.op_execution_context)
            with run.failing({"date": run.first_day}), run.hold(warehouse) as held:
                judge = _Judge(tenant, held, context.instance, run.location)
                # Of an asset with partitions, a result that is yielded must come from a run of some of them.
                evaluations: list[Evaluation] = []
                for check in wanted:
                    if check.daily:
                        found = list(judge.daily(check, _days_for(tenant, context, check)))
                        evaluations += [Evaluation(check, verdict, day) for day, verdict in found]
                        if failed := [(day, verdict) for day, verdict in found if not verdict.passed]:
                            day, verdict = failed[-1]
                            # A backfill of a year may have a year's worth of them: each day's page has its own.
                            which = f"{len(failed)} of {len(found)} days do not pass {check.name}"
                            context.log.warning(f"{which}; {day}: {verdict.sentence}")
                    elif check.asset in UNPARTITIONED:
                        yield _result(tenant, check, judge.whole(check))
                    else:
                        evaluations.append(Evaluation(check, judge.whole(check)))
                log_check_evaluations(context.op_execution_context, tenant, evaluations)

    return check_days


def _spec(tenant: Tenant, check: Check) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        check.name,
        asset=asset_key(tenant, check.asset),
        # These are our own sentences, some with Markdown in them.
        description=check.description,
        partitions_def=partitions(tenant) if check.daily else None,
    )


def _result(tenant: Tenant, check: Check, verdict: Verdict) -> dg.AssetCheckResult:
    event = evaluation(tenant, check, verdict)
    return dg.AssetCheckResult(
        passed=event.passed,
        asset_key=event.asset_key,
        check_name=event.check_name,
        severity=event.severity,
        description=event.description,
        metadata=event.metadata,
    )


def _days_for(tenant: Tenant, context: dg.AssetCheckExecutionContext, check: Check) -> list[date]:
    tags = context.run.tags
    own = days_of(tags)
    if not own:
        today = today_in(tenant.timezone)
        recent = (today - timedelta(days=n) for n in range(DAYS_BY_HAND))
        return sorted(day for day in recent if day >= tenant.start_date)
    restated = restated_days(tags)
    sources = _SOURCES_OF.get(check.asset, (META, POS))
    return sorted({*own, *(day for source in sources for day in restated.get(source, ()))})


class _Judge:
    """Reads both sides of each check and says what came of it."""

    def __init__(
        self, tenant: Tenant, held: TenantWarehouse, instance: dg.DagsterInstance, location: str | None
    ) -> None:
        self._tenant = tenant
        self._instance = instance
        self._location = location
        self._held = held
        self._stored: DayChecks = held.checks(tenant.rates)
        self._incomplete: dict[tuple[date, ...], dict[date, list[IncompleteDay]]] = {}
        self._daily: Mapping[Check, Callable[[Sequence[date]], Verdicts]] = {
            **{check: partial(self._rows_readable, source) for source, check in ROWS_READABLE.items()},
            SPEND_MATCHES_ACCOUNT: self._spend_matches_account,
            ORDERS_ALL_STORED: self._orders_all_stored,
            ORDERS_COSTED: self._orders_costed,
            STATUSES_KNOWN: self._statuses_known,
            COGS_CURRENT: self._cogs_current,
            SOURCES_RECONCILED: self._sources_reconciled,
            FIGURES_CURRENT: self._figures_current,
            SPEND_HAS_ASSOCIATE: self._spend_has_associate,
            ORDERS_HAVE_AD: self._orders_have_ad,
            ONE_CURRENCY: self._one_currency,
        }
        self._whole: Mapping[Check, Callable[[], Verdict]] = {
            CREDENTIALS_CURRENT: self._credentials_current,
            PRODUCTS_READABLE: self._products_readable,
            SOLD_PRODUCTS_HAVE_COSTS: self._sold_products_have_costs,
            COST_DATES: self._cost_dates,
            COST_IDS_UNIQUE: self._cost_ids_unique,
            COST_PRODUCTS_LISTED: self._cost_products_listed,
            **{check: partial(self._up_to_date, source) for source, check in UP_TO_DATE.items()},
        }

    def daily(self, check: Check, days: Sequence[date]) -> Verdicts:
        """A verdict of each day that has anything to be judged by, which says where the day is not complete."""
        incomplete = self._incomplete_days(days)
        for day, verdict in self._daily[check](days):
            of_check = [
                one
                for one in incomplete.get(day, ())
                if one.source in _SOURCES_OF.get(check.asset, self._tenant.sources)
            ]
            yield day, self._marked(verdict, of_check) if of_check else verdict

    def _incomplete_days(self, days: Sequence[date]) -> Mapping[date, Sequence[IncompleteDay]]:
        # Most checks of a run look at the same days.
        key = tuple(days)
        if key not in self._incomplete:
            self._incomplete[key] = dict(_by_day(self._stored.incomplete(days), lambda one: one.day))
        return self._incomplete[key]

    def _marked(self, verdict: Verdict, incomplete: Sequence[IncompleteDay]) -> Verdict:
        """Add that the day is not complete, and why, so that a check of its stored rows does not suggest otherwise."""
        why = ", ".join(one.why(self._tenant.timezone) for one in incomplete)
        return replace(
            verdict,
            sentence=f"{verdict.sentence}; the day is not complete: {why}",
            figures={**verdict.figures, "day_complete": False},
        )

    def whole(self, check: Check) -> Verdict:
        """The verdict of a check that is not of a day."""
        return self._whole[check]()

    def _credentials_current(self) -> Verdict:
        assert self._tenant.meta is not None
        stored = self._held.credential_expiries()
        return credentials_verdict(findings(self._tenant.meta.api_version, stored, datetime.now(UTC)))

    def _up_to_date(self, source: str) -> Verdict:
        accounts = self._held.current_account_timezones()
        locations = None if self._location is None else [self._location]
        on = switched(self._tenant, schedule_switches(self._instance), locations)
        expected = expectation(self._tenant, source, on, datetime.now(UTC), accounts)
        found = self._held.completeness(source, expected.day, expected.part_since) if expected else None
        return freshness_verdict(self._tenant, expected, found)

    def _rows_readable(self, source: str, days: Sequence[date]) -> Verdicts:
        for one in self._stored.rejected(source, days):
            count = len(one.rejected)
            yield (
                one.day,
                Verdict(
                    passed=not count,
                    sentence=sentence(one.rejected) if count else f"all {one.rows} rows could be read",
                    figures={"rejected": count, "rows": one.rows},
                ),
            )

    def _products_readable(self) -> Verdict:
        rejected = self._stored.rejected_products(POS)
        return Verdict(
            passed=not rejected,
            sentence=sentence(rejected, "product") if rejected else "all products could be read",
            figures={"rejected": len(rejected)},
        )

    def _spend_matches_account(self, days: Sequence[date]) -> Verdicts:
        for day, accounts in _by_day(self._stored.account_spend(days), lambda one: one.day):
            reported = {one.account_id: one.reported for one in accounts if one.reported is not None}
            apart = [one for one in accounts if one.stored != reported.get(one.account_id, one.stored)]
            sentences = [
                f"account {one.account_id}: Meta reports {one.reported}, the stored ads add up to {one.stored}"
                for one in apart
            ]
            sentences += [
                f"account {one.account_id}: Meta gave no total to compare with, the stored ads add up to {one.stored}"
                for one in accounts
                if one.reported is None
            ]
            total = sum(one.stored for one in accounts)
            figures = {"stored": float(total)}
            if len(reported) == len(accounts):
                figures["reported"] = float(sum(reported.values()))
            yield (
                day,
                Verdict(
                    passed=not sentences,
                    sentence="; ".join(sentences) or f"{total} in {len(accounts)} accounts, as Meta reports",
                    figures=figures,
                    # A missing total proves no difference, and spend of a day that is not over moves between requests.
                    severity=None if apart and all(one.was_over for one in accounts) else WARN,
                ),
            )

    def _orders_all_stored(self, days: Sequence[date]) -> Verdicts:
        for one in self._stored.order_counts(days):
            wrong = []
            if one.stored != one.fetched:
                wrong.append(f"{one.fetched} orders were fetched, {one.stored} are stored")
            if one.counted is None:
                wrong.append(f"Pancake gave no count for {one.window}")
            elif one.listed != one.counted:
                wrong.append(f"Pancake counts {one.counted} orders for {one.window} and listed {one.listed}")
            yield (
                one.day,
                Verdict(
                    passed=not wrong,
                    sentence="; ".join(wrong)
                    or f"{one.stored} orders stored; Pancake counts {one.counted} for {one.window}, all were listed",
                    figures={
                        "stored": one.stored,
                        "fetched": one.fetched,
                        "listed": one.listed,
                        **({} if one.counted is None else {"counted": one.counted}),
                    },
                ),
            )

    def _sources_reconciled(self, days: Sequence[date]) -> Verdicts:
        for day, figures in _by_day(self._stored.reconciled(days), lambda one: one.day):
            apart = [
                f"{one.figure} is {one.source:f} in the sources and {one.performance:f} in ad_performance"
                for one in figures
                if one.source != one.performance
            ]
            yield (
                day,
                Verdict(
                    passed=not apart,
                    sentence="; ".join(apart) or ", ".join(f"{one.figure} {one.source:f}" for one in figures),
                    figures={one.figure: float(one.performance) for one in figures},
                ),
            )

    def _orders_costed(self, days: Sequence[date]) -> Verdicts:
        for share in self._stored.uncosted(days):
            yield share.day, _share_verdict(share, "orders have a quantity without cost", limit=0)

    def _statuses_known(self, days: Sequence[date]) -> Verdicts:
        for day, unknown in self._stored.unknown_statuses(days).items():
            named = ", ".join(
                f"{orders} with {'no status' if status is None else f'status {status}'}"
                for status, orders in unknown.items()
            )
            yield (
                day,
                Verdict(
                    passed=not unknown,
                    sentence=f"orders of no status group: {named}" if unknown else "every status belongs to a group",
                    figures={"orders": sum(unknown.values())},
                ),
            )

    def _figures_current(self, days: Sequence[date]) -> Verdicts:
        for share in self._stored.outdated(days):
            yield (
                share.day,
                Verdict(
                    passed=not share.part,
                    sentence=f"{share.part} of {share.whole} rows were computed by other rules or settings and lack "
                    "figures or have earlier ones; materialize order_costs or ad_performance"
                    if share.part
                    else f"{share.whole} rows were computed by the present rules and settings",
                    figures={"part": float(share.part), "whole": float(share.whole)},
                ),
            )

    def _cogs_current(self, days: Sequence[date]) -> Verdicts:
        for one in compare_costs(self._tenant, self._held, costs_by_catalogue(self._tenant, self._held), days):
            if one.orders:
                yield one.day, cogs_verdict(one)

    def _spend_has_associate(self, days: Sequence[date]) -> Verdicts:
        limit = self._tenant.checks.max_spend_without_associate
        for share in self._stored.spend_without_associate(days):
            yield share.day, _share_verdict(share, "of ad cost has no marketing associate", limit=limit)

    def _orders_have_ad(self, days: Sequence[date]) -> Verdicts:
        limit = self._tenant.checks.max_orders_without_ad
        for share in self._stored.orders_without_ad(days):
            yield share.day, _share_verdict(share, "orders matched no ad", limit=limit)

    def _one_currency(self, days: Sequence[date]) -> Verdicts:
        for day, places in _by_day(self._stored.currencies(days), lambda one: one[0]):
            expected = self._tenant.currency or places[-1][2]
            others = [f"{place} is in {currency}" for _, place, currency in places if currency != expected]
            yield (
                day,
                Verdict(
                    passed=not others,
                    sentence=f"{'; '.join(others)}, not in {expected}" if others else f"all in {expected}",
                    figures={"currencies": sorted({currency for _, _, currency in places})},
                ),
            )

    def _sold_products_have_costs(self) -> Verdict:
        today = today_in(self._tenant.timezone)
        costs = costs_by_catalogue(self._tenant, self._held)
        missing = sold_without_cost(self._held, costs, today - SOLD_WITHIN, today)
        listed = [
            {
                "shop_id": one.shop_id,
                "product_id": one.product_id,
                "display_id": one.display_id,
                "name": one.name,
                "quantity": float(one.quantity) if one.quantity % 1 else int(one.quantity),
                "last_sold": one.last_sold.isoformat(),
            }
            for one in missing
        ]
        named = ", ".join(f"{one.display_id or one.product_id} of shop {one.shop_id}" for one in missing[:10])
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        return Verdict(
            passed=not missing,
            sentence=f"sold since {today - SOLD_WITHIN} without a valid cost: {named}{more}"
            if missing
            else f"every product sold since {today - SOLD_WITHIN} has a cost",
            figures={"products": listed},
        )

    def _cost_dates(self) -> Verdict:
        file = self._tenant.product_costs
        costs = read_product_costs(self._tenant)
        found = [
            f"{file.name if file else ''} lines {one.earlier_line} and {one.later_line}: both give product "
            f"{one.product_id} a cost from {one.since or 'ever'} to {one.until or 'ever'}; line {one.later_line} counts"
            for one in overlaps(costs)
        ]
        return Verdict(
            passed=not found,
            sentence="; ".join(found[:10]) or f"{len(costs)} lines, no dates reversed or overlapping",
            figures={"problems": found},
        )

    def _cost_ids_unique(self) -> Verdict:
        file = self._tenant.product_costs
        found = [
            f"{file.name if file else ''} line {one.line}: {one.display_id} is the display id of products "
            f"{', '.join(one.products)} of shop {one.shop_id}, and gives none of them a cost; name a product id, "
            "variation id or custom id"
            for one in ambiguous_costs(self._tenant, self._held)
        ]
        return Verdict(
            passed=not found,
            sentence="; ".join(found[:10]) or "every id in the cost file is of one product of a shop",
            figures={"problems": found},
        )

    def _cost_products_listed(self) -> Verdict:
        file = self._tenant.product_costs
        unlisted = unlisted_costs(self._tenant, self._held)
        if unlisted is None:
            return Verdict(passed=True, sentence="no catalogue is stored yet", figures={"problems": []})
        found = [
            f"{file.name if file else ''} line {one.line}: product {one.product_id} is in "
            + (f"no catalogue of shop {one.shop_id}" if one.shop_id else "no shop's catalogue")
            + "; correct the id, or delete the line"
            for one in unlisted
        ]
        more = f"; and {len(found) - 10} more" if len(found) > 10 else ""
        return Verdict(
            passed=not found,
            sentence="; ".join(found[:10]) + more or "every product in the cost file is in a catalogue",
            figures={"problems": found},
        )


def _share_verdict(share: Share, what: str, *, limit: Any) -> Verdict:
    return Verdict(
        passed=share.percent <= limit,
        sentence=f"{share.part:f} of {share.whole:f} ({share.percent:.1f} %) {what}; the limit is {limit} %",
        figures={"part": float(share.part), "whole": float(share.whole), "percent": round(float(share.percent), 2)},
    )


def _by_day(found: Iterable[Any], day: Callable[[Any], date]) -> list[tuple[date, list[Any]]]:
    days: dict[date, list[Any]] = {}
    for one in found:
        days.setdefault(day(one), []).append(one)
    return list(days.items())
