"""Insights: which rows a request is after, and what each column of them holds."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.entities import EFFECTIVE_STATUSES, GONE_STATUSES, Ad, AdAccount, Insight, Json
from sync_pipeline.sandbox.exchange import Call, Reply
from sync_pipeline.sandbox.graph_errors import RefusedError
from sync_pipeline.sandbox.graph_parameters import page_of, read_fields, read_filters, read_json, read_limit
from sync_pipeline.sandbox.world import World

HISTORY_MONTHS = 37
_LEVELS: dict[str, Callable[[Ad], str]] = {
    "ad": lambda ad: ad.ad_id,
    "adset": lambda ad: ad.adset_id,
    "campaign": lambda ad: ad.campaign_id,
    "account": lambda ad: ad.account_id,
}


def _money(cents: int, currency: str) -> str:
    return str(cents // 100) if currency == "VND" else f"{cents / 100:.2f}".rstrip("0").rstrip(".")


def _ratio(part: float, whole: float, scale: float = 1.0) -> str | None:
    return f"{scale * part / whole:.6f}" if whole else None


def _actions(row: Insight) -> list[Json] | None:
    values = {
        "link_click": row.link_clicks,
        "landing_page_view": row.landing_page_views,
        "onsite_conversion.lead_grouped": row.leads,
        "lead": row.leads,
    }
    return [{"action_type": kind, "value": str(value)} for kind, value in values.items() if value] or None


_Column = Callable[[Insight, AdAccount], Any]
_COLUMNS: dict[str, _Column] = {
    "account_id": lambda _r, a: a.account_id,
    "account_name": lambda _r, a: a.name,
    "account_currency": lambda _r, a: a.currency,
    "campaign_id": lambda r, _a: r.ad.campaign_id,
    "campaign_name": lambda r, _a: r.ad.campaign_name,
    "adset_id": lambda r, _a: r.ad.adset_id,
    "adset_name": lambda r, _a: r.ad.adset_name,
    "ad_id": lambda r, _a: r.ad.ad_id,
    "ad_name": lambda r, _a: r.ad.name,
    "objective": lambda r, _a: "OUTCOME_LEADS" if r.ad.collects_leads else "OUTCOME_SALES",
    "created_time": lambda r, _a: r.ad.created.isoformat(),
    "updated_time": lambda r, _a: r.ad.created.isoformat(),
    "spend": lambda r, a: _money(r.spend, a.currency),
    "impressions": lambda r, _a: str(r.impressions),
    "reach": lambda r, _a: str(max(1, r.impressions * 4 // 5)),
    "frequency": lambda r, _a: _ratio(r.impressions, max(1, r.impressions * 4 // 5)),
    "clicks": lambda r, _a: str(r.clicks),
    "unique_clicks": lambda r, _a: str(r.clicks) if r.clicks else None,
    "inline_link_clicks": lambda r, _a: str(r.link_clicks) if r.link_clicks else None,
    "cpc": lambda r, _a: _ratio(r.spend / 100, r.clicks),
    "cpm": lambda r, _a: _ratio(r.spend / 100, r.impressions, 1000),
    "ctr": lambda r, _a: _ratio(r.clicks, r.impressions, 100),
    "actions": lambda r, _a: _actions(r),
    "date_start": lambda r, _a: r.since.isoformat(),
    "date_stop": lambda r, _a: r.until.isoformat(),
    # Known to the API, absent from every row here.
    "action_values": lambda _r, _a: None,
    "conversions": lambda _r, _a: None,
    "cost_per_action_type": lambda _r, _a: None,
    "purchase_roas": lambda _r, _a: None,
    "video_play_actions": lambda _r, _a: None,
}
_DEFAULT_COLUMNS = ("impressions", "spend")
_COLUMNS_BELOW = {
    "account": {
        "campaign_id",
        "campaign_name",
        "adset_id",
        "adset_name",
        "ad_id",
        "ad_name",
        "created_time",
        "objective",
    },
    "campaign": {"adset_id", "adset_name", "ad_id", "ad_name"},
    "adset": {"ad_id", "ad_name"},
    "ad": set(),
}


@dataclass(frozen=True)
class InsightsQuery:
    """What was asked for; None stands for all days in one row, any status, any ad."""

    account: AdAccount
    since: date
    until: date
    level: str
    increment: int | None
    statuses: frozenset[str] | None
    ad_ids: frozenset[str] | None
    fields: tuple[str, ...]

    @property
    def days(self) -> int:
        """How many days."""
        return (self.until - self.since).days + 1


class Insights:
    """Reads insights requests and answers them from the world."""

    def __init__(self, world: World, behaviour: Behaviour) -> None:
        self._world = world
        self._behaviour = behaviour
        self._results: OrderedDict[object, list[Insight]] = OrderedDict()

    def read(self, call: Call, account: AdAccount) -> InsightsQuery:
        """The query of a request, checked."""
        fields = read_fields(call) or list(_DEFAULT_COLUMNS)
        unknown = [name for name in fields if name not in _COLUMNS]
        if unknown:
            raise RefusedError(
                errors.bad_parameter(
                    f"{', '.join(unknown)} is not valid for fields param. Please check the valid values"
                )
            )
        level = call.first("level", "account")
        if level not in _LEVELS:
            raise RefusedError(errors.bad_parameter(f"level must be one of {', '.join(_LEVELS)}"))
        since, until = self._time_range(call, account)
        statuses, ids = read_filters(call)
        if statuses is None and level == "ad":
            statuses = frozenset(EFFECTIVE_STATUSES) - GONE_STATUSES
        wanted = (*fields, *(name for name in ("date_start", "date_stop") if name not in fields))
        return InsightsQuery(account, since, until, level, _increment(call), statuses, ids, wanted)

    def _time_range(self, call: Call, account: AdAccount) -> tuple[date, date]:
        today = self._world.today(account.timezone)
        presets = {"today": (0, 0), "yesterday": (1, 1), "last_7d": (7, 1), "last_30d": (30, 1)}
        if not call.has("time_range"):
            preset = presets.get(call.first("date_preset", "last_30d"))
            if preset is None:
                raise RefusedError(errors.bad_parameter(f"date_preset must be one of {', '.join(presets)}"))
            return today - timedelta(days=preset[0]), today - timedelta(days=preset[1])
        given = read_json(call.first("time_range"), "time_range")
        try:
            since, until = date.fromisoformat(given["since"]), date.fromisoformat(given["until"])
        except (KeyError, TypeError, ValueError):
            raise RefusedError(
                errors.bad_parameter("Must be a time range with since and until in YYYY-MM-DD: time_range")
            ) from None
        if since > until:
            raise RefusedError(errors.bad_parameter("time range since must not be after until"))
        if since < _months_before(today, HISTORY_MONTHS):
            raise RefusedError(errors.BEYOND_HISTORY)
        return since, until

    def refuse_too_much(self, call: Call, query: InsightsQuery) -> None:
        """Refuses what is too large for a direct answer, where the switches draw a line."""
        most, most_limit = self._behaviour.max_rows_per_request, self._behaviour.max_limit
        ads = sum(passes(ad, query.statuses, query.ad_ids) for ad in self._world.ads(query.account.account_id))
        too_many = most is not None and ads * query.days > most
        if too_many or (most_limit is not None and read_limit(call) > most_limit):
            raise RefusedError(errors.TOO_MUCH_DATA)

    def page(self, call: Call, query: InsightsQuery) -> Reply:
        """One page of the rows."""
        below = _COLUMNS_BELOW[query.level]
        columns = [(name, _COLUMNS[name]) for name in query.fields if name not in below]
        account = query.account

        def render(row: Insight) -> Json:
            shown: Json = {}
            for name, column in columns:
                value = column(row, account)
                if value is not None:
                    shown[name] = value
            return shown

        return page_of(call, self._rows(query), render, empty_pages=self._behaviour.empty_pages)

    def _rows(self, query: InsightsQuery) -> list[Insight]:
        account = query.account
        key = (
            (account.account_id, query.since, query.until, query.level, query.increment, query.statuses, query.ad_ids),
            (self._world.version, self._world.today(account.timezone)),
        )
        found = self._results.get(key)
        if found is None:
            found = self._results[key] = self._gather(query)
            if len(self._results) > 12:
                self._results.popitem(last=False)
        return found

    def _gather(self, query: InsightsQuery) -> list[Insight]:
        step = query.increment or query.days
        group_of = _LEVELS[query.level]
        rows: list[Insight] = []
        for offset in range(0, query.days, step):
            since = query.since + timedelta(days=offset)
            until = min(query.until, since + timedelta(days=step - 1))
            groups: dict[str, Insight] = {}
            for day in (since + timedelta(days=n) for n in range((until - since).days + 1)):
                for row in self._world.insights(query.account.account_id, day):
                    if not passes(row.ad, query.statuses, query.ad_ids):
                        continue
                    group = group_of(row.ad)
                    before = groups.get(group)
                    groups[group] = _sum(before, row) if before else row
            rows += [row._replace(since=since, until=until) for row in groups.values()]
        # No order is promised, so none is kept. A row's place depends on itself alone: edits move no others.
        rows.sort(key=lambda row: (row.ad.index * 2_654_435_761 ^ row.since.toordinal() * 40_503) & 0xFFFF)
        return rows


def passes(ad: Ad, statuses: frozenset[str] | None, ids: frozenset[str] | None) -> bool:
    """Whether an ad is of the statuses and ids asked for."""
    return (statuses is None or ad.effective_status in statuses) and (ids is None or ad.ad_id in ids)


def _increment(call: Call) -> int | None:
    text = call.first("time_increment", "all_days")
    if text in {"all_days", '"all_days"'}:
        return None
    if not text.isdigit() or not 1 <= int(text) <= 90:
        raise RefusedError(errors.bad_parameter("time_increment must be all_days or a number from 1 to 90"))
    return int(text)


def _months_before(day: date, months: int) -> date:
    month = day.year * 12 + day.month - 1 - months
    year, month = divmod(month, 12)
    for last in range(day.day, 27, -1):
        try:
            return date(year, month + 1, last)
        except ValueError:
            continue
    return date(year, month + 1, day.day)


def _sum(first: Insight, second: Insight) -> Insight:
    return first._replace(
        spend=first.spend + second.spend,
        impressions=first.impressions + second.impressions,
        clicks=first.clicks + second.clicks,
        link_clicks=first.link_clicks + second.link_clicks,
        landing_page_views=first.landing_page_views + second.landing_page_views,
        leads=first.leads + second.leads,
    )
