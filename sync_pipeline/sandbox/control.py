"""The sandbox's own endpoints, under `/control`: faults, request log, switches, quota and edits of the world."""

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import date
from typing import Any

from sync_pipeline.sandbox.behaviour import Behaviour
from sync_pipeline.sandbox.entities import Json
from sync_pipeline.sandbox.exchange import Call, Reply, json_reply
from sync_pipeline.sandbox.faults import Faults, read_fault
from sync_pipeline.sandbox.quota import Quota
from sync_pipeline.sandbox.request_log import RequestLog
from sync_pipeline.sandbox.world import World

PREFIX = "/control"
WORLD_EDITS = (
    "undo_edits",
    "hide_ad",
    "restate",
    "expire_token",
    "change_order",
    "delete_order",
    "add_order",
    "add_bonus_line",
    "add_ad_account",
    "add_shop",
)


class ControlApi:
    """Answers everything under `/control`. Every POST takes a JSON object as its body."""

    def __init__(self, world: World, quota: Quota, behaviour: Behaviour, faults: Faults, requests: RequestLog) -> None:
        self._world = world
        self._quota = quota
        self._behaviour = behaviour
        self._faults = faults
        self._requests = requests

    def answer(self, call: Call, body: str) -> Reply:
        """The answer to one request; 400 says what is wrong with it."""
        routes: dict[tuple[str, str], Callable[[], Json]] = {
            ("GET", ""): self._overview,
            ("GET", "/faults"): self._list_faults,
            ("POST", "/faults"): lambda: self._add_fault(body),
            ("DELETE", "/faults"): lambda: _done(self._faults.clear),
            ("GET", "/requests"): lambda: self._list_requests(call),
            ("DELETE", "/requests"): lambda: _done(self._requests.clear),
            ("POST", "/behaviour"): lambda: self._switch(_object(body)),
            ("POST", "/quota"): lambda: _done(lambda: self._quota.configure(**_object(body))),
            ("POST", "/world"): lambda: self._edit(_object(body)),
        }
        route = routes.get((call.method, call.path.removeprefix(PREFIX).rstrip("/")))
        if route is None:
            return json_reply({"error": "no such control", "controls": [" /control".join(key) for key in routes]}, 404)
        try:
            return json_reply(route())
        except (ValueError, TypeError, KeyError) as error:
            return json_reply({"error": str(error)}, 400)

    def _overview(self) -> Json:
        return {
            "tenants": {
                tenant.name: {
                    "timezone": tenant.timezone.key,
                    "accounts": {account.account_id: len(account.ads) for account in tenant.accounts},
                    "shops": {str(shop.shop_id): shop.orders_per_day for shop in tenant.shops},
                }
                for tenant in self._world.tenants.values()
            },
            "behaviour": {**asdict(self._behaviour), "app_secret": self._behaviour.app_secret is not None},
            "requests": self._requests.counts(),
            "faults": len(self._faults.all()),
        }

    def _list_faults(self) -> Json:
        shown = ("kind", "path", "query", "method", "skip", "times", "hits")
        return {"faults": [{name: getattr(fault, name) for name in shown} for fault in self._faults.all()]}

    def _add_fault(self, body: str) -> Json:
        self._faults.add(read_fault(body))
        return {"done": True}

    def _list_requests(self, call: Call) -> Json:
        found = self._requests.all(call.first("kind") or None, call.first("path"))
        return {
            "count": len(found),
            "kinds": self._requests.counts(),
            "requests": [{**asdict(entry), "at": entry.at.isoformat()} for entry in found],
        }

    def _switch(self, given: Json) -> Json:
        known = {f.name for f in fields(Behaviour)}
        if not given.keys() <= known:
            raise ValueError(f"behaviour has only {', '.join(sorted(known))}")
        for name, value in given.items():
            setattr(self._behaviour, name, value)
        return {"done": True}

    def _edit(self, given: Json) -> Json:
        edit = given.pop("edit", None)
        if edit not in WORLD_EDITS:
            raise ValueError(f"edit must be one of {', '.join(WORLD_EDITS)}")
        if "day" in given:
            given["day"] = date.fromisoformat(given["day"])
        result: Any = getattr(self._world, edit)(**given)
        return {"done": True, "result": result}


def _done(action: Callable[[], None]) -> Json:
    action()
    return {"done": True}


def _object(body: str) -> Json:
    given = json.loads(body or "{}")
    if not isinstance(given, dict):
        raise TypeError("a JSON object is needed")
    return given
