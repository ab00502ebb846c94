"""Insights: which rows a request asks for, and how they are summed, filtered and shown."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TypeVar

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox import graph_fields
from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.entities import GONE_STATUSES, Ad, AdAccount, Insight, Json, objective
from sync_pipeline.sandbox.exchange import Call, Reply
from sync_pipeline.sandbox.graph_breakdowns import OPTIONAL, check_combination, divided
from sync_pipeline.sandbox.graph_columns import (
    ACTION_LISTS,
    DYNAMIC,
    FIGURES,
    RANKINGS,
    STATIC,
    ActionDetail,
    detailed,
)
from sync_pipeline.sandbox.graph_days import Span, read_spans
from sync_pipeline.sandbox.graph_errors import RefusedError
from sync_pipeline.sandbox.graph_filters import Condition, read_conditions
from sync_pipeline.sandbox.graph_parameters import page_of, read_fields, read_limit, read_names
from sync_pipeline.sandbox.world import World

Value = TypeVar("Value")

LEVELS: dict[str, Callable[[Ad], str]] = {
    "ad": lambda ad: ad.ad_id,
    "adset": lambda ad: ad.adset_id,
    "campaign": lambda ad: ad.campaign_id,
    "account": lambda ad: ad.account_id,
}
_DEFAULT_COLUMNS = ("impressions", "spend")
_AD_COLUMNS = {"ad_id", "ad_name", "created_time", "updated_time", *RANKINGS}
_AD_SET_COLUMNS = {*_AD_COLUMNS, "adset_id", "adset_name", "optimization_goal"}
_COLUMNS_BELOW = {
    "account": {*_AD_SET_COLUMNS, "campaign_id", "campaign_name", "objective", "buying_type"},
    "campaign": _AD_SET_COLUMNS,
    "adset": _AD_COLUMNS,
    "ad": set(),
}
# The fields of an ad, its ad set and its campaign that `filtering` accepts.
_AD_FILTERS: dict[str, Callable[[Ad], object]] = {
    "ad.id": lambda ad: ad.ad_id,
    "ad.name": lambda ad: ad.name,
    "ad.effective_status": lambda ad: ad.effective_status,
    "adset.id": lambda ad: ad.adset_id,
    "adset.name": lambda ad: ad.adset_name,
    "campaign.id": lambda ad: ad.campaign_id,
    "campaign.name": lambda ad: ad.campaign_name,
    "id": lambda ad: ad.ad_id,
    "effective_status": lambda ad: ad.effective_status,
    "objective": objective,
}
_STATUS_FILTERS = {"ad.effective_status", "effective_status"}


@dataclass(frozen=True, slots=True)
class AdSelection:
    """Selects the ads of a node (None: of the whole account) that meet the conditions.

    Archived and deleted ads are left out unless a condition names their statuses.
    """

    conditions: tuple[Condition, ...]
    node_id: str | None
    gone_too: bool

    def takes(self, ad: Ad) -> bool:
        """Return whether the selection includes an ad."""
        if self.node_id is not None and self.node_id not in {ad.ad_id, ad.adset_id, ad.campaign_id}:
            return False
        if not self.gone_too and ad.effective_status in GONE_STATUSES:
            return False
        return all(condition.met_by(_AD_FILTERS[condition.field](ad)) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class InsightsQuery:
    """A checked request for insights: one row per entity of `level` and span."""

    account: AdAccount
    spans: tuple[Span, ...]
    level: str
    selection: AdSelection
    figure_conditions: tuple[Condition, ...]
    fields: tuple[str, ...]
    detail: ActionDetail
    breakdowns: tuple[str, ...] = ()

    @property
    def since(self) -> date:
        """The first day."""
        return min(since for since, _ in self.spans)

    @property
    def until(self) -> date:
        """The last day."""
        return max(until for _, until in self.spans)

    @property
    def days(self) -> int:
        """The number of days in all spans."""
        return sum((until - since).days + 1 for since, until in self.spans)


class Insights:
    """Reads insights requests and answers them from the world."""

    def __init__(self, world: World, behaviour: Behaviour) -> None:
        self._world = world
        self._behaviour = behaviour
        self._results: OrderedDict[object, list[Insight]] = OrderedDict()
        self._templates: OrderedDict[object, dict[str, Json]] = OrderedDict()

    def read(
        self, call: Call, account: AdAccount, *, node_id: str | None = None, node_level: str = "account"
    ) -> InsightsQuery:
        """Read and check a request for the insights of an account, or of a node in it."""
        fields = read_fields(call) or list(_DEFAULT_COLUMNS)
        unknown = [name for name in fields if name not in graph_fields.INSIGHTS]
        if unknown:
            raise RefusedError(
                errors.bad_parameter(
                    f"{', '.join(unknown)} is not valid for fields param. Please check the valid values"
                )
            )
        level = call.first("level", node_level)
        if level not in LEVELS:
            raise RefusedError(errors.bad_parameter(f"level must be one of {', '.join(LEVELS)}"))
        breakdowns = read_names(call, "breakdowns", graph_fields.BREAKDOWNS)
        check_combination(breakdowns)
        spans = read_spans(call, self._world.today(account.timezone))
        selection, figure_conditions = _read_filtering(call, node_id, gone_too=level != "ad" or node_level == "ad")
        wanted = (*fields, *(name for name in ("date_start", "date_stop") if name not in fields))
        detail = ActionDetail(
            read_names(call, "action_attribution_windows", graph_fields.ATTRIBUTION_WINDOWS),
            tuple(
                name
                for name in read_names(call, "action_breakdowns", graph_fields.ACTION_BREAKDOWNS)
                if name != "action_type"
            ),
        )
        return InsightsQuery(account, spans, level, selection, figure_conditions, wanted, detail, breakdowns)

    def refuse_too_much(self, call: Call, query: InsightsQuery) -> None:
        """Refuse a request that is too large for a direct answer, where the switches set a bound."""
        most, most_limit = self._behaviour.max_rows_per_request, self._behaviour.max_limit
        too_large = most_limit is not None and read_limit(call) > most_limit
        if too_large or (most is not None and self._ads(query) * query.days > most):
            raise RefusedError(errors.TOO_MUCH_DATA)

    def page(self, call: Call, query: InsightsQuery) -> Reply:
        """Answer one page of the rows."""
        below, account = _COLUMNS_BELOW[query.level], query.account
        names = [name for name in query.fields if name not in below and (name in DYNAMIC or name in STATIC)]
        columns = [(name, DYNAMIC[name]) for name in names if name in DYNAMIC]
        templates = self._templates_of(query, names)
        lists = [name for name in names if name in ACTION_LISTS] if query.detail.asked else []

        def render(row: Insight) -> Json:
            ad = row.ad
            template = templates.get(ad.ad_id)
            if template is None:
                static = ((name, STATIC.get(name)) for name in names)
                template = templates[ad.ad_id] = {name: column and column(ad, account) for name, column in static}
            # A copy of a row with every key costs less than a row that grows.
            shown = template.copy()
            for name, column in columns:
                value = column(row, account)
                if value is None:
                    del shown[name]
                else:
                    shown[name] = value
            for name in lists:
                if name in shown:
                    shown[name] = detailed(shown[name], row, query.detail)
            if row.cut:
                shown.update(row.cut)
            return shown

        return page_of(call, self._rows(query), render, empty_pages=self._behaviour.empty_pages)

    def _ads(self, query: InsightsQuery) -> int:
        return sum(query.selection.takes(ad) for ad in self._world.ads(query.account.account_id))

    def _templates_of(self, query: InsightsQuery, names: Sequence[str]) -> dict[str, Json]:
        """Return the template row of each ad: static columns filled in, the others None. Rendering fills it."""
        return _remembered(self._templates, (query.account.account_id, *names, self._world.version), dict)

    def _rows(self, query: InsightsQuery) -> list[Insight]:
        account = query.account
        asked = (
            account.account_id,
            query.spans,
            query.level,
            query.selection,
            query.figure_conditions,
            query.breakdowns,
            self._behaviour.opted_into_breakdowns,
        )
        moment = self._world.version, self._world.today(account.timezone)
        return _remembered(self._results, (asked, moment), lambda: self._gather(query))

    def _gather(self, query: InsightsQuery) -> list[Insight]:
        group_of = LEVELS[query.level]
        account_id = query.account.account_id
        ads = {ad.ad_id for ad in self._world.ads(account_id) if query.selection.takes(ad)}
        rows: list[Insight] = []
        for since, until in query.spans:
            groups: dict[str, Insight] = {}
            for day in (since + timedelta(days=n) for n in range((until - since).days + 1)):
                for row in self._world.insights(account_id, day):
                    if row.ad.ad_id not in ads:
                        continue
                    group = group_of(row.ad)
                    before = groups.get(group)
                    groups[group] = _sum(before, row) if before else row
            rows += [row._replace(since=since, until=until) for row in groups.values()]
        if query.breakdowns:
            rows = [part for row in rows for part in divided(row, query.breakdowns)]
        if not self._behaviour.opted_into_breakdowns and OPTIONAL & set(query.breakdowns):
            return []
        for condition in query.figure_conditions:
            figure = FIGURES[condition.field.rpartition(".")[2]]
            rows = [row for row in rows if condition.met_by(figure(row, query.account))]
        # No order is promised, so none is kept. A row's place depends on itself alone: edits move no others.
        rows.sort(key=lambda row: (row.ad.index * 2_654_435_761 ^ row.since.toordinal() * 40_503) & 0xFFFF)
        return rows


def _read_filtering(call: Call, node_id: str | None, *, gone_too: bool) -> tuple[AdSelection, tuple[Condition, ...]]:
    """Read the conditions on ads and those on figures."""
    conditions = read_conditions(call)
    of_ads = tuple(condition for condition in conditions if condition.field in _AD_FILTERS)
    of_figures = tuple(condition for condition in conditions if condition.field not in _AD_FILTERS)
    unknown = next((one.field for one in of_figures if one.field.rpartition(".")[2] not in FIGURES), None)
    if unknown is not None:
        raise RefusedError(errors.bad_parameter(f"filtering field {unknown} is invalid"))
    named = any(condition.field in _STATUS_FILTERS for condition in of_ads)
    return AdSelection(of_ads, node_id, gone_too or named), of_figures


def _remembered(memory: OrderedDict[object, Value], key: object, make: Callable[[], Value]) -> Value:
    """Return the value under a key, made if absent; the memory keeps the latest twelve."""
    found = memory.get(key)
    if found is None:
        found = memory[key] = make()
        if len(memory) > 12:
            memory.popitem(last=False)
    return found


def _sum(first: Insight, second: Insight) -> Insight:
    return first._replace(
        spend=first.spend + second.spend,
        impressions=first.impressions + second.impressions,
        clicks=first.clicks + second.clicks,
        link_clicks=first.link_clicks + second.link_clicks,
        landing_page_views=first.landing_page_views + second.landing_page_views,
        leads=first.leads + second.leads,
    )
