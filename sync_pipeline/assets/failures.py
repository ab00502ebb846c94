"""An error of the pipeline as the failure that Dagster shows: one sentence, and metadata to filter and alert by."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import Any

import dagster as dg

from sync_pipeline.errors import SyncPipelineError
from sync_pipeline.sources.errors import SourceError
from sync_pipeline.sync.errors import PlacedError, SyncError, SyncFailedError
from sync_pipeline.text_safety import printable
from sync_pipeline.warehouse.errors import LockHeldError, WarehouseFailedError
from sync_pipeline.warehouse.health import SourceFailure


@contextmanager
def shown_as_failure(tenant_id: str, where: Mapping[str, str]) -> Iterator[None]:
    """Raise the pipeline's own errors as `dagster.Failure`, with `where` (a live mapping) for what they leave open.

    Retries are refused in the failure itself: neither an op's retry policy nor a run retry may repeat a range behind
    the user's back. Whatever is not one of ours passes through as it is.
    """
    try:
        yield
    except SyncPipelineError as error:
        raise dg.Failure(
            description=printable(_sentence(error, tenant_id, where)),
            metadata={"tenant": tenant_id, **where, **_facts(error)},
            allow_retries=False,
        ) from error


def failures_of(error: Exception, where: Mapping[str, str]) -> list[SourceFailure]:
    """What `sync_health` is to show of an error, one failure per source; `where` is for what it leaves open.

    Of several errors of a source it is the first. Nothing is said where the source is not known.
    """
    placed: dict[str, list[PlacedError]] = {}
    for one in error.errors if isinstance(error, SyncFailedError) else [error]:
        if isinstance(one, SourceError | SyncError):
            placed.setdefault(one.place.source, []).append(one)
    if placed:
        return [_failure(errors[0], len(errors) - 1) for errors in placed.values()]
    if "source" not in where:
        return []
    # The text of an error that nobody foresaw may quote a row.
    foreseen = isinstance(error, SyncPipelineError)
    message = str(error) if foreseen else f"an unexpected {type(error).__name__}; the run's log has its traceback"
    return [SourceFailure(where["source"], message, day=date.fromisoformat(where["date"]))]


def _sentence(error: SyncPipelineError, tenant_id: str, where: Mapping[str, str]) -> str:
    """The error, with the place that the warehouse does not know of."""
    if not isinstance(error, WarehouseFailedError):
        return str(error)
    place = [where.get("source"), f"tenant {tenant_id}", where.get("date")]
    return f"{error} It was at {', '.join(part for part in place if part)}."


def _failure(error: PlacedError, others: int) -> SourceFailure:
    code = error.code if isinstance(error, SourceError) else None
    return SourceFailure(
        error.place.source,
        f"{error} (and {others} more)" if others else str(error),
        day=error.place.since,
        account_id=error.place.account_id,
        shop_id=error.place.shop_id,
        code=None if code is None else str(code),
    )


def _facts(error: SyncPipelineError) -> Mapping[str, dg.MetadataValue[Any] | str | int]:
    if isinstance(error, SourceError | SyncError):
        return error.metadata()
    if isinstance(error, SyncFailedError):
        listed = dg.JsonMetadataValue([one.metadata() for one in error.errors])
        missing = [one.metadata() for one in error.missing]
        return {
            **error.metadata(),
            "errors": listed,
            **({"missing": dg.JsonMetadataValue(missing)} if missing else {}),
        }
    if isinstance(error, LockHeldError):
        holder: dict[str, str | int] = {"lock_holder_role": error.role or "", "lock_holder_pid": error.pid or 0}
        return {"error_message": str(error), **holder}
    return {"error_message": str(error)}
