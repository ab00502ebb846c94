"""Airbyte's connector for Facebook Marketing: its built-in stream of ad insights, and ads; JSON lines on stdout.

Run by the Python of the connector's environment with one JSON object of parameters. Nothing of it is changed but two
things: where it finds the API, and the filter on `updated_time` of the ads, which the sandbox does not know. Its
catalogue selects the same columns as the others ask for; everything else is left at its defaults.
"""

import json
import sys
from pathlib import Path
from typing import Any

from facebook_business.session import FacebookSession
from source_facebook_marketing.run import run
from source_facebook_marketing.streams.base_streams import FBMarketingIncrementalStream

WORK: dict[str, Any] = json.loads(sys.argv[1])


def stream(name: str, columns: list[str], key: list[str]) -> dict[str, Any]:
    """A stream of the catalogue, read in full."""
    return {
        "sync_mode": "full_refresh",
        "destination_sync_mode": "overwrite",
        "stream": {
            "name": name,
            "json_schema": {"properties": {column: {} for column in columns}},
            "supported_sync_modes": ["full_refresh", "incremental"],
            "source_defined_primary_key": [[column] for column in key],
        },
    }


def no_filter(*_: object, **__: object) -> dict[str, Any]:
    """What to filter ads by."""
    return {}


folder = Path(WORK["folder"])
config = {
    "account_ids": [WORK["account_id"]],
    "start_date": f"{WORK['since']}T00:00:00Z",
    "end_date": f"{WORK['until']}T00:00:00Z",
    "credentials": {"auth_type": "Service", "access_token": WORK["token"]},
}
catalog = {
    "streams": [
        stream("ads_insights", WORK["fields"], ["date_start", "account_id", "ad_id"]),
        stream("ads", ["id", "name", "status", "effective_status", "updated_time"], ["id"]),
    ]
}
for name, content in {"config.json": config, "catalog.json": catalog}.items():
    (folder / name).write_text(json.dumps(content))

FacebookSession.GRAPH = WORK["graph_url"]
FBMarketingIncrementalStream._state_filter = no_filter
sys.argv = ["source", "read", "--config", str(folder / "config.json"), "--catalog", str(folder / "catalog.json")]
run()
