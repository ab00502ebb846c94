"""`python -m sync_pipeline.webserver`."""

from sync_pipeline.webserver.main import main

main()
