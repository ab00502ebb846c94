"""Compile the installed modules that the image's processes import, and no others: bytecode is as large as its source.

    python compile_imported.py FOLDER

FOLDER is that of the packages. A module that is imported later than its process starts, and by few, is compiled in
memory when it is used.
"""

import importlib
import importlib.util
import py_compile
import sys

# What the project, Dagster's processes and their libraries import; the last is in some images only.
IMPORTED = (
    "alembic.command",
    "argon2",
    "authlib.integrations.requests_client",
    "bcrypt",
    "dagster._cli",
    "dagster._core.executor.in_process",
    "dagster._core.run_coordinator.queued_run_coordinator",
    "dagster._core.storage.noop_compute_log_manager",
    "dagster._daemon",
    "dagster._daemon.cli",
    "dagster._grpc.server",
    "dagster_postgres",
    "dagster_webserver.app",
    "dagster_webserver.cli",
    "itsdangerous",
    "jinja2",
    "joserfc.jwt",
    "pandas",
    "pendulum",
    "plotly.graph_objects",
    "plotly.graph_objs._figure",
    "plotly.io",
    "plotly.offline",
    "plotly.tools",
    "prometheus_client.exposition",
    "prometheus_client.openmetrics.exposition",
    "prometheus_client.registry",
    "psycopg2.errorcodes",
    "psycopg2.extras",
    "re2",
    "requests",
    "rich.console",
    "rich.markdown",
    "rich.progress",
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "starlette.applications",
    "starlette.middleware.gzip",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.http.h11_impl",
    "uvicorn.protocols.websockets.auto",
    "uvloop",
    "yaml",
)
OPTIONAL = ("dagster_k8s", "dagster_k8s.launcher")


def main(folder: str) -> None:
    """Import the modules, and compile all that this has loaded from the folder."""
    for name in (*IMPORTED, *(name for name in OPTIONAL if importlib.util.find_spec(name.partition(".")[0]))):
        importlib.import_module(name)
    files = {str(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)}
    for file in sorted(files):
        if file.startswith(folder) and file.endswith(".py"):
            # Files of an image do not change, so Python need not compare their dates.
            py_compile.compile(file, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


main(sys.argv[1])
