"""The Graph API: accounts, insights, ads, batch requests and async reports, as Meta answers them."""

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.entities import EFFECTIVE_STATUSES, GONE_STATUSES, Ad, AdAccount, Json, Tenant
from sync_pipeline.sandbox.exchange import Call, Reply, json_reply, read_pairs
from sync_pipeline.sandbox.graph_errors import RefusedError
from sync_pipeline.sandbox.graph_insights import Insights, passes
from sync_pipeline.sandbox.graph_parameters import (
    page_of,
    pick,
    read_fields,
    read_filters,
    read_json,
    read_limit,
    read_statuses,
    read_token,
)
from sync_pipeline.sandbox.graph_reports import Reports
from sync_pipeline.sandbox.graph_usage import usage_headers
from sync_pipeline.sandbox.quota import Quota
from sync_pipeline.sandbox.world import World

PREFIX = "/graph"
CURRENT_VERSION = "v26.0"
LIVE_VERSIONS = frozenset({"v25.0", CURRENT_VERSION})
EXPIRED_VERSIONS = frozenset({"v23.0", "v24.0"})
BATCH_SIZE = 50
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


class GraphApi:
    """Answers everything under `/graph`."""

    def __init__(self, world: World, quota: Quota, behaviour: Behaviour) -> None:
        self._world = world
        self._quota = quota
        self._behaviour = behaviour
        self._insights = Insights(world, behaviour)
        self._reports = Reports(self._insights, behaviour, world.now)

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
            caller = _caller(path, self._world.tenant_of_token(read_token(call)))
        if self._behaviour.usage_headers:
            headers |= usage_headers(self._quota, self._behaviour, caller, insights=path.endswith("/insights"))
        return replace(reply, headers={**headers, **reply.headers})

    def _check_version(self, version: str) -> None:
        expired = version in EXPIRED_VERSIONS
        if not (expired or version in LIVE_VERSIONS) or (expired and self._behaviour.refuse_expired_versions):
            raise RefusedError(errors.version_gone(version))

    def _authenticate(self, call: Call) -> Tenant:
        token = read_token(call)
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
            if not hmac.compare_digest(proof.encode(), call.first("appsecret_proof").encode()):
                raise RefusedError(errors.BAD_PROOF)
        return tenant

    def _count(self, caller: str, points: int = 1) -> None:
        if self._quota.take(caller, points):
            return
        if not caller.startswith("act_"):
            raise RefusedError(errors.APP_LIMIT)
        error = errors.BUSINESS_LIMIT if self._quota.code >= 80000 else errors.USER_LIMIT
        raise RefusedError(replace(error, code=self._quota.code))

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
                return json_reply(pick(account, _ACCOUNT_FIELDS, read_fields(call) or ["account_id"], "AdAccount"))
            case [name, "insights"] if name.startswith("act_"):
                return self._account_insights(call, tenant, self._account(name, tenant))
            case [name, "ads"] if name.startswith("act_"):
                return self._ads(call, self._account(name, tenant))
            case [name] if name in self._reports:
                return self._reports.poll(call, name, tenant)
            case [name, "insights"] if name in self._reports:
                return self._reports.rows(call, name, tenant)
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

    def _refuse_large_page(self, call: Call) -> None:
        most = self._behaviour.max_edge_limit
        if most is not None and read_limit(call) > most:
            raise RefusedError(errors.TOO_MUCH_DATA)

    def _accounts(self, call: Call, tenant: Tenant) -> Reply:
        self._refuse_large_page(call)
        fields = read_fields(call) or ["account_id"]
        accounts = self._world.tenants[tenant.name].accounts
        return page_of(
            call, accounts, lambda a: pick(a, _ACCOUNT_FIELDS, ["id", *fields], "AdAccount"), empty_pages=False
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
                    "data_access_expires_at": self._behaviour.data_access_expires_at,
                    "expires_at": self._behaviour.token_expires_at,
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
        return json_reply(pick(ad, _AD_FIELDS, ["id", *read_fields(call)], "Ad"))

    def _account_insights(self, call: Call, tenant: Tenant, account: AdAccount) -> Reply:
        if call.method == "POST":
            return self._reports.start(call, tenant, account)
        query = self._insights.read(call, account)
        self._insights.refuse_too_much(call, query)
        return self._insights.page(call, query)

    def _ads(self, call: Call, account: AdAccount) -> Reply:
        self._refuse_large_page(call)
        statuses, ids = read_filters(call)
        if call.has("effective_status"):
            statuses = read_statuses(read_json(call.first("effective_status"), "effective_status"))
        if ids is not None and len(ids) > BATCH_SIZE:
            raise RefusedError(errors.bad_parameter(f"filtering takes at most {BATCH_SIZE} ids"))
        if statuses is None:
            statuses = frozenset(EFFECTIVE_STATUSES) - GONE_STATUSES
        ads = [ad for ad in self._world.ads(account.account_id) if passes(ad, statuses, ids)]
        fields = ["id", *read_fields(call)]
        return page_of(
            call, ads, lambda ad: pick(ad, _AD_FIELDS, fields, "Ad"), empty_pages=self._behaviour.empty_pages
        )

    def _batch(self, call: Call, tenant: Tenant, version: str) -> Reply:
        entries = read_json(call.first("batch"), "batch")
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


def _split_version(path: str, default: str = CURRENT_VERSION) -> tuple[str, str]:
    rest = path.removeprefix(PREFIX).strip("/")
    head, _, tail = rest.partition("/")
    return (head, tail) if re.fullmatch(r"v\d+\.\d+", head) else (default, rest)


def _caller(path: str, tenant: Tenant | None) -> str:
    head = path.strip("/").partition("/")[0]
    return head if head.startswith("act_") else f"app of {tenant.name if tenant else 'nobody'}"
