"""Our engine without Dagster: the days of a range from Meta into the warehouse, in a process already started.

Run with one JSON object of parameters. Prints the seconds from before the first request to after the last commit, and
the rows. Which accounts there are is known beforehand, as it is to the loop on the official SDK.
"""

import json
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from sync_pipeline.sources.http import Pacing
from sync_pipeline.sources.meta import MetaClient
from sync_pipeline.sync.engine import sync_days
from sync_pipeline.sync.meta import MetaFeed
from sync_pipeline.tenants import find_tenant, load_tenants
from sync_pipeline.warehouse import database
from sync_pipeline.warehouse.tenancy import Warehouse


def main(work: dict[str, Any]) -> None:
    """Sync and print."""
    tenant = find_tenant(load_tenants(Path(work["tenants"])), work["tenant"])
    since, until = date.fromisoformat(work["since"]), date.fromisoformat(work["until"])
    days = [since + timedelta(days=n) for n in range((until - since).days + 1)]
    client = MetaClient(
        tenant=tenant.tenant_id, graph_url=work["graph_url"], token=work["token"], pacing=Pacing(delay_s=0)
    )
    engine = database.connect(database.parse_url(work["warehouse"]))
    with Warehouse(engine).tenant(
        tenant.tenant_id, name=tenant.name, timezone=tenant.timezone, run_id="benchmark"
    ) as held:
        began = time.perf_counter()
        feed = MetaFeed(tenant, client, held, [work["account_id"]], "benchmark")
        rows = sum(result.rows for result in sync_days(days, [feed]))
        seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
