"""Airbyte's connector for Facebook Marketing, unmodified but for the host: JSON lines on stdout.

Run by the Python of the connector's environment with one JSON object of parameters. `streams` says what is read: names
of built-in streams, each with the columns that its catalogue selects (none: all that the connector knows) and its
primary key. With `since` and `until` the connector reads these days of insights, and of other streams what was updated
since; everything else is left at its defaults.
"""

import json
import sys
from pathlib import Path
from typing import Any

from facebook_business.session import FacebookSession
from source_facebook_marketing.run import run

WORK: dict[str, Any] = json.loads(sys.argv[1])


def stream(name: str, columns: list[str], key: list[str]) -> dict[str, Any]:
    """A stream of the catalogue, read in full."""
    return {
        "sync_mode": "full_refresh",
        "destination_sync_mode": "overwrite",
        "stream": {
            "name": name,
            "json_schema": {"properties": {column: {} for column in columns}} if columns else {},
            "supported_sync_modes": ["full_refresh", "incremental"],
            "source_defined_primary_key": [[column] for column in key],
        },
    }


folder = Path(WORK["folder"])
config = {
    "account_ids": [WORK["account_id"]],
    "credentials": {"auth_type": "Service", "access_token": WORK["token"]},
}
if "since" in WORK:
    config |= {"start_date": f"{WORK['since']}T00:00:00Z", "end_date": f"{WORK['until']}T00:00:00Z"}
catalog = {"streams": [stream(*one) for one in WORK["streams"]]}
for name, content in {"config.json": config, "catalog.json": catalog}.items():
    (folder / name).write_text(json.dumps(content))

FacebookSession.GRAPH = WORK["graph_url"]
sys.argv = ["source", "read", "--config", str(folder / "config.json"), "--catalog", str(folder / "catalog.json")]
run()
