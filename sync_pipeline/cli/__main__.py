"""`python -m sync_pipeline.cli`: the same as `sync-pipeline`."""

from sync_pipeline.cli import main

main()
