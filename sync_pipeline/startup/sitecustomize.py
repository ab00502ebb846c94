"""Sets the log format up when Python starts, before Dagster is imported: see `sync_pipeline.logs`.

The image and `sync-pipeline dev` have this folder in PYTHONPATH. Dagster starts processes of its own, such as code
servers and runs, and this is the only place that all of them pass.
"""

import os

if os.environ.get("SYNC_PIPELINE_LOG"):
    from sync_pipeline.logs import configure

    configure()
