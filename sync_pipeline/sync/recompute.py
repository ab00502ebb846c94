"""Derived columns of stored rows, computed again where rules or settings have changed since; no API is asked."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from sync_pipeline.rows.costs import ProductCosts
from sync_pipeline.rows.errors import RowError
from sync_pipeline.rows.meta import campaign_mapping, marketing_associate
from sync_pipeline.rows.names import NamingConvention
from sync_pipeline.rows.pancake import Excluded, OrderRow, order_row
from sync_pipeline.rules import AdIdField, LineDiscounts, fingerprint
from sync_pipeline.sync import META, POS
from sync_pipeline.tenants import MetaSource, PancakeKey, Tenant
from sync_pipeline.warehouse.recomputation import (
    INSIGHT_COLUMNS,
    ORDER_COLUMNS,
    OutdatedInsight,
    OutdatedOrder,
    Recomputation,
    RowSpan,
)
from sync_pipeline.warehouse.tenancy import TenantWarehouse

if TYPE_CHECKING:
    from datetime import date

ORDERS_AT_ONCE: Final = 1000
NAMED_AT_MOST: Final = 5


@dataclass(frozen=True, slots=True)
class OrderSettings:
    """The settings of a shop that the columns of its orders depend on, and their fingerprint."""

    timezone: ZoneInfo
    money_divisor: int
    line_discounts: LineDiscounts
    ad_id_fields: tuple[AdIdField, ...]
    rules: str


def order_settings(tenant: Tenant, key: PancakeKey, shop_id: str) -> OrderSettings:
    """Return the settings of a shop whose key is this one."""
    divisor, line_discounts = key.divisor_for(shop_id), key.line_discounts.get(shop_id, "auto")
    rules = fingerprint(shop_id, tenant.timezone, divisor, line_discounts, tenant.ad_id_fields)
    return OrderSettings(ZoneInfo(tenant.timezone), divisor, line_discounts, tenant.ad_id_fields, rules)


@dataclass(frozen=True, slots=True)
class InsightRules:
    """The fingerprint of an insight row: one of the naming convention, one of the lead action types.

    Leads cannot be counted again from what is stored. So the second one stays with the row until it is fetched again;
    it is blank for rows of which it is not known.
    """

    naming: str
    leads: str

    @classmethod
    def of(cls, meta: MetaSource) -> "InsightRules":
        """Return the fingerprint of a tenant's settings."""
        return cls(fingerprint(meta.naming.convention), fingerprint(meta.lead_action_types))

    @classmethod
    def parse(cls, text: str | None) -> "InsightRules":
        """Read a stored fingerprint."""
        naming, _, leads = (text or "").partition("-")
        return cls(naming, leads)

    def __str__(self) -> str:
        return f"{self.naming}-{self.leads}"


@dataclass(slots=True)
class Recomputed:
    """What a recomputation did: rows read, rows of them that changed, orders removed, and what it could not do."""

    orders: int = 0
    orders_changed: int = 0
    orders_removed: int = 0
    insights: int = 0
    insights_changed: int = 0
    not_recomputed: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str | None:
        """One line for the log; None where nothing was outdated."""
        if not self.orders and not self.insights:
            return None
        return (
            f"rules or settings have changed: recomputed {self.orders} stored orders ({self.orders_changed} changed, "
            f"{self.orders_removed} removed) and {self.insights} insights ({self.insights_changed} changed)"
        )


def recompute_stored(
    tenant: Tenant, warehouse: TenantWarehouse, sources: Collection[str], costs: ProductCosts | None
) -> Recomputed:
    """Recompute the outdated rows of these sources; `costs` are needed for orders.

    Each batch is committed on its own; after an interruption, the next run recomputes the remaining rows. Days whose
    figures change are marked in `ad_performance`.
    """
    found = Recomputed()
    stored = warehouse.recomputation()
    if POS in sources and costs is not None:
        _recompute_orders(tenant, stored, costs, found)
    if META in sources and tenant.meta is not None:
        _recompute_insights(tenant, tenant.meta, stored, found)
    return found


def _recompute_orders(tenant: Tenant, stored: Recomputation, costs: ProductCosts, found: Recomputed) -> None:
    sources = stored.key_sources()
    present = stored.order_rules()
    if present <= {settings.rules for settings in _settings_of(tenant, sources).values()}:
        return
    shops = stored.order_shops()
    current = _settings_of(tenant, {shop_id: sources.get(shop_id) for shop_id in shops})
    found.not_recomputed += [
        f"shop {shop_id}: it is not known which key of the tenant file sees it, so that its "
        f"{stored.count_orders(shop_id)} orders stay as they are; to have them recomputed, name the shop in "
        "money_divisor or line_discounts of its key"
        for shop_id in shops
        if shop_id not in current
    ]
    outdated = present - {settings.rules for settings in current.values()}
    for shop_id, settings in current.items():
        _recompute_shop(stored, shop_id, settings, costs, outdated, found)


