"""Plain requests to the sandbox, as short as the tests need them."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import requests

from sync_pipeline.sandbox.entities import EFFECTIVE_STATUSES
from sync_pipeline.sandbox.server import SandboxServer
from sync_pipeline_tests.waiting import PATIENCE_S

MAIN = "100000000000101"
QUIET_ON_SUNDAYS = "100000000000102"
IN_LOS_ANGELES = "100000000000103"
MANILA_SHOP, CEBU_SHOP, SAIGON_SHOP = 310001, 310002, 320002
ALL_STATUSES = {"field": "ad.effective_status", "operator": "IN", "value": list(EFFECTIVE_STATUSES)}


def graph(
    sandbox: SandboxServer,
    path: str,
    *,
    method: str = "GET",
    version: str = "v26.0",
    tenant: str = "lumina",
    **params: Any,
) -> requests.Response:
    """A Graph call with the tenant's token in the header; values that are no text are sent as JSON."""
    token = sandbox.world.tenants[tenant].meta_token
    sent = {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    url = f"{sandbox.environment['META_GRAPH_URL']}/{version}/{path}"
    part: dict[str, Any] = {"params": sent} if method == "GET" else {"data": sent}
    return requests.request(method, url, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_S, **part)


def error_of(response: requests.Response) -> tuple[int, int, int | None]:
    error = response.json()["error"]
    assert error["fbtrace_id"]
    return response.status_code, error["code"], error.get("error_subcode")


def daily_insights(since: str, until: str, **more: Any) -> dict[str, Any]:
    """The parameters of insights per ad and day."""
    return {"level": "ad", "time_increment": "1", "time_range": {"since": since, "until": until}, **more}


def pages(sandbox: SandboxServer, path: str, **params: Any) -> Iterator[list[dict[str, Any]]]:
    """All pages, by following `next` as it comes, to the one without."""
    answer = graph(sandbox, path, **params).json()
    yield answer["data"]
    while "next" in answer.get("paging", {}):
        answer = requests.get(answer["paging"]["next"], timeout=PATIENCE_S).json()
        yield answer["data"]


def pancake(sandbox: SandboxServer, path: str, *, key: str = "LUMINA_PANCAKE_KEY", **params: Any) -> requests.Response:
    secret = sandbox.environment.get(key, key)
    url = f"{sandbox.environment['PANCAKE_API_URL']}/{path}"
    return requests.get(url, params={"api_key": secret, **params}, timeout=PATIENCE_S)


def control(
    sandbox: SandboxServer, path: str, body: dict[str, Any] | None = None, *, method: str = "POST"
) -> requests.Response:
    url = f"{sandbox.environment['SANDBOX_CONTROL_URL']}/{path}"
    return requests.request(method, url, json=body, timeout=PATIENCE_S)


def window(day: date, timezone: str = "Asia/Manila", days: int = 1) -> dict[str, Any]:
    """The order window of `days` local days from `day`."""
    first = datetime.combine(day, time(), ZoneInfo(timezone))
    last = datetime.combine(day + timedelta(days=days - 1), time(23, 59, 59), ZoneInfo(timezone))
    return {"startDateTime": int(first.timestamp()), "endDateTime": int(last.timestamp())}


def order_pages(sandbox: SandboxServer, shop: int, size: int, **params: Any) -> list[list[dict[str, Any]]]:
    found = []
    page, last = 0, 1
    while page < last:
        page += 1
        answer = pancake(sandbox, f"shops/{shop}/orders", page_number=page, page_size=size, **params).json()
        found.append(answer["data"])
        last = answer["total_pages"]
    return found


def inserted(order: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(order["inserted_at"]).replace(tzinfo=UTC)
