"""Starts the sandbox: `python -m sync_pipeline.sandbox` prints one JSON line of environment variables, then serves."""

import argparse
import contextlib
import json
import os
import sys
import threading
import time

from sync_pipeline.sandbox.server import SandboxServer


def main() -> None:
    """Serves until SIGINT or SIGTERM, or until the process that started it is gone."""
    parser = argparse.ArgumentParser(prog="python -m sync_pipeline.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--ads", type=int, default=64, help="ads per tenant")
    parser.add_argument("--orders", type=int, default=120, help="orders a day per tenant, about")
    parser.add_argument("--keep-running", action="store_true", help="stay when the process that started it ends")
    options = parser.parse_args()
    server = SandboxServer(
        host=options.host, port=options.port, seed=options.seed, ads=options.ads, orders=options.orders
    )
    sys.stdout.write(json.dumps(server.environment) + "\n")
    sys.stdout.flush()
    if not options.keep_running:
        threading.Thread(target=_stop_with_parent, args=(server, os.getppid()), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run()


def _stop_with_parent(server: SandboxServer, parent: int) -> None:
    # An orphan is handed to another parent.
    while os.getppid() == parent:
        time.sleep(0.5)
    server.stop()


if __name__ == "__main__":
    main()
