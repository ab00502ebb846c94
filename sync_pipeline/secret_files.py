"""Secrets that are mounted as files, for commands that a container engine starts without the image's entrypoint."""

from collections.abc import MutableMapping
from pathlib import Path

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.files import FileReadError, read_text_file

SUFFIX = "_FILE"
# The names that the image's entrypoint reads from files, too.
SECRET_VARIABLES = (
    "PGPASSWORD",
    "SYNC_PIPELINE_DATABASE_URL",
    "DAGSTER_POSTGRES_URL",
    "DAGSTER_AUTH_SECRET_KEY",
    "DAGSTER_AUTH_SERVICE_TOKEN",
    "SYNC_PIPELINE_OIDC_CLIENT_SECRET",
    "SYNC_PIPELINE_HEARTBEAT_URL",
)
MAX_SECRET_BYTES = 65_536


class SecretFileError(SyncPipelineError):
    """The file that a variable names as the place of a secret cannot be used."""

    def __init__(self, variable: str, file: Path, why: str) -> None:
        super().__init__(f"{variable} is {file}, which {why}")
        self.variable = variable
        self.file = file
        self.why = why


def load_secret_files(environ: MutableMapping[str, str]) -> None:
    """Set NAME to the content of the file that NAME_FILE names, and unset NAME_FILE, for every secret variable.

    `docker compose exec` gives a command the variables of its container, and not those that the entrypoint has set.
    Newlines at the end of a file are not part of the secret. Raises `SecretFileError`.
    """
    for name in SECRET_VARIABLES:
        variable = f"{name}{SUFFIX}"
        if not environ.get(variable):
            continue
        file = Path(environ[variable])
        try:
            environ[name] = read_text_file(file, MAX_SECRET_BYTES).rstrip("\n")
        except FileReadError as error:
            raise SecretFileError(variable, file, error.why) from None
        del environ[variable]
