"""The Graph API: accounts, insights, ads, batch requests and async reports, as Meta answers them."""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from urllib.parse import urlsplit

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.entities import Ad, AdAccount, Json, Tenant
from sync_pipeline.sandbox.exchange import Call, Reply, json_reply, read_pairs
from sync_pipeline.sandbox.graph_errors import RefusedError
from sync_pipeline.sandbox.graph_insights import LEVELS, Insights
from sync_pipeline.sandbox.graph_nodes import (
    ACCOUNTS,
    AD_SETS,
    ADS,
    CAMPAIGNS,
    CREATIVES,
    LEADS,
    AdNode,
    Creative,
    Node,
    NodeType,
    ad_sets,
    campaigns,
    creative_id,
    node_ids,
)
from sync_pipeline.sandbox.graph_parameters import page_of, read_fields, read_json, read_limit, read_token
from sync_pipeline.sandbox.graph_reports import Reports
from sync_pipeline.sandbox.graph_selection import renderer, select
from sync_pipeline.sandbox.graph_usage import usage_headers
from sync_pipeline.sandbox.quota import Quota
from sync_pipeline.sandbox.world import World

PREFIX = "/graph"
CURRENT_VERSION = "v26.0"
# The day on which each version ends; None where no end is announced. Older ones are gone, later ones unknown.
VERSION_ENDS: dict[str, date | None] = {
    "v23.0": date(2026, 6, 9),
    "v24.0": date(2026, 11, 10),
    "v25.0": date(2027, 2, 23),
    "v26.0": None,
    "v27.0": None,
}
BATCH_SIZE = 50
# The edges of a node that list other nodes.
_CHILDREN: dict[str, tuple[NodeType, Callable[[AdAccount, list[Ad]], Sequence[Node]]]] = {
    "campaigns": (CAMPAIGNS, campaigns),
    "adsets": (AD_SETS, ad_sets),
    "ads": (ADS, lambda account, ads: [AdNode(account, ad) for ad in ads]),
    "adcreatives": (CREATIVES, lambda account, ads: [Creative(account, ad) for ad in ads]),
}
_EDGES_OF_LEVEL = {
    "account": frozenset({"campaigns", "adsets", "ads", "adcreatives"}),
    "campaign": frozenset({"adsets", "ads"}),
    "adset": frozenset({"ads", "adcreatives"}),
    "ad": frozenset({"adcreatives"}),
}


@dataclass(frozen=True, slots=True)
class Place:
    """An account, or one of its nodes, as the start of an edge; `level` is a level of insights or "creative"."""

    account: AdAccount
    node_id: str | None
    level: str


