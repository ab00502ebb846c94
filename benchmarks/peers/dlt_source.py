"""dlt: the insights of an ad account and the statuses of its ads, merged into Postgres by a REST source of our own.

Run by the Python of dlt's environment with one JSON object of parameters. `way` says how insights are asked for:
`reports` as dlt's verified source facebook_ads does (a report per day, read in pages of Graph's default of 25 rows,
actions in a table of their own), `range` as well as dlt's REST client can (all days at once in pages of 500, actions
as one JSON column). Both give Graph's figures the types of that source and merge by its primary key.
"""

import json
import sys
import time
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import dlt
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.helpers.rest_client.paginators import JSONLinkPaginator

WORK: dict[str, Any] = json.loads(sys.argv[1])
ACCOUNT = f"act_{WORK['account_id']}"
SINCE, UNTIL = date.fromisoformat(WORK["since"]), date.fromisoformat(WORK["until"])
FIELDS = ",".join(WORK["fields"])
TYPES: dict[str, Any] = {
    "campaign_id": {"data_type": "bigint"},
    "adset_id": {"data_type": "bigint"},
    "ad_id": {"data_type": "bigint"},
    "date_start": {"data_type": "timestamp"},
    "date_stop": {"data_type": "timestamp"},
    "impressions": {"data_type": "bigint"},
    "clicks": {"data_type": "bigint"},
    "spend": {"data_type": "decimal"},
}
KEY = ("campaign_id", "adset_id", "ad_id", "date_start")

client = RESTClient(
    base_url=f"{WORK['graph_url']}/v26.0",
    auth=BearerTokenAuth(WORK["token"]),
    paginator=JSONLinkPaginator(next_url_path="paging.next"),
    data_selector="data",
)


def query(since: date, until: date) -> dict[str, Any]:
    """Insights of these days, a row per ad and day."""
    days = {"since": since.isoformat(), "until": until.isoformat()}
    return {"level": "ad", "time_increment": 1, "time_range": json.dumps(days), "fields": FIELDS}


@dlt.resource(name="facebook_insights", primary_key=KEY, write_disposition="merge", columns=TYPES)
def insights_by_reports() -> Iterator[Any]:
    """A report per day, each waited for before the next is asked for; a day's rows go on together."""
    listed = client.get("me/adaccounts").json()["data"]
    assert any(account["id"] == ACCOUNT for account in listed)
    day = SINCE
    while day <= UNTIL:
        report = client.post(f"{ACCOUNT}/insights", params={**query(day, day), "limit": 50}).json()["report_run_id"]
        wait_s = 10
        while client.get(str(report)).json()["async_status"] != "Job Completed":
            time.sleep(wait_s)
            wait_s *= 2
        yield [row for page in client.paginate(f"{report}/insights") for row in page]
        day += timedelta(days=1)


@dlt.resource(
    name="facebook_insights",
    primary_key=KEY,
    write_disposition="merge",
    columns={**TYPES, "actions": {"data_type": "json"}},
)
def insights_by_range() -> Iterator[Any]:
    """All days at once."""
    yield from client.paginate(f"{ACCOUNT}/insights", params={**query(SINCE, UNTIL), "limit": 500})


@dlt.resource(primary_key="id", write_disposition="replace")
def ads() -> Iterator[Any]:
    """The statuses of all ads."""
    page = 50 if WORK["way"] == "reports" else 500
    yield from client.paginate(f"{ACCOUNT}/ads", params={"fields": "id,name,status,effective_status", "limit": page})


insights = insights_by_reports if WORK["way"] == "reports" else insights_by_range
pipeline = dlt.pipeline(
    pipeline_name=WORK["dataset"],
    pipelines_dir=WORK["folder"],
    destination=dlt.destinations.postgres(credentials=WORK["database"]),
    dataset_name=WORK["dataset"],
)
pipeline.run([insights(), ads()]).raise_on_failed_jobs()
