"""The official SDK in a plain loop: all days at once in pages of 500, and the ads with their statuses.

Run by the Python of the SDK's environment with one JSON object of parameters. With `database` the rows go into our
table by psycopg2's `execute_values`, page by page, and are committed at the end. Prints the seconds from before the
first request to after the commit, and the rows.
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

import psycopg2
import psycopg2.extras
from facebook_business.adobjects.adaccount import AdAccount
from facebook_business.api import FacebookAdsApi
from facebook_business.session import FacebookSession

WORK: dict[str, Any] = json.loads(sys.argv[1])
PAGE = 500
COLUMNS = (
    "tenant_id, account_id, ad_id, date, campaign_id, campaign_name, adset_id, adset_name, ad_name, spend, "
    "impressions, clicks, link_clicks, leads, currency, status, effective_status"
)
KEY = ("tenant_id", "account_id", "ad_id", "date")


def pages(rows: Iterable[Any]) -> Iterator[list[Any]]:
    """Rows in lists of a page's size."""
    left = iter(rows)
    while page := list(islice(left, PAGE)):
        yield page


def leads(raw: Any) -> int:
    """The leads among a row's actions."""
    return sum(int(action["value"]) for action in raw.get("actions") or () if action["action_type"] == "lead")


def row(raw: Any, statuses: dict[str, tuple[str, str]]) -> tuple[Any, ...]:
    """A row of our table."""
    return (
        WORK["tenant"],
        raw["account_id"],
        raw["ad_id"],
        raw["date_start"],
        raw["campaign_id"],
        raw["campaign_name"],
        raw["adset_id"],
        raw["adset_name"],
        raw["ad_name"],
        Decimal(raw["spend"]),
        int(raw["impressions"]),
        int(raw["clicks"]),
        int(raw.get("inline_link_clicks") or 0),
        leads(raw),
        raw["account_currency"],
        *statuses.get(raw["ad_id"], (None, None)),
    )


def upsert_statement() -> str:
    """Into our table, replacing what is there."""
    updates = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS.split(", ") if name not in KEY)
    return f"INSERT INTO meta_ad_insights ({COLUMNS}) VALUES %s ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {updates}"


FacebookSession.GRAPH = WORK["graph_url"]
FacebookAdsApi.init(access_token=WORK["token"], crash_log=False)
account = AdAccount(f"act_{WORK['account_id']}")
connection = psycopg2.connect(WORK["database"]) if WORK.get("database") else None
params = {
    "level": "ad",
    "time_increment": 1,
    "time_range": {"since": WORK["since"], "until": WORK["until"]},
    "limit": PAGE,
}

began = time.perf_counter()
listed = account.get_ads(fields=["id", "status", "effective_status"], params={"limit": PAGE})
statuses = {ad["id"]: (ad["status"], ad["effective_status"]) for ad in listed}
insights = account.get_insights(fields=WORK["fields"], params=params)
count = 0
if connection is None:
    count = sum(1 for _ in insights)
else:
    with connection, connection.cursor() as cursor:
        for page in pages(insights):
            psycopg2.extras.execute_values(
                cursor, upsert_statement(), [row(raw, statuses) for raw in page], page_size=PAGE
            )
            count += len(page)
print(json.dumps({"seconds": time.perf_counter() - began, "rows": count}))
