"""Which versions of the package can work with the tables of a database.

Every migration says whether it is additive: the code of the revision before it works with the tables that it leaves.
`alembic_version` has, beside the revision of the tables, the oldest revision whose code can work with them. A version
accepts newer tables if it is not older than that, so that runs in progress finish while a new version migrates.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from sync_pipeline.warehouse.errors import SchemaOutdatedError, SchemaTooNewError, SchemaUnknownError

MIGRATIONS: Final = Path(__file__).parent / "migrations"
# The revision that adds the column `oldest_revision`.
STORED_SINCE: Final = "0015"

_REVISION: Final = re.compile(r"[0-9]{4}")
# The column is not there before `STORED_SINCE`.
_STORED: Final = "SELECT version_num, to_jsonb(v) ->> 'oldest_revision' FROM alembic_version AS v"


@dataclass(frozen=True, slots=True)
class TableVersion:
    """The revision of the tables, and the oldest one whose code can work with them, None where it is not known."""

    revision: str
    oldest: str | None


@cache
def revisions(folder: Path = MIGRATIONS) -> Sequence[str]:
    """Return the revisions of a folder of migrations in order: they are numbered, and a file begins with its number."""
    return sorted(file.name.partition("_")[0] for file in (folder / "versions").glob("[0-9]*_*.py"))


def head(folder: Path = MIGRATIONS) -> str:
    """Return the last revision of a folder of migrations."""
    return revisions(folder)[-1]


def oldest_compatible(additive: Mapping[str, bool], revision: str) -> str:
    """Return the oldest revision whose code can work with the tables of `revision`.

    `additive` says so of each migration, by its revision.
    """
    known = sorted(additive)
    position = known.index(revision)
    while position > 0 and additive[known[position]]:
        position -= 1
    return known[position]


def store_oldest(connection: sa.Connection, oldest: str) -> None:
    """Store the oldest revision whose code can work with the tables."""
    connection.execute(sa.text("UPDATE alembic_version SET oldest_revision = :oldest"), {"oldest": oldest})


def stored_version(connection: sa.Connection) -> TableVersion | None:
    """Return the version of the tables, None where there are none. Raises `SchemaUnknownError`."""
    if connection.execute(sa.text("SELECT to_regclass('alembic_version')")).scalar_one() is None:
        return None
    rows = connection.execute(sa.text(_STORED)).all()
    if not rows and connection.execute(sa.text("SELECT to_regclass('tenants')")).scalar_one() is None:
        return None
    return _version(rows)


def require(version: TableVersion | None, *, in_run: bool = False, folder: Path = MIGRATIONS) -> bool:
    """Return whether the tables are newer than this version of the package, which can work with them.

    Raises `SchemaOutdatedError`, `SchemaTooNewError` and `SchemaUnknownError`.
    """
    ours = head(folder)
    if version is None:
        raise SchemaOutdatedError(None, ours)
    if version.revision == ours:
        return False
    if version.revision in revisions(folder):
        raise SchemaOutdatedError(version.revision, ours)
    if not _REVISION.fullmatch(version.revision) or version.revision < ours:
        raise SchemaUnknownError([version.revision])
    # A value that is no revision says nothing about this version.
    oldest = version.oldest if version.oldest and _REVISION.fullmatch(version.oldest) else None
    if oldest is None or oldest > ours:
        raise SchemaTooNewError(version.revision, oldest, ours, in_run=in_run)
    return True


def require_during_run(connection: sa.Connection) -> None:
    """Raise where the tables that a run began with were migrated, and its version cannot work with them now.

    For the beginning of every transaction of a run. Reading the version locks out migrations until the transaction
    ends, so that no statement meets other tables than those that were found here.
    """
    # By the driver: SQLAlchemy would begin another transaction.
    cursor = connection.connection.cursor()
    cursor.execute(_STORED)
    rows = cursor.fetchall()
    cursor.close()
    require(_version(rows), in_run=True)


def _version(rows: Sequence[Sequence[Any]]) -> TableVersion:
    if len(rows) != 1:
        raise SchemaUnknownError([str(revision) for revision, _ in rows])
    [(revision, oldest)] = rows
    return TableVersion(revision, oldest)
