"""The Graph API: accounts, insights, ads, batch requests and async reports, as Meta answers them."""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlencode, urlsplit

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.entities import EFFECTIVE_STATUSES, GONE_STATUSES, Ad, AdAccount, Insight, Json, Tenant
from sync_pipeline.sandbox.exchange import Call, Reply, json_reply, read_pairs
from sync_pipeline.sandbox.graph_errors import RefusedError
from sync_pipeline.sandbox.quota import Quota
from sync_pipeline.sandbox.world import World

PREFIX = "/graph"
CURRENT_VERSION = "v26.0"
LIVE_VERSIONS = frozenset({"v25.0", CURRENT_VERSION})
EXPIRED_VERSIONS = frozenset({"v23.0", "v24.0"})
DEFAULT_PAGE = 25
BATCH_SIZE = 50
HISTORY_MONTHS = 37
_LEVELS: dict[str, Callable[[Ad], str]] = {
    "ad": lambda ad: ad.ad_id,
    "adset": lambda ad: ad.adset_id,
    "campaign": lambda ad: ad.campaign_id,
    "account": lambda ad: ad.account_id,
}
_POLLS: tuple[tuple[str, int], ...] = (
    ("Job Not Started", 0),
    ("Job Running", 40),
    # Completed below 100 %: the rows are not all there yet.
    ("Job Completed", 90),
    ("Job Completed", 100),
)


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
_AD_FIELDS: dict[str, Callable[[Ad], Any]] = {
    "id": lambda ad: ad.ad_id,
    "name": lambda ad: ad.name,
    "account_id": lambda ad: ad.account_id,
    "adset_id": lambda ad: ad.adset_id,
    "campaign_id": lambda ad: ad.campaign_id,
    "status": lambda ad: ad.status,
    "configured_status": lambda ad: ad.status,
    "effective_status": lambda ad: ad.effective_status,
    "created_time": lambda ad: f"{ad.created.isoformat()}T09:00:00+0000",
    "updated_time": lambda ad: f"{ad.created.isoformat()}T09:00:00+0000",
}
_ACCOUNT_FIELDS: dict[str, Callable[[AdAccount], Any]] = {
    "id": lambda a: f"act_{a.account_id}",
    "account_id": lambda a: a.account_id,
    "name": lambda a: a.name,
    "currency": lambda a: a.currency,
    "timezone_name": lambda a: a.timezone.key,
    "account_status": lambda a: a.account_status,
}


@dataclass(frozen=True)
class _InsightsQuery:
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
        return (self.until - self.since).days + 1


@dataclass
class _Report:
    tenant: Tenant
    query: _InsightsQuery
    polls: int = 0
    unseen_polls: int = 0


