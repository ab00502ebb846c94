"""Nodes of the Graph API: campaigns, ad sets, ads and creatives of an account, and the fields that each shows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sync_pipeline.sandbox import graph_fields
from sync_pipeline.sandbox.entities import Ad, AdAccount, Json, objective, optimization_goal

# One campaign in this many has the budget itself; in the others, the ad sets have it.
_CAMPAIGN_BUDGETS = 3
_CREATED_AT = "T09:00:00+0000"


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign of an account and its ads, archived and deleted ones included."""

    account: AdAccount
    ads: tuple[Ad, ...]

    @property
    def node_id(self) -> str:
        """The id of the node."""
        return self.ads[0].campaign_id

    @property
    def number(self) -> int:
        """The position of the campaign in its account, from 0."""
        return int(self.node_id[-7:]) - 1

    @property
    def has_budget(self) -> bool:
        """Whether the budget belongs to the campaign instead of its ad sets."""
        return self.number % _CAMPAIGN_BUDGETS == 0

    @property
    def effective_status(self) -> str:
        """ACTIVE or PAUSED: campaigns are never archived here, though some of their ads are."""
        return "PAUSED" if all(ad.effective_status == "CAMPAIGN_PAUSED" for ad in self.ads) else "ACTIVE"


@dataclass(frozen=True, slots=True)
class AdSet:
    """An ad set of a campaign and its ads."""

    campaign: Campaign
    ads: tuple[Ad, ...]

    @property
    def node_id(self) -> str:
        """The id of the node."""
        return self.ads[0].adset_id

    @property
    def effective_status(self) -> str:
        """ACTIVE, PAUSED or CAMPAIGN_PAUSED."""
        if self.campaign.effective_status == "PAUSED":
            return "CAMPAIGN_PAUSED"
        return "PAUSED" if all(ad.effective_status == "ADSET_PAUSED" for ad in self.ads) else "ACTIVE"


@dataclass(frozen=True, slots=True)
class AdNode:
    """An ad with its account."""

    account: AdAccount
    ad: Ad


@dataclass(frozen=True, slots=True)
class Creative:
    """The creative of an ad; every ad has its own."""

    account: AdAccount
    ad: Ad

    @property
    def node_id(self) -> str:
        """The id of the node."""
        return creative_id(self.ad)


Node = AdAccount | Campaign | AdSet | AdNode | Creative
Field = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class NodeType:
    """A type of node: its name in errors, its documented fields, and the fields that hold a value here.

    `prefix` is what `filtering` may put before a field's name.
    """

    name: str
    prefix: str
    documented: frozenset[str]
    values: Mapping[str, Field]


def creative_id(ad: Ad) -> str:
    """Return the id of an ad's creative."""
    return f"12024{ad.ad_id[5:]}"


def campaigns(account: AdAccount, ads: Iterable[Ad]) -> list[Campaign]:
    """Group an account's ads into campaigns, in the order of the ads."""
    return [Campaign(account, tuple(found)) for _, found in groupby(ads, key=lambda ad: ad.campaign_id)]


def ad_sets(account: AdAccount, ads: Iterable[Ad]) -> list[AdSet]:
    """Group an account's ads into ad sets, in the order of the ads."""
    return [
        AdSet(campaign, tuple(found))
        for campaign in campaigns(account, ads)
        for _, found in groupby(campaign.ads, key=lambda ad: ad.adset_id)
    ]


def campaign_of(account: AdAccount, ad: Ad) -> Campaign:
    """Return the campaign of an ad."""
    return Campaign(account, tuple(other for other in account.ads if other.campaign_id == ad.campaign_id))


def node_ids(ads: Iterable[Ad]) -> dict[str, Ad]:
    """Map the id of every campaign, ad set, ad and creative to one of its ads."""
    return {name: ad for ad in ads for name in (ad.campaign_id, ad.adset_id, ad.ad_id, creative_id(ad))}


def _created(ads: tuple[Ad, ...]) -> str:
    return f"{min(ad.created for ad in ads).isoformat()}{_CREATED_AT}"


def _budget(account: AdAccount, ads: tuple[Ad, ...]) -> str:
    """Return a daily budget in minor units of the currency."""
    unit = {"USD": 800, "PHP": 40_000, "VND": 18_000_000}.get(account.currency, 800)
    return str(round(sum(ad.weight for ad in ads) * unit))


def _country(account: AdAccount) -> str:
    return {"PHP": "PH", "VND": "VN"}.get(account.currency, "US")


def _targeting(account: AdAccount) -> Json:
    return {"age_min": 18, "age_max": 65, "geo_locations": {"countries": [_country(account)]}}


def _page_id(account: AdAccount) -> str:
    return f"1500{account.account_id[-6:]}"


def _story_id(creative: Creative) -> str:
    return f"{_page_id(creative.account)}_{creative.ad.ad_id[-9:]}"


