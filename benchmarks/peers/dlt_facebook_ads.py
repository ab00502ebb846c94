"""dlt's own facebook_ads source, unmodified but for the host: insights and the entities of an ad account, to Postgres.

Run by the Python of dlt's environment with one JSON object of parameters; `sources` is the folder that holds the
package facebook_ads.
"""

import json
import sys
from typing import Any

import dlt
from facebook_business.session import FacebookSession

WORK: dict[str, Any] = json.loads(sys.argv[1])
sys.path.insert(0, WORK["sources"])

from facebook_ads import facebook_ads_source, facebook_insights_source  # noqa: E402

FacebookSession.GRAPH = WORK["graph_url"]
account = {"account_id": WORK["account_id"], "access_token": WORK["token"]}
pipeline = dlt.pipeline(
    pipeline_name=WORK["dataset"],
    pipelines_dir=WORK["folder"],
    destination=dlt.destinations.postgres(credentials=WORK["database"]),
    dataset_name=WORK["dataset"],
)
insights = facebook_insights_source(**account, initial_load_past_days=WORK["past_days"], attribution_window_days_lag=0)
for source in (insights, facebook_ads_source(**account)):
    pipeline.run(source).raise_on_failed_jobs()
