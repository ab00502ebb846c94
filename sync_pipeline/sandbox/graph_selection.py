"""Lists of nodes: which of them a request selects, and which of their fields it shows."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sync_pipeline.sandbox import graph_errors as errors
from sync_pipeline.sandbox.entities import GONE_STATUSES, Json
from sync_pipeline.sandbox.exchange import Call
from sync_pipeline.sandbox.graph_errors import RefusedError
from sync_pipeline.sandbox.graph_filters import Condition, read_conditions, read_statuses
from sync_pipeline.sandbox.graph_nodes import (
    ACCOUNTS,
    AD_SETS,
    ADS,
    CAMPAIGNS,
    CREATIVES,
    AdNode,
    AdSet,
    Creative,
    Node,
    NodeType,
    campaign_of,
)
from sync_pipeline.sandbox.graph_parameters import read_json

MOST_IDS = 50
# Without fields only the id comes, and of an account its number.
_DEFAULT_FIELDS = {ACCOUNTS.name: ["account_id"], CREATIVES.name: ["id"]}
_FIELD = re.compile(r"(\w+)(?:\{(.*)\})?", re.DOTALL)
_STATUSES = {"effective_status"}
# The nodes that a node of another type can show in full with `name{...}`.
_RELATED: Mapping[tuple[str, str], tuple[NodeType, Callable[[Any], Node]]] = {
    (ADS.name, "creative"): (CREATIVES, lambda node: Creative(node.account, node.ad)),
    (ADS.name, "campaign"): (CAMPAIGNS, lambda node: campaign_of(node.account, node.ad)),
    (AD_SETS.name, "campaign"): (CAMPAIGNS, lambda node: node.campaign),
}


def renderer(node_type: NodeType, fields: Sequence[str]) -> Callable[[Any], Json]:
    """Return a function that renders a node with its id and the requested fields that hold a value."""
    columns: list[tuple[str, Callable[[Any], Any]]] = []
    for text in dict.fromkeys(["id", *(fields or _DEFAULT_FIELDS.get(node_type.name, []))]):
        found = _FIELD.fullmatch(text)
        name, nested = (found[1], found[2]) if found else (text, None)
        if name not in node_type.documented:
            raise RefusedError(
                errors.bad_parameter(f"Tried accessing nonexisting field ({text}) on node type ({node_type.name})")
            )
        if name in node_type.values:
            columns.append((name, _column(node_type, name, nested)))

    def render(node: Any) -> Json:
        shown = ((name, column(node)) for name, column in columns)
        return {name: value for name, value in shown if value is not None}

    return render


def select(call: Call, node_type: NodeType, nodes: Sequence[Node]) -> list[Node]:
    """Return the nodes that meet the request's `filtering` and `effective_status`.

    Archived and deleted ones are left out unless the request names their statuses.
    """
    conditions = read_conditions(call)
    if call.has("effective_status"):
        statuses = read_statuses(read_json(call.first("effective_status"), "effective_status"))
        conditions += (Condition("effective_status", "IN", frozenset(statuses)),)
    for condition in conditions:
        nodes = condition.narrow(nodes, _filtered(node_type, condition))
    status = node_type.values.get("effective_status")
    if status is None or any(condition.field.rpartition(".")[2] in _STATUSES for condition in conditions):
        return list(nodes)
    return [node for node in nodes if status(node) not in GONE_STATUSES]


def _column(node_type: NodeType, name: str, nested: str | None) -> Callable[[Any], Any]:
    related = _RELATED.get((node_type.name, name))
    if nested is None or related is None:
        return node_type.values[name]
    render = renderer(related[0], [one.strip() for one in nested.split(",")])
    return lambda node: render(related[1](node))


def _filtered(node_type: NodeType, condition: Condition) -> Callable[[Any], Any]:
    """Return the column that a condition compares: a field of the node, or the id or name of its parent."""
    prefix, _, name = condition.field.rpartition(".")
    if name == "id" and isinstance(condition.wanted, frozenset) and len(condition.wanted) > MOST_IDS:
        raise RefusedError(errors.bad_parameter(f"filtering takes at most {MOST_IDS} ids"))
    if prefix in {"", node_type.prefix} and name in node_type.values:
        column = node_type.values[name]
        return (lambda node: _unix(column(node))) if name.endswith("_time") else column
    parent = _PARENTS.get(condition.field)
    if parent is None or node_type.name not in parent:
        raise RefusedError(errors.bad_parameter(f"filtering field {condition.field} is invalid"))
    return parent[node_type.name]


def _unix(text: str) -> int:
    """Convert an instant to unix seconds, the form that `filtering` compares."""
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp())


def _ad_set_campaign(node: AdSet) -> str:
    return node.campaign.node_id


def _ad_campaign(node: AdNode) -> str:
    return node.ad.campaign_id


_PARENTS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "campaign.id": {ADS.name: _ad_campaign, AD_SETS.name: _ad_set_campaign},
    "campaign.name": {
        ADS.name: lambda node: node.ad.campaign_name,
        AD_SETS.name: lambda node: node.ads[0].campaign_name,
    },
    "adset.id": {ADS.name: lambda node: node.ad.adset_id},
    "adset.name": {ADS.name: lambda node: node.ad.adset_name},
}