ACCOUNTS = NodeType(
    "AdAccount",
    "account",
    graph_fields.AD_ACCOUNT,
    {
        "id": lambda a: f"act_{a.account_id}",
        "account_id": lambda a: a.account_id,
        "name": lambda a: a.name,
        "currency": lambda a: a.currency,
        "timezone_name": lambda a: a.timezone.key,
        "account_status": lambda a: a.account_status,
        "created_time": lambda a: _created(a.ads) if a.ads else None,
    },
)
CAMPAIGNS = NodeType(
    "Campaign",
    "campaign",
    graph_fields.CAMPAIGN,
    {
        "id": lambda c: c.node_id,
        "account_id": lambda c: c.account.account_id,
        "name": lambda c: c.ads[0].campaign_name,
        "objective": lambda c: objective(c.ads[0]),
        "buying_type": lambda _: "AUCTION",
        "status": lambda c: c.effective_status,
        "configured_status": lambda c: c.effective_status,
        "effective_status": lambda c: c.effective_status,
        "daily_budget": lambda c: _budget(c.account, c.ads) if c.has_budget else None,
        "budget_remaining": lambda c: _budget(c.account, c.ads) if c.has_budget else "0",
        "bid_strategy": lambda c: "LOWEST_COST_WITHOUT_CAP" if c.has_budget else None,
        "special_ad_categories": lambda _: [],
        "start_time": lambda c: _created(c.ads),
        "created_time": lambda c: _created(c.ads),
        "updated_time": lambda c: _created(c.ads),
    },
)
AD_SETS = NodeType(
    "AdSet",
    "adset",
    graph_fields.AD_SET,
    {
        "id": lambda s: s.node_id,
        "account_id": lambda s: s.campaign.account.account_id,
        "campaign_id": lambda s: s.campaign.node_id,
        "campaign": lambda s: {"id": s.campaign.node_id},
        "name": lambda s: s.ads[0].adset_name,
        "status": lambda s: "PAUSED" if s.effective_status == "PAUSED" else "ACTIVE",
        "configured_status": lambda s: "PAUSED" if s.effective_status == "PAUSED" else "ACTIVE",
        "effective_status": lambda s: s.effective_status,
        "daily_budget": lambda s: None if s.campaign.has_budget else _budget(s.campaign.account, s.ads),
        "budget_remaining": lambda s: "0" if s.campaign.has_budget else _budget(s.campaign.account, s.ads),
        "bid_strategy": lambda s: None if s.campaign.has_budget else "LOWEST_COST_WITHOUT_CAP",
        "optimization_goal": lambda s: optimization_goal(s.ads[0]),
        "billing_event": lambda _: "IMPRESSIONS",
        "destination_type": lambda s: "ON_AD" if s.ads[0].collects_leads else "WEBSITE",
        "attribution_spec": lambda _: [
            {"event_type": "CLICK_THROUGH", "window_days": 7},
            {"event_type": "VIEW_THROUGH", "window_days": 1},
        ],
        "learning_stage_info": lambda s: {"status": "LEARNING" if len(s.ads) < 3 else "SUCCESS"},
        "targeting": lambda s: _targeting(s.campaign.account),
        "start_time": lambda s: _created(s.ads),
        "created_time": lambda s: _created(s.ads),
        "updated_time": lambda s: _created(s.ads),
    },
)
ADS = NodeType(
    "Ad",
    "ad",
    graph_fields.AD,
    {
        "id": lambda n: n.ad.ad_id,
        "account_id": lambda n: n.ad.account_id,
        "name": lambda n: n.ad.name,
        "adset_id": lambda n: n.ad.adset_id,
        "adset": lambda n: {"id": n.ad.adset_id},
        "campaign_id": lambda n: n.ad.campaign_id,
        "campaign": lambda n: {"id": n.ad.campaign_id},
        "creative": lambda n: {"id": creative_id(n.ad)},
        "status": lambda n: n.ad.status,
        "configured_status": lambda n: n.ad.status,
        "effective_status": lambda n: n.ad.effective_status,
        "targeting": lambda n: _targeting(n.account),
        "tracking_specs": lambda n: [{"action.type": ["post_engagement"], "page": [_page_id(n.account)]}],
        "conversion_specs": lambda _: [{"action.type": ["offsite_conversion"]}],
        "created_time": lambda n: f"{n.ad.created.isoformat()}{_CREATED_AT}",
        "updated_time": lambda n: f"{n.ad.created.isoformat()}{_CREATED_AT}",
    },
)
CREATIVES = NodeType(
    "AdCreative",
    "adcreative",
    graph_fields.AD_CREATIVE,
    {
        "id": lambda c: c.node_id,
        "account_id": lambda c: c.account.account_id,
        "name": lambda c: f"{c.ad.name} {c.ad.created.isoformat()}",
        "title": lambda c: c.ad.product.name,
        "body": lambda c: f"Try our {c.ad.product.name.lower()} today.",
        "status": lambda c: "DELETED" if c.ad.effective_status == "DELETED" else "ACTIVE",
        "object_type": lambda _: "SHARE",
        "object_story_id": _story_id,
        "effective_object_story_id": _story_id,
        "object_story_spec": lambda c: {"page_id": _page_id(c.account)},
        "call_to_action_type": lambda c: "SIGN_UP" if c.ad.collects_leads else "SHOP_NOW",
        "link_url": lambda c: f"https://shop.example.com/{c.ad.product.mapping}",
        "url_tags": lambda _: "utm_source=facebook&utm_content={{ad.id}}",
        "thumbnail_url": lambda c: f"https://cdn.example.com/{c.node_id}.jpg",
    },
)
LEADS = NodeType("Lead", "lead", graph_fields.LEAD, {})
