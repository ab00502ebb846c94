"""Webserver without a login, for `sync-pipeline dev` and `demo`: whoever reaches it is an admin.

`python -m sync_pipeline.webserver.local` takes the options of `dagster-webserver`. It answers to loopback hosts and to
the address that it listens on; SYNC_PIPELINE_UI_HOSTS lists further hosts.
"""

import argparse
import functools
import os
import sys

from sync_pipeline.dagster_internals.webserver import run_webserver
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.logs import tell
from sync_pipeline.webserver import hosts
from sync_pipeline.webserver.login import Login
from sync_pipeline.webserver.roles import AuthenticatedUser, Role
from sync_pipeline.webserver.server import GuardedWebserver

LOCAL_ADMIN = AuthenticatedUser("local", Role.ADMIN)


def main() -> None:
    """Serve the UI."""
    try:
        policy = hosts.local_policy(os.environ, _listen_address(sys.argv[1:]))
    except SyncPipelineError as error:
        tell(str(error))
        sys.exit(1)
    run_webserver(functools.partial(GuardedWebserver, login=no_login, hosts=policy), sys.argv[1:])


def _listen_address(arguments: list[str]) -> str:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--host", default="127.0.0.1")
    return str(parser.parse_known_args(arguments)[0].host)


def no_login(path_prefix: str) -> Login:  # noqa: ARG001
    """Treat everybody as an admin."""
    return Login(lambda connection: LOCAL_ADMIN)  # noqa: ARG005


if __name__ == "__main__":
    main()