class GraphApi:
    """Answers everything under `/graph`."""

    def __init__(self, world: World, quota: Quota, behaviour: Behaviour) -> None:
        self._world = world
        self._quota = quota
        self._behaviour = behaviour
        self._insights = Insights(world, behaviour)
        self._reports = Reports(self._insights, behaviour, world.now)
        self._node_ids: dict[str, tuple[int, dict[str, Ad]]] = {}

    def answer(self, call: Call) -> Reply:
        """The answer to one request, errors included."""
        version, path = _split_version(call.path)
        headers = {"facebook-api-version": version}
        if self._expired(version):
            oldest = next(name for name in VERSION_ENDS if not self._expired(name))
            headers["facebook-api-version"] = oldest
            headers["X-Ad-Api-Version-Warning"] = (
                f"The call has been auto-upgraded to {oldest} as {version} has been deprecated."
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

    def _expired(self, version: str) -> bool:
        """Return whether a version has ended by the world's clock."""
        end = VERSION_ENDS.get(version)
        return end is not None and self._world.now().date() >= end

    def _check_version(self, version: str) -> None:
        if version not in VERSION_ENDS or (self._expired(version) and self._behaviour.refuse_expired_versions):
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
            case [name] if name in self._reports:
                return self._reports.poll(call, name, tenant)
            case [name, "insights"] if name in self._reports:
                return self._reports.rows(call, name, tenant)
            case [name] if name.startswith("act_"):
                return self._node(call, ACCOUNTS, self._account(name, tenant))
            case [name, edge] if name.startswith("act_"):
                return self._edge(call, tenant, path, Place(self._account(name, tenant), None, "account"), edge)
            case [name] if name.isdigit():
                return self._object(call, name, tenant)
            case [name, edge] if name.isdigit():
                return self._edge(call, tenant, path, self._place(call, name, tenant), edge)
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
        return self._list(call, ACCOUNTS, self._world.tenants[tenant.name].accounts)

    def _list(self, call: Call, node_type: NodeType, nodes: Sequence[Node]) -> Reply:
        most = self._behaviour.max_edge_limit
        if most is not None and read_limit(call) > most:
            raise RefusedError(errors.TOO_MUCH_DATA)
        render = renderer(node_type, read_fields(call))
        return page_of(call, nodes, render, empty_pages=self._behaviour.empty_pages)

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

    def _node(self, call: Call, node_type: NodeType, node: Node) -> Reply:
        return json_reply(renderer(node_type, read_fields(call))(node))

    def _place(self, call: Call, name: str, tenant: Tenant) -> Place:
        """Find the campaign, ad set, ad or creative with that id, and its account."""
        for account in self._world.tenants[tenant.name].accounts:
            ad = self._nodes(account).get(name)
            if ad is not None:
                levels = {ad.campaign_id: "campaign", ad.adset_id: "adset", ad.ad_id: "ad"}
                return Place(account, name, levels.get(name, "creative"))
        raise RefusedError(errors.no_such_object(call.method, name))

    def _nodes(self, account: AdAccount) -> dict[str, Ad]:
        """Return the ids of an account's nodes, computed once per version of the world."""
        version, found = self._node_ids.get(account.account_id, (-1, {}))
        if version != self._world.version:
            found = node_ids(self._world.ads(account.account_id))
            self._node_ids[account.account_id] = self._world.version, found
        return found

    def _object(self, call: Call, name: str, tenant: Tenant) -> Reply:
        place = self._place(call, name, tenant)
        edge = {"campaign": "campaigns", "adset": "adsets", "ad": "ads", "creative": "adcreatives"}[place.level]
        node_type, children = _CHILDREN[edge]
        campaign_id = self._nodes(place.account)[name].campaign_id
        ads = [ad for ad in self._world.ads(place.account.account_id) if ad.campaign_id == campaign_id]
        node_id = node_type.values["id"]
        node = next(node for node in children(place.account, ads) if node_id(node) == name)
        return self._node(call, node_type, node)

    def _ads_of(self, place: Place) -> list[Ad]:
        """Return the ads of a node, archived and deleted ones included."""
        ads = self._world.ads(place.account.account_id)
        if place.node_id is None:
            return ads
        return [ad for ad in ads if place.node_id in {ad.campaign_id, ad.adset_id, ad.ad_id, creative_id(ad)}]

    def _edge(self, call: Call, tenant: Tenant, path: str, place: Place, edge: str) -> Reply:
        if edge == "insights" and place.level in LEVELS:
            query = self._insights.read(call, place.account, node_id=place.node_id, node_level=place.level)
            if call.method == "POST":
                return self._reports.start(tenant, query)
            self._insights.refuse_too_much(call, query)
            return self._insights.page(call, query)
        if edge == "leads" and place.level == "ad":
            # Lead forms keep what was filled in for 90 days; nobody has filled one in here.
            return self._list(call, LEADS, [])
        if edge not in _EDGES_OF_LEVEL.get(place.level, ()):
            raise RefusedError(errors.unknown_path(path))
        node_type, children = _CHILDREN[edge]
        nodes = select(call, node_type, children(place.account, self._ads_of(place)))
        return self._list(call, node_type, nodes)

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
