"""The command `metrics`; like all commands it imports what it needs when it is called."""

import click


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; the endpoint has no login.")
@click.option("--port", type=int, default=9464, show_default=True, help="Port to listen on.")
@click.option(
    "--only-tenants",
    is_flag=True,
    help="Leave out runs by status, queue and daemons: for all but one of several code locations.",
)
def metrics(host: str, port: int, only_tenants: bool) -> None:  # noqa: FBT001
    """Serve metrics for Prometheus on /metrics, until interrupted.

    They are read from both databases and the tenant files when they are scraped, at most every 15 seconds. While the
    databases cannot be reached, the answer is sync_pipeline_up 0. /healthz says whether the process answers.
    """
    from sync_pipeline.metrics.server import serve

    serve(host, port, only_tenants=only_tenants)
