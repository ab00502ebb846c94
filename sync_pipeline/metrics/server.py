"""The HTTP server: `/metrics`, and `/healthz` for whoever watches the process.

It has no login and no TLS, so it belongs on a network that only Prometheus shares.
"""

import logging
from contextlib import suppress

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sync_pipeline.logs import as_json
from sync_pipeline.metrics.collector import SnapshotCollector
from sync_pipeline.metrics.reading import SnapshotReader
from sync_pipeline.terminal import say

_logger = logging.getLogger("sync_pipeline.metrics")


def serve(host: str, port: int, *, only_tenants: bool = False) -> None:
    """Serve until a signal ends it; with `only_tenants` without what concerns the whole installation."""
    reader = SnapshotReader(only_tenants=only_tenants)
    collector = SnapshotCollector(reader.read)
    # The first reading of many tenants takes longer than a scrape may.
    collector.begin_if_due()
    # A line for each scrape would bury all others.
    config = uvicorn.Config(
        application(collector),
        host=host,
        port=port,
        log_config=None,
        log_level="warning",
        access_log=False,
    )
    _announce(f"metrics are served on http://{host}:{port}/metrics")
    try:
        # uvicorn ends in order at a signal, and then sends it again.
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run()
    finally:
        reader.close()


def _announce(text: str) -> None:
    if as_json():
        _logger.setLevel(logging.INFO)
        _logger.info(text)
    else:
        say(text)


def application(collector: Collector) -> Starlette:
    """The application that serves a collector's metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        try:
            body = await run_in_threadpool(encode, registry)
        except Exception:
            _logger.exception("the metrics cannot be written")
            return PlainTextResponse("the metrics cannot be written; the log says why\n", 500)
        return Response(body, media_type=None, headers={"Content-Type": content_type})

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz)])