class GraphApi:
    """Answers everything under `/graph`. Keeps the async reports and the quota's scores; the data is the world's."""

    def __init__(self, world: World, quota: Quota, behaviour: Behaviour) -> None:
        self._world = world
        self._quota = quota
        self._behaviour = behaviour
        self._reports: dict[str, _Report] = {}
        self._report_ids = count(7_000_000_000_000_001)
        self._results: OrderedDict[object, list[Insight]] = OrderedDict()

    def answer(self, call: Call) -> Reply:
        """The answer to one request, errors included."""
        version, path = _split_version(call.path)
        headers = {"facebook-api-version": version}
        if version in EXPIRED_VERSIONS:
            headers["facebook-api-version"] = min(LIVE_VERSIONS)
            headers["X-Ad-Api-Version-Warning"] = (
                f"The call has been auto-upgraded to {min(LIVE_VERSIONS)} as {version} has been deprecated."
            )
        try:
            self._check_version(version)
            tenant = self._authenticate(call)
            caller = _caller(path, tenant)
            self._count(caller)
            reply = self._route(call, path, tenant, version)
        except RefusedError as refusal:
            reply = refusal.error.reply()
            caller = _caller(path, self._world.tenant_of_token(_token(call)))
        usage = self._usage(caller, path) if self._behaviour.usage_headers else {}
        return replace(reply, headers={**headers, **usage, **reply.headers})

    def _check_version(self, version: str) -> None:
        expired = version in EXPIRED_VERSIONS
        if not (expired or version in LIVE_VERSIONS) or (expired and self._behaviour.refuse_expired_versions):
            raise RefusedError(errors.version_gone(version))

    def _authenticate(self, call: Call) -> Tenant:
        token = _token(call)
        if not token:
            raise RefusedError(errors.NO_TOKEN)
        tenant = self._world.tenant_of_token(token)
        if tenant is None:
            raise RefusedError(errors.BAD_TOKEN)
        if self._world.token_expired(tenant):
            raise RefusedError(errors.EXPIRED_TOKEN)
        secret = self._behaviour.app_secret
        if secret is not None:
            proof = hmac.new(secret.encode(), token.encode(), hashlib.sha256).hexdigest()
            if not hmac.compare_digest(proof, call.first("appsecret_proof")):
                raise RefusedError(errors.BAD_PROOF)
        return tenant

    def _count(self, caller: str, points: int = 1) -> None:
        if self._quota.take(caller, points):
            return
        if not caller.startswith("act_"):
            raise RefusedError(errors.APP_LIMIT)
        error = errors.BUSINESS_LIMIT if self._quota.code >= 80000 else errors.USER_LIMIT
        account = caller.removeprefix("act_")
        raise RefusedError(
            errors.with_wait(replace(error, code=self._quota.code), account, self._quota.minutes_left(caller))
        )

    def _usage(self, caller: str, path: str) -> dict[str, str]:
        used = round(self._quota.used_percent(caller), 2)
        whole = round(used)
        load = {"call_count": whole, "total_cputime": whole // 4, "total_time": whole // 4}
        headers = {"X-App-Usage": json.dumps({**load, "call_count": whole // 10})}
        if caller.startswith("act_"):
            left = round(self._quota.seconds_left(caller))
            business = {
                "type": "ads_insights",
                **load,
                "estimated_time_to_regain_access": self._quota.minutes_left(caller),
            }
            headers["X-Business-Use-Case-Usage"] = json.dumps({caller.removeprefix("act_"): [business]})
            headers["X-Ad-Account-Usage"] = json.dumps(
                {"acc_id_util_pct": used, "reset_time_duration": left, "ads_api_access_tier": "standard_access"}
            )
            if path.endswith("/insights"):
                headers["X-FB-Ads-Insights-Throttle"] = json.dumps(
                    {"app_id_util_pct": used / 10, "acc_id_util_pct": used}
                )
        return headers

    def _route(self, call: Call, path: str, tenant: Tenant, version: str) -> Reply:
        parts = [part for part in path.split("/") if part]
        match parts:
            case []:
                return self._root(call, tenant, version)
            case ["me"]:
                return json_reply(
                    {"id": f"9{tenant.accounts[0].account_id}", "name": f"{tenant.plan.title} system user"}
                )
            case ["me", "adaccounts" | "assigned_ad_accounts"]:
                return self._accounts(call, tenant)
            case ["debug_token"]:
                return self._debug_token(call)
            case [name] if name.startswith("act_"):
                account = self._account(name, tenant)
                return json_reply(_picked(account, _ACCOUNT_FIELDS, _fields(call) or ["account_id"], "AdAccount"))
            case [name, "insights"] if name.startswith("act_"):
                account = self._account(name, tenant)
                return (
                    self._start_report(call, tenant, account)
                    if call.method == "POST"
                    else self._insights(call, account)
                )
            case [name, "ads"] if name.startswith("act_"):
                return self._ads(call, self._account(name, tenant))
            case [name] if name in self._reports:
                return self._poll(call, name, tenant)
            case [name, "insights"] if name in self._reports:
                return self._report_rows(call, name, tenant)
            case [name] if name.isdigit():
                return self._node(call, name, tenant)
            case _:
                raise RefusedError(errors.unknown_path(path))

    def _root(self, call: Call, tenant: Tenant, version: str) -> Reply:
        if call.method == "POST" and call.has("batch"):
            return self._batch(call, tenant, version)
        if call.has("ids"):
            raise RefusedError(errors.IDS_GONE)
        raise RefusedError(errors.no_such_object(call.method, ""))

    def _account(self, name: str, tenant: Tenant) -> AdAccount:
        found = self._world.account(name.removeprefix("act_"))
        if found is None or found[0].name != tenant.name:
            raise RefusedError(errors.NO_PERMISSION)
        return found[1]

    def _accounts(self, call: Call, tenant: Tenant) -> Reply:
        fields = _fields(call) or ["account_id"]
        accounts = self._world.tenants[tenant.name].accounts
        return _page(
            call, accounts, lambda a: _picked(a, _ACCOUNT_FIELDS, ["id", *fields], "AdAccount"), empty_pages=False
        )

    def _debug_token(self, call: Call) -> Reply:
        asked = self._world.tenant_of_token(call.first("input_token"))
        if asked is None:
            error = {"code": 190, "message": "Malformed access token"}
            return json_reply({"data": {"error": error, "is_valid": False, "scopes": []}})
        scopes = ["ads_read", "business_management"]
        return json_reply(
            {
                "data": {
                    "app_id": "100000000000001",
                    "type": "SYSTEM_USER",
                    "application": "Sandbox",
                    "data_access_expires_at": 0,
                    "expires_at": 0,
                    "is_valid": not self._world.token_expired(asked),
                    "scopes": scopes,
                    "granular_scopes": [
                        {"scope": "ads_read", "target_ids": [account.account_id for account in asked.accounts]}
                    ],
                    "user_id": f"9{asked.accounts[0].account_id}",
                }
            }
        )

    def _node(self, call: Call, name: str, tenant: Tenant) -> Reply:
        ad = self._world.ad(name)
        found = self._world.account(ad.account_id) if ad else None
        if ad is None or found is None or found[0].name != tenant.name:
            raise RefusedError(errors.no_such_object(call.method, name))
        return json_reply(_picked(ad, _AD_FIELDS, ["id", *_fields(call)], "Ad"))

    def _ads(self, call: Call, account: AdAccount) -> Reply:
        statuses, ids = _filters(call)
        if call.has("effective_status"):
            statuses = _known_statuses(_json(call.first("effective_status"), "effective_status"))
        if ids is not None and len(ids) > BATCH_SIZE:
            raise RefusedError(errors.bad_parameter(f"filtering takes at most {BATCH_SIZE} ids"))
        if statuses is None:
            statuses = frozenset(EFFECTIVE_STATUSES) - GONE_STATUSES
        ads = [ad for ad in self._world.ads(account.account_id) if _passes(ad, statuses, ids)]
        fields = ["id", *_fields(call)]
        return _page(
            call, ads, lambda ad: _picked(ad, _AD_FIELDS, fields, "Ad"), empty_pages=self._behaviour.empty_pages
        )

    def _batch(self, call: Call, tenant: Tenant, version: str) -> Reply:
        entries = _json(call.first("batch"), "batch")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise RefusedError(errors.bad_parameter("batch must be a list of requests"))
        if len(entries) > BATCH_SIZE:
            raise RefusedError(
                errors.bad_parameter(f"Too many requests in batch message. Maximum batch size is {BATCH_SIZE}")
            )
        # The request itself was counted as one already.
        self._count(_caller("", tenant), max(0, len(entries) - 1))
        answers: list[Json | None] = []
        for entry in entries:
            if self._behaviour.batch_nulls > 0:
                self._behaviour.batch_nulls -= 1
                answers.append(None)
                continue
            answers.append(self._batch_entry(call, entry, tenant, version))
        return json_reply(answers)

    def _batch_entry(self, call: Call, entry: Json, tenant: Tenant, version: str) -> Json:
        split = urlsplit(str(entry.get("relative_url", "")))
        asked_version, path = _split_version(f"{PREFIX}/{split.path.lstrip('/')}", version)
        inner = replace(
            call,
            method=str(entry.get("method", "GET")).upper(),
            path=f"{PREFIX}/{asked_version}/{path}",
            pairs=read_pairs(split.query, str(entry.get("body", ""))),
        )
        try:
            reply = self._route(inner, path, tenant, asked_version)
        except RefusedError as refusal:
            reply = refusal.error.reply()
        headers = [{"name": "Content-Type", "value": "application/json"}]
        return {"code": reply.status, "headers": headers, "body": reply.body.decode()}

    # Insights

    def _insights(self, call: Call, account: AdAccount) -> Reply:
        query = self._read_query(call, account)
        self._refuse_too_much(call, query)
        return self._insights_page(call, query)

    def _insights_page(self, call: Call, query: _InsightsQuery) -> Reply:
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

        return _page(call, self._rows(query), render, empty_pages=self._behaviour.empty_pages)

    def _read_query(self, call: Call, account: AdAccount) -> _InsightsQuery:
        fields = _fields(call) or list(_DEFAULT_COLUMNS)
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
        statuses, ids = _filters(call)
        if statuses is None and level == "ad":
            statuses = frozenset(EFFECTIVE_STATUSES) - GONE_STATUSES
        wanted = (*fields, *(name for name in ("date_start", "date_stop") if name not in fields))
        return _InsightsQuery(account, since, until, level, _increment(call), statuses, ids, wanted)

    def _time_range(self, call: Call, account: AdAccount) -> tuple[date, date]:
        today = self._world.today(account.timezone)
        presets = {"today": (0, 0), "yesterday": (1, 1), "last_7d": (7, 1), "last_30d": (30, 1)}
        if not call.has("time_range"):
            preset = presets.get(call.first("date_preset", "last_30d"))
            if preset is None:
                raise RefusedError(errors.bad_parameter(f"date_preset must be one of {', '.join(presets)}"))
            return today - timedelta(days=preset[0]), today - timedelta(days=preset[1])
        given = _json(call.first("time_range"), "time_range")
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

    def _refuse_too_much(self, call: Call, query: _InsightsQuery) -> None:
        most, most_limit = self._behaviour.max_rows_per_request, self._behaviour.max_limit
        ads = sum(_passes(ad, query.statuses, query.ad_ids) for ad in self._world.ads(query.account.account_id))
        too_many = most is not None and ads * query.days > most
        if too_many or (most_limit is not None and _limit(call) > most_limit):
            raise RefusedError(errors.TOO_MUCH_DATA)

    def _rows(self, query: _InsightsQuery) -> list[Insight]:
        key = (replace(query, fields=()), self._world.version, self._world.today(query.account.timezone))
        found = self._results.get(key)
        if found is None:
            found = self._results[key] = self._gather(query)
            if len(self._results) > 12:
                self._results.popitem(last=False)
        return found

    def _gather(self, query: _InsightsQuery) -> list[Insight]:
        step = query.increment or query.days
        group_of = _LEVELS[query.level]
        rows: list[Insight] = []
        for offset in range(0, query.days, step):
            since = query.since + timedelta(days=offset)
            until = min(query.until, since + timedelta(days=step - 1))
            groups: dict[str, Insight] = {}
            for day in (since + timedelta(days=n) for n in range((until - since).days + 1)):
                for row in self._world.insights(query.account.account_id, day):
                    if not _passes(row.ad, query.statuses, query.ad_ids):
                        continue
                    group = group_of(row.ad)
                    before = groups.get(group)
                    groups[group] = _sum(before, row) if before else row
            rows += [row._replace(since=since, until=until) for row in groups.values()]
        # No order is promised, so none is kept. A row's place depends on itself alone: edits move no others.
        rows.sort(key=lambda row: (row.ad.index * 2_654_435_761 ^ row.since.toordinal() * 40_503) & 0xFFFF)
        return rows

    # Async reports

    def _start_report(self, call: Call, tenant: Tenant, account: AdAccount) -> Reply:
        number = next(self._report_ids)
        query = self._read_query(call, account)
        self._reports[str(number)] = _Report(tenant, query, unseen_polls=self._behaviour.reports_invisible_polls)
        # The id comes as a number or as text.
        return json_reply({"report_run_id": str(number) if number % 2 else number})

    def _report(self, call: Call, name: str, tenant: Tenant) -> _Report:
        report = self._reports[name]
        if report.tenant.name != tenant.name:
            raise RefusedError(errors.no_such_object(call.method, name))
        return report

    def _poll(self, call: Call, name: str, tenant: Tenant) -> Reply:
        report = self._report(call, name, tenant)
        if report.unseen_polls > 0:
            report.unseen_polls -= 1
            raise RefusedError(errors.no_such_object(call.method, name))
        status, percent = _POLLS[min(report.polls, len(_POLLS) - 1)]
        report.polls += 1
        body: Json = {"id": name, "account_id": report.query.account.account_id}
        outcome = self._behaviour.report_outcome
        if outcome != "completed" and report.polls > 2:
            status, percent = f"Job {outcome.capitalize()}", 0
            if outcome == "failed":
                body |= {
                    "error_code": 2,
                    "error_message": "An unexpected error has occurred. Please retry your request later.",
                    "error_user_msg": "The report could not be finished.",
                }
        return json_reply({**body, "async_status": status, "async_percent_completion": percent})

    def _report_rows(self, call: Call, name: str, tenant: Tenant) -> Reply:
        report = self._report(call, name, tenant)
        if report.polls < len(_POLLS) or self._behaviour.report_outcome != "completed":
            raise RefusedError(errors.bad_parameter("The report is not ready yet"))
        return self._insights_page(call, report.query)


def _split_version(path: str, default: str = CURRENT_VERSION) -> tuple[str, str]:
    rest = path.removeprefix(PREFIX).strip("/")
    head, _, tail = rest.partition("/")
    return (head, tail) if re.fullmatch(r"v\d+\.\d+", head) else (default, rest)


def _token(call: Call) -> str:
    scheme, _, value = call.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else call.first("access_token")


def _caller(path: str, tenant: Tenant | None) -> str:
    head = path.strip("/").partition("/")[0]
    return head if head.startswith("act_") else f"app of {tenant.name if tenant else 'nobody'}"


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise RefusedError(errors.bad_parameter(f"{name} must be valid JSON")) from None


def _fields(call: Call) -> list[str]:
    text = call.first("fields").strip()
    names = _json(text, "fields") if text.startswith("[") else text.split(",")
    return list(dict.fromkeys(str(name).strip() for name in names if str(name).strip()))


def _picked(item: Any, known: Mapping[str, Callable[[Any], Any]], names: Sequence[str], node: str) -> Json:
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise RefusedError(errors.bad_parameter(f"Tried accessing nonexisting field ({unknown}) on node type ({node})"))
    picked = {name: known[name](item) for name in names}
    return {**picked, "id": known["id"](item)}


def _known_statuses(values: object) -> frozenset[str]:
    if not isinstance(values, list) or not set(values) <= set(EFFECTIVE_STATUSES):
        raise RefusedError(errors.bad_parameter(f"effective_status must be among {', '.join(EFFECTIVE_STATUSES)}"))
    return frozenset(values)


def _filters(call: Call) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    statuses: frozenset[str] | None = None
    ids: frozenset[str] | None = None
    given = _json(call.first("filtering"), "filtering") if call.first("filtering") else []
    for entry in given if isinstance(given, list) else [given]:
        if not isinstance(entry, dict) or not {"field", "operator", "value"} <= entry.keys():
            raise RefusedError(errors.bad_parameter("filtering must be a list of {field, operator, value}"))
        name, operator, value = entry["field"], entry["operator"], entry["value"]
        if operator not in {"IN", "EQUAL"} or (operator == "IN") != isinstance(value, list):
            raise RefusedError(errors.bad_parameter(f"filtering: operator {operator} is not valid for {name}"))
        values = value if isinstance(value, list) else [value]
        if name in {"ad.effective_status", "effective_status"}:
            statuses = _known_statuses(values)
        elif name in {"ad.id", "id"}:
            ids = frozenset(str(one) for one in values)
        else:
            raise RefusedError(errors.bad_parameter(f"filtering field {name} is invalid"))
    return statuses, ids


def _passes(ad: Ad, statuses: frozenset[str] | None, ids: frozenset[str] | None) -> bool:
    return (statuses is None or ad.effective_status in statuses) and (ids is None or ad.ad_id in ids)


def _increment(call: Call) -> int | None:
    text = call.first("time_increment", "all_days")
    if text in {"all_days", '"all_days"'}:
        return None
    if not text.isdigit() or not 1 <= int(text) <= 90:
        raise RefusedError(errors.bad_parameter("time_increment must be all_days, monthly or a number from 1 to 90"))
    return int(text)


def _limit(call: Call) -> int:
    text = call.first("limit", str(DEFAULT_PAGE))
    if not text.isdigit() or int(text) < 1:
        raise RefusedError(errors.bad_parameter("limit must be a positive number"))
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


# A cursor is the offset of the next row; an `e` marks the one empty page before it.
def _cursor(offset: int, mark: str = "r") -> str:
    return base64.urlsafe_b64encode(f"{mark}:{offset}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[int, bool]:
    if not text:
        return 0, False
    try:
        mark, _, offset = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
        if mark not in {"e", "r"}:
            raise RefusedError(errors.BAD_CURSOR)
        return int(offset), mark == "e"
    except (ValueError, binascii.Error):
        raise RefusedError(errors.BAD_CURSOR) from None


def _page(call: Call, items: Sequence[Any], render: Callable[[Any], Json], *, empty_pages: bool) -> Reply:
    """One page. After the first of several, and then after every fifth, comes an empty page that still has a `next`."""
    limit = _limit(call)
    offset, empty = _read_cursor(call.first("after"))
    if not items:
        return json_reply({"data": []})
    if empty:
        shown, following, more = [], _cursor(offset), True
    else:
        shown = list(items[offset : offset + limit])
        end = offset + len(shown)
        more = end < len(items)
        gap = empty_pages and more and end // limit % 5 == 1
        following = _cursor(end, "e" if gap else "r")
    paging: Json = {"cursors": {"before": _cursor(offset), "after": following}}
    if more:
        kept = [(name, value) for name, value in call.pairs if name not in {"after", "access_token", "limit"}]
        # The token is in the URL in clear, also for a caller who sent it in a header.
        query = urlencode([("access_token", _token(call)), *kept, ("limit", limit), ("after", following)])
        paging["next"] = f"{call.origin}{call.path}?{query}"
    return json_reply({"data": [render(item) for item in shown], "paging": paging})
