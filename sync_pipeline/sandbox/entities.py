"""What the sandbox's world is made of, and how Pancake writes times."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sync_pipeline.sandbox.demo_tenants import ProductPlan, TenantPlan

Json = dict[str, Any]

GONE_STATUSES = frozenset({"ARCHIVED", "DELETED"})
EFFECTIVE_STATUSES = (
    "ACTIVE",
    "PAUSED",
    "DELETED",
    "ARCHIVED",
    "CAMPAIGN_PAUSED",
    "ADSET_PAUSED",
    "PENDING_REVIEW",
    "DISAPPROVED",
    "PREAPPROVED",
    "WITH_ISSUES",
    "IN_PROCESS",
    "PENDING_BILLING_INFO",
)
ORDER_STATUSES = {
    0: "new",
    17: "wait_confirm",
    11: "restocking",
    20: "ordered",
    1: "submitted",
    12: "wait_print",
    13: "printed",
    8: "packing",
    9: "pending",
    2: "shipped",
    3: "delivered",
    16: "received_money",
    4: "returning",
    15: "part_returned",
    5: "returned",
    6: "canceled",
    7: "removed",
}
DELETED = 7
PARTNER_ID = 5
_RETURNED = frozenset({4, 5, 15})


@dataclass(frozen=True, slots=True)
class Ad:
    """An ad with its ad set and campaign. `weight` scales its figures; `collects_leads` gives it lead actions."""

    ad_id: str
    name: str
    account_id: str
    adset_id: str
    adset_name: str
    campaign_id: str
    campaign_name: str
    effective_status: str
    created: date
    product: ProductPlan
    weight: float
    collects_leads: bool
    index: int

    @property
    def status(self) -> str:
        """The ad's own switch, without what its campaign, ad set or a review adds."""
        return self.effective_status if self.effective_status in {"PAUSED", "ARCHIVED", "DELETED"} else "ACTIVE"


def objective(ad: Ad) -> str:
    """What an ad's campaign is for: every second campaign is for leads."""
    return "OUTCOME_LEADS" if int(ad.campaign_id[-7:]) % 2 else "OUTCOME_SALES"


def optimization_goal(ad: Ad) -> str:
    """What an ad's ad set is optimized for."""
    return "LEAD_GENERATION" if objective(ad) == "OUTCOME_LEADS" else "OFFSITE_CONVERSIONS"


class Insight(NamedTuple):
    """The figures of one ad over `since`..`until`, days of its ad account. `spend` is in hundredths of the currency.

    `cut` names the breakdowns and their values that the figures are of; empty for all of them together.
    """

    ad: Ad
    since: date
    until: date
    spend: int
    impressions: int
    clicks: int
    link_clicks: int
    landing_page_views: int
    leads: int
    cut: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class AdAccount:
    """An ad account and its ads; `account_id` without `act_`."""

    account_id: str
    name: str
    currency: str
    timezone: ZoneInfo
    ads: tuple[Ad, ...]
    quiet_weekday: int | None = None
    web_shop: bool = False
    messaging: bool = False
    account_status: int = 1


@dataclass(frozen=True)
class Variation:
    """One size of a product. `custom_id` is its own SKU, which few variations have."""

    variation_id: str
    custom_id: str | None
    display_id: str
    detail: str
    price: int


@dataclass(frozen=True)
class Product:
    """A product of one shop. `product_id` is that shop's own; `custom_id` and display ids are the tenant's."""

    product_id: str
    custom_id: str
    plan: ProductPlan
    variations: tuple[Variation, ...]


@dataclass(frozen=True)
class Shop:
    """A shop, the key variable that sees it, and what it sells."""

    shop_id: int
    name: str
    key_variable: str
    products: tuple[Product, ...]
    orders_per_day: int
    quiet_weekday: int | None = None
    text_ids: bool = False
    order_items: bool = False


@dataclass(frozen=True)
class Order:
    """An order: `body` as Pancake writes it but for what its age decides, its statuses in time, and its edits."""

    shop_id: int
    order_id: int
    inserted_at: datetime
    timeline: tuple[tuple[datetime, int], ...]
    body: Json
    changes: Json = field(default_factory=dict)

    def seen_at(self, moment: datetime) -> Json:
        """The order as Pancake answers it when its life up to `moment` has happened."""
        passed = [step for step in self.timeline if step[0] <= moment] or [self.timeline[0]]
        statuses, times = [status for _, status in passed], [wire_time(at) for at, _ in passed]
        status = int(self.changes.get("status", statuses[-1]))
        history = [
            {"status": now, "old_status": before, "updated_at": at, "editor_fb": None}
            for before, now, at in zip(statuses, statuses[1:], times[1:], strict=False)
        ]
        if status != statuses[-1]:
            changed_at = self.changes.get("updated_at", wire_time(moment))
            history.append({"status": status, "old_status": statuses[-1], "updated_at": changed_at, "editor_fb": None})
        return {
            **self.body,
            "status": status,
            "status_name": ORDER_STATUSES.get(status, "unknown"),
            "status_history": history,
            "updated_at": times[-1],
            "partner": self._partner(dict(zip(statuses, times, strict=True))),
            "returned_reason_name": None if _RETURNED.isdisjoint(statuses) else "Customer unreachable",
            **self.changes,
        }

    def _partner(self, reached: dict[int, str]) -> Json | None:
        """The courier's side, once the order was shipped; `reached` is when it took each status."""
        if 2 not in reached:
            return None
        return {
            "partner_id": PARTNER_ID,
            "partner_name": "Example Express",
            "extend_code": f"TRK{self.shop_id}{self.order_id:07d}",
            "cod": self.body["cod"],
            "total_fee": self.body["partner_fee"],
            "picked_up_at": reached[2],
            "first_delivery_at": reached.get(3),
            "paid_at": reached.get(16),
        }

    def field(self, name: str) -> Any:
        """A field that does not depend on the order's age, as edited."""
        return self.changes[name] if name in self.changes else self.body.get(name)

    def status_at(self, moment: datetime) -> int:
        """The status alone."""
        if "status" in self.changes:
            return int(self.changes["status"])
        return next((status for at, status in reversed(self.timeline) if at <= moment), self.timeline[0][1])

    def updated_at(self, moment: datetime) -> datetime:
        """The time of the last change."""
        if "updated_at" in self.changes:
            return parse_wire_time(str(self.changes["updated_at"]))
        return next((at for at, _ in reversed(self.timeline) if at <= moment), self.inserted_at)


@dataclass(frozen=True)
class Tenant:
    """One tenant's side of both APIs. Tokens and keys are the sandbox's own and open nothing else."""

    plan: TenantPlan
    name: str
    timezone: ZoneInfo
    meta_token: str
    pancake_keys: dict[str, str]
    accounts: tuple[AdAccount, ...]
    shops: tuple[Shop, ...]

    def shops_of_key(self, key: str) -> list[Shop]:
        """The shops that `key` sees."""
        return [shop for shop in self.shops if self.pancake_keys.get(shop.key_variable) == key]


def local_midnight(day: date, timezone: ZoneInfo) -> datetime:
    """The first moment of a local day, in UTC."""
    return datetime.combine(day, time(), timezone).astimezone(UTC)


def wire_time(moment: datetime) -> str:
    """UTC without offset, as Pancake writes it: microseconds only where there are any."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()


def parse_wire_time(text: str) -> datetime:
    """The inverse of `wire_time`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
