"""Entry point of the webserver behind its login; needs the `auth` extra.

It takes the options of `dagster-webserver`, or a command for users: `add-user`, `list-users`, `change-role`,
`change-password`, `delete-user`.
"""

import functools
import os
import sys
from pathlib import Path

from sync_pipeline import logs
from sync_pipeline.env_file import load_env_file
from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.logs import tell
from sync_pipeline.secret_files import load_secret_files

# What the login needs of the `auth` extra, by import.
AUTH_MODULES = frozenset({"argon2", "authlib", "bcrypt", "itsdangerous", "jinja2", "joserfc"})
USER_COMMANDS = frozenset({"add-user", "list-users", "change-role", "change-password", "delete-user"})


def main() -> None:
    """Serve the UI, or run a command for users."""
    try:
        load_env_file(Path.cwd())
        load_secret_files(os.environ)
        logs.configure()
        _run(sys.argv[1:])
    except SyncPipelineError as error:
        tell(str(error))
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name not in AUTH_MODULES:
            raise
        tell(f"{error.name} is missing; install sync-pipeline[auth]")
        sys.exit(1)


def _run(arguments: list[str]) -> None:
    from sync_pipeline.webserver import audit

    audit.configure()
    if arguments and arguments[0] in USER_COMMANDS:
        from sync_pipeline.webserver.login.commands import users

        users.main(arguments, prog_name="sync-pipeline-webserver")
    else:
        _serve(arguments)


def _serve(arguments: list[str]) -> None:
    from sync_pipeline.dagster_internals.webserver import run_webserver
    from sync_pipeline.webserver import hosts
    from sync_pipeline.webserver.login import settings, storage
    from sync_pipeline.webserver.login.routes import create_login
    from sync_pipeline.webserver.server import GuardedWebserver

    login_settings = settings.LoginSettings.from_environment(os.environ)
    # Unset, uvicorn would trust every process of this machine.
    os.environ[settings.PROXIES_VARIABLE] = settings.trusted_proxies(os.environ)
    engine = storage.connect(login_settings.database_url)
    storage.upgrade(engine)
    login = functools.partial(create_login, login_settings, engine)
    run_webserver(functools.partial(GuardedWebserver, login=login, hosts=hosts.login_policy(os.environ)), arguments)
