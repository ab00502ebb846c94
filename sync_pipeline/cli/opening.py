"""What most commands open first: Dagster's storage, and the tenants; imported by `--help`, it loads neither."""

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sync_pipeline import logs
from sync_pipeline.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dagster import DagsterInstance

    from sync_pipeline.last_good import TenantsInUse


@contextmanager
def open_dagster() -> "Iterator[tuple[Settings, DagsterInstance]]":
    """The environment, and the storage of Dagster's runs and schedules; neither daemon nor webserver need run.

    Raises `WarehouseError` and `DagsterHomeError`.
    """
    from dagster import DagsterInstance

    from sync_pipeline.cli import installation

    settings = installation.prepare(Settings.from_environment())
    with DagsterInstance.get() as instance:
        yield settings, instance


def open_tenants(settings: Settings) -> "TenantsInUse":
    """The tenants as they are in use; says on stderr whose file is broken. Raises `TenantFolderError`."""
    from sync_pipeline.last_good import load_tenants_in_use

    in_use = load_tenants_in_use(settings.tenants, settings.home)
    for set_aside in in_use.set_aside:
        for sentence in set_aside.sentences:
            logs.tell(sentence, logging.WARNING)
    return in_use
