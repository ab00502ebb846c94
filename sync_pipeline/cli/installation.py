"""This machine's installation: DAGSTER_HOME, the two databases, and the environment that every process shares."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml
from sqlalchemy.engine import URL

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.files import MAX_CONFIGURATION_BYTES, FileReadError, read_text_file
from sync_pipeline.settings import Settings
from sync_pipeline.warehouse import database, migrate
from sync_pipeline.warehouse.corrections import Progress

PACKAGE = Path(__file__).parents[1]


class DagsterHomeError(SyncPipelineError):
    """DAGSTER_HOME is set to something that Dagster cannot keep this project's runs in."""

    def __init__(self, home: str) -> None:
        super().__init__(
            f"DAGSTER_HOME is {home}, which is not an absolute path of a folder with a dagster.yaml in it; "
            "copy the project's there, or unset the variable"
        )
        self.home = home


def project_file(name: str) -> Path:
    """A file of the project's top level: packed into an installed package, or above it in a checkout."""
    packed = PACKAGE / name
    return packed if packed.is_file() else PACKAGE.parent / name


def prepare_warehouse(settings: Settings) -> URL:
    """Make the warehouse ready and put its URL into the environment, for us and our children.

    Without a URL the embedded server is started, and migrated: nobody else looks after it. Raises `WarehouseError`.
    """
    warehouse = database.warehouse_url(settings.database_url, settings.home)
    if settings.database_url is None:
        database.create_database(warehouse)
        upgrade(warehouse)
    os.environ["SYNC_PIPELINE_DATABASE_URL"] = warehouse.render_as_string(hide_password=False)
    return warehouse


def prepare(settings: Settings) -> Settings:
    """Make the warehouse, Dagster's database and DAGSTER_HOME ready and put them into the environment.

    Returns the settings as they are then. Raises `WarehouseError`, `DagsterHomeError` and `FileReadError`.
    """
    warehouse = prepare_warehouse(settings)
    if settings.dagster_postgres_url is None:
        dagster = database.beside(warehouse, "_dagster")
        database.create_database(dagster, database.DAGSTER_VARIABLE)
    else:
        dagster = database.parse_url(settings.dagster_postgres_url, database.DAGSTER_VARIABLE)
        database.connect(dagster, database.DAGSTER_VARIABLE).dispose()
    os.environ["DAGSTER_POSTGRES_URL"] = dagster.render_as_string(hide_password=False)
    os.environ["SYNC_PIPELINE_HOME"] = str(settings.home)
    os.environ["SYNC_PIPELINE_TENANTS"] = str(settings.tenants.absolute())
    _prepare_dagster_home(settings.home)
    return Settings.from_environment()


def upgrade(
    warehouse: URL, on_progress: Callable[[Progress], None] = lambda _: None, *, despite_runs: bool = False
) -> tuple[str | None, str]:
    """Migrate the warehouse; returns the versions before and after. Raises as `migrate.migrate` does."""
    engine = database.connect(warehouse)
    try:
        return migrate.migrate(engine, on_progress=on_progress, despite_runs=despite_runs)
    finally:
        engine.dispose()


def require_tables(warehouse: URL) -> str | None:
    """Check that this version can work with the tables, as `migrate.require_current` does; returns its warning."""
    engine = database.connect(warehouse)
    try:
        return migrate.require_current(engine)
    finally:
        engine.dispose()


def _prepare_dagster_home(home: Path) -> None:
    if given := os.environ.get("DAGSTER_HOME"):
        file = Path(given) / "dagster.yaml"
        if not file.is_absolute() or not file.is_file():
            raise DagsterHomeError(given)
        _require_yaml(file)
        return
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    _put(project_file("dagster.yaml").read_bytes(), folder / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(folder)


def _require_yaml(file: Path) -> None:
    """Raise FileReadError where Dagster could not parse the file; its own error would be a traceback."""
    text = read_text_file(file, MAX_CONFIGURATION_BYTES)
    try:
        yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # A date that does not exist is a ValueError.
        mark = getattr(error, "problem_mark", None)
        raise FileReadError(file, "is not valid YAML" + (f" (line {mark.line + 1})" if mark else "")) from None


def _put(content: bytes, file: Path) -> None:
    """Make the file hold this, at once and only where it does not: others read it while commands come and go."""
    if file.is_file() and file.read_bytes() == content:
        return
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=file.name, delete=False) as draft:
        draft.write(content)
    Path(draft.name).replace(file)
