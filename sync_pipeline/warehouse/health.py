"""How each source of each tenant is: the view `sync_health`, and the errors that it shows."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from sync_pipeline.warehouse.database import bound_to, failing_clearly
from sync_pipeline.warehouse.schema import sync_errors, sync_log


@dataclass(frozen=True, slots=True)
class SourceFailure:
    """Why a run failed at one source; what is not known is None."""

    source: str
    message: str
    day: date | None = None
    account_id: str | None = None
    shop_id: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """A row of `sync_health`; None where nothing is known yet, or nothing failed since."""

    tenant_id: str
    source: str
    last_complete_day: date | None
    days_behind: int | None
    days_missing: int | None
    rows: int | None
    requests: int | None
    finished: datetime | None
    run_id: str | None
    last_error: str | None
    last_error_day: date | None
    last_error_code: str | None
    last_error_at: datetime | None
    last_error_run_id: str | None


_HEALTH = sa.text(
    f"SELECT {', '.join(SourceHealth.__dataclass_fields__)} FROM sync_health WHERE tenant_id = :tenant ORDER BY source"
)


def note_failures(engine: sa.Engine, tenant_id: str, run_id: str, failures: Collection[SourceFailure]) -> None:
    """Make these the last errors of their sources, in a transaction of their own. Raises `WarehouseFailedError`."""
    key, log = ["tenant_id", "source"], sync_log.c
    with failing_clearly(in_run=True), bound_to(engine, tenant_id) as connection, connection.begin():
        for failure in failures:
            lines = sa.select(sa.func.coalesce(sa.func.max(log.id), 0)).where(
                log.tenant_id == tenant_id, log.source == failure.source
            )
            statement = insert(sync_errors).values(
                tenant_id=tenant_id,
                run_id=run_id,
                at=datetime.now(UTC),
                after_line=lines.scalar_subquery(),
                **asdict(failure),
            )
            values = {
                column.name: statement.excluded[column.name] for column in sync_errors.c if column.name not in key
            }
            connection.execute(statement.on_conflict_do_update(index_elements=key, set_=values))


def source_health(engine: sa.Engine, tenant_id: str) -> list[SourceHealth]:
    """How a tenant's sources are, those that were ever synced or failed. Raises `WarehouseFailedError`."""
    with failing_clearly(), bound_to(engine, tenant_id) as connection:
        return [SourceHealth(*row) for row in connection.execute(_HEALTH, {"tenant": tenant_id})]
