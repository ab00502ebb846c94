"""This machine's installation: DAGSTER_HOME, the two databases, and the environment that every process shares."""

import os
import shutil
from pathlib import Path

from sqlalchemy.engine import URL

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.settings import Settings
from sync_pipeline.warehouse import database, migrate

PACKAGE = Path(__file__).parents[1]


class ProjectFileMissingError(SyncPipelineError):
    """A file of the project's top level is neither here nor beside the package."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is neither in this folder nor beside the package; start in the project's folder")
        self.name = name


def project_file(name: str) -> Path:
    """A file of the project's top level: from the current folder, the checkout, or the installed package."""
    for folder in (Path.cwd(), PACKAGE.parent, PACKAGE):
        if (folder / name).is_file():
            return folder / name
    raise ProjectFileMissingError(name)


def prepare(settings: Settings) -> Settings:
    """Make the databases and DAGSTER_HOME ready and put them into the environment, for us and our children.

    Without a warehouse URL the embedded server is started, and migrated: nobody else looks after it. Returns the
    settings as they are then. Raises `WarehouseError`.
    """
    warehouse = database.warehouse_url(settings.database_url, settings.home)
    if settings.database_url is None:
        database.create_database(warehouse)
        upgrade(warehouse)
    if settings.dagster_postgres_url is None:
        dagster = database.beside(warehouse, "_dagster")
        database.create_database(dagster)
    else:
        dagster = database.parse_url(settings.dagster_postgres_url, "DAGSTER_POSTGRES_URL")
    os.environ["SYNC_PIPELINE_DATABASE_URL"] = warehouse.render_as_string(hide_password=False)
    os.environ["DAGSTER_POSTGRES_URL"] = dagster.render_as_string(hide_password=False)
    os.environ["SYNC_PIPELINE_HOME"] = str(settings.home)
    os.environ["SYNC_PIPELINE_TENANTS"] = str(settings.tenants.absolute())
    _prepare_dagster_home(settings.home)
    return Settings.from_environment()


def upgrade(warehouse: URL) -> tuple[str | None, str]:
    """Migrate the warehouse; returns the versions before and after."""
    engine = database.connect(warehouse)
    try:
        return migrate.migrate(engine)
    finally:
        engine.dispose()


def _prepare_dagster_home(home: Path) -> None:
    if os.environ.get("DAGSTER_HOME"):
        return
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(project_file("dagster.yaml"), folder / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(folder)
