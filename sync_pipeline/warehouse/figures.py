"""The figures of `ad_performance`: name, unit, formula and meaning of each, defined here and nowhere else.

The table, its comments, the SQL that fills it, the views that sum it up, the report and docs/figures.md are made from
these definitions. A stored figure is a sum over the insights or orders of a row. A derived figure is computed from
stored ones, so that its formula also applies to their sums over any rows.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sync_pipeline.rows.statuses import (
    ALL_GROUPS,
    COUNTED,
    DELIVERED,
    NOT_CANCELLED,
    OPEN,
    SENT,
    SETTLED,
)

SETTLED_SHARE: Final = "0.80"
"""The share of settled orders from which a day counts as settled."""
DELIVERY_DAYS: Final = 60
"""How many settled days of a shop its delivery rate is taken of."""
# The groups that counted as returned, and as delivered, before the groups followed the vendor's list.
_FORMERLY_RETURNED: Final = ("partly_returned", "returning", "returned")
_FORMERLY_DELIVERED: Final = ("delivered",)


class Unit(StrEnum):
    """What a figure counts."""

    ORDERS = "orders"
    PIECES = "pieces"
    EVENTS = "events"
    ACCOUNT_CURRENCY = "ad account's currency"
    TENANT_CURRENCY = "tenant's currency"
    RATIO = "ratio"
    SHARE = "share of 1"

    @property
    def is_count(self) -> bool:
        """Whether the figure is a whole number."""
        return self in {Unit.ORDERS, Unit.EVENTS}

    @property
    def is_money(self) -> bool:
        """Whether the figure is an amount of money, which has cents."""
        return self in {Unit.ACCOUNT_CURRENCY, Unit.TENANT_CURRENCY}


@dataclass(frozen=True, slots=True)
class Stored:
    """A figure that is stored: the sum of `expression` over the row's ads, or over its orders of these groups.

    The expression of an order's figure uses the columns of `order_values` (see `warehouse.performance`), that of an
    ad's the columns of `ad_days`. A figure that `needs_rates` is null where a migration could not compute it.
    """

    name: str
    unit: Unit
    expression: str
    groups: tuple[str, ...] = ()
    note: str = ""
    needs_rates: bool = False

    @property
    def of_orders(self) -> bool:
        """Whether the figure is a sum over orders, not over ads."""
        return bool(self.groups)

    def total(self, column: str) -> str:
        """Return the SQL expression of the figure over rows of one status group each, with sums in this column."""
        if not self.groups:
            return f"sum({column})"
        names = ", ".join(f"'{group}'" for group in self.groups)
        total = f"coalesce(sum({column}) FILTER (WHERE status_group IN ({names})), 0)"
        return f"round({total}, 2)" if self.unit.is_money else total

    @property
    def formula(self) -> str:
        """The formula for people."""
        if not self.groups:
            return f"sum of {self.expression}"
        which = _ORDERS_OF.get(self.groups) or f"{' and '.join(self.groups).replace('_', ' ')} orders"
        return f"number of {which}" if self.expression == "1" else f"sum of {self.expression} over {which}"


@dataclass(frozen=True, slots=True)
class Derived:
    """A figure that is computed from stored ones: `numerator`, over `denominator` where there is one."""

    name: str
    unit: Unit
    numerator: str
    denominator: str | None = None
    note: str = ""

    @property
    def scale(self) -> int:
        """How many decimal places it has."""
        return 2 if self.unit is Unit.TENANT_CURRENCY else 4

    @property
    def expression(self) -> str:
        """The SQL expression, null where the denominator is 0."""
        if self.denominator is None:
            return self.numerator
        return f"round(({self.numerator})::numeric / NULLIF({self.denominator}, 0), {self.scale})"

    @property
    def formula(self) -> str:
        """The formula for people."""
        if self.denominator is None:
            return self.numerator
        return f"{_in_brackets(self.numerator)} / {_in_brackets(self.denominator)}"


Figure = Stored | Derived

_ORDERS_OF: Final = {
    COUNTED: "counted orders",
    NOT_CANCELLED: "counted orders that are not cancelled",
    DELIVERED: "delivered and partly returned orders",
    OPEN: "open orders",
    (*DELIVERED, "returned"): "delivered, partly returned and returned orders",
}


def _in_brackets(formula: str) -> str:
    is_single = " " not in formula or formula.startswith("greatest(")
    return formula if is_single else f"({formula})"


def _sum(groups: Collection[str], what: str) -> str:
    return " + ".join(f"{group}_{what}" for group in groups)


def _less(groups: Collection[str], what: str) -> str:
    return "".join(f" - {group}_{what}" for group in groups)


_DELIVERED_AMOUNT = _sum(DELIVERED, "amount")
_AD_COST_TAXED = "ad_cost + ad_taxes"
_SETTLED_ORDERS_MARGIN = (
    f"{_DELIVERED_AMOUNT}{_less(DELIVERED, 'cogs')} - realised_outbound_fees - realised_cod_fees - return_fees "
    "- lost_goods"
)
_REALISED = f"{_SETTLED_ORDERS_MARGIN} - ad_cost - ad_taxes"
_DEPRECATED = "deprecated, to be removed in the next version"
_NET_REVENUE = f"revenue{_less((*_FORMERLY_RETURNED, 'cancelled'), 'amount')}"
_NET_COGS = f"cogs{_less((*_FORMERLY_RETURNED, 'cancelled'), 'cogs')}"

STORED: Final[tuple[Stored, ...]] = (
    Stored("spend", Unit.ACCOUNT_CURRENCY, "spend", note="as Meta reports it"),
    Stored("ad_cost", Unit.TENANT_CURRENCY, "ad_cost", note="spend times the account's spend_multiplier"),
    Stored(
        "ad_taxes",
        Unit.TENANT_CURRENCY,
        "ad_taxes",
        note="ad_cost times the VAT and tax on ads, in ad_taxes of the tenant file",
        needs_rates=True,
    ),
    Stored("impressions", Unit.EVENTS, "impressions"),
    Stored("clicks", Unit.EVENTS, "clicks", note="all clicks"),
    Stored("link_clicks", Unit.EVENTS, "link_clicks"),
    Stored("leads", Unit.EVENTS, "leads", note="of the tenant's lead_action_types"),
    Stored("orders", Unit.ORDERS, "1", COUNTED, "of every status group but excluded"),
    Stored("quantity", Unit.PIECES, "total_quantity", COUNTED),
    Stored("uncosted_quantity", Unit.PIECES, "uncosted_quantity", COUNTED, "pieces for which no cost was found"),
    Stored("revenue", Unit.TENANT_CURRENCY, "total", COUNTED, "whatever became of the orders"),
    Stored("cod", Unit.TENANT_CURRENCY, "cod", COUNTED, "cash on delivery to collect, whatever became of the orders"),
    Stored("cogs", Unit.TENANT_CURRENCY, "cogs", COUNTED),
    Stored(
        "order_fees",
        Unit.TENANT_CURRENCY,
        "outbound_fee",
        NOT_CANCELLED,
        "shipping, fulfilment and packaging; part of contribution_margin",
        needs_rates=True,
    ),
    Stored(
        "cod_fees",
        Unit.TENANT_CURRENCY,
        "cod_fee",
        _FORMERLY_DELIVERED,
        "percentage of what was collected; part of contribution_margin",
        needs_rates=True,
    ),
    *(
        figure
        for group in ALL_GROUPS
        for figure in (
            Stored(f"{group}_orders", Unit.ORDERS, "1", (group,)),
            Stored(f"{group}_amount", Unit.TENANT_CURRENCY, "total", (group,)),
            Stored(f"{group}_cod", Unit.TENANT_CURRENCY, "cod", (group,)),
            Stored(f"{group}_cogs", Unit.TENANT_CURRENCY, "cogs", (group,)),
        )
    ),
    Stored(
        "realised_outbound_fees",
        Unit.TENANT_CURRENCY,
        "outbound_fee",
        (*DELIVERED, "returned"),
        "shipping, fulfilment and packaging",
        needs_rates=True,
    ),
    Stored(
        "realised_cod_fees",
        Unit.TENANT_CURRENCY,
        "cod_fee",
        DELIVERED,
        "percentage of the cash collected",
        needs_rates=True,
    ),
    Stored("return_fees", Unit.TENANT_CURRENCY, "return_fee", ("returned",), needs_rates=True),
    Stored(
        "lost_goods",
        Unit.TENANT_CURRENCY,
        "lost_goods",
        ("returned",),
        "COGS times the lost_share of the tenant file",
        needs_rates=True,
    ),
    Stored(
        "open_margin",
        Unit.TENANT_CURRENCY,
        "p * (total - cogs - cod_fee) - (1 - p) * (return_fee + lost_goods) - outbound_fee",
        OPEN,
        "expected margin of open orders; p is the shop's delivery_rate in delivery_rates on projection_date",
        needs_rates=True,
    ),
    Stored(
        "orders_margin_at_return_rate",
        Unit.TENANT_CURRENCY,
        "(1 - r) * (total - cogs - cod_fee) - r * (return_fee + lost_goods) - outbound_fee",
        NOT_CANCELLED,
        "margin before ads if the share r of all orders is returned; r is the return_rate of the tenant file",
        needs_rates=True,
    ),
)

DERIVED: Final[tuple[Derived, ...]] = (
    Derived(
        "realised_margin",
        Unit.TENANT_CURRENCY,
        _REALISED,
        note="margin of delivered and returned orders, less all ad cost with taxes",
    ),
    Derived(
        "projected_margin",
        Unit.TENANT_CURRENCY,
        f"{_REALISED} + open_margin",
        note="realised margin and the expected margin of open orders",
    ),
    Derived(
        "margin_at_return_rate",
        Unit.TENANT_CURRENCY,
        "orders_margin_at_return_rate - ad_cost - ad_taxes",
        note="margin if the tenant's return_rate applied to all orders that are not cancelled",
    ),
    Derived("roas", Unit.RATIO, "revenue", "ad_cost", "revenue of all orders per ad cost"),
    Derived(
        "delivered_roas",
        Unit.RATIO,
        _DELIVERED_AMOUNT,
        _AD_COST_TAXED,
        "amount of delivered orders per ad cost with taxes",
    ),
    Derived(
        "break_even_roas",
        Unit.RATIO,
        _DELIVERED_AMOUNT,
        f"greatest({_SETTLED_ORDERS_MARGIN}, 0)",
        "the delivered_roas at which realised_margin is 0; null where orders lose money before ads",
    ),
    Derived("cost_per_order", Unit.TENANT_CURRENCY, "ad_cost", "orders"),
    Derived(
        "cost_per_delivered_order",
        Unit.TENANT_CURRENCY,
        _AD_COST_TAXED,
        _sum(DELIVERED, "orders"),
        "ad cost with taxes per delivered order",
    ),
    Derived(
        "delivery_rate",
        Unit.SHARE,
        _sum(DELIVERED, "orders"),
        _sum(SETTLED, "orders"),
        "delivered orders among settled orders",
    ),
    Derived(
        "return_rate",
        Unit.SHARE,
        "returned_orders",
        _sum(SETTLED, "orders"),
        "returned orders among settled orders",
    ),
    Derived(
        "delivery_rate_of_sent",
        Unit.SHARE,
        _sum(_FORMERLY_DELIVERED, "orders"),
        _sum(SENT, "orders"),
        "fully delivered orders among sent ones, parcels in transit included; too low for recent days",
    ),
    Derived(
        "return_rate_of_sent",
        Unit.SHARE,
        _sum(_FORMERLY_RETURNED, "orders"),
        _sum(SENT, "orders"),
        "returning, returned and partly returned orders among sent ones, parcels in transit included; too low for "
        "recent days",
    ),
    Derived(
        "rts_rate",
        Unit.SHARE,
        _sum(("returning", "returned"), "orders"),
        _sum((*DELIVERED, "returning", "returned"), "orders"),
        "returning and returned orders among these and delivered ones",
    ),
    Derived("cancellation_rate", Unit.SHARE, "cancelled_orders", "orders", "cancelled orders among all counted ones"),
    Derived("settled_share", Unit.SHARE, _sum(SETTLED, "orders"), "orders", "settled orders among all counted ones"),
    Derived("collected", Unit.TENANT_CURRENCY, _sum(_FORMERLY_DELIVERED, "cod"), note=f"{_DEPRECATED}: delivered_cod"),
    Derived("net_cogs", Unit.TENANT_CURRENCY, _NET_COGS, note=_DEPRECATED),
    Derived("net_revenue", Unit.TENANT_CURRENCY, _NET_REVENUE, note=_DEPRECATED),
    Derived(
        "contribution_margin",
        Unit.TENANT_CURRENCY,
        f"{_NET_REVENUE} - ({_NET_COGS}) - order_fees - cod_fees - ad_cost",
        note=f"{_DEPRECATED}: it sets the revenue of open orders against fees of delivered ones; see realised_margin "
        "and projected_margin",
    ),
)

ALL: Final[tuple[Figure, ...]] = (*STORED, *DERIVED)
FIGURES: Final[dict[str, Figure]] = {figure.name: figure for figure in ALL}
OF_ADS: Final = tuple(figure for figure in STORED if not figure.of_orders)
OF_ORDERS: Final = tuple(figure for figure in STORED if figure.of_orders)


def comment(figure: Figure) -> str:
    """Return what a column says of its figure: its formula, and what it means."""
    return "; ".join(part for part in (figure.formula, figure.note) if part)


def summed(source: str, keys: Sequence[str] = (), labels: Sequence[str] = ()) -> str:
    """Return a query of every figure over the rows of `source`, which begins with FROM, one row per value of `keys`.

    `labels` are aggregates with a name. A sum is null if one of its rows has no value yet.
    """
    names = [figure.name for figure in STORED]
    sums = ", ".join(f"{_strict_sum(figure)} AS {figure.name}" for figure in STORED)
    derived = ", ".join(f"{figure.expression} AS {figure.name}" for figure in DERIVED)
    label_names = [label.rpartition(" AS ")[2] for label in labels]
    inner = ", ".join((*keys, *labels, sums))
    outer = ", ".join((*keys, *label_names, *names, derived))
    grouped = f" GROUP BY {', '.join(keys)}" if keys else " HAVING count(*) > 0"
    return f"SELECT {outer} FROM (SELECT {inner} {source}{grouped}) AS summed"


def _strict_sum(figure: Stored) -> str:
    total = f"sum({figure.name})"
    return f"CASE WHEN count(*) = count({figure.name}) THEN {total} END" if figure.needs_rates else total
