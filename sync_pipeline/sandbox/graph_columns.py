"""Columns of insights: the fields that hold a value here, each computed from a row's figures.

Numbers are text, lists are of `{action_type, value}`, and a metric without a value is absent.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any

from sync_pipeline.sandbox.entities import Ad, AdAccount, Insight, Json, objective, optimization_goal

_RANKS = ("ABOVE_AVERAGE", "AVERAGE", "BELOW_AVERAGE_35", "BELOW_AVERAGE_20")
_RANKED_IMPRESSIONS = 500
# Purchases are counted in the account's currency, product prices are given in the tenant's.
_PER_UNIT = {"USD": 56.0}


@dataclass(frozen=True, slots=True)
class ActionDetail:
    """Details of each action that a request adds to type and value: attribution windows and breakdowns."""

    windows: tuple[str, ...] = ()
    breakdowns: tuple[str, ...] = ()

    @property
    def asked(self) -> bool:
        """Whether the request adds any detail."""
        return bool(self.windows or self.breakdowns)


# The columns that are the same in every row of an ad.
STATIC: Mapping[str, Callable[[Ad, AdAccount], str]] = {
    "account_id": lambda _, account: account.account_id,
    "account_name": lambda _, account: account.name,
    "account_currency": lambda _, account: account.currency,
    "campaign_id": lambda ad, _: ad.campaign_id,
    "campaign_name": lambda ad, _: ad.campaign_name,
    "adset_id": lambda ad, _: ad.adset_id,
    "adset_name": lambda ad, _: ad.adset_name,
    "ad_id": lambda ad, _: ad.ad_id,
    "ad_name": lambda ad, _: ad.name,
    "objective": lambda ad, _: objective(ad),
    "optimization_goal": lambda ad, _: optimization_goal(ad),
    "buying_type": lambda *_: "AUCTION",
    "attribution_setting": lambda *_: "1d_view_7d_click",
    "created_time": lambda ad, _: ad.created.isoformat(),
    "updated_time": lambda ad, _: ad.created.isoformat(),
}


def detailed(actions: list[Json] | None, row: Insight, detail: ActionDetail) -> list[Json] | None:
    """Return the actions with the requested windows and breakdowns.

    All actions here follow a click, so view windows hold none; 7d_view and 28d_view have held nothing since 2026-01-12.
    """
    if actions is None:
        return None
    targets = {
        "action_target_id": row.ad.ad_id,
        "action_destination": row.ad.campaign_id,
        "action_device": "iphone",
    }
    more = {name: targets[name] for name in detail.breakdowns if name in targets}
    return [
        {**action, **{window: action["value"] for window in detail.windows if window.endswith("_click")}, **more}
        for action in actions
    ]


def _money(cents: int, currency: str) -> str:
    return str(cents // 100) if currency == "VND" else f"{cents / 100:.2f}".rstrip("0").rstrip(".")


_iso = lru_cache(4096)(date.isoformat)


def _ratio(part: float, whole: float, scale: float = 1.0) -> str | None:
    return f"{scale * part / whole:.6f}" if whole else None


def _reach(row: Insight) -> int:
    return max(1, row.impressions * 4 // 5)


def _listed(values: dict[str, float]) -> list[Json] | None:
    return [{"action_type": kind, "value": str(value)} for kind, value in values.items() if value] or None


def _purchases(row: Insight) -> int:
    return row.landing_page_views // 9


def _purchase_value(row: Insight, account: AdAccount) -> float:
    return round(_purchases(row) * row.ad.product.price / _PER_UNIT.get(account.currency, 1.0), 2)


def _action_counts(row: Insight, account: AdAccount) -> dict[str, float]:
    counts: dict[str, float] = {
        "link_click": row.link_clicks,
        "landing_page_view": row.landing_page_views,
        "onsite_conversion.lead_grouped": row.leads,
        "lead": row.leads,
    }
    if account.web_shop:
        bought = _purchases(row)
        counts |= {
            "add_to_cart": row.landing_page_views // 3,
            "initiate_checkout": row.landing_page_views // 5,
            "offsite_conversion.fb_pixel_purchase": bought,
            "omni_purchase": bought,
        }
    if account.messaging:
        counts["onsite_conversion.messaging_conversation_started_7d"] = row.link_clicks // 4
    return counts


def _actions(row: Insight, account: AdAccount) -> list[Json] | None:
    if account.web_shop or account.messaging:
        return _listed(_action_counts(row, account))
    # Written out for the other accounts, because every row of a sync needs this column.
    found: list[Json] = []
    if row.link_clicks:
        found.append({"action_type": "link_click", "value": str(row.link_clicks)})
    if row.landing_page_views:
        found.append({"action_type": "landing_page_view", "value": str(row.landing_page_views)})
    if row.leads:
        leads = str(row.leads)
        found.append({"action_type": "onsite_conversion.lead_grouped", "value": leads})
        found.append({"action_type": "lead", "value": leads})
    return found or None


def _action_values(row: Insight, account: AdAccount) -> list[Json] | None:
    if not account.web_shop:
        return None
    value = _purchase_value(row, account)
    return _listed({"offsite_conversion.fb_pixel_purchase": value, "omni_purchase": value})


def _roas(row: Insight, account: AdAccount) -> list[Json] | None:
    if not account.web_shop or not row.spend:
        return None
    return _listed({"omni_purchase": round(_purchase_value(row, account) / (row.spend / 100), 6)})


def _costs(row: Insight, account: AdAccount) -> list[Json] | None:
    spend = row.spend / 100
    return _listed({kind: round(spend / n, 6) for kind, n in _action_counts(row, account).items() if n})


def _conversions(row: Insight, account: AdAccount) -> list[Json] | None:
    return _listed({"contact_total": row.leads}) if account.web_shop else None


def _conversion_values(row: Insight, account: AdAccount) -> list[Json] | None:
    return _listed({"contact_total": row.leads * 10}) if account.web_shop else None


def _results(row: Insight, _account: AdAccount) -> list[Json] | None:
    kind, count = ("lead", row.leads) if row.ad.collects_leads else ("landing_page_view", row.landing_page_views)
    values = [{"value": str(count), "attribution_windows": ["default"]}]
    return [{"indicator": f"actions:{kind}", "values": values}] if count else None


def _watched(part: int) -> Callable[[Insight, AdAccount], list[Json] | None]:
    """Return a column of video views, one in `part` impressions; only video ads have any."""
    return lambda row, _: _listed({"video_view": row.impressions // part}) if "_VIDEO_" in row.ad.name else None


def _rank(shift: int) -> Callable[[Insight, AdAccount], str]:
    return lambda row, _: (
        _RANKS[(row.ad.index + shift) % len(_RANKS)] if row.impressions >= _RANKED_IMPRESSIONS else "UNKNOWN"
    )


ACTION_LISTS: Mapping[str, Callable[[Insight, AdAccount], list[Json] | None]] = {
    "actions": _actions,
    "action_values": _action_values,
    "conversions": _conversions,
    "conversion_values": _conversion_values,
    "cost_per_action_type": _costs,
    "purchase_roas": _roas,
    "unique_actions": _actions,
    "outbound_clicks": lambda r, _a: _listed({"outbound_click": r.link_clicks}),
    "website_ctr": lambda r, _a: _listed({"link_click": round(100 * r.link_clicks / r.impressions, 6)}),
    "video_play_actions": _watched(2),
    "video_p25_watched_actions": _watched(4),
    "video_p50_watched_actions": _watched(6),
    "video_p75_watched_actions": _watched(9),
    "video_p100_watched_actions": _watched(15),
    "video_thruplay_watched_actions": _watched(12),
}
FIGURES: Mapping[str, Callable[[Insight, AdAccount], Any]] = {
    "spend": lambda r, a: _money(r.spend, a.currency),
    "impressions": lambda r, _a: str(r.impressions),
    "reach": lambda r, _a: str(_reach(r)),
    "frequency": lambda r, _a: _ratio(r.impressions, _reach(r)),
    "clicks": lambda r, _a: str(r.clicks),
    "unique_clicks": lambda r, _a: str(r.clicks) if r.clicks else None,
    "unique_ctr": lambda r, _a: _ratio(r.clicks, _reach(r), 100) if r.clicks else None,
    "inline_link_clicks": lambda r, _a: str(r.link_clicks) if r.link_clicks else None,
    "inline_link_click_ctr": lambda r, _a: _ratio(r.link_clicks, r.impressions, 100) if r.link_clicks else None,
    "cost_per_inline_link_click": lambda r, _a: _ratio(r.spend / 100, r.link_clicks),
    "cost_per_unique_click": lambda r, _a: _ratio(r.spend / 100, r.clicks),
    "cpc": lambda r, _a: _ratio(r.spend / 100, r.clicks),
    "cpm": lambda r, _a: _ratio(r.spend / 100, r.impressions, 1000),
    "cpp": lambda r, _a: _ratio(r.spend / 100, _reach(r), 1000),
    "ctr": lambda r, _a: _ratio(r.clicks, r.impressions, 100),
    "social_spend": lambda _r, _a: "0",
    "quality_ranking": _rank(0),
    "engagement_rate_ranking": _rank(1),
    "conversion_rate_ranking": _rank(2),
    "results": _results,
    "date_start": lambda r, _a: _iso(r.since),
    "date_stop": lambda r, _a: _iso(r.until),
}
DYNAMIC: Mapping[str, Callable[[Insight, AdAccount], Any]] = {**ACTION_LISTS, **FIGURES}
RANKINGS = frozenset({"quality_ranking", "engagement_rate_ranking", "conversion_rate_ranking"})