def _settings_of(tenant: Tenant, sources: Mapping[str, str | None]) -> dict[str, OrderSettings]:
    """Return the settings of each of these shops that an entry of the tenant file is known for."""
    keys = {shop_id: tenant.pancake_key_of(shop_id, source) for shop_id, source in sources.items()}
    return {shop_id: order_settings(tenant, key, shop_id) for shop_id, key in keys.items() if key}


def _recompute_shop(
    stored: Recomputation,
    shop_id: str,
    settings: OrderSettings,
    costs: ProductCosts,
    outdated: set[str | None],
    found: Recomputed,
) -> None:
    unreadable: list[str] = []
    days: list[date] = []
    for batch in _batches(stored, shop_id, outdated):
        rows: list[tuple[str, tuple[object, ...]]] = []
        removed: list[str] = []
        changed_days: set[date] = set()
        entered: set[date] = set()
        for order in batch:
            old_day: date = order.columns[0]
            try:
                row = _recomputed(order, settings, costs)
            except RowError as error:
                unreadable.append(f"{order.pos_order_id} ({error.field} {error.why})")
                days.append(old_day)
                continue
            found.orders += 1
            if isinstance(row, Excluded):
                removed.append(order.pos_order_id)
                changed_days.add(old_day)
                continue
            columns = tuple(getattr(row, name) for name in ORDER_COLUMNS)
            rows.append((order.pos_order_id, columns))
            if _comparable(columns) != _comparable(order.columns):
                found.orders_changed += 1
                changed_days |= {old_day, row.date_local}
                if row.date_local != old_day:
                    entered.add(row.date_local)
        found.orders_removed += len(removed)
        stored.store_orders(shop_id, rows, removed, settings.rules, changed_days, entered)
    if unreadable:
        more = f" and {len(unreadable) - NAMED_AT_MOST} more" if len(unreadable) > NAMED_AT_MOST else ""
        found.not_recomputed.append(
            f"shop {shop_id}: {len(unreadable)} stored orders cannot be read and stay as they are: "
            f"{', '.join(unreadable[:NAMED_AT_MOST])}{more}; fetch {min(days)} to {max(days)} again"
        )


def _batches(stored: Recomputation, shop_id: str, outdated: set[str | None]) -> Iterator[list[OutdatedOrder]]:
    after: str | None = None
    while batch := stored.outdated_orders(shop_id, outdated, after, ORDERS_AT_ONCE):
        yield batch
        after = batch[-1].pos_order_id


def _recomputed(order: OutdatedOrder, settings: OrderSettings, costs: ProductCosts) -> OrderRow | Excluded:
    return order_row(
        json.loads(order.data, parse_float=Decimal),
        shop_id=order.shop_id,
        timezone=settings.timezone,
        costs=costs,
        money_divisor=settings.money_divisor,
        line_discounts=settings.line_discounts,
        ad_id_fields=settings.ad_id_fields,
        rules=settings.rules,
        # What was stored is kept, whatever it is: only derived columns are written.
        keep_customer_data=True,
    )


def _comparable(columns: tuple[object, ...]) -> tuple[object, ...]:
    *others, candidates = columns
    return (*others, json.loads(candidates) if isinstance(candidates, str) else candidates)


def _recompute_insights(tenant: Tenant, meta: MetaSource, stored: Recomputation, found: Recomputed) -> None:
    current, convention = InsightRules.of(meta), meta.naming.convention
    outdated = {rules for rules in stored.insight_rules() if InsightRules.parse(rules).naming != current.naming}
    if outdated:
        stored.mark_orders_without_delivery()
    for day in stored.outdated_insight_days(outdated) if outdated else ():
        rows = []
        changed = 0
        for insight in stored.outdated_insights(day, outdated):
            columns = _names_of(insight, convention)
            rules = str(InsightRules(current.naming, InsightRules.parse(insight.rules).leads))
            rows.append((insight.account_id, insight.ad_id, rules, columns))
            changed += columns != insight.columns
        stored.store_insights(day, rows, changed=changed > 0)
        found.insights += len(rows)
        found.insights_changed += changed
    other_leads = {
        rules for rules in stored.insight_rules() if InsightRules.parse(rules).leads not in {"", current.leads}
    }
    if other_leads and (span := stored.insight_span(other_leads)):
        found.not_recomputed.append(_leads_sentence(tenant, span))


def _names_of(insight: OutdatedInsight, convention: NamingConvention) -> tuple[str | None, ...]:
    derived = {
        "marketing_associate": marketing_associate(insight.ad_name, convention),
        "mapping": campaign_mapping(insight.campaign_name, convention),
    }
    return tuple(derived[name] for name in INSIGHT_COLUMNS)


def _leads_sentence(tenant: Tenant, span: RowSpan) -> str:
    workflow = next((workflow.name for workflow in tenant.workflows if META in workflow.sources), None)
    days = f"{span.since} to {span.until}"
    remedy = (
        f"`sync-pipeline trigger {tenant.tenant_id} {workflow} --since {span.since} --until {span.until}`"
        if workflow
        else f"materialize {tenant.tenant_id}/meta_ad_insights for {days}"
    )
    return (
        f"leads of {span.rows} insights, {days}, were counted by other lead_action_types and are not stored by type; "
        f"to fetch them again: {remedy}"
    )
